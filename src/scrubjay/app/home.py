"""The home: what lies where, of which version, and who holds it.

VERSION      "scrubjay home 1", written last when a home is made
pool         the pool's file, unless it lies elsewhere
sink         the epoch keys, unless they lie elsewhere
tpm2.<n>     for the sink of this number: where in a TPM, and the authorisation for it
mirror       the members of a mirrored sink, where it is one
places.json  where pool and sink lie, where they do not lie here
retired/     of media that the pool has left: what was found, for people, and certificates
catalog.db   the catalog
evidence/    log.pub, the key of the log; log/, the published log; certificates/
lock         held by the daemon
run/         sockets and locks: api, channel, parent, volumes/
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from scrubjay.base.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from scrubjay.client.places import api_socket

__all__ = ["Home", "refused", "sync_folder"]

_VERSION = 1
_VERSION_TEXT = re.compile(r"scrubjay home ([0-9]{1,9})\n")
_SOCKET_PATH_BYTES_MAX = 107
"""What `sockaddr_un` holds, without its end."""
_LONGEST_SOCKET = f"run/volumes/{'0' * 36}.sock"


class Home:
    """The folder of one pool and its daemon."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pool = path / "pool"
        self.sink = path / "sink"
        self.mirror = path / "mirror"
        self.mirror_plan = path / "mirror.plan"
        self.places = path / "places.json"
        self.retired = path / "retired"
        self.catalog = path / "catalog.db"
        self.evidence = path / "evidence"
        self.run = path / "run"
        self.volumes = self.run / "volumes"
        self.api = api_socket(path)
        self.channel = self.run / "channel.sock"
        self._version = path / "VERSION"
        self._lock = path / "lock"

    def check(self) -> None:
        """Raise what keeps this home from being used; NotFound where there is none."""
        self.check_length()
        try:
            text = self._version.read_text(encoding="ascii", errors="replace")
        except (FileNotFoundError, NotADirectoryError) as error:
            if self.pool.exists():
                raise Conflict(
                    f"home {self.path}: holds a pool but no VERSION, expected both",
                    hint="an init was cut short: if this pool was never used, remove the folder",
                ) from error
            raise NotFound(
                f"home {self.path}: not there",
                hint="make it with: scrubjay init, or set SCRUBJAY_HOME",
            ) from error
        except OSError as error:
            raise refused(self.path, error) from error
        match = _VERSION_TEXT.fullmatch(text)
        if match is None:
            raise Invalid(f"home {self.path}: VERSION reads {text[:40]!r}, expected a home's")
        if int(match[1]) > _VERSION:
            raise Invalid(
                f"home {self.path}: version {match[1]}, expected at most {_VERSION}",
                hint="a newer Scrubjay made it: use that one",
            )

    def check_length(self) -> None:
        """Raise Invalid where a volume's socket would have too long a path."""
        room = _SOCKET_PATH_BYTES_MAX - len(f"/{_LONGEST_SOCKET}")
        length = len(os.fsencode(self.path))
        if length > room:
            raise Invalid(
                f"home {self.path}: {length} bytes long, expected at most {room}",
                hint="the paths of unix sockets are short: choose a shorter home",
            )

    def check_vacant(self) -> None:
        """Raise Conflict where a home, or anything else, lies already."""
        self.check_length()
        names = self.names()
        if self._version.name in names:
            raise Conflict(
                f"home {self.path}: already a home", hint="serve it with: scrubjay serve"
            )
        if names:
            raise Conflict(
                f"home {self.path}: not empty, expected nothing there",
                hint="it stays as it is; choose another place with SCRUBJAY_HOME",
            )

    def names(self) -> set[str]:
        """Return what lies in the folder, but for what a new file system has; none without one."""
        try:
            return {each.name for each in self.path.iterdir()} - {"lost+found"}
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise refused(self.path, error) from error

    def make_folders(self) -> None:
        """Make the folders, for their owner alone."""
        try:
            for folder in (self.path, self.evidence, self.run, self.volumes):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise refused(self.path, error) from error

    def close_to_others(self) -> None:
        """Let nobody else in, also where the folder was there before."""
        try:
            self.path.chmod(0o700)
        except OSError as error:
            raise refused(self.path, error) from error

    def seal(self) -> None:
        """Write the version, durably: from now on this is a home."""
        draft = self._version.with_suffix(".new")
        with draft.open("w", encoding="ascii") as file:
            file.write(f"scrubjay home {_VERSION}\n")
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._version)
        sync_folder(self.path)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the home; Conflict where another process does."""
        try:
            lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise refused(self.path, error) from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(
                    f"home {self.path}: held by another process",
                    hint="one daemon serves a home: stop it first",
                ) from error
            yield
        finally:
            os.close(lock)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refused(path: Path, error: OSError) -> Denied | Invalid | Unavailable:
    """Return what the system said about a home as an error of ours."""
    if isinstance(error, NotADirectoryError | FileExistsError):
        return Invalid(f"home {path}: not a folder", hint="choose another place with SCRUBJAY_HOME")
    if isinstance(error, PermissionError):
        return Denied(
            f"home {path}: {error.strerror}",
            hint="run as its owner, or choose another home with SCRUBJAY_HOME",
        )
    return Unavailable(f"home {path}: {error.strerror}")
