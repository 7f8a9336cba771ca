"""Ephemeral volumes as the pool knows them: no key, and another lineage each time."""

from __future__ import annotations

import pytest

from scrubjay.base.errors import Conflict, Unavailable
from scrubjay.base.ids import Entry, LineageNo, SegmentId, TenantNo
from scrubjay.base.units import GIB
from scrubjay.control.volumes import Volume
from scrubjay.engine.lessor import Checkpoint
from scrubjay.keys import path
from scrubjay.media.simulated import Fault, IoKind
from tests.control.rig import World


@pytest.fixture
def scratch(world: World) -> Volume:
    """An ephemeral volume."""
    return world.volumes.create("scratch", tenant="acme", size_bytes=GIB, ephemeral=True)


def leased(world: World, volume: Volume, count: int = 3) -> int:
    """Attach it and lease segments; return its epoch."""
    epoch = world.attachments.attach("scratch").epoch
    world.leases.lease(volume.id, epoch, count=count, above=SegmentId(0))
    return epoch


def clear(world: World) -> None:
    """Clear away what there is."""
    while world.forgetting.clear():
        pass


def test_ephemeral_volume_has_no_key_in_the_pool(world: World, scratch: Volume) -> None:
    """I2, I3: grants come without one, and tree, salts and ledger know nothing of it."""
    epoch = world.attachments.attach("scratch").epoch
    grants = world.leases.lease(scratch.id, epoch, count=3, above=SegmentId(0))
    again = world.leases.lease(scratch.id, epoch, count=3, above=SegmentId(0))
    assert grants == again  # a reply that was lost
    assert [(each.segment, each.key, each.stripes) for each in grants] == [
        (1, b"", ()),
        (2, b"", ()),
        (3, b"", ()),
    ]
    assert all(each.slot is not None for each in grants)
    lineage = LineageNo(scratch.record.lineage)
    with world.keeper.reading() as view:
        assert not list(view.scan(b"k" + path.lineage(TenantNo(1), lineage)))
        assert not list(view.scan(b"g"))
        assert not list(view.scan(b"h"))
        assert view.birth_record(scratch.id).keys == "memory"


@pytest.mark.parametrize("how", ["detach", "die", "forced"])
def test_ephemeral_volume_begins_anew_however_it_ended(
    world: World, scratch: Volume, how: str
) -> None:
    """I6: no number of a lineage, and so no name of a segment, is ever given twice."""
    free = world.pools.status().slots_free
    epoch = leased(world, scratch)
    done = Checkpoint(Entry(77), 9, clean=False, live_sectors=5)
    world.leases.commit(scratch.id, epoch, done, freed=[])
    if how == "die":
        world.exporters.die(scratch.id)
        world.attachments.give_back_all()
    else:
        if how == "forced":
            world.exporters.fails["detach"] = Unavailable("exporter: silent")
        world.attachments.detach("scratch")
    record = world.volumes.find("scratch").record
    assert record.lineage > scratch.record.lineage
    assert (record.checkpoint.root, record.checkpoint.live_sectors) == (0, 0)
    clear(world)
    assert world.pools.status().slots_free == free
    served = world.attachments.attach("scratch")
    start = world.leases.attachment(scratch.id, served.epoch)
    assert (start.next_segment, start.checkpoint.root, start.lineage) == (1, 0, record.lineage)


def test_ephemeral_volume_that_died_unseen_begins_anew_at_its_attachment(
    world: World, scratch: Volume
) -> None:
    """The commit that gives the next epoch gives the next lineage as well (I5)."""
    leased(world, scratch)
    world.exporters.die(scratch.id)
    before = world.keeper.pool.generation
    served = world.attachments.attach("scratch")
    assert world.keeper.pool.generation == before + 1
    start = world.leases.attachment(scratch.id, served.epoch)
    assert start.next_segment == 1
    with world.keeper.reading() as view:
        assert [remains.volume for _, remains in view.remains()] == [scratch.id]


def test_ephemeral_volume_that_leased_nothing_stays_where_it_is(
    world: World, scratch: Volume
) -> None:
    """Attaching for nothing costs no number."""
    for _ in range(3):
        world.attachments.attach("scratch")
        world.attachments.detach("scratch")
    world.attachments.give_back_all()
    assert world.volumes.find("scratch").record.lineage == scratch.record.lineage


def test_served_ephemeral_volume_is_left_alone_by_who_looks_for_the_dead(
    world: World, scratch: Volume
) -> None:
    """An exporter that outlived its daemon goes on (I1)."""
    epoch = leased(world, scratch)
    world.attachments.give_back_all()
    assert world.leases.lease(scratch.id, epoch, count=1, above=SegmentId(3))


def test_reset_asks_the_exporter_or_gives_back_what_it_left(world: World, scratch: Volume) -> None:
    """Attached, the exporter does it; detached, there is no key to drop."""
    leased(world, scratch)
    assert world.attachments.reset("scratch").attached
    assert world.exporters.calls[-1] == ("reset", scratch.id)
    world.exporters.fails["reset"] = Unavailable("exporter: silent")
    with pytest.raises(Unavailable):
        world.attachments.reset("scratch")
    world.exporters.die(scratch.id)
    assert not world.attachments.reset("scratch").attached
    assert world.volumes.find("scratch").record.lineage > scratch.record.lineage


def test_reset_of_what_keeps_its_data_or_ends_is_a_conflict(world: World, scratch: Volume) -> None:
    """What the key tree opens is not forgotten by a reset, and nothing says so (I8)."""
    world.volumes.create("db", tenant="acme", size_bytes=GIB)
    with pytest.raises(Conflict, match="expected an ephemeral"):
        world.attachments.reset("db")
    world.destroy("scratch")
    with pytest.raises(Conflict, match="being destroyed"):
        world.attachments.reset("scratch")


def test_ephemeral_volume_is_destroyed_and_closed_like_any_other(
    world: World, scratch: Volume
) -> None:
    """Its last lineage goes with it, and its birth record says how it ended."""
    leased(world, scratch)
    world.attachments.detach("scratch")
    leased(world, scratch)
    free = world.pools.status()
    world.destroy("scratch")
    world.forget()
    assert world.pools.status().slots_leased == 0
    assert world.pools.status().slots_free >= free.slots_free + 3
    with world.keeper.reading() as view:
        end = view.birth_record(scratch.id).destruction
        assert not list(view.scan(b"l"))
    assert end is not None
    assert end.segments == 0  # no key of it was ever on record


def test_ephemeral_volume_grows(world: World, scratch: Volume) -> None:
    """Its size is its own, its keys are not."""
    grown = world.volumes.resize("scratch", size_bytes=2 * GIB, check=lambda _: None)
    assert (grown.record.keys, grown.record.size_bytes) == ("memory", 2 * GIB)
    world.attachments.tell_size(grown)


def test_what_is_to_be_scrubbed_first_is_given_back_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`scrub_data` changes when slots begin to wait for scrubbing, and nothing that is read."""
    monkeypatch.setattr("scrubjay.control.clearing._LINEAGES", 1)
    volumes = [world.written(name, tenant="acme") for name in ("a", "b", "c")]
    for name in ("a", "b"):
        world.destroy(name)
    world.forgetting.destroy("c", check=lambda _: None, scrub_first=True)
    world.forgetting.carry_out()
    with world.keeper.reading() as view:
        wishes = {remains.volume: remains.scrub_first for _, remains in view.remains()}
        assert [wishes[each.id] for each in volumes] == [False, False, True]
    assert world.forgetting.withheld_at(volumes[2].id) <= world.keeper.now()
    assert world.forgetting.clear()
    counts = world.keeper.pool.counts
    assert (counts.leased, counts.waiting) == (6, 3)
    with world.keeper.reading() as view:
        assert not list(view.scan(b"d" + volumes[2].volume.record.lineage.to_bytes(4)))


def test_detach_while_the_pool_has_stopped_ends_the_exporter_all_the_same(
    world: World, scratch: Volume
) -> None:
    """Its data is forgotten then; its slots follow at the next attachment (I3)."""
    leased(world, scratch)
    world.disks.pool.inject(Fault.ERROR, kind=IoKind.SYNC)
    world.attachments.detach("scratch")
    assert scratch.id not in world.exporters.locks
    assert world.keeper.revive()
    served = world.attachments.attach("scratch")
    assert world.leases.attachment(scratch.id, served.epoch).next_segment == 1
