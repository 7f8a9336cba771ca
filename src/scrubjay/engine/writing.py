"""Writing: seal into the record being staged, point the map at it, append.

Reads in the same batch see what is staged. When an append fails, the map goes back to
what it was before the record, and the caller hears that every write since the record
began has failed (I1, I4).

Hot path: locals are bound before loops and single sectors take a road of their own;
`make bench`, rows of 4k and 256k writes, is what pays for it.
"""

from __future__ import annotations

import errno
from array import array

from scrubjay.base.errors import NoSpace
from scrubjay.base.units import SECTOR_BYTES, SEGMENT_BYTES, TAG_BYTES, UNIT_SECTORS
from scrubjay.engine.log import RESERVE_FOR_DROPS, RESERVE_SEGMENTS, Appender, Spares
from scrubjay.engine.paged import EMPTY, FANOUT, LEAF_SHIFT, Page, PagedMap
from scrubjay.engine.record import DROP, RUN_SECTORS_MAX, WRITE, drop_runs
from scrubjay.engine.usage import Usage

__all__ = ["AppendFailed", "Writer"]

_ONE = SECTOR_BYTES + TAG_BYTES
_WHOLE = UNIT_SECTORS * SECTOR_BYTES
_LEAF_MASK = FANOUT - 1
_PAGES_PER_SEGMENT = 4000
"""Pages that fit a segment, sealed; and so many writes of 4 KiB, that each dirty one."""
_BLANK = EMPTY.tobytes()


class AppendFailed(OSError):
    """The medium took less than a whole record; nothing of the record is in the map."""


class Writer:
    """Writes and drops of one volume; not thread-safe, the disk's lock is around it."""

    def __init__(self, log: Appender, sectors: PagedMap, usage: Usage, spares: Spares) -> None:
        self._log = log
        self._spares = spares
        self.leaves = 0
        """How many leaves the map of the whole volume has."""
        self._map = sectors
        self._usage = usage
        self._mark = 0
        """How many displaced entries there were when the staged record began."""
        self._sectors = 0
        self._first_run = 0
        self.batch_bytes = 0
        """What the caller may still write in this batch: sizes the record's header."""
        self.written_bytes = 0

    def write(self, lba: int, sectors: int, data: memoryview) -> None:
        """Write whole sectors; NoSpace, Corrupt, AppendFailed.

        NoSpace also where the map is clogged (see there) and a checkpoint makes room.
        After NoSpace in the middle of a long write its first sectors are new, its
        others old, which is what a failed write may leave behind (I5).
        """
        log = self._log
        page = self._map.leaves.get(lba >> LEAF_SHIFT)
        if page is None:
            self._expect_room(lba, sectors)
            page = self._map.writable(lba >> LEAF_SHIFT)
        staged = log.staged
        if not staged or staged + sectors * _ONE > log.limit or len(log.runs) >= log.runs_max:
            fit = self._room(sectors)
            if fit < sectors:
                self.write(lba, fit, data[: fit << 12])
                self.write(lba + fit, sectors - fit, data[fit << 12 :])
                return
            staged = log.staged
        if sectors != 1:
            if (lba ^ lba + sectors - 1) >> LEAF_SHIFT:
                self._expect_room(lba, sectors)
            self._write_many(lba, sectors, data)
        else:
            at = log.position + staged
            if at >= log.stripe_end:
                log.stripe(at)
            end = staged + _ONE
            log.encrypt((at << 48 | lba).to_bytes(12, "little"), data, None, log.stage[staged:end])
            log.staged = end
            slot = lba & _LEAF_MASK
            self._usage.displaced.append(page[slot])
            page[slot] = log.entry_base + (at << 4)
            self._map.dirty.add(lba >> LEAF_SHIFT)
        log.runs.append(sectors - 1 << 47 | lba)
        self._sectors += sectors

    def drop(self, lba: int, sectors: int) -> None:
        """Have these sectors read as zeros, and note it in the log."""
        if not any(self._held(index, lba, sectors) for index in _leaves(lba, sectors)):
            return  # so that the same trim again costs no record
        self._expect_room(lba, sectors)
        keep = RESERVE_FOR_DROPS + self._for_pages(0)
        if len(self._spares) < keep:  # a trim is short, and dirties two pages that stay
            self._spares.take(keep=keep)
        self.commit()
        runs = drop_runs(lba, sectors)
        self._begin(payload_bytes=0, runs=len(runs), keep=keep)
        self._log.runs.extend(runs)
        self._append()
        self.forget(lba, sectors)

    def forget(self, lba: int, sectors: int) -> None:
        """Take these sectors out of the map (their drop is in the log)."""
        displaced = self._usage.displaced
        for index in _leaves(lba, sectors):
            part = self._held(index, lba, sectors)
            if part is not None:
                displaced += part.tolist()
                part[:] = EMPTY[: len(part)]
                self._map.dirty.add(index)

    def apply(self, lba: int, sectors: int, entry: int) -> None:
        """Point the map at a unit (replay)."""
        page = self._map.writable(lba >> LEAF_SHIFT)
        first = lba & _LEAF_MASK
        self._usage.displaced += page[first : first + sectors].tolist()
        for i in range(sectors):
            page[first + i] = entry + i

    def commit(self) -> None:
        """Append the staged record, if there is one; AppendFailed when it did not arrive."""
        if self._log.staged:
            self._append()

    @property
    def reserve(self) -> int:
        """How many spare segments a write leaves: what a checkpoint and a cleaning may take."""
        return RESERVE_SEGMENTS + self._for_pages(_PAGES_PER_SEGMENT)

    def reserve_for_checkpoint(self) -> int:
        """How many cleaning leaves: for the pages that the open segment can make dirty as well."""
        room_bytes = SEGMENT_BYTES - self._log.position if self._log.segment else 0
        return 2 + self._for_pages(room_bytes // _ONE)

    def _for_pages(self, more: int) -> int:
        """Return how many segments a checkpoint of the dirty pages, and of `more`, fills."""
        pages = min(len(self._map.dirty) + more, self.leaves)
        return (pages + _PAGES_PER_SEGMENT // 2) // _PAGES_PER_SEGMENT

    def _expect_room(self, lba: int, sectors: int) -> None:
        """Raise NoSpace where a clogged map would have to take more dirty pages."""
        if self._map.clogged and not self._map.dirty.issuperset(_leaves(lba, sectors)):
            raise NoSpace("map: full of pages to be written, expected a checkpoint first")

    def _held(self, index: int, lba: int, sectors: int) -> Page | None:
        """Return the part of a leaf that tells of these sectors; None where all are zeros."""
        page = self._map.leaf(index)
        if page is EMPTY:
            return None
        start = index << LEAF_SHIFT
        part = page[max(lba - start, 0) : lba + sectors - start]
        return None if part.tobytes() == _BLANK[: part.nbytes] else part

    def _write_many(self, lba: int, sectors: int, data: memoryview) -> None:
        log = self._log
        stage, encrypt, stripe_end = log.stage, log.encrypt, log.stripe_end
        position, staged, base = log.position, log.staged, log.entry_base
        pages = [(index, self._map.writable(index)) for index in _leaves(lba, sectors)]
        entries: list[int] = []
        at_lba, done, size_bytes = lba, 0, sectors << 12
        if not lba & 3:  # whole units, of which nearly all long writes consist
            for done in range(0, size_bytes - _WHOLE + 1, _WHOLE):
                at = position + staged
                if at >= stripe_end:
                    log.stripe(at)
                    encrypt, stripe_end = log.encrypt, log.stripe_end
                nonce = (at << 48 | at_lba).to_bytes(12, "little")
                unit = data[done : done + _WHOLE]
                encrypt(nonce, unit, None, stage[staged : staged + _WHOLE + TAG_BYTES])
                staged += _WHOLE + TAG_BYTES
                at_lba += UNIT_SECTORS
                entry = base + (at << 4) + 0x30
                entries += (entry, entry + 1, entry + 2, entry + 3)
            done = size_bytes & -_WHOLE
        while done < size_bytes:
            size = 4 - (at_lba & 3) << 12
            if size > size_bytes - done:  # noqa: PLR1730 - min() is a call per unit
                size = size_bytes - done
            at = position + staged
            if at >= stripe_end:
                log.stripe(at)
                encrypt, stripe_end = log.encrypt, log.stripe_end
            end = staged + size + TAG_BYTES
            nonce = (at << 48 | at_lba).to_bytes(12, "little")
            encrypt(nonce, data[done : done + size], None, stage[staged:end])
            staged = end
            done += size
            count = size >> 12
            at_lba += count
            entry = base + (at << 4) + (count - 1 << 4)
            entries += range(entry, entry + count)
        log.staged = staged
        self._point(lba, sectors, pages, entries)

    def _point(
        self, lba: int, sectors: int, pages: list[tuple[int, Page]], entries: list[int]
    ) -> None:
        """Point the map at units, and note what they displace."""
        displaced, new = self._usage.displaced, memoryview(array("Q", entries))
        for index, page in pages:
            start = index << LEAF_SHIFT
            first = lba - start if lba > start else 0
            last = min(lba + sectors - start, FANOUT)
            displaced += page[first:last].tolist()
            taken = start + first - lba
            page[first:last] = new[taken : taken + last - first]

    def _room(self, sectors: int) -> int:
        """See to a staged record with room; return how many of the sectors fit."""
        log = self._log
        if log.staged:
            fit = (log.limit - log.staged) // _ONE
            if fit >= 4 and len(log.runs) < log.runs_max:
                return min(fit, sectors)
            self.commit()
        payload = max(self.batch_bytes, sectors * SECTOR_BYTES)
        runs = payload // (SECTOR_BYTES + 28) + 2
        self._begin(payload_bytes=payload, runs=runs, keep=self.reserve)
        return min((log.limit - log.staged) // _ONE, sectors)

    def _begin(self, *, payload_bytes: int, runs: int, keep: int) -> None:
        self._mark = len(self._usage.displaced)
        self._sectors = 0
        self._log.begin(payload_bytes=payload_bytes, runs=runs, keep=keep)

    def _append(self) -> None:
        log = self._log
        segment = log.segment
        try:
            log.append(WRITE)
        except OSError as error:
            self._undo()
            raise AppendFailed(error.errno or errno.EIO, str(error)) from error
        if self._sectors:
            self._usage.wrote(segment, self._sectors)
            self.written_bytes += self._sectors * SECTOR_BYTES
            self._sectors = 0

    def _undo(self) -> None:
        """Put back what the map said before the staged record, last run first."""
        displaced = self._usage.displaced
        for run in reversed(self._log.runs):
            if run & DROP:
                continue
            lba, sectors = run & (1 << 47) - 1, (run >> 47 & RUN_SECTORS_MAX - 1) + 1
            for i in range(sectors - 1, -1, -1):
                self._map[lba + i] = displaced.pop()
        assert len(displaced) == self._mark, "each sector displaced one entry"
        self._sectors = 0


def _leaves(lba: int, sectors: int) -> range:
    return range(lba >> LEAF_SHIFT, (lba + sectors - 1 >> LEAF_SHIFT) + 1)
