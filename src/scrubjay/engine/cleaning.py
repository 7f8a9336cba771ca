"""Cleaning: live sectors leave half-dead segments, in slices, and no map is touched.

A sector that moves keeps its entry in the map; `moves` says where it is now. Moves
that no committed checkpoint names never happened, so a crash needs no undoing
(docs/format/log.md, "Cleaning").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cryptography.exceptions import InvalidTag

from scrubjay.base.errors import Corrupt
from scrubjay.base.ports import Medium
from scrubjay.base.units import (
    KIB,
    SECTOR_BYTES,
    SEGMENT_BYTES,
    STRIPE_BYTES,
    TAG_BYTES,
)
from scrubjay.engine.checkpoint import Checkpointer
from scrubjay.engine.entry import pack
from scrubjay.engine.log import Appender
from scrubjay.engine.paged import LEAF_SHIFT, PAGE_ADDRESS, PagedMap
from scrubjay.engine.record import MOVE, Unit, units_of, write_run
from scrubjay.engine.scan import Scanner
from scrubjay.engine.stripes import Segments
from scrubjay.engine.usage import ALL_STRIPES, EVACUATED, MOVED, Usage

__all__ = ["Cleaner"]

UTILIZATION = 0.6
"""Live share of the held segments below which cleaning works (60 % costs a write
amplification of 1.4, docs/performance.md)."""
UTILIZATION_IN_PLENTY = 0.3
"""The same between writes, in a pool of which `PLENTY_PERCENT` is free: what is cleaned
later has less left to move. From there it rises to the other, at `SCARCE_PERCENT`."""
PLENTY_PERCENT, SCARCE_PERCENT = 50, 25
UTILIZATION_WHEN_FULL = 0.85
"""The same for a volume that gets no segment any more: rather slow than out of space."""
SLACK_SEGMENTS = 8
"""Held segments that small volumes may waste."""
SLICE_BYTES = 96 * KIB
"""Moved per step: about 150 us."""
RECORD_COST_BYTES = 8 * KIB
"""What reading a record and its header weighs against moving bytes."""
LOOK_SEGMENTS = 256
"""Segments not met yet that are looked at whenever a victim is chosen."""
SECTORS_PER_SEGMENT = SEGMENT_BYTES // (SECTOR_BYTES + TAG_BYTES)
_ORIGIN_SHIFT = 12


class Cleaner:
    """Cleaning of one volume; each step is taken under the disk's lock."""

    def __init__(
        self,
        medium: Medium,
        segments: Segments,
        *,
        mover: Appender,
        usage: Usage,
        moves: PagedMap,
        checkpointer: Checkpointer,
        is_open: Callable[[int], bool],
        unknown: Callable[[], int],
        reserve: Callable[[], int],
    ) -> None:
        self._medium = medium
        self._segments = segments
        self._mover = mover
        self._usage = usage
        self._moves = moves
        self._checkpointer = checkpointer
        self._is_open = is_open
        self._unknown = unknown
        self._reserve = reserve
        """How many spare segments the next checkpoint may take."""
        """The id from which on no segment was leased yet."""
        self._scanner = Scanner(medium, segments)
        self._plain = memoryview(bytearray(4 * SECTOR_BYTES))
        self._staged: list[tuple[int, int, int]] = []
        """(origin of the first sector, new entry, sectors) of the record being staged."""
        self._work: Iterator[None] | None = None
        self.victim = 0
        self._stripes = 0
        """Which of the victim's stripes are being emptied, as a mask."""
        self._appending = False
        self.purged: dict[int, int] = {}
        """Stripes that were emptied, as masks; to be forgotten with the next checkpoint."""
        self.evacuated: set[int] = set()
        """Emptied, and freed by the next checkpoint that begins from now on."""
        self.unreadable: set[int] = set()
        """Not to be tried again in this attachment."""
        self.redo: set[int] = set()
        """Emptied, or nearly, before a crash: looked at again before any other."""
        self._looked_at = 1
        self.free_percent = 0
        """How much of the pool was free when it was last heard of."""
        self.debt_bytes = 0
        """What is still to be looked at to keep pace with the writes."""
        self.moved_bytes = 0

    def wants(self, *, held_segments: int, busy: bool) -> bool:
        """Tell whether the volume holds more segments than its live sectors justify.

        Segments that the next checkpoint frees are not counted. `busy`: clients wait for it.
        """
        share = _share_in(self.free_percent) if busy else UTILIZATION
        return self._wastes(held_segments - SLACK_SEGMENTS, share)

    def wants_all(self, *, written_segments: int) -> bool:
        """Tell whether a volume that gets no segment any more has space to win back."""
        return self._wastes(written_segments, UTILIZATION_WHEN_FULL)

    def _wastes(self, segments: int, share: float) -> bool:
        freed = len(self.evacuated | self._usage.empty)
        held = (segments - freed) * SECTORS_PER_SEGMENT
        return bool(self.redo) or held * share > self._usage.live_sectors

    def step(self) -> bool:
        """Do one slice; return False when there is nothing worth cleaning."""
        if self._work is None:
            self._usage.settle()
            victim = self._choose()
            if not victim:
                self.debt_bytes = 0
                return False
            self.begin(victim, ALL_STRIPES)
        assert self._work is not None, "a victim was chosen"
        try:
            next(self._work)
        except StopIteration:
            self._work = None
            if self._stripes == ALL_STRIPES:
                self.evacuated.add(self.victim)
                self.redo.discard(self.victim)
            else:
                self.purged[self.victim] = self.purged.get(self.victim, 0) | self._stripes
            self.victim = 0
        except BaseException as error:
            self._abandon(error)
            raise
        return True

    def begin(self, victim: int, stripes: int) -> None:
        """Have the next steps empty these stripes of a segment, a mask; nothing is under way."""
        self.victim, self._stripes = victim, stripes
        self._work = self._evacuate(victim)

    @property
    def evacuating(self) -> int:
        """The segment that is being emptied to be freed; 0: none."""
        return self.victim if self._stripes == ALL_STRIPES else 0

    def freeable(self, evacuated: frozenset[int], *, before: int) -> set[int]:
        """Return what a checkpoint may free: empty or moved away, and behind its start."""
        usage = self._usage
        return {
            s
            for s in usage.empty | evacuated
            if not self._is_open(s)
            and self._segments.base(s) is not None
            and (s < before or usage.state(s) == MOVED)
            and (s in evacuated or usage.is_empty(s))
        }

    def _abandon(self, error: BaseException) -> None:
        """Leave a victim that cannot be read, or cannot be moved now, for what it is."""
        self._work = None
        self._staged = []
        if self._mover.staged:  # no offset is sealed twice
            self._mover.leave()
        if isinstance(error, (Corrupt, OSError)) and not self._appending:
            self.unreadable.add(self.victim)
            self.redo.discard(self.victim)
        self._appending = False
        self.victim = 0

    def _choose(self) -> int:
        """Return the segment with the fewest live sectors, or 0."""
        look = range(self._looked_at, min(self._looked_at + LOOK_SEGMENTS, self._unknown()))
        for segment in look:
            if self._usage.state(segment):
                self._usage.count(segment)
        self._looked_at = look.stop
        best, fewest = 0, int(SECTORS_PER_SEGMENT * 0.9)
        for segment in self.redo or self._usage.live:
            live = self._usage.count(segment)
            if self._is_open(segment) or segment in self.evacuated or segment in self.unreadable:
                continue
            if segment in self.redo:
                return segment
            if segment in self._usage.moved:
                live = live and max(1, self._usage.here(segment))
            if live and live < fewest and self._segments.base(segment) is not None:
                best, fewest = segment, live
        return best

    def _evacuate(self, victim: int) -> Iterator[None]:
        """Move what is live in the stripes that are to be emptied; yields after each slice.

        Ends with the sectors that count as written: what stands behind them is an append
        that failed, and the sectors of a record that does not open would be missing.
        """
        if self._stripes == ALL_STRIPES:
            self._usage.set_state(victim, EVACUATED)
        else:
            self._usage.leaves(victim, self._stripes)
        end_bytes = self._stripes.bit_length() * STRIPE_BYTES
        written = self._usage.written(victim)
        cost = 0
        for at, prefix, header in self._scanner.records(victim):
            if not written or at >= end_bytes:
                written = 0
                break
            if prefix.in_stripe and self._stripes != ALL_STRIPES:
                # Forgetting a stripe would lose the headers in it: empty the whole segment.
                self._stripes, end_bytes = ALL_STRIPES, SEGMENT_BYTES
                self._usage.set_state(victim, EVACUATED)
            self.debt_bytes -= prefix.record_bytes
            cost += RECORD_COST_BYTES
            self._usage.settle()
            dead = self._usage.dead(victim)
            units = units_of(
                header, at_bytes=at, units_at=prefix.units_at, record_bytes=prefix.record_bytes
            )
            for unit in units:
                written -= unit.sectors
                if cost >= SLICE_BYTES:
                    self._append()
                    cost = 0
                    yield
                    self._usage.settle()
                    dead = self._usage.dead(victim)
                if not self._stripes >> unit.offset_bytes // STRIPE_BYTES & 1:
                    continue
                if unit.lba >= PAGE_ADDRESS:
                    entry = pack(segment=victim, offset_bytes=unit.offset_bytes, sectors=1, index=0)
                    self._checkpointer.relocate(unit.lba, entry)
                else:
                    cost += self._move(victim, unit, dead)
        self._append()
        if written:
            msg = f"segment {victim}: {written} of its sectors are in no record that opens"
            raise Corrupt(msg)

    def _move(self, victim: int, unit: Unit, dead: int) -> int:
        """Stage the live sectors of a unit; return how many bytes that is."""
        first = unit.offset_bytes // SECTOR_BYTES
        alive = [
            i
            for i in range(unit.sectors)
            if not dead >> (first + i) & 1 and self._still_there(victim, unit, first, i)
        ]
        if not alive:
            return 0
        plain = self._open(victim, unit)
        for start, count in _runs(alive):
            data = plain[start * SECTOR_BYTES : (start + count) * SECTOR_BYTES]
            mover = self._mover
            room = mover.limit - mover.staged
            if (
                not mover.staged
                or room < len(data) + TAG_BYTES
                or len(mover.runs) >= mover.runs_max
            ):
                self._append()
                mover.begin(
                    payload_bytes=2 * SLICE_BYTES, runs=48, origins=48, keep=self._reserve()
                )
            origin = (unit.origin or victim << _ORIGIN_SHIFT | first) + start
            entry = mover.seal(unit.lba + start, data)
            mover.runs.append(write_run(unit.lba + start, count))
            mover.origins.append(origin)
            self._staged.append((origin, entry, count))
        return len(alive) * SECTOR_BYTES

    def _still_there(self, victim: int, unit: Unit, first: int, index: int) -> bool:
        """Tell whether the sector was not moved yet (a redo), or is what `moves` names."""
        if not unit.origin:
            return not self._moves[victim << _ORIGIN_SHIFT | first + index]
        here = pack(
            segment=victim, offset_bytes=unit.offset_bytes, sectors=unit.sectors, index=index
        )
        return self._moves[unit.origin + index] == here

    def _append(self) -> None:
        """Append the staged moves, and only then enter them."""
        staged, self._staged = self._staged, []
        mover = self._mover
        if not staged:
            mover.staged = 0
            return
        segment, sectors = mover.segment, sum(count for _, _, count in staged)
        for origin, _, count in staged:  # in memory and staying there: no step below can fail
            self._moves.writable(origin >> LEAF_SHIFT)
            self._moves.writable(origin + count - 1 >> LEAF_SHIFT)
            self._usage.pin(origin >> _ORIGIN_SHIFT)
        self._appending = True
        mover.append(MOVE, chained=False)
        self._appending = False
        self._usage.wrote(segment, sectors)
        for origin, entry, count in staged:
            for i in range(count):
                previous = self._moves[origin + i]
                if previous:
                    self._usage.displaced.append(previous)
                else:  # the same sector, elsewhere: it is counted once
                    self._usage.live_sectors -= 1
                    self._usage.went_away(origin >> _ORIGIN_SHIFT)
                self._moves[origin + i] = entry + i
        self.moved_bytes += sectors * SECTOR_BYTES

    def _open(self, victim: int, unit: Unit) -> memoryview:
        plain = self._plain[: unit.sectors * SECTOR_BYTES]
        sealed = self._scanner.bytes_at(unit.offset_bytes, unit.sealed_bytes)
        nonce = (unit.offset_bytes << 48 | unit.lba).to_bytes(12, "little")
        entry = pack(segment=victim, offset_bytes=unit.offset_bytes, sectors=1, index=0)
        place = self._segments.place(entry)
        try:
            if place is not None:
                place[0](nonce, sealed, None, plain)
                return plain
        except InvalidTag:
            pass
        msg = f"segment {victim} offset {unit.offset_bytes}: unit does not open while cleaning"
        raise Corrupt(msg)


def _share_in(free_percent: int) -> float:
    """Return the live share below which cleaning works while clients write."""
    plenty = (free_percent - SCARCE_PERCENT) / (PLENTY_PERCENT - SCARCE_PERCENT)
    plenty = min(max(plenty, 0.0), 1.0)
    return UTILIZATION - plenty * (UTILIZATION - UTILIZATION_IN_PLENTY)


def _runs(indexes: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, count) of each run of consecutive numbers."""
    start = count = 0
    for index in indexes:
        if count and index == start + count:
            count += 1
        else:
            if count:
                yield start, count
            start, count = index, 1
    yield start, count
