"""Sums of purging by tenant: whatever becomes of a volume, none of them turns back."""

from __future__ import annotations

import pytest

from scrubjay.base.errors import Corrupt
from scrubjay.base.ids import Entry, SegmentId, TenantNo
from scrubjay.control.purge_totals import add_ended, ended_key
from scrubjay.engine.lessor import Checkpoint, Purged
from tests.control.rig import World, Written
from tests.control.test_purging import give_up


def moved(world: World) -> dict[str, int]:
    """Return what was moved for each tenant, by name."""
    totals = world.purging.status.totals()
    return {
        name: totals.moved_bytes[TenantNo(world.tenants.find(name).id)] for name in ("acme", "zeta")
    }


def ephemeral(world: World) -> Written:
    """Make an ephemeral volume, and attach it."""
    world.volumes.create("scratch", tenant="acme", size_bytes=1 << 30, ephemeral=True)
    return attached(world)


def attached(world: World) -> Written:
    """Attach it, and lease a segment to it."""
    served = world.attachments.attach("scratch")
    volume = world.volumes.find("scratch")
    leased = world.leases.lease(volume.id, served.epoch, count=1, above=SegmentId(0))
    return Written(volume, served.epoch, list(leased))


def test_sum_of_a_tenant_counts_living_volumes_and_those_that_are_no_more(world: World) -> None:
    """And nobody else's."""
    for name in ("a", "b"):
        give_up(world, world.written(name, tenant="acme"))
    assert moved(world) == {"acme": 10_000, "zeta": 0}
    world.destroy("a")
    world.forget()
    assert moved(world) == {"acme": 10_000, "zeta": 0}
    assert world.purging.status.pool().moved_bytes == 10_000


def test_sum_of_a_tenant_that_was_closed_stays(world: World) -> None:
    """Its number is not given again."""
    give_up(world, world.written("a", tenant="acme"), waiting_h=30)
    world.purging.turn()
    tenant = TenantNo(world.tenants.find("acme").id)
    world.forgetting.close("acme", check=lambda _: None)
    world.forget()
    totals = world.purging.status.totals()
    assert (totals.moved_bytes[tenant], totals.missed[tenant]) == (5000, 1)


def test_sum_counts_each_attachment_of_an_ephemeral_volume(world: World) -> None:
    """Its exporter counts from 0 each time, and after a reset too."""
    scratch = ephemeral(world)
    give_up(world, scratch)
    give_up(world, scratch)  # says the same again
    assert moved(world)["acme"] == 5000
    reset = Checkpoint(Entry(0), 1, False, 0, (), Purged())
    world.leases.commit(scratch.id, scratch.epoch, reset, freed=[])
    give_up(world, scratch)
    assert moved(world)["acme"] == 10_000
    world.attachments.detach("scratch")
    assert moved(world)["acme"] == 10_000
    give_up(world, attached(world))
    assert moved(world)["acme"] == 15_000


def test_sum_that_is_nothing_is_not_written_down(world: World) -> None:
    """Most volumes end without having been purged."""
    tenant = TenantNo(world.tenants.find("acme").id)
    with world.keeper.changing() as change:
        add_ended(change, tenant)
        assert change.get(ended_key(tenant)) is None


def test_sum_that_is_no_record_is_corrupt(world: World) -> None:
    """It is named, not guessed."""
    tenant = TenantNo(world.tenants.find("acme").id)
    with world.keeper.changing() as change:
        change.put(ended_key(tenant), b'{"moved_bytes": -1}')
    with pytest.raises(Corrupt, match=f"purging of tenant {tenant}"):
        world.purging.status.totals()
