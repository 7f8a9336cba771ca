"""The salts of the segments below a seed: what a copy of the pool cannot foresee.

All children of a seed but segments derive from nothing else. So two copies of one pool that
both go on would bear the same segments, and seal other bytes under the same nonces. A
segment's seed derives from a random salt as well, drawn at its birth, no secret. The salts
lie where the node's table would lie (docs/format/keys.md):

    salts = 17 bytes for each of the first segments of the node: 1 ‖ salt, or zeros: not born
"""

from __future__ import annotations

from collections.abc import Iterable

from scrubjay.base.errors import Corrupt
from scrubjay.base.ports import Entropy
from scrubjay.keys.path import spell

__all__ = ["Salts"]

SALT_BYTES = 16
ENTRY_BYTES = 1 + SALT_BYTES
_BORN = b"\1"
_ENTRIES_MAX = 256


class Salts:
    """The salts of one node's segments."""

    def __init__(self, stored: bytes | None, path: bytes) -> None:
        """Read what is stored at `path`; Corrupt when that is something else."""
        stored = stored or b""
        if len(stored) % ENTRY_BYTES or len(stored) > _ENTRIES_MAX * ENTRY_BYTES:
            raise Corrupt(f"salts of {spell(path)}: {len(stored)} bytes, expected whole salts")
        self._entries = bytearray(stored)

    def of(self, indices: Iterable[int]) -> list[tuple[int, bytes]]:
        """Return (index, salt) of those of the children that were born."""
        every = ((i, self._entries[i * ENTRY_BYTES : (i + 1) * ENTRY_BYTES]) for i in indices)
        return [(index, bytes(entry[1:])) for index, entry in every if entry.startswith(_BORN)]

    def draw(self, indices: Iterable[int], entropy: Entropy) -> bool:
        """Draw a salt for each child that has none; return whether there was one."""
        born = {index for index, _ in self.of(indices)}
        unborn = [index for index in indices if index not in born]
        for index in unborn:
            at = index * ENTRY_BYTES
            self._entries.extend(bytes(max(0, at + ENTRY_BYTES - len(self._entries))))
            self._entries[at : at + ENTRY_BYTES] = _BORN + entropy.token(SALT_BYTES)
        return bool(unborn)

    def pack(self) -> bytes:
        """Return what is to be stored."""
        return bytes(self._entries)
