"""Reading: from an LBA to plaintext, or to an error, and to nothing else (I1).

An entry of zero reads as zeros. Any other leads to a unit whose key, offset and LBA
must all be right for it to open; a unit that does not open is `Corrupt`, by name.

Hot path: locals are bound before loops and single sectors take a road of their own;
`make bench`, rows of 4k and 256k reads, is what pays for it.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag

from scrubjay.base.errors import Corrupt
from scrubjay.base.ports import Medium
from scrubjay.base.units import KIB, SECTOR_BYTES, TAG_BYTES
from scrubjay.engine.entry import (
    OFFSET_MASK,
    SEGMENT_SHIFT,
    STRIPE_SHIFT,
    offset_of,
    segment_of,
    unit_bytes_of,
)
from scrubjay.engine.log import Appender
from scrubjay.engine.paged import FANOUT, LEAF_SHIFT, PagedMap
from scrubjay.engine.stripes import Encrypt, Place, Segments

__all__ = ["Reader"]

_ZEROS = bytes(1024 * KIB)
_SCRATCH_BYTES = 256 * KIB + 64 * TAG_BYTES
_UNIT_MAX = 16 * SECTOR_BYTES
_LEAF_MASK = FANOUT - 1

Unit = tuple[int, Encrypt, int, int, int]
"""(entry where it is, decrypt_into, then as in a plan)."""
Plan = tuple[int, int, int, int]
"""(entry of the unit's first wanted sector, sectors wanted, LBA, where in the output)."""


class Reader:
    """Reads of one volume; not thread-safe, the disk's lock is around it."""

    def __init__(
        self, medium: Medium, segments: Segments, sectors: PagedMap, moves: PagedMap, log: Appender
    ) -> None:
        self._medium = medium
        self._segments = segments
        self._map = sectors
        self._moves = moves
        self._log = log
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._plain = memoryview(bytearray(_UNIT_MAX))

    def read_into(self, lba: int, sectors: int, out: memoryview) -> None:
        """Fill `out` (sectors * 4096 bytes). Raises Corrupt, or OSError of the medium."""
        if sectors != 1:
            self._read_many(lba, sectors, out)
            return
        page = self._map.leaves.get(lba >> LEAF_SHIFT)
        if page is None:
            page = self._map.leaf(lba >> LEAF_SHIFT)
        entry = page[lba & _LEAF_MASK]
        if not entry:
            out[:] = _ZEROS[:SECTOR_BYTES]
            return
        place = self._segments.places.get(entry >> STRIPE_SHIFT)
        if place is None:
            entry, place = self._find(entry)
        index = entry & 15
        size = ((entry >> 4 & 15) + 1 << 12) + TAG_BYTES
        offset = entry >> 4 & OFFSET_MASK
        sealed = self._sealed(entry, place[1] + offset, size)
        nonce = (offset << 48 | lba - index).to_bytes(12, "little")
        try:
            if size == SECTOR_BYTES + TAG_BYTES:
                place[0](nonce, sealed, None, out)
            else:
                plain = self._plain[: size - TAG_BYTES]
                place[0](nonce, sealed, None, plain)
                out[:] = plain[index << 12 : index + 1 << 12]
        except InvalidTag:
            raise _corrupt(entry, lba) from None

    def extents(self, lba: int, sectors: int) -> list[tuple[int, int]]:
        """Return what a read will ask of the medium, as (offset, length) in bytes."""
        found = []
        for entry, _, _, _ in self._plan(lba, sectors):
            where, place = self._find(entry)
            found.append((place[1] + offset_of(where), unit_bytes_of(where)))
        return found

    def page(self, address: int, entry: int) -> bytes:
        """Return the page that was sealed under `address` at `entry`."""
        place = self._segments.place(entry)
        if place is None:
            msg = f"segment {segment_of(entry)}: has no slot or no key, expected a map page in it"
            raise Corrupt(msg)
        offset = offset_of(entry)
        page = bytearray(SECTOR_BYTES)
        sealed = self._sealed(entry, place[1] + offset, SECTOR_BYTES + TAG_BYTES)
        nonce = (offset << 48 | address).to_bytes(12, "little")
        try:
            place[0](nonce, sealed, None, memoryview(page))
        except InvalidTag:
            raise _corrupt(entry, address) from None
        return bytes(page)

    def _read_many(self, lba: int, sectors: int, out: memoryview) -> None:
        known = self._segments.places.get
        out_at = 0
        batch: list[Unit] = []
        start = end = -1
        for entry, wanted, at_lba, at in self._plan(lba, sectors):
            if at > out_at:
                out[out_at:at] = _zeros(at - out_at)
            out_at = at + (wanted << 12)
            place = known(entry >> STRIPE_SHIFT)
            where = entry
            if place is None:
                where, place = self._find(entry)
            begin = place[1] + (where >> 4 & OFFSET_MASK)
            size = ((where >> 4 & 15) + 1 << 12) + TAG_BYTES
            if begin != end or begin + size - start > _SCRATCH_BYTES:
                if batch:
                    self._open_units(batch, start, end, out)
                    batch = []
                start = begin
            end = begin + size
            batch.append((where, place[0], wanted, at_lba, at))
        if batch:
            self._open_units(batch, start, end, out)
        if out_at < len(out):
            out[out_at:] = _zeros(len(out) - out_at)

    def _plan(self, lba: int, sectors: int) -> list[Plan]:
        """Return the units that hold these sectors; what lies between them is zero."""
        plan: list[Plan] = []
        at = 0
        while sectors:
            page = self._map.leaves.get(lba >> LEAF_SHIFT)
            if page is None:
                page = self._map.leaf(lba >> LEAF_SHIFT)
            first = lba & _LEAF_MASK
            here = min(sectors, FANOUT - first)
            entries = page[first : first + here].tolist()
            i = 0
            while i < here:
                entry = entries[i]
                if (
                    entry & 255 == 0x30  # a whole unit of four is what sequential data is made of
                    and i + 3 < here
                    and entries[i + 3] == entry + 3
                    and entries[i + 1] == entry + 1
                    and entries[i + 2] == entry + 2
                ):
                    wanted = 4
                elif entry:
                    wanted = _run(entries, i, min((entry >> 4 & 15) + 1 - (entry & 15), here - i))
                else:
                    i += 1
                    continue
                plan.append((entry, wanted, lba + i, at + (i << 12)))
                i += wanted
            lba += here
            at += here << 12
            sectors -= here
        return plan

    def _open_units(self, batch: list[Unit], start: int, end: int, out: memoryview) -> None:
        """Read adjoining units with one call and open each."""
        sealed = self._sealed(batch[0][0], start, end - start)
        at_sealed = entry = lba = 0
        try:
            for entry, decrypt, wanted, lba, at in batch:
                size = (entry >> 4 & 15) + 1 << 12
                unit = sealed[at_sealed : at_sealed + size + TAG_BYTES]
                at_sealed += size + TAG_BYTES
                nonce = ((entry >> 4 & OFFSET_MASK) << 48 | lba - (entry & 15)).to_bytes(
                    12, "little"
                )
                if wanted << 12 == size:
                    decrypt(nonce, unit, None, out[at : at + size])
                else:
                    plain, skip = self._plain[:size], (entry & 15) << 12
                    decrypt(nonce, unit, None, plain)
                    out[at : at + (wanted << 12)] = plain[skip : skip + (wanted << 12)]
        except InvalidTag:
            raise _corrupt(entry, lba) from None

    def _sealed(self, entry: int, offset_bytes: int, size_bytes: int) -> memoryview:
        """Return sealed bytes from the medium, or from the record that is being staged."""
        log = self._log
        if log.staged and entry >> SEGMENT_SHIFT == log.segment:
            at = (entry >> 4 & OFFSET_MASK) - log.position
            if at >= 0:
                return log.stage[at : at + size_bytes]
        sealed = self._scratch[:size_bytes]
        if self._medium.read_into(offset_bytes, sealed) != size_bytes:
            msg = f"medium: ends before offset {offset_bytes + size_bytes}, expected a unit there"
            raise Corrupt(msg)
        return sealed

    def _find(self, entry: int) -> tuple[int, Place]:
        """Return where a sector is now, which may not be where the map says, and its key."""
        place = self._segments.place(entry)
        if place is None:
            where = self._moves[
                (entry >> SEGMENT_SHIFT) << 12 | (entry >> 16 & 4095) + (entry & 15)
            ]
            place = self._segments.place(where) if where else None
            if place is None:
                stripe = f"segment {segment_of(entry)} stripe {entry >> STRIPE_SHIFT & 63}"
                msg = f"{stripe}: has no slot or no key, and was not moved, expected one"
                raise Corrupt(msg)
            return where, place
        return entry, place


def _run(entries: list[int], first: int, longest: int) -> int:
    """Return how many entries from `first` on follow each other in one unit."""
    sectors = 1
    while sectors < longest and entries[first + sectors] == entries[first] + sectors:
        sectors += 1
    return sectors


def _zeros(size_bytes: int) -> bytes:
    return _ZEROS[:size_bytes] if size_bytes <= len(_ZEROS) else bytes(size_bytes)


def _corrupt(entry: int, lba: int) -> Corrupt:
    where = f"segment {segment_of(entry)} offset {offset_of(entry)}"
    return Corrupt(
        f"unit at {where}: does not open for LBA {lba}",
        hint="the medium returned other bytes than were written there; check the disk",
    )
