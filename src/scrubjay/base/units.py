"""Sizes that the format fixes (docs/format/), each in one place."""

from __future__ import annotations

__all__ = [
    "GIB",
    "HEADER_KEY",
    "KIB",
    "MIB",
    "PAGE_BYTES",
    "SECTOR_BYTES",
    "SEGMENT_BYTES",
    "SLOTS_OFFSET_BYTES",
    "STRIPES",
    "STRIPE_BYTES",
    "TAG_BYTES",
    "TIB",
    "UNIT_SECTORS",
    "VOLUME_BYTES_MAX",
    "VOLUME_BYTES_MIN",
]

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

SECTOR_BYTES = 4096
"""The smallest thing that the engine tracks."""
UNIT_SECTORS = 4
"""Sectors sealed by one AEAD call at most: 16 KiB (measured best)."""
TAG_BYTES = 16
SEGMENT_BYTES = 16 * MIB
"""A slot, and what it holds."""
STRIPES = 64
HEADER_KEY = STRIPES
"""Number of the key, behind those of the stripes, that seals the headers of a segment's records."""
STRIPE_BYTES = SEGMENT_BYTES // STRIPES
PAGE_BYTES = 4096
"""A metadata page of the pool, and a page of a paged map."""
SLOTS_OFFSET_BYTES = 1 * MIB
"""Where slot 0 of a medium begins."""

VOLUME_BYTES_MIN = MIB
VOLUME_BYTES_MAX = 64 * TIB
