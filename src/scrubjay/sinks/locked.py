"""A small file of secrets: owner only, one opener at a time, and a port to play crashes on."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from scrubjay.base.errors import Conflict, Denied, NotFound, ScrubjayError, Unavailable

__all__ = ["Displaced", "FileIo", "LockedFile", "Placed"]

MODE = 0o600
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


class Displaced(Unavailable):
    """The path of an open file names another one by now, or none: someone moved or copied it.

    Whoever opened the path anew would get a copy of unknown age, and leave the open one behind
    with the keys that are in it.
    """


@runtime_checkable
class Placed(Protocol):
    """What can tell whether its file is still where it was opened."""

    def expect_in_place(self) -> None:
        """Raise Displaced, or Unavailable, unless the path names the open file."""
        ...


class FileIo(Protocol):
    """Bytes of a sink. Every method raises Unavailable where the system fails."""

    @property
    def size_bytes(self) -> int:
        """How long the file is."""
        ...

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return what lies there, fewer bytes at the end of the file."""
        ...

    def write(self, offset_bytes: int, data: bytes) -> None:
        """Overwrite in place, or lengthen the file; not durable before `sync`."""
        ...

    def sync(self) -> None:
        """Make every write durable; what is read later comes from the device."""
        ...

    def expect_in_place(self) -> None:
        """Raise Displaced, or Unavailable, unless the path names the open file."""
        ...

    def close(self) -> None:
        """Let go of the file and its lock."""
        ...


class LockedFile:
    """A regular file of mode 0600, ours, no symbolic link, locked while it is open.

    After a failed write or sync it refuses everything (I4): the cache shows what may never
    have reached the device. Opened anew, it is read from the device. While the path names
    another file it refuses everything too: what is written here, nobody would open again.
    """

    def __init__(self, path: Path, fd: int) -> None:
        """Take over `fd`; use `open` or `create`."""
        self._path = path
        self._fd = fd
        self._failed = False
        self._forget_cache()

    @classmethod
    def create(cls, path: Path) -> Self:
        """Create an empty file, its name durable; Conflict if there is one."""
        fd = _open(path, _FLAGS | os.O_CREAT | os.O_EXCL)
        try:
            os.fchmod(fd, MODE)
            _lock(path, fd)
            _sync_folder(path.parent)
        except BaseException:
            os.close(fd)
            raise
        return cls(path, fd)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a file that exists; Denied if others may read it, Conflict if it is in use."""
        fd = _open(path, _FLAGS | os.O_NONBLOCK)
        try:
            _check_owner(path, os.fstat(fd))
            _lock(path, fd)
        except BaseException:
            os.close(fd)
            raise
        return cls(path, fd)

    @property
    def fd(self) -> int:
        """The open file, to find out where it lies."""
        return self._fd

    @property
    def size_bytes(self) -> int:
        """How long the file is."""
        return os.fstat(self._fd).st_size

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return what lies there, fewer bytes at the end of the file."""
        self._refuse()
        parts = []
        try:
            while size_bytes and (part := os.pread(self._fd, size_bytes, offset_bytes)):
                parts.append(part)
                offset_bytes += len(part)
                size_bytes -= len(part)
        except OSError as error:
            raise _failure(self._path, error) from error
        return b"".join(parts)

    def write(self, offset_bytes: int, data: bytes) -> None:
        """Overwrite in place, or lengthen the file; not durable before `sync`."""
        self._refuse()
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._fd, view, offset_bytes)
                offset_bytes += written
                view = view[written:]
        except OSError as error:
            self._failed = True
            raise _failure(self._path, error) from error

    def sync(self) -> None:
        """Make every write durable; what is read later comes from the device."""
        self._refuse()
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            self._failed = True
            raise _failure(self._path, error) from error
        self._forget_cache()

    def expect_in_place(self) -> None:
        """Raise Displaced unless the path names the open file.

        Unavailable for the same file on a disk that came back: that is to be opened anew.
        """
        if self._fd < 0:
            raise Unavailable(f"{self._path}: closed, expected an open file")
        held = os.fstat(self._fd)
        try:
            there = self._path.lstat()
        except (FileNotFoundError, NotADirectoryError) as error:
            message = f"{self._path}: gone, expected the file that is open"
            raise Displaced(message, hint=self._way_back(held)) from error
        except OSError as error:
            raise _failure(self._path, error) from error
        if (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino):
            return
        if there.st_ino == held.st_ino:
            raise Unavailable(f"{self._path}: on another device now, expected the open file's")
        message = f"{self._path}: another file lies there, expected the one that is open"
        raise Displaced(message, hint=self._way_back(held))

    def close(self) -> None:
        """Let go of the file and its lock; again is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _forget_cache(self) -> None:
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def _refuse(self) -> None:
        if self._failed:
            raise Unavailable(f"{self._path}: a write failed before, expected to be opened anew")
        self.expect_in_place()

    def _way_back(self, held: os.stat_result) -> str:
        """Say where the open file is by now, and how it comes back."""
        link = f"/proc/{os.getpid()}/fd/{self._fd}"
        if not held.st_nlink:
            return (
                f"it was deleted, and the daemon alone still has it: as root, "
                f"`cp {link} {self._path}` before the daemon ends, then serve anew"
            )
        try:
            now = Path(link).readlink()
        except OSError:
            return "put the same file back before the daemon ends: a copy may open nothing"
        return f"before the daemon ends: mv {now} {self._path}"


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags, MODE)
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file, expected a sink", hint=_ELSEWHERE) from error
    except FileExistsError as error:
        raise Conflict(f"{path}: exists, expected nothing there") from error
    except IsADirectoryError as error:
        raise Denied(f"{path}: a folder, expected a regular file") from error
    except PermissionError as error:
        raise Denied(f"{path}: may not be opened by this user, expected its owner") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Denied(f"{path}: a symbolic link, expected a regular file") from error
        raise _failure(path, error) from error


_ELSEWHERE = "the pool opens with its sink only: mount or bring the file that belongs to it"


def _check_owner(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Denied(f"{path}: no regular file, expected one")
    if status.st_uid != os.geteuid():
        raise Denied(f"{path}: owned by uid {status.st_uid}, expected {os.geteuid()}")
    mode = stat.S_IMODE(status.st_mode)
    if mode != MODE:
        raise Denied(
            f"{path}: mode {mode:04o}, expected {MODE:04o}",
            hint=f"find out who could read it, then: chmod 600 {path}",
        )
    if status.st_nlink != 1:
        raise Denied(f"{path}: {status.st_nlink} names, expected one")


def _lock(path: Path, fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Conflict(
            f"{path}: in use by another process, expected nobody",
            hint="another daemon serves this home",
        ) from error
    except OSError as error:
        raise _failure(path, error) from error


def _sync_folder(folder: Path) -> None:
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise _failure(folder, error) from error


def _failure(path: Path, error: OSError) -> ScrubjayError:
    return Unavailable(f"{path}: {error.strerror}, expected a working file")
