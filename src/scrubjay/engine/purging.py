"""Purging: what clients overwrote or discarded becomes unreadable, stripe by stripe (I3).

A stripe that holds such bytes is emptied as cleaning does it, its live sectors moved; the
next checkpoint names it in its commit, and the keeper forgets its key. From then on nothing
may need the stripe: not the map (`moves` says where each sector is), not replay (the
checkpoint begins behind it), not a header (they have a key of their own).

Work goes in rounds, a 24th of `within_s` apart, oldest deaths first, and begins when half of
`within_s` is over: what is overwritten soon again dies with its segment, and one checkpoint
serves for a round. It is bounded by an allowance of bytes; where that is used up, what is
due waits, and whoever asks is told since when (docs/format/log.md, "Purging").
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator

from scrubjay.base.ids import SegmentId
from scrubjay.base.units import GIB, SECTOR_BYTES, STRIPE_BYTES, STRIPES, TAG_BYTES
from scrubjay.engine.cleaning import Cleaner
from scrubjay.engine.lessor import Purged
from scrubjay.engine.stripes import Segments
from scrubjay.engine.usage import ALL_STRIPES, MOVED, Usage

__all__ = ["Purger"]

ROUNDS = 24
SHARE = 32
"""A 32nd of the live bytes may be moved in a day: 32 GiB for each TiB."""
ALLOWANCE_BYTES_MIN = 4 * GIB
"""And this much in any case, so that small volumes are in time as well."""
OWN_PERCENT = 10
"""And so much of what clients write."""
LOOK_LEAVES = 16
"""Leaves of `usage` looked at per step after attaching: 300 us."""
SEALED_PER_SLICE = 32
SETTLED_PER_TICK = 65536
TOLD_S = 3600
"""So long, a volume that is written all the time may keep to itself that something waits."""
_DAY_S = 24 * 3600
_SECTORS_PER_STRIPE = STRIPE_BYTES // (SECTOR_BYTES + TAG_BYTES)
_FULL_SHARE = 0.8
"""A segment of whose live sectors this share has to move is emptied as a whole."""


class Purger:
    """Purging of one volume; each step is taken under the disk's lock."""

    def __init__(
        self,
        segments: Segments,
        usage: Usage,
        cleaner: Cleaner,
        *,
        close: Callable[[int], bool],
        next_segment: int,
        within_s: int,
        moved_bytes: int,
        adopt: bool,
        told_since_s: int,
    ) -> None:
        self.within_s = within_s
        """May be changed at any time; it holds from the next look on."""
        self.moved_bytes = moved_bytes
        """In the volume's life."""
        self.adopted = not adopt
        """What an older version left behind dead is known."""
        self.allowance_bytes = 0
        self._segments = segments
        self._usage = usage
        self._cleaner = cleaner
        self._close = close
        """Has log and cleaning go on in segments behind this one; False where there is none."""
        self._told_since_s = told_since_s
        """What the keeper knew to wait; valid until all was looked at."""
        self._look_at = 0
        self._look_stop = (next_segment + 3) >> 2
        self._lost: dict[int, int] = {}
        """Segments that could not be read: what is dead in them stays overdue."""
        self._sealed: list[tuple[SegmentId, int]] = []
        self._ready: dict[int, int] = {}
        """Emptied, or to be freed, and waiting for a checkpoint: since when the oldest is dead."""
        self._begun_s: dict[int, int] = {}
        """When emptying began: what is dirty there by now has been so since then at most."""
        self._round_s = 0
        """When the round under way began, or the last one."""
        self._in_round = False
        self.short = False
        """Something is due, and there was no segment to go on in."""
        self._owes = False
        """A round, or the look at what an older version left, had something done that no
        checkpoint has taken up yet."""
        self._said_since_s = told_since_s
        """What the keeper knows to wait."""
        self._said_s = 0
        """When it was told, or should have been."""
        self._written_bytes = 0
        self._ticked_s = 0

    # --- Time, and what it allows ------------------------------------------------------

    def tick(self, now_s: int, *, written_bytes: int) -> None:
        """Say what time it is, and how much clients have written so far.

        What died until now is dated first, as of the last time; a trim of terabytes takes more
        than one turn, and is dated all the earlier. A clock that is set back takes its dates
        along, to within the time between two looks.
        """
        self._usage.settle(most=SETTLED_PER_TICK)
        if now_s < self._ticked_s:
            self._set_back(now_s, by_s=self._ticked_s - now_s)
        day_bytes = max(ALLOWANCE_BYTES_MIN, self._usage.live_sectors * SECTOR_BYTES // SHARE)
        if self._ticked_s:
            earned = (now_s - self._ticked_s) * day_bytes // _DAY_S
            earned += (written_bytes - self._written_bytes) * OWN_PERCENT // 100
        else:
            earned = day_bytes // ROUNDS
        self.allowance_bytes = min(self.allowance_bytes + earned, day_bytes)
        self._written_bytes = written_bytes
        self._ticked_s = now_s
        self._said_s = self._said_s or now_s
        if not self._usage.displaced:
            self._usage.now_s = now_s
        if not self._is_due():
            self._in_round = False

    def _set_back(self, now_s: int, *, by_s: int) -> None:
        """Correct what was dated by a clock that was ahead, for one look or for years."""

        def earlier(date_s: int) -> int:
            return date_s if date_s <= now_s else max(date_s - by_s, 1)

        self._usage.set_back(earlier)
        self._round_s, self._ticked_s = earlier(self._round_s), now_s
        self._said_s = earlier(self._said_s)
        for dates in (self._lost, self._ready, self._begun_s):
            dates.update({segment: earlier(date_s) for segment, date_s in dates.items()})

    @property
    def wants(self) -> bool:
        """Whether a step is worth it now."""
        if self._looking or (self._in_round and self._cleaner.victim):
            return True
        rests = self._usage.now_s < self._round_s + self.within_s // ROUNDS
        if rests and not self._in_round and not self.short:
            return False
        return self._is_due() and self.allowance_bytes > 0

    @property
    def wants_checkpoint(self) -> bool:
        """Whether a round is over, and a checkpoint would have its stripes forgotten.

        Or whether the keeper does not know for an hour that something waits, or since when.
        """
        if not self.wants and self._owes:
            return True
        untold = self._ticked_s >= self._said_s + min(TOLD_S, self.within_s // ROUNDS)
        return untold and self.waiting_since_s != self._said_since_s

    @property
    def waiting_since_s(self) -> int:
        """Since when the oldest waits that is dead and in no commit yet; 0: nothing does."""
        return self._oldest(set())

    @property
    def _looking(self) -> bool:
        return self._look_at < self._look_stop

    def _is_due(self) -> bool:
        """Tell whether the oldest death is half as old as may be, in a round by its start."""
        oldest = next(iter(self._usage.dirty.values()), None)
        now_s = self._round_s if self._in_round else self._usage.now_s
        return oldest is not None and oldest + self.within_s // 2 <= now_s

    # --- Working -------------------------------------------------------------------------

    def step(self) -> bool:
        """Do one slice; return False when there is nothing to do now.

        Raises what reading raises: then the segment stays as it is, overdue for ever. NoSpace
        ends the round.
        """
        if self._looking:
            self._look()
            return True
        if not self._cleaner.victim and not self._begin():
            self._in_round = False
            return False
        victim, before = self._cleaner.victim, self._cleaner.moved_bytes
        try:
            self._cleaner.step()
        except BaseException:
            self._give_up(victim)
            raise
        finally:
            moved = self._cleaner.moved_bytes - before
            self.moved_bytes += moved
            self.allowance_bytes -= moved
        return True

    def _look(self) -> None:
        """Find what was dead before this attachment, a few leaves at a time."""
        stop = min(self._look_at + LOOK_LEAVES, self._look_stop)
        for leaf in range(self._look_at, stop):
            self._look_at = leaf + 1  # one that cannot be read is met when it is needed
            self._usage.look(leaf, adopt=not self.adopted)
        if not self._looking:
            self._owes = self._owes or not self.adopted
            self.adopted = True
            known = sorted(self._usage.dirty.items(), key=lambda each: each[1])
            self._usage.dirty.clear()
            self._usage.dirty.update(known)

    def _begin(self) -> bool:
        """Begin with the segment whose oldest death is the oldest; False where none is due."""
        usage, cleaner = self._usage, self._cleaner
        self.short = False
        usage.settle()
        while self.allowance_bytes > 0 and self._is_due():
            segment, since_s = next(iter(usage.dirty.items()))
            if not self._in_round:
                self._in_round, self._round_s = True, usage.now_s
            if segment in cleaner.unreadable:
                self._lost[segment] = usage.dirty.pop(segment)
                continue
            if self._segments.base(segment) is None:  # freed, and forgotten as a whole
                usage.purged(segment, ALL_STRIPES, since_s=0)
                continue
            if not self._close(segment):
                self.short = True
                return False
            del usage.dirty[segment]
            self._owes = True
            self._ready[segment] = min(since_s, self._ready.get(segment, since_s))
            stripes = usage.to_purge(segment) & ~cleaner.purged.get(segment, 0)
            if not usage.count(segment) or segment in cleaner.evacuated or not stripes:
                continue  # the next checkpoint frees it, or has it forgotten
            self._begun_s[segment] = usage.now_s
            cleaner.begin(segment, self._worth(segment, stripes))
            return True
        return False

    def _give_up(self, segment: int) -> None:
        """Leave a segment that could not be read, or for which there is no space now."""
        self._in_round = False
        since_s = self._ready.pop(segment, 0)
        if not since_s:
            return
        if segment in self._cleaner.unreadable:
            self._lost[segment] = since_s
        else:
            dirty = {segment: since_s} | self._usage.dirty
            self._usage.dirty.clear()
            self._usage.dirty.update(dirty)

    def _worth(self, segment: int, stripes: int) -> int:
        """Return these stripes, or all where nearly as much has to move for them."""
        dead = self._usage.dead(segment)
        moving = sum(
            _SECTORS_PER_STRIPE - (dead >> (number * 64) & ALL_STRIPES).bit_count()
            for number in range(STRIPES)
            if stripes >> number & 1
        )
        return ALL_STRIPES if moving >= _FULL_SHARE * self._usage.here(segment) else stripes

    # --- Checkpoints -----------------------------------------------------------------------

    def seal(self, *, before: int) -> Iterator[None]:
        """Enter what this checkpoint may name into the pages that it is about to write.

        `before`: replay begins in that segment, so nothing of it is given up yet. Yields
        between slices.
        """
        self._owes, self._sealed = False, []
        for segment, stripes in list(self._cleaner.purged.items()):
            if segment < before or self._usage.state(segment) == MOVED:
                since_s = self._begun_s.get(segment, self._usage.now_s)
                self._usage.purged(segment, stripes, since_s=since_s)
                self._sealed.append((SegmentId(segment), stripes))
                if not len(self._sealed) % SEALED_PER_SLICE:
                    yield

    def report(self, freed: set[int]) -> Purged:
        """Return what to tell the keeper with the checkpoint that was sealed and frees these."""
        going = {int(segment) for segment, _ in self._sealed} | freed
        dates = (self._ready.get(each) or self._usage.since(each) for each in going)
        return Purged(
            stripes=tuple(each for each in self._sealed if each[0] not in freed),
            dead_since_s=min((each for each in dates if each), default=0),
            waiting_since_s=self._oldest(going, dirty_too=freed),
            moved_bytes=self.moved_bytes,
        )

    def _oldest(self, going: set[int], dirty_too: Container[int] = ()) -> int:
        """Return the oldest date of what is dead, but for what goes; 0: nothing is."""
        dates = [since for each, since in self._usage.dirty.items() if each not in dirty_too]
        dates += [since for each, since in self._ready.items() if each not in going]
        dates += self._lost.values()
        if self._looking and self._told_since_s:
            dates.append(self._usage.past(self._told_since_s))
        return min(dates, default=0)

    def committed(self, purged: Purged, freed: tuple[SegmentId, ...]) -> None:
        """Let go of what the keeper has taken over."""
        self._said_since_s, self._said_s = purged.waiting_since_s, self._ticked_s
        for segment, stripes in purged.stripes:
            left = self._cleaner.purged.get(segment, 0) & ~stripes
            if left:
                self._cleaner.purged[segment] = left
            else:
                self._cleaner.purged.pop(segment, None)
                self._ready.pop(segment, None)
                self._begun_s.pop(segment, None)
        for segment in freed:
            self._usage.dirty.pop(segment, None)
            self._ready.pop(segment, None)
            self._begun_s.pop(segment, None)
            self._cleaner.purged.pop(segment, None)
