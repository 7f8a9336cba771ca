"""Byte ranges over sectors: what a request may ask for, and the engine does not store.

Whatever is not whole sectors is read, changed and written. Under the disk's lock, as all
requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from scrubjay.base.ports import Medium
from scrubjay.base.units import SECTOR_BYTES
from scrubjay.engine.paged import EMPTY, FANOUT, LEAF_SHIFT, PagedMap
from scrubjay.engine.reading import Reader
from scrubjay.engine.writing import Writer

__all__ = ["Ranges"]


class Ranges:
    """Reads, writes, drops and questions of any alignment."""

    def __init__(self, medium: Medium, reader: Reader, writer: Writer, sectors: PagedMap) -> None:
        self._medium = medium
        self._reader = reader
        self._writer = writer
        self._map = sectors

    def write_bytes(self, offset_bytes: int, data: memoryview) -> None:
        """Write any range: what is not whole sectors is read, changed and written."""
        end = offset_bytes + len(data)
        head = -offset_bytes % SECTOR_BYTES
        if head:
            self._patch(offset_bytes, data[:head] if head < len(data) else data)
            data = data[head:]
            offset_bytes += head
        whole = len(data) // SECTOR_BYTES
        if whole:
            self._writer.write(offset_bytes // SECTOR_BYTES, whole, data[: whole * SECTOR_BYTES])
            data = data[whole * SECTOR_BYTES :]
        if len(data):
            self._patch(end - len(data), data)

    def read_bytes(self, offset_bytes: int, out: memoryview) -> None:
        """Read any range."""
        lba, skip = divmod(offset_bytes, SECTOR_BYTES)
        sectors = (skip + len(out) + SECTOR_BYTES - 1) // SECTOR_BYTES
        if not skip and not len(out) % SECTOR_BYTES:
            self._reader.read_into(lba, sectors, out)
            return
        whole = memoryview(bytearray(sectors * SECTOR_BYTES))
        self._reader.read_into(lba, sectors, whole)
        out[:] = whole[skip : skip + len(out)]

    def drop(self, offset_bytes: int, size_bytes: int, *, exact: bool) -> None:
        """Have a range read as zeros (WRITE_ZEROES: exact), or whole sectors of it (TRIM)."""
        end = offset_bytes + size_bytes
        first, last = -(-offset_bytes // SECTOR_BYTES), end // SECTOR_BYTES
        if exact:
            edge = min(first * SECTOR_BYTES, end)
            if edge > offset_bytes:
                self._patch(offset_bytes, memoryview(bytes(edge - offset_bytes)))
            if last >= first and end > last * SECTOR_BYTES:
                self._patch(last * SECTOR_BYTES, memoryview(bytes(end - last * SECTOR_BYTES)))
        if last > first:
            self._writer.drop(first, last - first)

    def announce(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Have the medium fetch what these reads, of (offset, length) in bytes, will need."""
        extents = []
        for offset_bytes, size_bytes in ranges:
            first, last = (
                offset_bytes // SECTOR_BYTES,
                -(-(offset_bytes + size_bytes) // SECTOR_BYTES),
            )
            extents += self._reader.extents(first, last - first)
        self._medium.advise(extents)

    def allocation(
        self, offset_bytes: int, size_bytes: int, *, extents_max: int
    ) -> list[tuple[int, bool]]:
        """Return (bytes, holds data) extents from `offset_bytes` on, at least one."""
        found: list[tuple[int, bool]] = []
        at, end = offset_bytes, offset_bytes + size_bytes
        while at < end and len(found) <= extents_max:
            for sectors, data in self._allocated(at // SECTOR_BYTES, -(-end // SECTOR_BYTES)):
                stop = min(end, (at // SECTOR_BYTES + sectors) * SECTOR_BYTES)
                if found and found[-1][1] == data:
                    found[-1] = (found[-1][0] + stop - at, data)
                else:
                    found.append((stop - at, data))
                at = stop
        return found[:extents_max]

    def _patch(self, offset_bytes: int, data: memoryview) -> None:
        """Change less than a sector."""
        lba, skip = divmod(offset_bytes, SECTOR_BYTES)
        sector = memoryview(bytearray(SECTOR_BYTES))
        self._reader.read_into(lba, 1, sector)
        sector[skip : skip + len(data)] = data
        self._writer.write(lba, 1, sector)

    def _allocated(self, lba: int, end: int) -> Iterator[tuple[int, bool]]:
        """Yield (sectors, holds data) from a sector to the end of its leaf."""
        first = lba & FANOUT - 1
        stop = min(FANOUT, first + end - lba)
        page = self._map.leaf(lba >> LEAF_SHIFT)
        if page is EMPTY:
            yield stop - first, False
            return
        for data, group in groupby(map(bool, page[first:stop].tolist())):
            yield len(list(group)), data
