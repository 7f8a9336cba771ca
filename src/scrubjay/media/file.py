"""A pool file, or a block device, as a Medium.

Every process opens its own handle: Linux reports a write-back error once per open file,
so a handle that is shared would let one process swallow the error of another. A failed
sync poisons the handle, because nothing is known about its writes any more (I4): every
later call fails, and only opening the file anew helps.

A block device is held by O_EXCL: the kernel then refuses every other holder, mounts and
swap included, whichever node of the device they come by. It takes no `flock`, which on a
device is how one keeps systemd-udevd away (systemd.io/BLOCK_DEVICE_LOCKING).

Space is preallocated unless the caller asks for a sparse file: a pool then never meets a
full file system in the middle of a write, and a first write costs 50 us per 256 KiB
where a sparse file takes 64 to 88 (ext4; onto written blocks it is 47).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Self

from scrubjay.base.errors import (
    Conflict,
    Denied,
    Invalid,
    NoSpace,
    NotFound,
    ScrubjayError,
    Unavailable,
)
from scrubjay.base.ports import Buffer, Extent
from scrubjay.media.ranges import RangeSync

__all__ = ["PoolFile", "explained"]

_FLAGS = os.O_RDWR | os.O_CLOEXEC


class PoolFile:
    """One open handle on a pool file; a Medium.

    The daemon holds the file: `hold` takes it exclusively, so that a second daemon is
    refused. Exporters open it without.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path
        self._size_bytes = os.lseek(descriptor, 0, os.SEEK_END)
        self._failure = ""
        self._syncing = Lock()
        self._nowait = os.RWF_NOWAIT
        self.waits = 0
        """Reads that the page cache could not answer at once."""
        self._range = RangeSync(descriptor, self._size_bytes)

    @classmethod
    def create(cls, path: Path, *, size_bytes: int, sparse: bool = False) -> Self:
        """Make a new file of zeros, readable by its owner alone, and hold it.

        Raises Conflict when there is something at `path`, NoSpace when the file system
        cannot promise the space, NotFound, Denied or Unavailable as the system says.
        """
        with explained(path):
            descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with explained(path):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if sparse:
                    os.ftruncate(descriptor, size_bytes)
                else:
                    os.posix_fallocate(descriptor, 0, size_bytes)
                os.fsync(descriptor)
                _sync_folder(path.parent)
        except BaseException:
            os.close(descriptor)
            path.unlink()
            raise
        return cls(descriptor, path)

    @classmethod
    def open(cls, path: Path, *, hold: bool, reread: bool = False) -> Self:
        """Open an existing pool file; `hold` it as the one process that changes the pool.

        `reread` syncs the file and drops what the system caches of it, for everybody:
        what a failed sync left in the page cache looks written and is not (I4). Whoever
        opens after a failed sync needs it; holding always does it.

        Raises Conflict when another process holds it or a device is in use, Invalid when
        it is neither a file nor a block device, NotFound, Denied or Unavailable as the
        system says.
        """
        with explained(path):
            device = stat.S_ISBLK(path.stat().st_mode)
            descriptor = os.open(path, _FLAGS | os.O_EXCL if hold and device else _FLAGS)
        try:
            _expect_bytes(descriptor, path)
            with explained(path):
                if hold and not device:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if hold or reread:
                    os.fdatasync(descriptor)
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, path)

    @property
    def size_bytes(self) -> int:
        """How many bytes it held when it was opened."""
        return self._size_bytes

    def expect_in_place(self) -> None:
        """Raise Unavailable where the path of this file names another one by now, or none.

        What is written here then, nobody opens again. A device may change its name.
        """
        if self._descriptor < 0 or not stat.S_ISREG((held := os.fstat(self._descriptor)).st_mode):
            return
        try:
            there = self._path.stat()
        except OSError as error:
            message = f"pool file {self._path}: {error.strerror}, expected the open file"
            raise Unavailable(message, hint=self._way_back(held)) from error
        if (there.st_dev, there.st_ino) != (held.st_dev, held.st_ino):
            message = f"pool file {self._path}: another file lies there, expected the open one"
            raise Unavailable(message, hint=self._way_back(held))

    def read_into(self, offset_bytes: int, out: memoryview) -> int:
        """Fill `out` from `offset_bytes`; return the bytes read, fewer only at the end."""
        if self._failure:
            self._refuse()
        try:
            done = os.preadv(self._descriptor, (out,), offset_bytes, self._nowait)
            if done == len(out):
                return done
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self._nowait = 0  # this file system cannot tell
        self.waits += 1
        return os.preadv(self._descriptor, (out,), offset_bytes)

    def write(self, offset_bytes: int, data: Buffer) -> int:
        """Write at `offset_bytes`, never past the end; return the bytes written."""
        if self._failure:
            self._refuse()
        if not 0 <= offset_bytes <= self._size_bytes - len(data):
            raise OSError(errno.ENOSPC, "write past the end", str(self._path))
        return os.pwrite(self._descriptor, data, offset_bytes)

    def sync(self, extents: Sequence[Extent] | None = None) -> None:
        """Make writes durable, all or those to a few extents, or poison the handle."""
        with self._syncing:  # a failure is reported once: nobody else may sync past it
            if self._failure:
                self._refuse()
            try:
                if extents is None or not self._range.sync(extents):
                    os.fdatasync(self._descriptor)
            except OSError as error:
                self._failure = f"a sync failed before ({error.strerror})"
                raise

    def advise(self, extents: Sequence[Extent]) -> None:
        """Have the system read (offset, length) ahead."""
        if self._failure:
            self._refuse()
        for offset_bytes, length_bytes in extents:
            os.posix_fadvise(self._descriptor, offset_bytes, length_bytes, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        """Give the handle and its lock back; nothing is synced by it."""
        descriptor, self._descriptor = self._descriptor, -1
        self._failure = self._failure or "closed"
        if descriptor >= 0:
            self._range.close()
            os.close(descriptor)

    def _way_back(self, held: os.stat_result) -> str:
        """Say where the open file is by now, and how it comes back."""
        link = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        if not held.st_nlink:
            return (
                "it was deleted, and the daemon alone still has it: stop the clients; as root, "
                f"`cp {link} {self._path}` before the daemon ends; then serve anew"
            )
        try:
            now = Path(link).readlink()
        except OSError:
            return "put the same file back before the daemon ends"
        return f"before the daemon ends: mv {now} {self._path}"

    def _refuse(self) -> None:
        raise OSError(errno.EIO, f"{self._failure}, open it anew", str(self._path))


def _expect_bytes(descriptor: int, path: Path) -> None:
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        message = f"pool file {path}: neither file nor block device"
        raise Invalid(message, hint="name the file that `scrubjay init` made")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the system says of a pool file into what the caller does next."""
    try:
        yield
    except OSError as error:
        kind, hint = _EXPLANATIONS.get(error.errno or 0, (Unavailable, ""))
        held = error.errno in (errno.EWOULDBLOCK, errno.EBUSY)
        strerror = "held by another process" if held else error.strerror
        what = "device" if path.is_relative_to("/dev") else "pool file"
        raise kind(f"{what} {path}: {strerror}", hint=hint) from error


_EXPLANATIONS: dict[int, tuple[type[ScrubjayError], str]] = {
    errno.EEXIST: (Conflict, "choose another path"),
    errno.EWOULDBLOCK: (Conflict, "another process holds it: stop that one first"),
    errno.EBUSY: (Conflict, "it is mounted or in use, see `lsblk`: stop that first"),
    errno.ENOENT: (NotFound, ""),
    errno.ENOTDIR: (NotFound, ""),
    errno.EISDIR: (Invalid, "name the file that `scrubjay init` made"),
    errno.EACCES: (Denied, ""),
    errno.EPERM: (Denied, ""),
    errno.EROFS: (Denied, ""),
    errno.ENOSPC: (NoSpace, "choose a smaller pool or a larger file system"),
    errno.EDQUOT: (NoSpace, "choose a smaller pool or a larger quota"),
    errno.EFBIG: (NoSpace, "choose a smaller pool or another file system"),
}


def _sync_folder(path: Path) -> None:
    """Make a new name in this folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
