"""Which slots of a pool file changed hands, seen from outside: by the bytes at their front."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from scrubjay.base.units import SEGMENT_BYTES, SLOTS_OFFSET_BYTES

__all__ = ["ZEROS", "changed", "fronts"]

FRONT_BYTES = 4096
"""Whoever writes into a slot begins at its front (docs/format/log.md)."""
ZEROS = hashlib.sha256(bytes(FRONT_BYTES)).digest()
"""The front of a slot that was overwritten with zeros."""


def fronts(pool: Path) -> list[bytes]:
    """Return what lies at the front of each slot, as digests."""
    with pool.open("rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        return [
            hashlib.sha256(os.pread(file.fileno(), FRONT_BYTES, at)).digest()
            for at in range(SLOTS_OFFSET_BYTES, size_bytes - SEGMENT_BYTES + 1, SEGMENT_BYTES)
        ]


def changed(before: Sequence[bytes], after: Sequence[bytes]) -> set[int]:
    """Return the slots whose front is another one now."""
    return {slot for slot, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]}
