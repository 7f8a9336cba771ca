"""Taking a medium out of a pool: evacuated, erased as a whole, and described for a certificate.

While no daemon serves the home and no volume is attached, for every byte is about to lie
elsewhere. In this order, so that after a crash at any point exactly one medium is the pool:

    known       the pool has noted which medium it is to leave (app/leaving.py)
    prepared    the sink holds the next epoch beside the old one
    noted       places.json names where it is going; nothing there counts
    copied      every slot that holds something, read back past the cache
    written     the new medium has superblocks under that epoch
    moved       places.json names the new medium, and the old one as to be erased
    dropped     the sink has destroyed the old epoch: no superblock of the old medium opens
    erased      every byte of the old medium was overwritten, and read back
    found       the pool has noted what was found: a certificate is due
    told        it lies in retired/ for people, and the certificate is issued

A crash before `moved`: the old medium is the pool, and the first opening drops the epoch of
the other. After it: the new one is, and `pool retire` without --to goes on. The sealed data
keeps its keys, as it is the same data; what the rotation ends is the old medium's way to them.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import msgspec
import structlog

from scrubjay.app.home import Home, sync_folder
from scrubjay.app.leaving import (
    certify,
    count_openable,
    is_done,
    note_erased,
    note_leaving,
    note_left,
    opened_pool,
)
from scrubjay.app.mirroring import settle_plan
from scrubjay.app.places import (
    Leaving,
    Places,
    open_pool_medium,
    pool_path,
    read_places,
    write_places,
)
from scrubjay.app.retired import Certified, Retired, describe, expect_same, tell
from scrubjay.app.sinks import open_sink
from scrubjay.app.wiping import Progress, counting, wipe_medium
from scrubjay.base.errors import (
    Conflict,
    Corrupt,
    Invalid,
    NotFound,
    ScrubjayError,
    Unavailable,
)
from scrubjay.base.ids import VolumeId
from scrubjay.base.ports import Clock, Entropy, Medium
from scrubjay.base.units import SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.catalog.database import Database
from scrubjay.catalog.index import Index
from scrubjay.control.keeper import bring_forward
from scrubjay.control.liveness import Liveness
from scrubjay.control.opening import open_pool
from scrubjay.control.records import at
from scrubjay.control.retirement_records import ErasedRecord, RetirementRecord
from scrubjay.control.retirements import text_of
from scrubjay.media.direct import DirectFile
from scrubjay.media.erase import Technique
from scrubjay.media.file import PoolFile
from scrubjay.media.finding import pool_at, stable_name
from scrubjay.media.fresh import contents_of, create_on_device
from scrubjay.media.geometry import Geometry
from scrubjay.media.moving import Moved, copy_slots, expect_room, write_superblocks
from scrubjay.media.pool import Pool
from scrubjay.media.slots import AREA_PREFIX, Slots
from scrubjay.media.superblock import read_copies, survey
from scrubjay.sinks.keeper import EpochKeeper
from scrubjay.sinks.sink import Sink

__all__ = ["Target", "check_target", "retire"]

_log = structlog.get_logger(__name__)
_UNKNOWN = "the pool left it under a version that noted nothing of it: there is no certificate"


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
        record, noted = _settle(home, places.leaving, clock=clock, entropy=entropy)
        again = is_done(record)
        if not again:
            record = _erase(
                home,
                places,
                places.leaving,
                record,
                clock=clock,
                entropy=entropy,
                sample=sample,
                technique=technique,
                progress=progress,
            )
            if noted:
                note_erased(home, record, clock=clock, entropy=entropy)
        return _tell(home, places, record, clock=clock, entropy=entropy, noted=noted, again=again)


def check_target(home: Home, path: Path) -> None:
    """Raise what can be seen of a target before anybody is asked: where no pool can be moved to."""
    if not path.is_absolute():
        raise Invalid(f"medium {path}: a relative path, expected an absolute one")
    if path.is_dir():
        raise Invalid(f"medium {path}: a folder, expected a new file's name or a block device")
    if not path.parent.is_dir():
        raise NotFound(f"medium {path}: no folder {path.parent}, expected one")
    ours = read_places(home).moving_to == _named(home, _stable(path))
    if path.exists() and not path.is_block_device() and not ours:
        raise Conflict(f"pool file {path}: something lies there, expected nothing")


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
            note_leaving(pool, old_path, moved_to=new_path, clock=clock)
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
            copy_slots(old, new, held, counting("copy", 2 * len(held) * SEGMENT_BYTES, progress))
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


def _settle(
    home: Home, leaving: Leaving, *, clock: Clock, entropy: Entropy
) -> tuple[RetirementRecord, bool]:
    """Open the pool where it is now, so that the old epoch is dropped; bring the catalog on.

    Return what is known of the medium that it left, and whether the pool itself knows it: a
    certificate is made of nothing else. Unavailable where the sink cannot drop the epoch now.
    """
    with opened_pool(home, clock=clock, entropy=entropy) as (pool, _):
        record = note_left(pool, leaving, clock=clock)
        if home.catalog.exists():
            with contextlib.closing(Database.open(home.catalog)) as database:
                bring_forward(pool, Index(database))
    if record is not None:
        return record, True
    moved_at = dt.datetime.fromisoformat(leaving.moved_at)
    return RetirementRecord(
        medium=describe(_expect_there(home.path / leaving.path), leaving.medium_id),
        noted_at=moved_at,
        epoch_before=leaving.epoch_before,
        moved_to=text_of(home.path / read_places(home).pool),
        left_at=moved_at,
        epoch_after=leaving.epoch_after,
    ), False


def _erase(
    home: Home,
    places: Places,
    leaving: Leaving,
    record: RetirementRecord,
    *,
    clock: Clock,
    entropy: Entropy,
    sample: bool,
    technique: Technique,
    progress: Progress,
) -> RetirementRecord:
    """Overwrite all of the medium that was left, and return what was found."""
    path = _expect_there(home.path / leaving.path)
    _expect_left(path, places)
    expect_same(describe(path, leaving.medium_id), record.medium)
    with (
        opened_pool(home, clock=clock, entropy=entropy) as (_, sink),
        contextlib.closing(DirectFile.open(path, hold=True)) as medium,
    ):
        _expect_own(medium, path, leaving.medium_id)
        superblocks_opened = count_openable(medium, sink)
        looked_at = max(at(clock.now_ns()), record.left_at or record.noted_at)
    wiped = wipe_medium(
        path,
        since=looked_at,
        clock=clock,
        entropy=entropy,
        sample=sample,
        technique=technique,
        progress=progress,
    )
    erased = ErasedRecord(wiped=wiped, looked_at=looked_at, superblocks_opened=superblocks_opened)
    return msgspec.structs.replace(record, erased=erased, certificate="")


def _tell(
    home: Home,
    places: Places,
    record: RetirementRecord,
    *,
    clock: Clock,
    entropy: Entropy,
    noted: bool,
    again: bool,
) -> Retired:
    """Write down what was found, let go of a medium that was erased, and certify it."""
    assert places.leaving is not None, "until here"
    told = tell(record, pool=places.pool_id or UUID(int=0))
    _write(home, told)
    if told.clean:
        _let_go(home, places, places.leaving, again=again)
    certified = Certified(waits=_UNKNOWN)
    if noted:
        certified = certify(home, record.medium.id, clock=clock, entropy=entropy)
    told = replace(told, certified=certified)
    _write(home, told)
    return told


def _let_go(home: Home, places: Places, leaving: Leaving, *, again: bool) -> None:
    """Remove a file that was erased, and have the home forget the medium."""
    path = home.path / leaving.path
    if not leaving.device and path.exists() and not (again and _is_others(path, places)):
        path.unlink()
        sync_folder(path.parent)
    write_places(home, msgspec.structs.replace(places, leaving=None))


def _expect_own(medium: Medium, path: Path, medium_id: UUID) -> None:
    """Raise Conflict where another medium of this pool lies there: the living one, above all."""
    try:
        found = survey(read_copies([medium])).medium_id
    except ScrubjayError:
        return  # its superblocks were erased before a cut, and `_expect_left` has looked
    if found != medium_id:
        raise Conflict(
            f"medium {path}: is medium {found} of this pool, expected {medium_id}",
            hint="places.json was edited: it names the wrong one as to be erased",
        )


def _is_others(path: Path, places: Places) -> bool:
    """Whether something else lies by now where a file was erased before a cut."""
    try:
        _expect_left(path, places)
    except Conflict as error:
        _log.warning("pool.file_left", error=error.message)
        return True
    return False


# --- leaves ---------------------------------------------------------------------------


def _expect_there(path: Path) -> Path:
    """Return the path of a medium; NotFound where it is gone."""
    if not path.exists():
        raise NotFound(
            f"medium {path}: not there, expected it to be erased",
            hint="bring it back, then: scrubjay pool retire",
        )
    return path


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
