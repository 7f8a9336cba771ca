"""Making a part of a file durable, without paying for what others wrote into the rest.

`fdatasync` writes back every dirty page of a file, whoever dirtied it. `msync` of a
mapping ends in the same call of the kernel (`vfs_fsync_range`) for the mapped range
alone: same journal commit, same cache flush of the disk, same report of an error. Beside
200 MiB of a neighbour's dirty pages it takes 0.4 ms where `fdatasync` takes 100
(docs/performance.md). Nothing is ever read or written through the mapping.

Through ctypes, because `mmap.flush` of Python 3.11 holds the interpreter's lock.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence

from scrubjay.base.ports import Extent

__all__ = ["EXTENTS_MAX", "RangeSync"]

EXTENTS_MAX = 8
"""Each costs a flush of the disk; from here on one for the whole file is cheaper."""
_MS_SYNC = 4
_msync = ctypes.CDLL(None, use_errno=True).msync
_msync.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_msync.restype = ctypes.c_int


class RangeSync:
    """Syncs ranges of one open file; maps it at first use."""

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._descriptor = descriptor
        self._size_bytes = size_bytes
        self._map: mmap.mmap | None = None
        self._address = 0

    def sync(self, extents: Sequence[Extent]) -> bool:
        """Make writes to these extents durable; False: there are too many, sync the file."""
        merged = _merge(extents)
        if len(merged) > EXTENTS_MAX or not self._size_bytes:
            return False
        if self._map is None:
            self._map = mmap.mmap(
                self._descriptor,
                self._size_bytes,
                flags=mmap.MAP_SHARED,
                prot=mmap.PROT_READ | mmap.PROT_WRITE,
            )
            handle = ctypes.c_char.from_buffer(self._map)
            self._address = ctypes.addressof(handle)
            del handle  # else the mapping could not be closed
        for start, end in merged:
            if _msync(self._address + start, min(end, self._size_bytes) - start, _MS_SYNC):
                error = ctypes.get_errno()
                raise OSError(error, os.strerror(error))
        return True

    def close(self) -> None:
        """Unmap."""
        if self._map is not None:
            self._map.close()
            self._map = None


def _merge(extents: Sequence[Extent]) -> list[tuple[int, int]]:
    """Return (start, end) of what is covered, on page boundaries, ascending, apart."""
    page = mmap.PAGESIZE
    merged: list[tuple[int, int]] = []
    for offset_bytes, length_bytes in sorted(extents):
        start, end = offset_bytes & -page, offset_bytes + length_bytes
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
