"""Where an exporter keeps its segment keys: locked memory, overwritten when they go (I2, I3).

Anonymous private mappings that are neither swapped (mlock, where the system allows it) nor
dumped (MADV_DONTDUMP), and that a fork finds empty (MADV_WIPEONFORK). Implements the
engine's `KeyArena`.
"""

from __future__ import annotations

import mmap
import threading

from scrubjay.base.errors import Invalid
from scrubjay.export.hardening import lock_memory

__all__ = ["Arena"]

_KEY_BYTES = 32
_CHUNK_BYTES = 64 << 10
"""2048 keys: 32 GiB of log."""
_MADV_WIPEONFORK = 18
"""linux/mman.h; Python's mmap has no name for it."""


class Arena:
    """Keys of segments, 32 bytes each; every method may be called from any thread."""

    def __init__(self) -> None:
        self.locked = True
        """Whether all of it is locked; set to False for good once the system refused."""
        self._lock = threading.Lock()
        self._closed = False
        self._chunks: list[mmap.mmap] = []
        self._places: dict[int, tuple[mmap.mmap, int]] = {}
        self._free: list[tuple[mmap.mmap, int]] = []

    def put(self, segment: int, key: bytes) -> None:
        """Keep the key of a segment, in the place of an older one if there is one.

        Not after `drop_all`: an answer that comes late brings nothing back (I6).
        """
        if len(key) != _KEY_BYTES:
            raise Invalid(f"segment {segment}: key of {len(key)} bytes, expected {_KEY_BYTES}")
        with self._lock:
            if self._closed:
                return
            place = self._places.get(segment)
            if place is None:
                if not self._free:
                    self._grow()
                place = self._places[segment] = self._free.pop()
            chunk, at = place
            chunk[at : at + _KEY_BYTES] = key

    def get(self, segment: int) -> bytes | None:
        """Return a copy of the key, or None."""
        with self._lock:
            place = self._places.get(segment)
            if place is None:
                return None
            chunk, at = place
            return chunk[at : at + _KEY_BYTES]

    def drop(self, segment: int) -> None:
        """Overwrite the key of a segment; none is fine."""
        with self._lock:
            place = self._places.pop(segment, None)
            if place is not None:
                chunk, at = place
                chunk[at : at + _KEY_BYTES] = bytes(_KEY_BYTES)
                self._free.append(place)

    def drop_all(self) -> None:
        """Overwrite every key, and keep none from now on."""
        with self._lock:
            self._closed = True
            for chunk in self._chunks:
                chunk[:] = bytes(_CHUNK_BYTES)
            self._free += self._places.values()
            self._places.clear()

    def _grow(self) -> None:
        chunk = mmap.mmap(-1, _CHUNK_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for advice in (mmap.MADV_DONTDUMP, _MADV_WIPEONFORK):
            chunk.madvise(advice)
        self.locked = lock_memory(chunk) and self.locked
        self._chunks.append(chunk)
        self._free += ((chunk, at) for at in range(0, _CHUNK_BYTES, _KEY_BYTES))
