"""Where a home's pool and its single sink lie, when not at `pool` and `sink` in the home.

`places.json` holds no secret; where it is missing, both lie in the home. A mirror of sinks is
none of its business: where `mirror` is, that record says where the keys lie, and the sink here
is one that was replaced. Paths within the home are relative to it, so that a home can move.
"""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

import msgspec
import structlog

from scrubjay.app.home import Home, refused, sync_folder
from scrubjay.base.errors import Conflict, Corrupt, Invalid, NotFound
from scrubjay.media.file import PoolFile
from scrubjay.media.finding import devices_with, expect_pool, pool_at

__all__ = [
    "HeldPool",
    "Leaving",
    "Places",
    "open_pool_medium",
    "pool_path",
    "read_places",
    "warn_of_leaving",
    "write_places",
]

_VERSION = 1
_log = structlog.get_logger(__name__)


class Leaving(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A medium that was the pool's and is still to be erased."""

    path: str
    device: bool
    medium_id: UUID
    epoch_before: int
    epoch_after: int
    moved_at: str
    """RFC 3339."""


class Places(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where the parts of a home lie."""

    version: int
    pool: str = "pool"
    """A path, relative to the home where it lies in it."""
    device: bool = False
    """Whether that is a block device, which is looked for where it has another name now."""
    pool_id: UUID | None = None
    """Of a pool on a device: nothing else is taken for it."""
    sink_kind: str = "file"
    sink_where: str = "sink"
    """As a mirror's member says it (sinks/membership.py)."""
    moving_to: str = ""
    """A medium to which the pool was being copied: nothing on it counts yet."""
    leaving: Leaving | None = None


def read_places(home: Home) -> Places:
    """Return where the parts of a home lie; Corrupt where the record makes no sense."""
    try:
        text = home.places.read_bytes()
    except FileNotFoundError:
        return Places(version=_VERSION)
    except OSError as error:
        raise refused(home.path, error) from error
    try:
        version = msgspec.json.decode(text, type=_Versioned).version
        if version > _VERSION:
            raise Invalid(
                f"{home.places}: version {version}, expected at most {_VERSION}",
                hint="a newer Scrubjay made it: use that one",
            )
        return msgspec.json.decode(text, type=Places)
    except msgspec.DecodeError as error:
        raise Corrupt(f"{home.places}: unreadable, expected a home's places: {error}") from error


def write_places(home: Home, places: Places) -> None:
    """Put a record in the place of the one before, durably: a crash leaves one of the two."""
    draft = home.places.with_suffix(".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(places), indent=1) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(home.places)
        sync_folder(home.path)
    except OSError as error:
        raise refused(home.path, error) from error


def pool_path(home: Home, *, root: Path = Path("/")) -> Path:
    """Return where the pool is now; a device that has another name is looked for.

    NotFound where no device holds it, Conflict where several do: then nobody guesses.
    """
    places = read_places(home)
    path = home.path / places.pool
    if not places.device or places.pool_id is None or pool_at(path) == places.pool_id:
        return path
    found = devices_with(places.pool_id, root=root)
    if len(found) == 1:
        _log.warning("pool.found_elsewhere", expected=str(path), found=str(found[0]))
        return found[0]
    if found:
        raise Conflict(
            f"pool {places.pool_id}: on {', '.join(map(str, found))}, expected on one device",
            hint=f"take the copies away, or write the right one into {home.places}",
        )
    raise NotFound(
        f"pool {places.pool_id}: not on {path} nor on another device, expected it there",
        hint="bring the disk back, and run this as a user who may read it",
    )


def open_pool_medium(home: Home, *, hold: bool, kind: type[PoolFile] = PoolFile) -> PoolFile:
    """Open the pool's medium; Conflict where a device holds another pool after all."""
    path = pool_path(home)
    medium = kind.open(path, hold=hold)
    try:
        if (expected := read_places(home).pool_id) is not None:
            expect_pool(medium, expected, path)
    except BaseException:
        medium.close()
        raise
    return medium


class HeldPool:
    """The pool's medium as the daemon holds it, and others beside it while it is in place."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._held: PoolFile | None = None

    def open(self) -> list[PoolFile]:
        """Open it for the daemon, which holds it."""
        self._held = open_pool_medium(self._home, hold=True)
        return [self._held]

    def open_beside(self, *, kind: type[PoolFile] = PoolFile) -> list[PoolFile]:
        """Open one more handle; Unavailable where that would be of another file."""
        self.expect_in_place()
        return [open_pool_medium(self._home, hold=False, kind=kind)]

    def expect_in_place(self) -> None:
        """Raise Unavailable where the pool's path names another file than the one that is held."""
        if self._held is not None:
            self._held.expect_in_place()


def warn_of_leaving(home: Home) -> None:
    """Say so where a medium that the pool has left, or was to move to, still needs somebody."""
    places = read_places(home)
    if places.leaving is not None:
        _log.warning(
            "pool.medium_not_erased",
            medium=places.leaving.path,
            hint="stop serving, then: scrubjay pool retire",
        )
    if places.moving_to:
        _log.warning(
            "pool.move_cut_short",
            to=places.moving_to,
            hint="this pool is whole where it was; to move it, again: scrubjay pool retire --to",
        )


class _Versioned(msgspec.Struct):
    version: int
