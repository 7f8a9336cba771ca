"""What is dead: which sectors of which segment no map refers to any more.

An overwrite only notes the entry that it replaced (`displaced`); the accounting follows
in `settle`, before anything depends on it: a cleaning step, the end of a checkpoint.
Dead bits are facts about the log and idempotent, so replay may settle a thing twice.
A wrong dead bit would lose data: a bit is set only for an entry that a map has let go,
and a segment is freed only when its bits say so (docs/format/log.md).

Of each segment it also knows which stripes hold bytes that a client has overwritten or
discarded, and since when the first of them did: what purging.py works through. Pages of
the maps that were written elsewhere are dead as well, but are nobody's data.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from scrubjay.base.errors import ScrubjayError
from scrubjay.base.units import SECTOR_BYTES, STRIPE_BYTES, STRIPES
from scrubjay.engine.entry import SEGMENT_SHIFT, STRIPE_SHIFT
from scrubjay.engine.paged import PagedMap

__all__ = ["ALL_STRIPES", "EVACUATED", "MAIN", "MOVED", "Usage"]

MAIN, MOVED, EVACUATED = 1, 2, 3
"""States of a segment in word 65."""
ALL_STRIPES = (1 << STRIPES) - 1
_WORDS_SHIFT = 7
_WRITTEN, _STATE = 64, 65
_SINCE, _DIRTY, _LEFT, _GONE, _AWAY = range(66, 71)
_WORDS = 71
_STRIPE_MASK = 63
_PER_LEAF_SHIFT = 2
_PER_LEAF_MASK = 3
CLOCK_SLACK_S = 300
"""A date may lie so far ahead: clocks are set by a little all the time."""
LEAVES_PER_SEGMENT_OF_MOVES = 8
_LAST_POSITION = 4095
_NO_FLAGS, _FLAG = b"0" * 4096, ord("1")


class Usage:
    """Dead bits, counts of live sectors, and what follows from them."""

    def __init__(self, usage: PagedMap, moves: PagedMap, *, live_sectors: int) -> None:
        self._pages = usage
        self._moves = moves
        self.displaced: list[int] = []
        """Entries that a map let go and that are not settled yet; zeros are fine."""
        self.left: list[int] = []
        """The same of pages of maps: dead, and nothing that has to be purged."""
        self.now_s = 1
        """Seconds since 1970 at the last look: deaths are dated with it, never later than they
        came."""
        self.earliest_s = 1
        """When the first sector may have died: what has no date that can be, counts from then."""
        self.dirty: dict[int, int] = {}
        """Segments with stripes to be purged, as far as is known: since when, oldest first but
        for those that were found by looking."""
        self.live: dict[int, int] = {}
        """Live sectors of each segment met since the attachment."""
        self.live_sectors = live_sectors
        self.empty: set[int] = set()
        """Segments met since the attachment that have no live sector."""
        self.moved: set[int] = set()
        """Segments whose sectors cleaning moved away, or is moving."""

    def opened(self, segment: int, state: int) -> None:
        """Note that a segment is being written."""
        self.set_state(segment, state)
        self.live[segment] = 0
        self.empty.add(segment)

    def pin(self, segment: int) -> None:
        """See to it that `wrote` cannot fail: a count too low would free what is live."""
        self.count(segment)
        self._words(segment)

    def wrote(self, segment: int, sectors: int) -> None:
        """Note that a record with so many sectors was appended."""
        live = self.count(segment)
        page, at = self._words(segment)
        page[at + _WRITTEN] += sectors
        self.live[segment] = live + sectors
        self.live_sectors += sectors
        self.empty.discard(segment)

    def count(self, segment: int) -> int:
        """Return how many live sectors a segment holds."""
        live = self.live.get(segment)
        if live is None:
            page = self._pages.leaf(segment >> _PER_LEAF_SHIFT)
            at = (segment & _PER_LEAF_MASK) << _WORDS_SHIFT
            dead = int.from_bytes(page[at : at + 64].tobytes(), "little").bit_count()
            live = self.live[segment] = page[at + _WRITTEN] - dead
            if page[at + _STATE] == EVACUATED or page[at + _LEFT]:
                self.moved.add(segment)
            if not live:
                self.empty.add(segment)
        return live

    def here(self, segment: int) -> int:
        """Return how many of a segment's live sectors still stand in it."""
        live = self.count(segment)
        away = self._pages[(segment << _WORDS_SHIFT) + _AWAY] if segment in self.moved else 0
        return live - away

    def went_away(self, segment: int) -> None:
        """Note that a live sector stands elsewhere from now on."""
        page, at = self._words(segment)
        page[at + _AWAY] += 1

    def since(self, segment: int) -> int:
        """Return when the first of a segment's sectors died that is not purged; 0: none did."""
        return self.past(self._pages[(segment << _WORDS_SHIFT) + _SINCE])

    def past(self, date_s: int) -> int:
        """Return a date as far as it can be believed: one that is yet to come is no date.

        It is of a clock that was wrong, nobody knows by how much.
        """
        if date_s > self.now_s + CLOCK_SLACK_S:
            return min(self.earliest_s, self.now_s)
        return min(date_s, self.now_s)

    def set_back(self, earlier: Callable[[int], int]) -> None:
        """Correct the dates of a clock that was set back, as far as they are known here."""
        self.now_s = earlier(self.now_s)
        self.dirty = {segment: earlier(since_s) for segment, since_s in self.dirty.items()}

    def to_purge(self, segment: int) -> int:
        """Return the stripes of a segment that hold what has to be purged, as a mask."""
        return self._pages[(segment << _WORDS_SHIFT) + _DIRTY]

    def leaves(self, segment: int, stripes: int) -> None:
        """Note that the live sectors of stripes are being moved, some or all of them."""
        page, at = self._words(segment)
        page[at + _LEFT] |= stripes
        self.moved.add(segment)

    def purged(self, segment: int, stripes: int, *, since_s: int) -> None:
        """Note that stripes are as good as gone; what else is dirty has been so since then."""
        page, at = self._words(segment)
        page[at + _GONE] |= stripes
        page[at + _DIRTY] &= ~stripes
        page[at + _SINCE] = since_s if page[at + _DIRTY] else 0
        self.dirty.pop(segment, None)
        if page[at + _DIRTY]:
            self.dirty[segment] = since_s

    def mark(self, segment: int, stripes: int, *, since_s: int) -> None:
        """Note that stripes hold what has to be purged, dead since then or later."""
        page, at = self._words(segment)
        stripes &= ~page[at + _GONE]
        if stripes:
            page[at + _DIRTY] |= stripes
            page[at + _SINCE] = min(since_s, self.past(page[at + _SINCE]) or since_s)
            self.dirty[segment] = min(since_s, self.dirty.get(segment, since_s))

    def look(self, leaf: int, *, adopt: bool) -> None:
        """Find what is to be purged among the four segments of a leaf.

        `adopt` has whatever is dead there count as dead for as long as can be: what an older
        version left, of which only some may be dated. So does what stands in a moved segment
        behind all that counts there: copies that a kill left.
        """
        page = self._pages.leaf(leaf)
        for segment in range(leaf << _PER_LEAF_SHIFT, leaf + 1 << _PER_LEAF_SHIFT):
            at = (segment & _PER_LEAF_MASK) << _WORDS_SHIFT
            if adopt and page[at + _STATE]:
                left = _stripes_of(page[at : at + 64])
                if page[at + _STATE] == MOVED:
                    number = page[at + _WRITTEN] * SECTOR_BYTES // STRIPE_BYTES
                    left |= ALL_STRIPES >> number << number
                if left & ~page[at + _GONE] & ~page[at + _DIRTY]:
                    self.mark(segment, left, since_s=min(self.earliest_s, self.now_s))
                    page = self._pages.leaf(leaf)
            if page[at + _DIRTY]:
                self.dirty.setdefault(segment, self.past(page[at + _SINCE]))

    def state(self, segment: int) -> int:
        """Return a segment's state; 0: never written as far as is known."""
        return self._pages[(segment << _WORDS_SHIFT) + _STATE]

    def written(self, segment: int) -> int:
        """Return how many sectors were written into a segment."""
        return self._pages[(segment << _WORDS_SHIFT) + _WRITTEN]

    def set_state(self, segment: int, state: int) -> None:
        """Note a segment's state."""
        page, at = self._words(segment)
        page[at + _STATE] = state
        if state == EVACUATED:
            self.moved.add(segment)

    def set_written(self, segment: int, sectors: int) -> None:
        """Correct the count of sectors (replay); `recount` must follow."""
        page, at = self._words(segment)
        self.live_sectors += sectors - page[at + _WRITTEN]
        page[at + _WRITTEN] = sectors

    def recount(self) -> None:
        """Forget every count, after a replay; the dead bits say what is so."""
        self.live.clear()
        self.empty.clear()
        self.moved.clear()

    def is_empty(self, segment: int) -> bool:
        """Tell from the dead bits, not from a count, that no sector is live."""
        self.live.pop(segment, None)
        self.empty.discard(segment)
        return self.count(segment) == 0

    def dead(self, segment: int) -> int:
        """Return the dead positions of a segment as an integer of 4096 bits."""
        page = self._pages.leaf(segment >> _PER_LEAF_SHIFT)
        at = (segment & _PER_LEAF_MASK) << _WORDS_SHIFT
        return int.from_bytes(page[at : at + 64].tobytes(), "little")

    def revive(self, segment: int, position: int) -> None:
        """Clear a dead bit: replay has just applied the write that put the sector there."""
        page, at = self._words(segment)
        word = at + (position >> 6)
        bit = 1 << (position & 63)
        if page[word] & bit:
            page[word] ^= bit
            self.live_sectors += 1
            if segment in self.live:
                self.live[segment] += 1
                self.empty.discard(segment)

    def settle(self, *, most: int | None = None) -> None:
        """Account for every displaced entry, or for some where there are more than `most`.

        Where a page cannot be read, what needs it stays unaccounted for, so that its space
        is lost until it is written again; the rest is settled, and then the error is raised.
        """
        while self.displaced or self.left:  # again for what they displace in turn
            left, self.left = self.left, []
            displaced, self.displaced = self.displaced[:most], self.displaced[most:] if most else []
            try:
                self._settle(left, data=False)
            finally:
                self._settle(displaced, data=True)
            if most:
                break

    def _settle(self, displaced: list[int], *, data: bool) -> None:
        displaced.sort()  # by segment; otherwise their order means nothing
        start, stop = bisect_left(displaced, 1), len(displaced)
        failure: Exception | None = None
        while start < stop:
            segment = displaced[start] >> SEGMENT_SHIFT
            end = bisect_left(displaced, segment + 1 << SEGMENT_SHIFT, start)
            try:
                if segment not in self.live:
                    self.count(segment)
                killed = self._kill(segment, displaced[start:end], data=data)
            except (ScrubjayError, OSError) as error:
                failure, killed = error, 0
            if killed:
                self._killed(segment, killed)
            start = end
        if failure is not None:
            raise failure

    def _kill(self, segment: int, entries: list[int], *, data: bool) -> int:
        """Set the dead bits of entries of one segment; return how many of them were new.

        What stands in a segment that was moved is dead where it was moved to as well.
        """
        flags = bytearray(_NO_FLAGS)  # a digit for each position, the last one first
        for entry in entries:
            flags[_LAST_POSITION - ((entry >> 16 & 4095) + (entry & 15))] = _FLAG
        dead = int(flags, 2)
        page, at = self._words(segment)
        before = int.from_bytes(page[at : at + 64].tobytes(), "little")
        fresh = dead & ~before
        moved: list[tuple[int, int]] = []
        if segment in self.moved:  # though it may be replay that says so again
            positions = {(entry >> 16 & 4095) + (entry & 15) for entry in entries}
            moved = [(place, self._moves[segment << 12 | place]) for place in positions]
        page[at : at + 64] = memoryview((before | dead).to_bytes(512, "little")).cast("Q")
        if data and fresh:
            self._mark(segment, page, at, entries)
        for position, moved_to in moved:
            if moved_to:  # it lives on there, and was counted once
                self.live_sectors += fresh >> position & 1
                page[at + _AWAY] -= min(fresh >> position & 1, page[at + _AWAY])
                self.displaced.append(moved_to)
        return fresh.bit_count()

    def _mark(self, segment: int, page: memoryview, at: int, entries: list[int]) -> None:
        """Note that the stripes of these entries hold what has to be purged."""
        stripes = 0
        for stripe in {entry >> STRIPE_SHIFT for entry in entries}:
            stripes |= 1 << (stripe & _STRIPE_MASK)
        stripes &= ~page[at + _GONE]
        if stripes:
            since_s = self.dirty.get(segment) or self.past(page[at + _SINCE]) or self.now_s
            page[at + _DIRTY] |= stripes
            page[at + _SINCE] = self.dirty[segment] = since_s

    def forget(self, segment: int) -> list[int]:
        """Drop all that is known of a segment without slot and without live sectors.

        Returns the entries of the pages of `moves` that are dead by it.
        """
        page, at = self._words(segment)
        page[at : at + _WORDS] = self._blank
        self.dirty.pop(segment, None)
        self.live.pop(segment, None)
        self.empty.discard(segment)
        self.moved.discard(segment)
        first = segment * LEAVES_PER_SEGMENT_OF_MOVES
        drops = (self._moves.drop(first + i) for i in range(LEAVES_PER_SEGMENT_OF_MOVES))
        return [entry for entry in drops if entry]

    _blank = memoryview(bytes(_WORDS * 8)).cast("Q")

    def _killed(self, segment: int, sectors: int) -> None:
        left = self.live[segment] = self.live[segment] - sectors
        self.live_sectors -= sectors
        if left <= 0:  # below zero in the middle of a replay, whose counts follow
            self.empty.add(segment)

    def _words(self, segment: int) -> tuple[memoryview, int]:
        page = self._pages.writable(segment >> _PER_LEAF_SHIFT)
        return page, (segment & _PER_LEAF_MASK) << _WORDS_SHIFT


def _stripes_of(dead: memoryview) -> int:
    """Return the stripes in which units with these dead positions may begin, as a mask."""
    stripes = 0
    for number, word in enumerate(dead):
        if word:
            stripes |= 1 << number
        if number and word & 7:  # of a unit that began at the end of the stripe before
            stripes |= 1 << (number - 1)
    return stripes
