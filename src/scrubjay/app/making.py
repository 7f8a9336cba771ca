"""Making a home, and making its catalog anew from pool and sink."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from scrubjay.app.home import Home, refused, sync_folder
from scrubjay.app.mirroring import settle_plan
from scrubjay.app.places import Places, open_pool_medium, read_places, write_places
from scrubjay.app.sinks import (
    HomeSinks,
    SinkPlace,
    TpmWords,
    make_sink,
    open_sink,
    place_in,
    shared_disk,
    sink_path,
)
from scrubjay.base.errors import Invalid, NoSpace, ScrubjayError
from scrubjay.base.ids import Epoch
from scrubjay.base.ports import Clock, Entropy
from scrubjay.base.units import GIB, SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.catalog.database import Database
from scrubjay.catalog.index import Index
from scrubjay.cli.output import size_text
from scrubjay.control.keeper import bring_forward
from scrubjay.control.opening import create_pool, open_pool
from scrubjay.keys.aead import KEY_BYTES
from scrubjay.media.device import facts_of
from scrubjay.media.file import PoolFile
from scrubjay.media.finding import stable_name
from scrubjay.media.fresh import create_on_device
from scrubjay.media.geometry import Geometry
from scrubjay.media.superblock import COPY_OFFSETS_BYTES, SUPERBLOCK_BYTES
from scrubjay.sinks.mirrored import MirroredSink
from scrubjay.sinks.sink import Sink

__all__ = ["Made", "PoolDevice", "Rebuilt", "default_pool_size", "make_home", "rebuild_catalog"]

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
    pool_path: str
    sink_kind: str
    sink_worth: str
    sink_places: tuple[str, ...]
    """Each member of a mirror and what it is worth; empty for a single sink."""
    sink_path: str
    """Where a single sink lies, a mirror's record otherwise."""
    sink_shared: str
    """Which members would be lost together; "" where none would."""


@dataclass(frozen=True, slots=True)
class PoolDevice:
    """A block device for the pool; `overwrite` what it holds, once somebody has agreed."""

    path: Path
    overwrite: bool = False


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


def make_home(
    home: Home,
    *,
    pool_bytes: int | None,
    label: str,
    clock: Clock,
    entropy: Entropy,
    device: PoolDevice | None = None,
    sinks: Sequence[SinkPlace] = (SinkPlace("file"),),
    words: TpmWords | None = None,
) -> Made:
    """Make a home with an empty pool; Conflict where there is one. All of it, or nothing.

    The pool takes `pool_bytes` in the home, or the whole `device`. Of several sinks it makes a
    mirror; `words` is what somebody knows of the TPMs among them.
    """
    home.check_vacant()
    if device is None:
        pool_bytes = default_pool_size(home.path) if pool_bytes is None else pool_bytes
        _expect_space(home, pool_bytes)
    else:
        _expect_large(device.path)
    home.make_folders()
    home.close_to_others()
    with home.held(), _undone(home), contextlib.ExitStack() as undo:
        pool_id = uuid.UUID(bytes=entropy.token(16), version=4)
        places = _places(home, device, pool_id, sinks)
        made_sinks = HomeSinks(home, entropy, words=words)
        undo.callback(made_sinks.undo)
        with contextlib.ExitStack() as parts:
            if device is not None:
                path = stable_name(device.path)
                medium = create_on_device(path, overwrite=device.overwrite)
                undo.callback(_clear_superblocks, path)
            else:
                medium = PoolFile.create(home.pool, size_bytes=pool_bytes or 0)
            parts.callback(medium.close)
            sink = make_sink(
                home,
                made_sinks,
                places,
                sink_id=uuid.UUID(bytes=entropy.token(16), version=4),
                pool_id=pool_id,
                epoch=_FIRST_EPOCH,
                key=entropy.token(KEY_BYTES),
            )
            parts.callback(sink.close)
            pool = create_pool([medium], sink, label=label, clock=clock, entropy=entropy)
            parts.callback(pool.close)
            database = Database.create(home.catalog)
            parts.callback(database.close)
            bring_forward(pool, Index(database))
            home.seal()
            undo.pop_all()
            return Made(
                home=str(home.path),
                pool=pool.pool_id,
                pool_bytes=medium.size_bytes,
                pool_path=str(home.path / read_places(home).pool),
                sink_kind=sink.kind,
                sink_worth=str(sink.worth()),
                sink_places=tuple(_worths(sink)),
                sink_path=sink_path(home),
                sink_shared=shared_disk(made_sinks, made_sinks.made),
            )


def rebuild_catalog(home: Home, *, clock: Clock, entropy: Entropy) -> Rebuilt:
    """Make a new catalog from pool and sink; the one before is kept under another name.

    Nothing is replaced unless the pool opens.
    """
    home.check()
    with home.held(), contextlib.ExitStack() as parts:
        settle_plan(home, entropy)
        sink = open_sink(home, entropy)
        parts.callback(sink.close)
        medium = open_pool_medium(home, hold=True)
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
        for path in (home.pool, home.places, home.mirror, home.path / "lock"):
            path.unlink(missing_ok=True)
        for folder in (home.volumes, home.run, home.evidence, home.path):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _expect_space(home: Home, pool_bytes: int) -> None:
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


def _places(
    home: Home, device: PoolDevice | None, pool_id: uuid.UUID, sinks: Sequence[SinkPlace]
) -> list[tuple[str, str]]:
    """Return where the sinks lie, having written down whatever lies elsewhere."""
    taken: list[str] = []
    found = []
    for each in sinks:
        place = place_in(home, each, besides=taken)
        found.append(place)
        taken.append(place[1])
    kind, where = found[0]
    places = Places(version=1, sink_kind=kind, sink_where=where)
    if device is not None:
        path = str(stable_name(device.path))
        places = msgspec.structs.replace(places, pool=path, device=True, pool_id=pool_id)
    if places != Places(version=1):
        write_places(home, places)
    return found


def _expect_large(device: Path) -> None:
    size_bytes = facts_of(device).size_bytes
    if size_bytes < _POOL_BYTES_MIN:
        raise Invalid(
            f"device {device}: {size_text(size_bytes)}, "
            f"expected {size_text(_POOL_BYTES_MIN)} or more",
            hint="a smaller one would be full before the first write",
        )


def _clear_superblocks(device: Path) -> None:
    """Leave no pool on a device whose home was not made after all."""
    medium = PoolFile.open(device, hold=False)
    try:
        for offset_bytes in COPY_OFFSETS_BYTES:
            medium.write(offset_bytes, bytes(SUPERBLOCK_BYTES))
        medium.sync()
    finally:
        medium.close()


def _worths(sink: Sink) -> Iterator[str]:
    if isinstance(sink, MirroredSink):
        for each in sink.members():
            if each.worth is not None:
                grade, place = each.worth.grade.value, each.worth.place
                yield f"{each.member.place}: {grade}, on {place}: {each.worth.reason}"


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
