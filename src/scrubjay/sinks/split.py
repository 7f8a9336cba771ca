"""The anti-forensic splitter of LUKS, with SHA-256.

Clemens Fruhwirth, "New Methods in Hard Disk Encryption" (2005), and the LUKS1 on-disk
format, AFsplit and AFmerge: a key becomes `STRIPES` stripes of its own size, and lacks
every bit as soon as one stripe is lost. The diffuser of a 32-byte block is SHA-256 of
its number (u32 big-endian, always 0 here) and the block.
"""

from __future__ import annotations

import hashlib

from scrubjay.base.ports import Entropy

__all__ = ["SPLIT_BYTES", "STRIPES", "merge", "split"]

BLOCK_BYTES = 32
STRIPES = 4000
SPLIT_BYTES = STRIPES * BLOCK_BYTES

_NUMBERED_BYTES = 4 + BLOCK_BYTES


def split(key: bytes, entropy: Entropy) -> bytes:
    """Split a 32-byte key into 4000 stripes."""
    stripes = entropy.token(SPLIT_BYTES - BLOCK_BYTES)
    return stripes + _xor(_chain(stripes), key)


def merge(stripes: bytes | memoryview) -> bytes:
    """Return the key that was split; something else if one bit differs."""
    return _xor(_chain(stripes[:-BLOCK_BYTES]), stripes[-BLOCK_BYTES:])


def _chain(stripes: bytes | memoryview) -> bytes:
    """Diffuse all stripes; 4000 turns that every rotation waits for, so nothing is called twice."""
    sha256, number = hashlib.sha256, int.from_bytes
    block = bytes(BLOCK_BYTES)
    for start in range(0, len(stripes), BLOCK_BYTES):
        mixed = number(block) ^ number(stripes[start : start + BLOCK_BYTES])
        # The number of the block, and the block: 4 zeros before its 32 bytes.
        block = sha256(mixed.to_bytes(_NUMBERED_BYTES)).digest()
    return block


def _xor(left: bytes | memoryview, right: bytes | memoryview) -> bytes:
    return (int.from_bytes(left) ^ int.from_bytes(right)).to_bytes(BLOCK_BYTES)
