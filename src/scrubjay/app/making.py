"""Making a home, and making its catalog anew from pool and sink."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scrubjay.app.home import Home, refused, sync_folder
from scrubjay.base.errors import Invalid, NoSpace, ScrubjayError
from scrubjay.base.ids import Epoch
from scrubjay.base.ports import Clock, Entropy
from scrubjay.base.units import GIB, SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.catalog.database import Database
from scrubjay.catalog.index import Index
from scrubjay.cli.output import size_text
from scrubjay.control.keeper import bring_forward
from scrubjay.control.opening import create_pool, open_pool
from scrubjay.media.file import PoolFile
from scrubjay.media.geometry import Geometry
from scrubjay.sinks.file import FileSink

__all__ = ["Made", "Rebuilt", "default_pool_size", "make_home", "rebuild_catalog"]

_POOL_BYTES = 20 * GIB
_POOL_BYTES_MIN = SLOTS_OFFSET_BYTES + 8 * SEGMENT_BYTES
"""One slot of metadata, and what one volume needs before it takes a byte."""
_FIRST_EPOCH = Epoch(1)


@dataclass(frozen=True, slots=True)
class Made:
    """A home that was made."""

    home: str
    pool: uuid.UUID
    pool_bytes: int
    sink_worth: str


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A catalog that was made anew."""

    home: str
    pool: uuid.UUID
    generation: int
    tenants: int
    volumes: int
    replaced: str
    """Where the catalog before it lies now, "" where there was none."""


def default_pool_size(folder: Path) -> int:
    """Return 20 GiB, or half of what is free where that is less; NoSpace below 64 MiB."""
    free_bytes = _free_bytes(folder)
    size_bytes = min(_POOL_BYTES, free_bytes // 2)
    if size_bytes < _POOL_BYTES_MIN:
        raise NoSpace(
            f"home {folder}: {size_text(free_bytes)} free, "
            f"expected {size_text(2 * _POOL_BYTES_MIN)} or more",
            hint="free some space, or choose another place with SCRUBJAY_HOME",
        )
    slots = (size_bytes - SLOTS_OFFSET_BYTES) // SEGMENT_BYTES
    return SLOTS_OFFSET_BYTES + slots * SEGMENT_BYTES


def make_home(home: Home, *, pool_bytes: int, label: str, clock: Clock, entropy: Entropy) -> Made:
    """Make a home with an empty pool; Conflict where there is one. All of it, or nothing."""
    home.check_vacant()
    if pool_bytes < _POOL_BYTES_MIN:
        raise Invalid(
            f"pool of {pool_bytes} bytes: expected {_POOL_BYTES_MIN} "
            f"({size_text(_POOL_BYTES_MIN)}) or more",
            hint="a smaller one would be full before the first write",
        )
    Geometry.of([pool_bytes])  # raises Invalid for a size that no pool has
    if pool_bytes > (free_bytes := _free_bytes(home.path)):
        raise NoSpace(
            f"home {home.path}: {size_text(free_bytes)} free, "
            f"expected {size_text(pool_bytes)} for the pool",
            hint="choose a smaller pool, or another place with SCRUBJAY_HOME",
        )
    home.make_folders()
    home.close_to_others()
    with home.held(), _undone(home):
        pool_id = uuid.UUID(bytes=entropy.token(16), version=4)
        sink_id = uuid.UUID(bytes=entropy.token(16), version=4)
        with contextlib.ExitStack() as parts:
            sink = FileSink.create(
                home.sink, entropy, sink_id=sink_id, pool_id=pool_id, epoch=_FIRST_EPOCH
            )
            parts.callback(sink.close)
            medium = PoolFile.create(home.pool, size_bytes=pool_bytes)
            parts.callback(medium.close)
            pool = create_pool([medium], sink, label=label, clock=clock, entropy=entropy)
            parts.callback(pool.close)
            database = Database.create(home.catalog)
            parts.callback(database.close)
            bring_forward(pool, Index(database))
            home.seal()
            return Made(str(home.path), pool.pool_id, medium.size_bytes, str(sink.worth()))


def rebuild_catalog(home: Home, *, clock: Clock, entropy: Entropy) -> Rebuilt:
    """Make a new catalog from pool and sink; the one before is kept under another name.

    Nothing is replaced unless the pool opens.
    """
    home.check()
    with home.held(), contextlib.ExitStack() as parts:
        sink = FileSink.open(home.sink, entropy)
        parts.callback(sink.close)
        medium = PoolFile.open(home.pool, hold=True)
        parts.callback(medium.close)
        pool = open_pool([medium], sink, clock=clock, entropy=entropy)
        parts.callback(pool.close)
        draft = home.path / "catalog.new.db"
        _unlink_database(draft)
        database = Database.create(draft)
        try:
            index = Index(database)
            bring_forward(pool, index)
            counts = index.counts()
        finally:
            database.close()
        replaced = _set_aside(home.catalog, clock)
        draft.replace(home.catalog)
        sync_folder(home.path)
        return Rebuilt(str(home.path), pool.pool_id, pool.generation, *counts, replaced)


@contextlib.contextmanager
def _undone(home: Home) -> Iterator[None]:
    """Take away what was made, where making it failed on the way."""
    try:
        yield
    except (ScrubjayError, OSError, KeyboardInterrupt):
        _unlink_database(home.catalog)
        for path in (home.pool, home.sink, home.path / "lock"):
            path.unlink(missing_ok=True)
        for folder in (home.volumes, home.run, home.evidence, home.path):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _free_bytes(folder: Path) -> int:
    """Return what is free where a folder is, or is to be."""
    try:
        existing = next(each for each in (folder, *folder.parents) if each.exists())
        return shutil.disk_usage(existing).free
    except OSError as error:
        raise refused(folder, error) from error


def _set_aside(catalog: Path, clock: Clock) -> str:
    """Give a catalog and what belongs to it another name; return it."""
    if not catalog.exists():
        _unlink_database(catalog)
        return ""
    aside = catalog.with_name(f"{catalog.name}.replaced-{clock.now_ns() // 1_000_000_000}")
    for suffix in ("-wal", "-shm", ""):
        part = catalog.with_name(catalog.name + suffix)
        if part.exists():
            part.replace(aside.with_name(aside.name + suffix))
    return str(aside)


def _unlink_database(path: Path) -> None:
    for suffix in ("-wal", "-shm", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
