"""Taking a medium out of a pool: evacuated, erased as a whole, and described for a certificate.

While no daemon serves the home and no volume is attached, for every byte is about to lie
elsewhere. In this order, so that after a crash at any point exactly one medium is the pool:

    prepared    the sink holds the next epoch beside the old one
    noted       places.json names where it is going; nothing there counts
    copied      every slot that holds something, read back past the cache
    written     the new medium has superblocks under that epoch
    moved       places.json names the new medium, and the old one as to be erased
    dropped     the sink has destroyed the old epoch: no superblock of the old medium opens
    erased      every byte of the old medium was overwritten, and read back
    told        what was found lies in retired/

A crash before `moved`: the old medium is the pool, and the first opening drops the epoch of
the other. After it: the new one is, and `pool retire` without --to goes on. The sealed data
keeps its keys, as it is the same data; what the rotation ends is the old medium's way to them.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import msgspec

from scrubjay.app.home import Home, sync_folder
from scrubjay.app.mirroring import settle_plan
from scrubjay.app.places import (
    Leaving,
    Places,
    open_pool_medium,
    pool_path,
    read_places,
    write_places,
)
from scrubjay.app.retired import Retired, Told, describe, tell
from scrubjay.app.sinks import open_sink
from scrubjay.base.errors import (
    Conflict,
    Corrupt,
    Invalid,
    NotFound,
    ScrubjayError,
    Unavailable,
)
from scrubjay.base.ids import VolumeId
from scrubjay.base.ports import Clock, Entropy, Extent
from scrubjay.base.units import PAGE_BYTES, SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.catalog.database import Database
from scrubjay.catalog.index import Index
from scrubjay.control.keeper import bring_forward
from scrubjay.control.liveness import Liveness
from scrubjay.control.opening import open_pool
from scrubjay.control.records import at
from scrubjay.media.direct import DirectFile
from scrubjay.media.erase import SAMPLED_PAGES, Technique, erase
from scrubjay.media.file import PoolFile
from scrubjay.media.finding import pool_at, stable_name
from scrubjay.media.fresh import contents_of, create_on_device
from scrubjay.media.geometry import Geometry
from scrubjay.media.moving import Moved, copy_slots, expect_room, write_superblocks
from scrubjay.media.pool import Pool
from scrubjay.media.slots import AREA_PREFIX, Slots
from scrubjay.sinks.keeper import EpochKeeper
from scrubjay.sinks.sink import Sink

__all__ = ["Target", "retire"]

Progress = Callable[[str, int, int], None]
"""Told the step, bytes done in it, and bytes in all."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the pool is to go: a new file, or a device; `overwrite` what that holds."""

    path: Path
    overwrite: bool = False


def retire(
    home: Home,
    target: Target | None,
    *,
    clock: Clock,
    entropy: Entropy,
    sample: bool = False,
    technique: Technique = Technique.OVERWRITE,
    progress: Progress = lambda _step, _done, _total: None,
) -> Retired:
    """Move a home's pool to another medium and erase the one it left; return what was found.

    Without a target it goes on where it was cut short after the move. With `sample` it reads
    back only some pages. Conflict where somebody serves the home or a volume, or the target
    holds something; Invalid where it is too small; Unavailable where a medium fails.
    """
    home.check()
    with home.held():
        settle_plan(home, entropy)
        _expect_detached(home)
        places = read_places(home)
        if places.leaving is None:
            if target is None:
                raise Invalid(
                    "pool: no medium to erase, expected where the pool is to go",
                    hint="name it: scrubjay pool retire --to PATH",
                )
            places = _move(home, places, target, clock=clock, entropy=entropy, progress=progress)
        elif target is not None and home.path / places.pool != _stable(target.path):
            raise Conflict(
                f"medium {places.leaving.path}: left and not erased, expected that first",
                hint="go on with: scrubjay pool retire",
            )
        assert places.leaving is not None, "moved"
        _settle(home, clock=clock, entropy=entropy)
        return _erase(
            home,
            places,
            places.leaving,
            clock=clock,
            entropy=entropy,
            sample=sample,
            technique=technique,
            progress=progress,
        )


def _move(
    home: Home,
    places: Places,
    target: Target,
    *,
    clock: Clock,
    entropy: Entropy,
    progress: Progress,
) -> Places:
    """Copy the pool, and have the home name the new medium."""
    old_path, new_path = pool_path(home), _stable(target.path)
    if _same(old_path, new_path):
        raise Invalid(f"medium {new_path}: is the pool's own, expected another")
    with contextlib.ExitStack() as parts:
        sink = open_sink(home, entropy)
        parts.callback(sink.close)
        pool = open_pool([open_pool_medium(home, hold=True)], sink, clock=clock, entropy=entropy)
        try:
            geometry = pool.geometry
            held = list(Slots(geometry, pool.scan(AREA_PREFIX)).held_slots())
            pool_id, sink_id, epoch = pool.pool_id, pool.sink_id, pool.epoch
        finally:
            pool.close()
        epochs = EpochKeeper(sink, sink_id=sink_id, pool_id=pool_id, entropy=entropy)
        following = epochs.prepare(epoch)  # first, since it is what a sink may refuse
        try:
            old = DirectFile.open(old_path, hold=True)
            parts.callback(old.close)
            new, device = _new_medium(home, places, target, geometry, pool_id)
            parts.callback(new.close)
            copy_slots(old, new, held, _counting("copy", 2 * len(held) * SEGMENT_BYTES, progress))
            moved = write_superblocks(
                old, new, epoch_keys=sink.key, epoch=following, clock=clock, entropy=entropy
            )
            _expect_whole(new, sink, moved, clock=clock, entropy=entropy)
        except (ScrubjayError, OSError) as error:
            with contextlib.suppress(ScrubjayError):
                epochs.settle(epoch)  # now nothing on the new medium opens
            if isinstance(error, ScrubjayError):
                raise
            raise Unavailable(
                f"medium: {error.strerror or error}, the pool stays where it was",
                hint="look at the disks, then retire to another one",
            ) from error
        after = Places(
            version=places.version,
            pool=_named(home, new_path),
            device=device,
            pool_id=pool_id,
            sink_kind=places.sink_kind,
            sink_where=places.sink_where,
            leaving=Leaving(
                path=_named(home, old_path),
                device=places.device,
                medium_id=moved.before.medium_id,
                epoch_before=epoch,
                epoch_after=following,
                moved_at=at(clock.now_ns()).isoformat(),
            ),
        )
        write_places(home, after)
        return after


def _settle(home: Home, *, clock: Clock, entropy: Entropy) -> None:
    """Open the pool where it is now, so that the old epoch is dropped; bring the catalog on.

    Unavailable where the sink cannot drop it now: nothing is erased before it has.
    """
    with contextlib.ExitStack() as parts:
        sink = open_sink(home, entropy)
        parts.callback(sink.close)
        medium = open_pool_medium(home, hold=True)
        parts.callback(medium.close)
        pool = open_pool([medium], sink, clock=clock, entropy=entropy)
        parts.callback(pool.close)
        EpochKeeper(sink, sink_id=pool.sink_id, pool_id=pool.pool_id, entropy=entropy).settle(
            pool.epoch
        )
        if home.catalog.exists():
            database = Database.open(home.catalog)
            parts.callback(database.close)
            bring_forward(pool, Index(database))


def _erase(
    home: Home,
    places: Places,
    leaving: Leaving,
    *,
    clock: Clock,
    entropy: Entropy,
    sample: bool,
    technique: Technique,
    progress: Progress,
) -> Retired:
    """Overwrite all of the medium that was left, and write down what was found."""
    path = home.path / leaving.path
    if not path.exists():
        raise NotFound(
            f"medium {path}: not there, expected it to be erased",
            hint="bring it back, then: scrubjay pool retire",
        )
    _expect_left(path, places)
    ground = describe(path)
    begun_at = at(clock.now_ns())
    medium = DirectFile.open(path, hold=True)
    size_bytes = medium.size_bytes
    whole = size_bytes - size_bytes % PAGE_BYTES
    read = 2 * SAMPLED_PAGES * PAGE_BYTES if sample else whole
    try:
        erased = erase(
            medium,
            _extents(whole),
            entropy=entropy,
            technique=technique,
            sampled_pages=SAMPLED_PAGES if sample else None,
            pay=_counting("erase", whole + read, progress),
        )
        tail_clean = _erase_tail(medium, whole)
    except OSError as error:
        raise Unavailable(
            f"medium {path}: {error.strerror or error}, it is not erased",
            hint="it opens nothing by itself; destroy it, or try again: scrubjay pool retire",
        ) from error
    finally:
        medium.close()
    retired = tell(
        Told(
            ground=ground,
            leaving=leaving,
            erasure=erased,
            tail_bytes=size_bytes - whole,
            tail_clean=tail_clean,
            begun_at=begun_at,
            erased_at=at(clock.now_ns()),
            pool=places.pool_id or UUID(int=0),
            moved_to=str(home.path / places.pool),
        )
    )
    _write(home, retired)
    if erased.clean and tail_clean:
        if not leaving.device:
            path.unlink()
            sync_folder(path.parent)
        write_places(home, msgspec.structs.replace(places, leaving=None))
    return retired


# --- leaves ---------------------------------------------------------------------------


def _new_medium(
    home: Home,
    places: Places,
    target: Target,
    geometry: Geometry,
    pool_id: UUID,
) -> tuple[DirectFile, bool]:
    """Make the medium to move to, having noted it; one that an earlier try left is ours."""
    path = _stable(target.path)
    ours = places.moving_to == _named(home, path)
    device = path.exists() and stat.S_ISBLK(path.stat().st_mode)
    if device:
        with contextlib.closing(PoolFile.open(path, hold=False)) as seen:
            expect_room(geometry, seen.size_bytes)
    elif ours:
        path.unlink(missing_ok=True)
    noted = msgspec.structs.replace(places, moving_to=_named(home, path))
    if device:
        left = ours and pool_at(path) == pool_id
        create_on_device(path, overwrite=target.overwrite or left).close()
        write_places(home, noted)
    else:
        if path.exists():
            raise Conflict(f"pool file {path}: something lies there, expected nothing")
        write_places(home, noted)
        size_bytes = SLOTS_OFFSET_BYTES + geometry.slots * SEGMENT_BYTES
        PoolFile.create(path, size_bytes=size_bytes).close()
    return DirectFile.open(path, hold=True), device


def _expect_whole(
    new: DirectFile, sink: Sink, moved: Moved, *, clock: Clock, entropy: Entropy
) -> None:
    """Open what was copied as a pool, every page of it, before anything depends on it.

    The medium is closed then.
    """
    pool = Pool.open([new], clock=clock, entropy=entropy, epoch_keys=sink.key)
    try:
        pool.verify()
        if (pool.pool_id, pool.epoch) != (moved.after.pool_id, moved.after.epoch):
            raise Corrupt(f"new medium: pool {pool.pool_id} in epoch {pool.epoch}, not the copy")
    finally:
        pool.close()


def _expect_detached(home: Home) -> None:
    """Raise Conflict where an exporter of this home still runs."""
    liveness = Liveness(home.volumes)
    for lock in sorted(home.volumes.glob("*.lock")):
        try:
            volume = VolumeId(UUID(lock.stem))
        except ValueError:
            continue
        if liveness.attached(volume):
            raise Conflict(
                f"volume {volume}: attached, expected none while the pool moves",
                hint="serve the home, detach its volumes, and end serving",
            )


def _expect_left(path: Path, places: Places) -> None:
    """Raise Conflict where something else lies there by now: only our own medium is erased.

    Its superblocks are erased last. Where they are gone, nothing else may be known there.
    """
    if pool_at(path) == places.pool_id:
        return
    with path.open("rb") as file:
        found = ["other bytes"] if any(file.read(SLOTS_OFFSET_BYTES)) else []
    if path.is_block_device():
        found = contents_of(path)
    if found:
        raise Conflict(
            f"medium {path}: holds {', '.join(found)}, expected pool {places.pool_id}",
            hint="its name is another device's by now: put the right one into places.json",
        )


def _extents(size_bytes: int) -> list[Extent]:
    """Return all of a medium, superblocks last: by them a second try knows what is ours."""
    head = min(SLOTS_OFFSET_BYTES, size_bytes)
    rest = [(head, size_bytes - head)] if size_bytes > head else []
    return [*rest, (0, head)]


def _counting(what: str, total_bytes: int, progress: Progress) -> Callable[[int], None]:
    done = 0

    def step(size_bytes: int) -> None:
        nonlocal done
        done += size_bytes
        progress(what, min(done, total_bytes), total_bytes)

    return step


def _erase_tail(medium: DirectFile, start: int) -> bool:
    """Overwrite what is left behind the last whole page; return whether it reads as zeros."""
    size_bytes = medium.size_bytes - start
    if not size_bytes:
        return True
    medium.write(start, bytes(size_bytes))
    medium.sync()
    out = bytearray(b"\xff" * size_bytes)
    return medium.read_into(start, memoryview(out)) == size_bytes and not any(out)


def _stable(path: Path) -> Path:
    return stable_name(path) if path.exists() else path.absolute()


def _named(home: Home, path: Path) -> str:
    return str(path.relative_to(home.path)) if home.path in path.parents else str(path)


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and os.path.samefile(one, other)  # noqa: PTH121 - says it


def _write(home: Home, retired: Retired) -> None:
    home.retired.mkdir(mode=0o700, exist_ok=True)
    path = home.retired / f"{retired.id}.json"
    draft = path.with_suffix(".new")
    with draft.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(retired), indent=1) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(home.retired)
    sync_folder(home.path)
