"""Recovery: from the checkpoint to the newest state that the log can prove (I4, I5).

Replays the records behind the checkpoint's sequence, in order, each authenticated and
chained to the one before, each unit opened before the map points at it (docs/format/
log.md, "Replay"). It ends where the chain ends; ending before what the pool knows to
have been durable means that the medium is older than the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from scrubjay.base.errors import Corrupt
from scrubjay.base.units import SECTOR_BYTES, STRIPE_BYTES
from scrubjay.engine.checkpoint import Root
from scrubjay.engine.entry import pack
from scrubjay.engine.lessor import Attachment
from scrubjay.engine.paged import PAGE_ADDRESS
from scrubjay.engine.record import MOVE, WRITE, Header, Prefix, Unit, drops_of, units_of
from scrubjay.engine.scan import Scanner
from scrubjay.engine.usage import ALL_STRIPES, MAIN, Usage
from scrubjay.engine.writing import Writer

__all__ = ["Replayed", "mark_orphans", "replay"]


@dataclass(frozen=True, slots=True)
class Replayed:
    """Where the log ends, and which leased segments it does not reach."""

    sequence: int
    tag: bytes
    main: tuple[int, ...]
    """Segments with at least one replayed record, or the one where the checkpoint began."""
    unused: tuple[int, ...]
    """Segments that hold nothing that counts."""
    leased_since: int
    """How many more segments have a slot than the checkpoint says."""


def replay(
    attachment: Attachment,
    root: Root | None,
    scanner: Scanner,
    *,
    writer: Writer,
    usage: Usage,
    names: Callable[[int, int], bool],
) -> Replayed:
    """Bring the maps from the checkpoint to the newest state.

    Raises Corrupt when the log ends before the sequence that the pool knows as flushed.
    """
    run = _Replay(attachment, root, scanner, writer=writer, usage=usage, names=names)
    candidates = [s for s in _candidates(attachment, root) if scanner.has_slot(s)]
    for index, segment in enumerate(candidates):
        run.segment(segment, candidates[index + 1 :])
    usage.settle()
    usage.recount()
    for segment in run.main:
        usage.count(segment)
    flushed = attachment.checkpoint.flushed
    if run.sequence < flushed:
        reached = f"log ends at record {run.sequence}"
        msg = f"volume {attachment.name}: {reached}, expected at least {flushed}"
        raise Corrupt(
            msg, hint="the medium is older than the pool, or lost writes that it had synced"
        )
    known = {*run.main, root.segment if root else 0}
    unused = tuple(s for s in candidates if s not in known)
    unknown = root.unknown if root else 0
    since = sum(s >= unknown for s in candidates)
    since -= sum(not scanner.has_slot(s) for s in (root.unopened if root else ()))
    return Replayed(run.sequence, run.tag, tuple(run.main), unused, since)


def mark_orphans(root: Root, scanner: Scanner, usage: Usage, *, since_s: int, now_s: int) -> None:
    """Have purged what cleaning may have copied behind a checkpoint into the segment it was in.

    No map names those copies, so that nobody would ever find them dead (I3). Where one opens,
    some may have died since the checkpoint began (`since_s`). Where none does, what was torn
    may stand there all the same, and goes in time counted from now.
    """
    if not root.moved or not scanner.has_slot(root.moved):
        return
    opens = next(scanner.records(root.moved, start=root.moved_offset), None) is not None
    stripes = ALL_STRIPES >> root.moved_offset // STRIPE_BYTES << root.moved_offset // STRIPE_BYTES
    usage.mark(root.moved, stripes, since_s=since_s if opens else now_s)


class _Replay:
    def __init__(
        self,
        attachment: Attachment,
        root: Root | None,
        scanner: Scanner,
        *,
        writer: Writer,
        usage: Usage,
        names: Callable[[int, int], bool],
    ) -> None:
        self._attachment = attachment
        self._root = root
        self._scanner = scanner
        self._writer = writer
        self._usage = usage
        self._names = names
        self.sequence = root.sequence if root else 0
        self.tag = bytes.fromhex(root.tag) if root else bytes(16)
        self.main: list[int] = []

    def segment(self, segment: int, later: Iterable[int]) -> None:
        """Apply the records of one segment that continue the chain."""
        root = self._root
        at_root = root is not None and segment == root.segment
        start = root.offset if root and at_root else 0
        written = root.written if root and at_root else 0
        if at_root:
            self.main.append(segment)
        stop = None
        for at, prefix, header in self._scanner.records(segment, start=start):
            if header.kind == MOVE or not self._continues(header):
                break
            if stop is None:
                stop = self._taken_up(later)
                # The scanner has read elsewhere: come back to this record.
                again = next(self._scanner.records(segment, start=at), None)
                if again is None:
                    break
            if header.sequence >= stop or not self._opens(segment, at, prefix, header):
                break
            self._apply(segment, at, prefix, header)
            written += sum(unit.sectors for unit in _units(at, prefix, header))
            self.sequence, self.tag = header.sequence, self._scanner.tag
            if segment not in self.main:
                self.main.append(segment)
        if segment in self.main:
            self._usage.settle()
            self._usage.set_state(segment, self._usage.state(segment) or MAIN)
            self._usage.set_written(segment, written)

    def _taken_up(self, later: Iterable[int]) -> int:
        """Return the sequence from which a later segment continues, else infinity."""
        for segment in later:
            for _, _, header in self._scanner.records(segment):
                if header.kind != MOVE and self._ours(header) and header.sequence > self.sequence:
                    return header.sequence
                break
        return 1 << 63

    def _continues(self, header: Header) -> bool:
        return (
            self._ours(header)
            and header.sequence == self.sequence + 1
            and header.previous_tag == self.tag
        )

    def _ours(self, header: Header) -> bool:
        ours, theirs = self._attachment, header.stream
        return (
            theirs.lineage == ours.lineage
            and theirs.branch == ours.branch
            and theirs.volume == ours.volume
            and theirs.epoch < ours.epoch
        )

    def _opens(self, segment: int, at: int, prefix: Prefix, header: Header) -> bool:
        """Tell whether all that would be mapped opens; pages are mapped by checkpoints alone."""
        return header.kind != WRITE or all(
            self._scanner.opens(segment, unit) for unit in _units(at, prefix, header)
        )

    def _apply(self, segment: int, at: int, prefix: Prefix, header: Header) -> None:
        if header.kind != WRITE:  # pages: what nothing names is of an unfinished checkpoint
            for unit in _units(at, prefix, header):
                entry = _entry(segment, unit)
                if not self._names(unit.lba, entry):
                    self._usage.left.append(entry)
            return
        # Runs are applied in their order: a drop stands in a record of its own.
        for lba, sectors in drops_of(header):
            self._writer.forget(lba, sectors)
        for unit in _units(at, prefix, header):
            if unit.lba >= PAGE_ADDRESS:
                msg = f"segment {segment} record at {at}: page address in a record of writes"
                raise Corrupt(msg)
            self._writer.apply(unit.lba, unit.sectors, _entry(segment, unit))
            self._usage.settle()
            first = unit.offset_bytes // SECTOR_BYTES
            for i in range(unit.sectors):
                self._usage.revive(segment, first + i)


def _units(at: int, prefix: Prefix, header: Header) -> Iterator[Unit]:
    return units_of(header, at_bytes=at, units_at=prefix.units_at, record_bytes=prefix.record_bytes)


def _entry(segment: int, unit: Unit) -> int:
    return pack(segment=segment, offset_bytes=unit.offset_bytes, sectors=unit.sectors, index=0)


def _candidates(attachment: Attachment, root: Root | None) -> list[int]:
    """Return, ascending, the ids that may hold records behind the checkpoint."""
    if root is None:
        return list(range(1, attachment.next_segment))
    return sorted({root.segment, *root.unopened, *range(root.unknown, attachment.next_segment)})
