"""Whether a volume is being served: its exporter holds a lock for as long as it lives.

The kernel lets go of a lock when its holder ends, however it ends, so that the answer
survives the daemon's death and never outlives the exporter's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import uuid
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from scrubjay.base.ids import VolumeId

__all__ = ["Liveness"]

_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SOCKET_PATH_BYTES_MAX = 107
"""What `sockaddr_un` holds, without its end."""


class Liveness:
    """The folder where the locks and the sockets of served volumes lie."""

    def __init__(self, folder: Path, *, above: Sequence[Path] = ()) -> None:
        """Take the folder, and those above it that are of this home too."""
        self._folder = folder
        self._above = tuple(above)

    def lock_path(self, volume: VolumeId) -> Path:
        """Return where the exporter of a volume holds its lock."""
        return self._folder / f"{volume}.lock"

    def socket_path(self, volume: VolumeId, name: str) -> Path:
        """Return where a volume is served: by name, or by id where a name is too long."""
        path = self._folder / f"{name}.sock"
        if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES_MAX:
            return path
        return self._folder / f"{volume}.sock"

    def let_groups_pass(self) -> None:
        """Let others pass through to a socket that is theirs, and list or read nothing."""
        for folder in (*self._above, self._folder):
            folder.chmod(folder.stat().st_mode & 0o7777 | 0o011)

    def attached(self, volume: VolumeId) -> bool:
        """Return whether an exporter serves the volume.

        Asked by a shared lock, which its own is seen by, and another who asks is not.
        """
        try:
            lock = os.open(self.lock_path(volume), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    @contextlib.contextmanager
    def withheld(self, volume: VolumeId) -> Iterator[bool]:
        """Hold the lock in the exporter's place; yield False where an exporter has it."""
        try:
            lock = os.open(self.lock_path(volume), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            yield True  # no folder, so nothing was ever served from it
            return
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(lock)

    def close_socket(self, volume: VolumeId, name: str) -> None:
        """Remove the socket of a volume that is no more; who serves it still holds its lock."""
        self.socket_path(volume, name).unlink(missing_ok=True)

    def sweep(self, known: Container[VolumeId]) -> None:
        """Remove the locks of volumes that are no more, and of which nobody asks any more."""
        for path in self._folder.glob("*.lock"):
            volume = VolumeId(uuid.UUID(path.stem)) if _ID.fullmatch(path.stem) else None
            if volume is not None and volume not in known and not self.attached(volume):
                path.unlink(missing_ok=True)
