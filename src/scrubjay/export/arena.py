"""Where an exporter keeps its segment keys: locked memory, overwritten when they go (I2, I3).

A segment's key is a seed, or what is left of its 64 stripes: two sizes, each with places of
its own.

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

_SIZES = (32, 65 * 32)
_CHUNK_BYTES = 64 << 10
"""2048 seeds: 32 GiB of log. Or 31 segments that lost stripes."""
_MADV_WIPEONFORK = 18
"""linux/mman.h; Python's mmap has no name for it."""
_Place = tuple[mmap.mmap, int, int]
"""(chunk, where in it, size), in bytes."""


class Arena:
    """Keys of segments, of 32 or 2080 bytes; every method may be called from any thread."""

    def __init__(self) -> None:
        self.locked = True
        """Whether all of it is locked; set to False for good once the system refused."""
        self._lock = threading.Lock()
        self._closed = False
        self._chunks: list[mmap.mmap] = []
        self._places: dict[int, _Place] = {}
        self._free: dict[int, list[_Place]] = {size: [] for size in _SIZES}

    def put(self, segment: int, key: bytes) -> None:
        """Keep the key of a segment, in the place of an older one if there is one.

        Not after `drop_all`: an answer that comes late brings nothing back (I6).
        """
        if len(key) not in _SIZES:
            raise Invalid(f"segment {segment}: key of {len(key)} bytes, expected one of {_SIZES}")
        with self._lock:
            if self._closed:
                return
            place = self._places.get(segment)
            if place is None or place[2] != len(key):
                if not self._free[len(key)]:
                    self._grow(len(key))
                self._overwrite(segment)
                place = self._places[segment] = self._free[len(key)].pop()
            chunk, at, size = place
            chunk[at : at + size] = key

    def get(self, segment: int) -> bytes | None:
        """Return a copy of the key, or None."""
        with self._lock:
            place = self._places.get(segment)
            if place is None:
                return None
            chunk, at, size = place
            return chunk[at : at + size]

    def drop(self, segment: int) -> None:
        """Overwrite the key of a segment; none is fine."""
        with self._lock:
            self._overwrite(segment)

    def drop_all(self) -> None:
        """Overwrite every key, and keep none from now on."""
        with self._lock:
            self._closed = True
            for chunk in self._chunks:
                chunk[:] = bytes(_CHUNK_BYTES)
            for place in self._places.values():
                self._free[place[2]].append(place)
            self._places.clear()

    def _overwrite(self, segment: int) -> None:
        place = self._places.pop(segment, None)
        if place is not None:
            chunk, at, size = place
            chunk[at : at + size] = bytes(size)
            self._free[size].append(place)

    def _grow(self, size: int) -> None:
        chunk = mmap.mmap(-1, _CHUNK_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for advice in (mmap.MADV_DONTDUMP, _MADV_WIPEONFORK):
            chunk.madvise(advice)
        self.locked = lock_memory(chunk) and self.locked
        self._chunks.append(chunk)
        last = _CHUNK_BYTES - size
        self._free[size] += ((chunk, at, size) for at in range(0, last + 1, size))
