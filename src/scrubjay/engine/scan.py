"""Reading a segment as what was appended to it: record after record, each authenticated.

Nothing of a prefix is believed before the header that it is part of has opened, and a
length never leads out of the segment.
"""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.exceptions import InvalidTag

from scrubjay.base.errors import Corrupt
from scrubjay.base.ports import Medium
from scrubjay.base.units import HEADER_KEY, SECTOR_BYTES, SEGMENT_BYTES, STRIPE_BYTES
from scrubjay.engine.record import (
    ALIGN_BYTES,
    HEADER_NONCE,
    PREFIX_BYTES,
    Header,
    Prefix,
    Unit,
    read_prefix,
    unpack_header,
)
from scrubjay.engine.stripes import Segments

__all__ = ["Scanner"]


class Scanner:
    """Reads segments record by record; one segment at a time."""

    def __init__(self, medium: Medium, segments: Segments) -> None:
        self._medium = medium
        self._segments = segments
        self._base = 0
        self._record = memoryview(b"")
        self._record_bytes = 0
        self._at = 0
        self._plain = memoryview(bytearray(4 * SECTOR_BYTES))

    def has_slot(self, segment: int) -> bool:
        """Tell whether there is anything to read of a segment."""
        return self._segments.base(segment) is not None

    def records(self, segment: int, *, start: int = 0) -> Iterator[tuple[int, Prefix, Header]]:
        """Yield (offset, prefix, header) of each record from `start` on.

        Ends before the first that does not open. The record's bytes stay readable
        through `bytes_at` until the next one; they are read when they are asked for.
        """
        base = self._segments.base(segment)
        at = start
        while base is not None and at <= SEGMENT_BYTES - ALIGN_BYTES:
            front = self._read(base + at, ALIGN_BYTES)
            prefix = read_prefix(front, room_bytes=SEGMENT_BYTES - at)
            if prefix is None:
                return
            self._base, self._at = base, at
            self._record_bytes = prefix.record_bytes
            end = PREFIX_BYTES + prefix.header_bytes
            self._record = front if end <= len(front) else self._read(base + at, end)
            header = self._header(segment, at, prefix)
            if header is None:
                return
            yield at, prefix, header
            at += prefix.record_bytes

    def bytes_at(self, offset_bytes: int, size_bytes: int) -> memoryview:
        """Return bytes of the current record, by their offset in the segment."""
        start = offset_bytes - self._at
        if start + size_bytes > len(self._record):
            self._record = self._read(self._base + self._at, self._record_bytes)
        return self._record[start : start + size_bytes]

    def opens(self, segment: int, unit: Unit) -> bool:
        """Tell whether a unit of the current record is what was sealed."""
        nonce = (unit.offset_bytes << 48 | unit.lba).to_bytes(12, "little")
        sealed = self.bytes_at(unit.offset_bytes, unit.sealed_bytes)
        try:
            place = self._segments.place(segment << 28 | unit.offset_bytes << 4)
            if place is None:
                return False
            place[0](nonce, sealed, None, self._plain[: unit.sectors * SECTOR_BYTES])
        except (InvalidTag, ValueError):
            return False
        return True

    def _header(self, segment: int, at: int, prefix: Prefix) -> Header | None:
        end = PREFIX_BYTES + prefix.header_bytes
        nonce = (at << 48 | HEADER_NONCE).to_bytes(12, "little")
        number = at // STRIPE_BYTES if prefix.in_stripe else HEADER_KEY
        cipher = self._segments.cipher(segment, number)
        try:
            text = cipher.decrypt(
                nonce, self._record[PREFIX_BYTES:end], bytes(self._record[:PREFIX_BYTES])
            )
        except InvalidTag:
            return None
        self.tag = bytes(self._record[end - 16 : end])
        return unpack_header(text, f"segment {segment} record at {at}")

    def _read(self, offset_bytes: int, size_bytes: int) -> memoryview:
        data = memoryview(bytearray(size_bytes))
        done = self._medium.read_into(offset_bytes, data)
        if done != size_bytes:
            msg = f"medium: {done} bytes at offset {offset_bytes}, expected {size_bytes}"
            raise Corrupt(msg)
        return data
