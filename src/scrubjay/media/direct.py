"""A pool file or block device past the page cache, and the calls that give blocks back.

Erasing writes what nobody will read: through the page cache it would push out what tenants
read. And what is read back must come from the device, for the cache would show the zeros
that were written whatever became of them. Where O_DIRECT is refused (some file systems),
or an access is not cut at pages, it goes through the cache; a sync drops it from there.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import stat
import struct
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from scrubjay.base.ports import Buffer, Extent
from scrubjay.base.units import MIB, PAGE_BYTES
from scrubjay.media.file import PoolFile

__all__ = ["PIECE_BYTES", "DirectFile"]

PIECE_BYTES = MIB
"""One write: long enough for the rate of a disk, short enough not to stand in the way."""

_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 0x01, 0x02, 0x10
"""linux/falloc.h"""
_BLKDISCARD = 0x1277
"""linux/fs.h"""
_CANNOT = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.EINVAL, errno.ENODEV})
_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_fallocate.restype = ctypes.c_int


class DirectFile(PoolFile):
    """A PoolFile whose page-aligned reads and writes go to the device; a Medium."""

    def __init__(self, descriptor: int, path: Path) -> None:
        super().__init__(descriptor, path)
        self._piece = mmap.mmap(-1, PIECE_BYTES)  # aligned, as O_DIRECT wants it
        self._view = memoryview(self._piece)
        self._using = Lock()
        self._direct = -1
        try:
            own = f"/proc/self/fd/{descriptor}"
            self._direct = os.open(own, os.O_RDWR | os.O_CLOEXEC | os.O_DIRECT)
        except OSError:
            pass  # through the cache, then

    @property
    def reads_device(self) -> bool:
        """Whether aligned reads come from the device for certain, never from a cache."""
        return self._direct >= 0

    def read_into(self, offset_bytes: int, out: memoryview) -> int:
        """Fill `out` from the device; return the bytes read, fewer only at the end."""
        if not self._goes_direct(offset_bytes, len(out)):
            return super().read_into(offset_bytes, out)
        done = 0
        with self._using:
            while done < len(out):
                piece = self._view[: min(PIECE_BYTES, len(out) - done)]
                try:
                    count = os.preadv(self._direct, (piece,), offset_bytes + done)
                except OSError as error:
                    self._give_up_direct(error)
                    return done + super().read_into(offset_bytes + done, out[done:])
                out[done : done + count] = piece[:count]
                done += count
                if count < len(piece):
                    break
        return done

    def write(self, offset_bytes: int, data: Buffer) -> int:
        """Write to the device, never past the end; return the bytes written."""
        if not self._goes_direct(offset_bytes, len(data)):
            return super().write(offset_bytes, data)
        source = memoryview(data)
        done = 0
        with self._using:
            while done < len(source):
                piece = self._view[: min(PIECE_BYTES, len(source) - done)]
                piece[:] = source[done : done + len(piece)]
                try:
                    count = os.pwrite(self._direct, piece, offset_bytes + done)
                except OSError as error:
                    self._give_up_direct(error)
                    return done + super().write(offset_bytes + done, source[done:])
                done += count
                if count < len(piece):
                    break
        return done

    def sync(self, extents: Sequence[Extent] | None = None) -> None:
        """Make writes durable, and drop named extents from the cache.

        Some file systems take O_DIRECT and go through the cache all the same.
        """
        super().sync(extents)
        for offset_bytes, length_bytes in extents or ():
            os.posix_fadvise(self._descriptor, offset_bytes, length_bytes, os.POSIX_FADV_DONTNEED)

    def zero_range(self, extent: Extent) -> bool:
        """Have a range read as zeros, kept allocated; False where that cannot be done."""
        return self._allocate(_ZERO_RANGE | _KEEP_SIZE, extent)

    def punch_hole(self, extent: Extent) -> bool:
        """Give blocks back so that zeros are read; False where that cannot be done.

        A file is sparse there afterwards: its promise of space is gone.
        """
        return self._allocate(_PUNCH_HOLE | _KEEP_SIZE, extent)

    def discard(self, extent: Extent) -> bool:
        """Tell a device that a range is not needed; what it reads as then is its own matter.

        False for files, and where the device takes no discards.
        """
        if self._failure:
            self._refuse()
        if not stat.S_ISBLK(os.fstat(self._descriptor).st_mode):
            return False
        try:
            fcntl.ioctl(self._descriptor, _BLKDISCARD, struct.pack("=QQ", *extent))
        except OSError as error:
            if error.errno in _CANNOT:
                return False
            raise
        return True

    def close(self) -> None:
        """Give both handles back; nothing is synced by it."""
        super().close()
        direct, self._direct = self._direct, -1
        if direct >= 0:
            os.close(direct)

    def _goes_direct(self, offset_bytes: int, length_bytes: int) -> bool:
        if self._failure:
            self._refuse()
        inside = 0 <= offset_bytes <= self._size_bytes - length_bytes
        return self._direct >= 0 and inside and not (offset_bytes | length_bytes) % PAGE_BYTES

    def _give_up_direct(self, error: OSError) -> None:
        """Go on through the cache where a file system takes O_DIRECT back; else raise."""
        if error.errno != errno.EINVAL:
            raise error
        direct, self._direct = self._direct, -1
        os.close(direct)

    def _allocate(self, mode: int, extent: Extent) -> bool:
        if self._failure:
            self._refuse()
        if not _fallocate(self._descriptor, mode, *extent):
            return True
        error = ctypes.get_errno()
        if error in _CANNOT:
            return False
        raise OSError(error, os.strerror(error), str(self._path))
