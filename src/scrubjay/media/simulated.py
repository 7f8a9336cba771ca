"""A Medium in memory that can lose power, fail, tear and rot on demand.

It keeps what is durable apart from what was written since the last sync. A crash keeps
of every write since then any subset of its sectors; as this holds for each sector apart
from every other, it covers writes that were dropped, torn or reordered. Nothing here is
random: whoever wants chance hands in `choose`, and a seed repeats the outcome.

    medium = SimulatedMedium(GIB, record=True)
    ...                                       the workload
    for cut in replay(medium.trace, SimulatedMedium(GIB)):
        for crashed in cut.crashes():         or cut.crash(Random(seed).randrange)
            ...                               open it, check it
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import combinations, pairwise
from threading import RLock

from scrubjay.base.ports import Buffer, Extent

__all__ = ["Choose", "Fault", "Io", "IoKind", "SimulatedMedium", "replay"]

BLOCK_BYTES = 4096
SUBSETS_MAX_WRITES = 5
"""Up to here a crash is played with every subset of the writes: 32 of them."""

Choose = Callable[[int], int]
"""n -> a number below n, as `Random.randrange`."""

_ZEROS = bytes(BLOCK_BYTES)


class IoKind(Enum):
    """What a medium is asked to do."""

    READ = auto()
    WRITE = auto()
    SYNC = auto()


class Fault(Enum):
    """How an I/O goes wrong."""

    ERROR = auto()
    """EIO, and nothing was done. For a sync: what it covered may never become durable."""
    NO_SPACE = auto()
    """ENOSPC, and nothing was done."""
    SHORT = auto()
    """The first half is done, and the count says so."""
    TORN = auto()
    """EIO, but the first half was done all the same."""


@dataclass(frozen=True, slots=True)
class Io:
    """One write or sync of a trace."""

    kind: IoKind
    offset_bytes: int = 0
    data: bytes = b""
    extents: tuple[Extent, ...] | None = None
    """What a sync was asked for; None: everything."""


class SimulatedMedium:
    """Bytes in blocks of 4 KiB; those never written take no memory. Safe for threads."""

    def __init__(self, size_bytes: int, *, sector_bytes: int = 512, record: bool = False) -> None:
        self.waits = 0
        """Nothing waits here."""
        self.trace: list[Io] = []
        """Every write that did something and every sync, if `record`: all versions ever written."""
        self.unreadable: set[int] = set()
        """Numbers of 4 KiB blocks that cannot be read."""
        self.advised: list[tuple[int, int]] = []
        """Every (offset, length) that was announced."""
        self._size_bytes = size_bytes
        self._sector_bytes = sector_bytes
        self._record = record
        self._blocks: dict[int, bytes] = {}
        self._durable: dict[int, bytes] = {}
        self._unsynced: list[tuple[int, bytes]] = []
        self._doomed: dict[int, bytes] = {}
        """Sectors of which a failed sync left nobody knows what."""
        self._faults: list[tuple[IoKind | None, int, Fault]] = []
        self._closed = False
        self._lock = RLock()

    # --- the port ---------------------------------------------------------------

    @property
    def size_bytes(self) -> int:
        """How many bytes it holds."""
        return self._size_bytes

    def read_into(self, offset_bytes: int, out: memoryview) -> int:
        """Fill `out` with what was written last, durable or not."""
        with self._lock:
            count = max(0, min(len(out), self._size_bytes - offset_bytes))
            fault = self._next_fault(IoKind.READ)
            if fault is Fault.SHORT:
                count //= 2
            elif fault is not None:
                _fail(fault)
            at = 0
            while at < count:
                number, start = divmod(offset_bytes + at, BLOCK_BYTES)
                if number in self.unreadable:
                    _fail(Fault.ERROR)
                size = min(BLOCK_BYTES - start, count - at)
                out[at : at + size] = self._blocks.get(number, _ZEROS)[start : start + size]
                at += size
            return count

    def write(self, offset_bytes: int, data: Buffer) -> int:
        """Remember the bytes; only a sync makes them durable."""
        with self._lock:
            fault = self._next_fault(IoKind.WRITE)
            if not 0 <= offset_bytes <= self._size_bytes - len(data):
                _fail(Fault.NO_SPACE)
            if fault in (Fault.ERROR, Fault.NO_SPACE):
                _fail(fault)
            kept = bytes(data) if fault is None else bytes(memoryview(data)[: len(data) // 2])
            self._unsynced.append((offset_bytes, kept))
            _put(self._blocks, offset_bytes, kept)
            if self._record:
                self.trace.append(Io(IoKind.WRITE, offset_bytes, kept))
            if fault is Fault.TORN:
                _fail(fault)
            return len(kept)

    def sync(self, extents: Sequence[Extent] | None = None) -> None:
        """Make what was written durable, or what was written to these extents.

        After a failure nothing that was unsynced ever becomes durable.
        """
        with self._lock:
            fault = self._next_fault(IoKind.SYNC)
            if fault is not None:
                for offset_bytes, data in self._unsynced:
                    self._doomed.update(self._sectors(offset_bytes, data))
                self._unsynced.clear()
                _fail(Fault.NO_SPACE if fault is Fault.NO_SPACE else Fault.ERROR)
            left = []
            for offset_bytes, data in self._unsynced:
                if extents is not None and not _touches(extents, offset_bytes, len(data)):
                    left.append((offset_bytes, data))
                    continue
                _put(self._durable, offset_bytes, data)
                if self._doomed:
                    for sector, _ in self._sectors(offset_bytes, data):
                        self._doomed.pop(sector, None)
            self._unsynced = left
            if self._record:
                named = None if extents is None else tuple(extents)
                self.trace.append(Io(IoKind.SYNC, extents=named))

    def advise(self, extents: Sequence[Extent]) -> None:
        """Note what was announced; all of it is near."""
        if self._closed:
            raise OSError(errno.EBADF, "closed")
        self.advised += extents

    def close(self) -> None:
        """Refuse every later call; nothing is synced by it."""
        self._closed = True

    # --- bad luck -----------------------------------------------------------------

    def inject(self, fault: Fault, *, after: int = 0, kind: IoKind | None = None) -> None:
        """Play a fault once, `after` so many I/Os (of one kind, if given) went well."""
        with self._lock:
            self._faults.append((kind, after, fault))

    def crash(self, choose: Choose) -> SimulatedMedium:
        """Return the medium after a power loss now, one of the legal outcomes by `choose`."""
        keep: list[Iterable[int] | None] = []
        for offset_bytes, data in self._unsynced:
            count = len(self._sectors(offset_bytes, data))
            match choose(6):
                case 0 | 1:
                    keep.append(())
                case 2 | 3:
                    keep.append(None)
                case 4:
                    keep.append(range(choose(count + 1)))
                case _:
                    keep.append([sector for sector in range(count) if choose(2)])
        doomed = [sector for sector in sorted(self._doomed) if choose(2)]
        return self._after(keep, doomed)

    def crashes(self) -> Iterator[SimulatedMedium]:
        """Yield the telling outcomes of a power loss now, the same ones every time.

        Every subset of the writes since the last sync if they are few, else every
        prefix, each write alone and each one missing; then each write torn, with the
        others durable and with the others lost.
        """
        counts = [len(self._sectors(*write)) for write in self._unsynced]
        writes = range(len(counts))
        for kept in _subsets(len(counts)):
            yield self._after([None if i in kept else () for i in writes], ())
        if self._doomed:
            yield self._after([None for _ in writes], self._doomed)
        for torn in writes:
            for tear in _tears(counts[torn]):
                yield self._after([tear if i == torn else None for i in writes], ())
                yield self._after([tear if i == torn else () for i in writes], ())

    def flip(self, bit: int) -> None:
        """Rot one bit, counted from the front, eight to a byte."""
        at, within = divmod(bit, 8)
        self.plant(at, bytes([self.peek(at, 1)[0] ^ 1 << within]))

    def plant(self, offset_bytes: int, data: bytes) -> None:
        """Change bytes behind everyone's back: durable, and not in the trace."""
        with self._lock:
            _put(self._blocks, offset_bytes, data)
            _put(self._durable, offset_bytes, data)

    def peek(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Return what was written last, whatever the faults."""
        first, last = offset_bytes // BLOCK_BYTES, (offset_bytes + length_bytes) // BLOCK_BYTES
        blocks = (self._blocks.get(number, _ZEROS) for number in range(first, last + 1))
        start = offset_bytes - first * BLOCK_BYTES
        return b"".join(blocks)[start : start + length_bytes]

    def written(self) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, 4 KiB) for every block that was ever written, as it is now."""
        for number, block in sorted(self._blocks.items()):
            yield number * BLOCK_BYTES, block

    # --- private ------------------------------------------------------------------

    def _next_fault(self, kind: IoKind) -> Fault | None:
        if self._closed:
            raise OSError(errno.EBADF, "closed")
        if not self._faults:
            return None
        due = None
        waiting: list[tuple[IoKind | None, int, Fault]] = []
        for wanted, after, fault in self._faults:
            if wanted is not None and wanted is not kind:
                waiting.append((wanted, after, fault))
            elif after or due is not None:
                waiting.append((wanted, max(0, after - 1), fault))
            else:
                due = fault
        self._faults = waiting
        return due

    def _sectors(self, offset_bytes: int, data: bytes) -> list[tuple[int, bytes]]:
        """Cut a write where a power loss may tear it: (offset, bytes)."""
        size = self._sector_bytes
        cuts = [0, *range(size - offset_bytes % size, len(data), size), len(data)]
        return [(offset_bytes + a, data[a:b]) for a, b in pairwise(cuts) if a < b]

    def _after(
        self, keep: Sequence[Iterable[int] | None], doomed: Iterable[int]
    ) -> SimulatedMedium:
        """Return a new medium: the durable bytes, and these sectors (None: all) of each write."""
        after = SimulatedMedium(
            self._size_bytes, sector_bytes=self._sector_bytes, record=self._record
        )
        blocks = after._durable = dict(self._durable)
        for sector in doomed:
            _put(blocks, sector, self._doomed[sector])
        for (offset_bytes, data), kept in zip(self._unsynced, keep, strict=True):
            if kept is None:
                _put(blocks, offset_bytes, data)
                continue
            sectors = self._sectors(offset_bytes, data)
            for index in kept:
                _put(blocks, *sectors[index])
        after._blocks = dict(blocks)
        after.unreadable = set(self.unreadable)
        return after


def replay(trace: Iterable[Io], medium: SimulatedMedium) -> Iterator[SimulatedMedium]:
    """Play a trace on a medium, and yield it before the first step and after each one.

    It is one medium that goes on: take its `crash` or `crashes` before the next step.
    """
    yield medium
    for step in trace:
        if step.kind is IoKind.SYNC:
            medium.sync(step.extents)
        else:
            medium.write(step.offset_bytes, step.data)
        yield medium


def _touches(extents: Sequence[Extent], offset_bytes: int, length_bytes: int) -> bool:
    return any(
        start < offset_bytes + length_bytes and offset_bytes < start + size
        for start, size in extents
    )


def _put(blocks: dict[int, bytes], offset_bytes: int, data: bytes) -> None:
    at = 0
    while at < len(data):
        number, start = divmod(offset_bytes + at, BLOCK_BYTES)
        piece = data[at : at + BLOCK_BYTES - start]
        if len(piece) < BLOCK_BYTES:
            old = blocks.get(number, _ZEROS)
            blocks[number] = old[:start] + piece + old[start + len(piece) :]
        else:
            blocks[number] = piece
        at += len(piece)


def _subsets(count: int) -> Iterator[frozenset[int]]:
    everything = frozenset(range(count))
    if count <= SUBSETS_MAX_WRITES:
        for size in range(count + 1):
            yield from map(frozenset, combinations(range(count), size))
        return
    for index in range(count):
        yield frozenset(range(index))
        yield frozenset({index})
        yield everything - {index}
    yield everything


def _tears(sectors: int) -> list[range]:
    """Ways to tear a write of so many sectors: prefixes, the later half, every other one."""
    ends = {1, sectors // 2, sectors - 1} - {0, sectors}
    tears = [range(end) for end in sorted(ends)]
    return [*tears, range(sectors // 2, sectors), range(0, sectors, 2)] if tears else []


def _fail(fault: Fault) -> None:
    if fault is Fault.NO_SPACE:
        raise OSError(errno.ENOSPC, "no space left on the simulated medium")
    raise OSError(errno.EIO, "simulated I/O error")
