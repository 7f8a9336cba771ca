"""Records: what one append puts into a segment (docs/format/log.md, "Record").

A record is a clear prefix, a sealed header that names its runs, the sealed units, and
padding. The header authenticates who wrote it and what came before, so that a record
cannot be moved, replayed or reordered; every unit is sealed under its own place.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from scrubjay.base.errors import Corrupt
from scrubjay.base.ids import VolumeId
from scrubjay.base.units import (
    SECTOR_BYTES,
    SEGMENT_BYTES,
    TAG_BYTES,
    UNIT_SECTORS,
)

__all__ = [
    "ALIGN_BYTES",
    "HEADER_FIXED_BYTES",
    "HEADER_NONCE",
    "MOVE",
    "NO_TAG",
    "PAGE",
    "PREFIX_BYTES",
    "RUN_SECTORS_MAX",
    "WRITE",
    "Header",
    "Prefix",
    "Stream",
    "Unit",
    "drop_runs",
    "pack_header",
    "read_prefix",
    "units_of",
    "unpack_header",
    "write_prefix",
    "write_run",
]

WRITE, PAGE, MOVE = 1, 2, 3
ALIGN_BYTES = 4096
PREFIX_BYTES = 32
NO_TAG = bytes(TAG_BYTES)
HEADER_NONCE = 1 << 47
RUN_SECTORS_MAX = 1 << 15
COUNT_SHIFT = 47
LBA_MASK = (1 << 47) - 1
DROP = 1 << 62

_PREFIX = struct.Struct("<4sIII16x")
_MAGIC = b"SJR2"
_MAGIC_IN_STRIPE = b"SJR1"
_HEADER = struct.Struct("<II16sQQ16sB3xI")
HEADER_FIXED_BYTES = PREFIX_BYTES + _HEADER.size + TAG_BYTES
"""Bytes of a record before its units, runs not counted."""

Open = Callable[[int, int, memoryview, bytes | None], bytes]
"""(offset in segment, low 48 bits of the nonce, sealed bytes, associated data) -> plaintext."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """The clear bytes at the front of a record: lengths, all in bytes."""

    header_bytes: int
    record_bytes: int
    units_at: int
    in_stripe: bool = False
    """Of the older kind, whose header is sealed with the key of the stripe that it stands in."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Whose records these are: all records of one attachment agree on it."""

    lineage: int
    branch: int
    volume: VolumeId
    epoch: int


@dataclass(frozen=True, slots=True)
class Header:
    """A header, opened: runs as they stand in the record, origins for kind MOVE."""

    stream: Stream
    sequence: int
    previous_tag: bytes
    kind: int
    runs: tuple[int, ...]
    origins: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """One sealed unit of a record: its offset in the segment, its first LBA, its sectors."""

    offset_bytes: int
    lba: int
    sectors: int
    origin: int = 0

    @property
    def sealed_bytes(self) -> int:
        """Its length with the tag."""
        return self.sectors * SECTOR_BYTES + TAG_BYTES


def write_run(lba: int, sectors: int) -> int:
    """Return the run that says: `sectors` sectors from `lba` follow as units."""
    return sectors - 1 << COUNT_SHIFT | lba


def drop_runs(lba: int, sectors: int) -> list[int]:
    """Return the runs that say: these sectors read as zeros from now on."""
    return [
        DROP | min(RUN_SECTORS_MAX, sectors - done) - 1 << COUNT_SHIFT | lba + done
        for done in range(0, sectors, RUN_SECTORS_MAX)
    ]


def write_prefix(out: memoryview, prefix: Prefix) -> None:
    """Put the prefix at the front of `out`."""
    _PREFIX.pack_into(out, 0, _MAGIC, prefix.header_bytes, prefix.record_bytes, prefix.units_at)


def read_prefix(data: memoryview, *, room_bytes: int) -> Prefix | None:
    """Return the prefix in the first 32 bytes, or None if no record can start here.

    `room_bytes` is what is left of the segment. Nothing here is authentic yet; the
    checks keep hostile lengths from leading outside.
    """
    magic, header_bytes, record_bytes, units_at = _PREFIX.unpack_from(data)
    plausible = (
        magic in (_MAGIC, _MAGIC_IN_STRIPE)
        and _HEADER.size + TAG_BYTES <= header_bytes
        and PREFIX_BYTES + header_bytes <= units_at <= record_bytes <= room_bytes
        and record_bytes % ALIGN_BYTES == 0
        and units_at % TAG_BYTES == 0
    )
    in_stripe = magic == _MAGIC_IN_STRIPE
    return Prefix(header_bytes, record_bytes, units_at, in_stripe) if plausible else None


def pack_header(
    stream: Stream,
    *,
    sequence: int,
    previous_tag: bytes,
    kind: int,
    runs: Sequence[int],
    origins: Sequence[int] = (),
) -> bytes:
    """Return the header's plaintext."""
    return _HEADER.pack(
        stream.lineage,
        stream.branch,
        stream.volume.bytes,
        stream.epoch,
        sequence,
        previous_tag,
        kind,
        len(runs),
    ) + struct.pack(f"<{len(runs) + len(origins)}Q", *runs, *origins)


def unpack_header(text: bytes, where: str) -> Header:
    """Return the header of an opened plaintext; Corrupt if it contradicts itself."""
    lineage, branch, volume, epoch, sequence, tag, kind, count = _HEADER.unpack_from(text)
    words = (len(text) - _HEADER.size) // 8
    if len(text) != _HEADER.size + 8 * words or count > words or kind not in (WRITE, PAGE, MOVE):
        msg = f"{where}: header of kind {kind} with {count} runs in {len(text)} bytes"
        raise Corrupt(msg)
    numbers = struct.unpack_from(f"<{words}Q", text, _HEADER.size)
    stream = Stream(lineage, branch, VolumeId(uuid.UUID(bytes=volume)), epoch)
    return Header(stream, sequence, tag, kind, numbers[:count], numbers[count:])


def units_of(header: Header, *, at_bytes: int, units_at: int, record_bytes: int) -> Iterator[Unit]:
    """Yield the units of the record at `at_bytes` of its segment, in order.

    Raises Corrupt when the runs lead outside the record.
    """
    offset = at_bytes + units_at
    end = at_bytes + min(record_bytes, SEGMENT_BYTES - at_bytes)
    origins = iter(header.origins)
    for run in header.runs:
        if run & DROP:
            continue
        lba = run & LBA_MASK
        stop = lba + (run >> COUNT_SHIFT & RUN_SECTORS_MAX - 1) + 1
        while lba < stop:
            sectors = min(stop - lba, UNIT_SECTORS - lba % UNIT_SECTORS)
            unit = Unit(offset, lba, sectors, next(origins, 0))
            offset += unit.sealed_bytes
            if offset > end:
                msg = f"record at {at_bytes}: units up to {offset}, record ends at {end}"
                raise Corrupt(msg)
            yield unit
            lba += sectors


def drops_of(header: Header) -> Iterator[tuple[int, int]]:
    """Yield (LBA, sectors) for each run of dropped sectors."""
    for run in header.runs:
        if run & DROP:
            yield run & LBA_MASK, (run >> COUNT_SHIFT & RUN_SECTORS_MAX - 1) + 1
