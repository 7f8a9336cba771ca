"""Opening pool, sink and catalog: which may be older, and which may not."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from random import Random

import pytest

from scrubjay.base.errors import Conflict, Corrupt, Denied, Invalid, Unavailable
from scrubjay.base.ids import Epoch, TenantNo
from scrubjay.base.units import GIB
from scrubjay.catalog.database import Database
from scrubjay.catalog.index import Identity, Index, VolumeRow
from scrubjay.control.keeper import differences
from scrubjay.keys.salts import Salts
from scrubjay.media.simulated import Fault, IoKind
from scrubjay.sinks.file import FileSink
from tests.control.cutting import copy_catalog
from tests.control.rig import (
    SOMEWHERE,
    Disks,
    Seeded,
    SinkFile,
    World,
)
from tests.sinks.disks import POOL


def names(world: World) -> list[str]:
    """The volumes' names, as the catalog has them."""
    return [each.record.name for each in world.volumes.page(after="", limit=99)]


def test_catalog_of_an_hour_ago_is_brought_forward(world: World) -> None:
    """The pool is right: what was made and destroyed since is known again (I6)."""
    world.volumes.create("old", tenant="acme", size_bytes=GIB)
    folder = copy_catalog(world.folder, world.folder / "backup")
    world.volumes.create("new", tenant="acme", size_bytes=GIB)
    world.tenants.create("newco")
    world.destroy("old")
    world.forgetting.carry_out()
    again = World(world.disks, folder, seed=2)
    assert names(again) == ["new"]
    assert again.tenants.find("newco").id == 3
    again.close()


def test_catalog_that_is_empty_is_filled_from_the_pool(world: World) -> None:
    """With pool and sink alone everything but the history comes back."""
    world.volumes.create("a", tenant="zeta", size_bytes=GIB)
    folder = world.folder / "rebuilt"
    folder.mkdir()
    Database.create(folder / "catalog.db").close()
    again = World(world.disks, folder, seed=2)
    assert names(again) == ["a"]
    assert again.volumes.find("a").tenant == "zeta"
    again.close()


def leased_twice(world: World, seeds: tuple[int, int]) -> list[list[bytes]]:
    """Go on twice from one moment of a home, and lease segments: the keys of each time."""
    attached = world.written("data", tenant="acme")
    folders = [copy_catalog(world.folder, world.folder / f"copy{i}") for i in range(2)]
    keys = []
    for seed, folder in zip(seeds, folders, strict=True):
        again = World(world.disks.copied(), folder, seed=seed)
        served = again.attachments.attach("data")
        known = attached.grants[-1].segment
        grants = again.leases.lease(attached.id, served.epoch, count=3, above=known)
        keys.append([grant.key for grant in grants])
        again.close()
    return keys


def test_home_that_goes_on_from_an_old_copy_reuses_no_key(world: World) -> None:
    """Design 8.7: pool, sink and catalog put back together seal nothing under an old nonce."""
    first, second = leased_twice(world, (2, 3))
    assert len(first) == len(second) == 3
    assert not set(first) & set(second)


def test_home_whose_segments_had_no_salt_would_reuse_keys(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check can fail: with the same salt for all segments, both copies bear the same keys."""
    monkeypatch.setattr(Salts, "of", lambda _self, indices: [(i, bytes(16)) for i in indices])
    first, second = leased_twice(world, (2, 3))
    assert first == second


def test_pool_of_an_hour_ago_is_refused_by_the_catalog(world: World) -> None:
    """A pool that was put back loses what came after: it is refused, not believed (I6)."""
    backup = world.disks.copied()
    world.volumes.create("new", tenant="acme", size_bytes=GIB)
    world.database.close()
    with pytest.raises(Corrupt, match="generation") as caught:
        World(backup, world.folder, seed=2)
    assert "newest" in caught.value.hint


def test_progress_without_names_is_remembered_too(world: World) -> None:
    """Leases and checkpoints move the pool on: an older copy of it is refused as well (I6)."""
    a = world.written("a", tenant="acme")
    backup = world.disks.copied()
    world.leases.lease(a.id, a.epoch, count=1, above=a.grants[-1].segment)
    world.keeper.remember()
    world.close()
    with pytest.raises(Corrupt, match="generation"):
        World(backup, world.folder, seed=2)


def test_pool_of_before_a_forgetting_is_refused_by_the_sink(world: World) -> None:
    """Also without a catalog that remembers: its epoch is gone (I6)."""
    world.volumes.create("a", tenant="acme", size_bytes=GIB)
    before = world.disks.copied()
    world.destroy("a")
    world.forgetting.carry_out()
    folder = world.folder / "none"
    folder.mkdir()
    Database.create(folder / "catalog.db").close()
    with pytest.raises(Denied) as caught:
        World(Disks(before.pool, world.disks.sink), folder, seed=2)
    assert caught.value.hint


def test_sink_of_before_a_forgetting_is_refused(world: World) -> None:
    """A sink from a backup brings nothing back (I6)."""
    world.volumes.create("a", tenant="acme", size_bytes=GIB)
    before = world.disks.copied()
    world.destroy("a")
    world.forgetting.carry_out()
    with pytest.raises(Denied):
        World(Disks(world.disks.pool, before.sink), world.folder, seed=2)


def test_sink_of_another_pool_is_refused(world: World) -> None:
    """A foreign sink is told from a damaged one."""
    disks = Disks.blank()
    FileSink.format(
        SinkFile(disks.sink),
        Seeded(Random(9)),
        SOMEWHERE,
        sink_id=uuid.UUID(int=5),
        pool_id=POOL,
        epoch=Epoch(1),
    )
    with pytest.raises(Invalid, match="foreign"):
        World(Disks(world.disks.pool, disks.sink), world.folder, seed=2)


def test_catalog_of_another_pool_is_refused(world: World) -> None:
    """An index of something else is not brought forward over this."""
    Index(world.database).bring_forward(Identity(uuid.UUID(int=5), 1), [], [])
    with pytest.raises(Conflict, match="catalog") as caught:
        World(world.disks, world.folder, seed=2)
    assert "home rebuild" in caught.value.hint


def test_index_that_fell_behind_is_brought_forward_when_next_looked_at(
    world: World, tmp_path: Path
) -> None:
    """A volume whose entry the catalog could not take is made all the same, and found."""
    catalog = tmp_path / "catalog.db"
    shutil.copy(catalog, tmp_path / "kept")
    with world.database.writing() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON volumes"
            " BEGIN SELECT RAISE(FAIL, 'disk full'); END"
        )
    made = world.volumes.create("a", tenant="acme", size_bytes=GIB)
    with world.database.writing() as connection:
        connection.exec_driver_sql("DROP TRIGGER full")
    assert world.volumes.find("a") == made
    assert names(world) == ["a"]


def test_pool_that_stopped_refuses_every_change_until_opened_anew(world: World) -> None:
    """A failed sync is never retried (I4): nothing is claimed that is not durable."""
    a = world.written("a", tenant="acme")
    world.disks.pool.inject(Fault.ERROR, kind=IoKind.SYNC)
    for name in ("b", "c"):
        with pytest.raises(Unavailable):
            world.volumes.create(name, tenant="acme", size_bytes=GIB)
    with pytest.raises(Unavailable):
        world.leases.lease(a.id, a.epoch, count=1, above=a.grants[-1].segment)
    assert world.keeper.revive()
    assert not world.keeper.revive()
    world.volumes.create("c", tenant="acme", size_bytes=GIB)
    assert list(world.leases.group(a.id, a.epoch, 0)) == a.grants
    assert set(names(world)) <= {"a", "b", "c"}


def test_pool_that_cannot_be_opened_anew_stays_stopped_and_is_tried_again(world: World) -> None:
    """A disk that comes back later brings the pool back; until then nothing changes."""
    world.disks.pool.inject(Fault.ERROR, kind=IoKind.SYNC)
    with pytest.raises(Unavailable):
        world.tenants.create("newco")
    world.unplugged = True
    with pytest.raises(Unavailable, match="gone"):
        world.keeper.revive()
    with pytest.raises(Unavailable):
        world.tenants.create("newco")
    world.unplugged = False
    assert world.keeper.revive()
    assert world.tenants.create("another").name == "another"


def test_catalog_that_somebody_edited_is_named_and_put_right(world: World) -> None:
    """The pool is right wherever the two differ, and the operator hears of it (I8)."""
    volume = world.volumes.create("mine", tenant="acme", size_bytes=1 << 30)
    generation = world.keeper.pool.generation
    index = world.keeper.index
    index.remember(generation)
    assert differences(world.keeper.pool, index) == []
    index.remove_volumes([volume.id], generation=generation)
    index.add_volume(VolumeRow(volume.id, "yours", TenantNo(2)), generation=generation)
    assert differences(world.keeper.pool, index) == [
        f"volume yours ({volume.id}) of tenant 2: not in the pool",
        f"volume mine ({volume.id}) of tenant 1: missing",
    ]
    world.close()
    later = World(world.disks, world.folder)
    assert later.volumes.find("mine").tenant == "acme"
    assert differences(later.keeper.pool, later.keeper.index) == []
    later.close()
