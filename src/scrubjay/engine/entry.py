"""How a map says where a sector lies: one u64 per sector (docs/format/log.md, "Entry").

    segment id u36 << 28 | offset in 16-byte steps u20 << 8 | sectors in unit - 1 u4 << 4 | index u4

The hot paths work on the bare integer; these functions are its definition.
"""

from __future__ import annotations

from scrubjay.base.units import SECTOR_BYTES, TAG_BYTES

__all__ = [
    "OFFSET_MASK",
    "POSITIONS",
    "SEGMENT_SHIFT",
    "STRIPE_SHIFT",
    "index_of",
    "offset_of",
    "pack",
    "position_of",
    "sectors_of",
    "segment_of",
    "unit_bytes_of",
]

SEGMENT_SHIFT = 28
STRIPE_SHIFT = 22
"""entry >> STRIPE_SHIFT is segment id * 64 + stripe: what has a key of its own."""
OFFSET_MASK = 0xFFFFF0
"""entry >> 4 & OFFSET_MASK is the unit's offset in the segment, in bytes."""
POSITIONS = 4096
"""Positions in a segment; no two sectors share one, since each takes over 4096 bytes."""


def pack(*, segment: int, offset_bytes: int, sectors: int, index: int) -> int:
    """Return the entry of sector `index` of the unit of `sectors` at `offset_bytes`."""
    return segment << SEGMENT_SHIFT | offset_bytes << 4 | sectors - 1 << 4 | index


def segment_of(entry: int) -> int:
    """Return the segment's id."""
    return entry >> SEGMENT_SHIFT


def offset_of(entry: int) -> int:
    """Return the unit's offset in its segment, in bytes."""
    return entry >> 4 & OFFSET_MASK


def sectors_of(entry: int) -> int:
    """Return how many sectors the unit holds."""
    return (entry >> 4 & 15) + 1


def unit_bytes_of(entry: int) -> int:
    """Return the sealed unit's length, tag included."""
    return sectors_of(entry) * SECTOR_BYTES + TAG_BYTES


def index_of(entry: int) -> int:
    """Return the sector's place in its unit."""
    return entry & 15


def position_of(entry: int) -> int:
    """Return the sector's position in its segment, 0..4095."""
    return (entry >> 16 & 4095) + (entry & 15)
