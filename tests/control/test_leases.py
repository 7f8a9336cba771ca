"""Leases: what an attached volume asks of the pool."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from scrubjay.base.errors import Conflict, Invalid, NoSpace, NotFound
from scrubjay.base.ids import Entry, LineageNo, SegmentId, VolumeId
from scrubjay.base.units import GIB
from scrubjay.control.directory import commitment, read_ledger
from scrubjay.control.records import VolumeRecord
from scrubjay.control.stripes import ALL_STRIPES, read_waiting
from scrubjay.engine.lessor import Checkpoint, Purged
from tests.control.rig import SLOTS, World

NONE = SegmentId(0)


def checkpoint(flushed: int, *, root: int = 0, live_sectors: int = 0) -> Checkpoint:
    """A checkpoint of a volume that is served."""
    return Checkpoint(Entry(root), flushed, False, live_sectors)


def test_lease_grants_ascending_ids_with_slots_and_keys_of_their_own(world: World) -> None:
    """No slot and no key is given twice, to one volume or to two (I1)."""
    a = world.written("a", tenant="acme", segments=5)
    b = world.written("b", tenant="acme", segments=5)
    assert [each.segment for each in a.grants] == [1, 2, 3, 4, 5]
    grants = a.grants + b.grants
    assert len({each.slot for each in grants}) == 10
    assert len({each.key for each in grants}) == 10
    assert all(len(each.key) == 32 for each in grants)


def test_lease_whose_reply_was_lost_is_granted_again_and_nothing_else(world: World) -> None:
    """A repeat leases nothing anew."""
    a = world.written("a", tenant="acme", segments=4)
    again = world.leases.lease(a.id, a.epoch, count=9, above=SegmentId(1))
    assert list(again) == a.grants[1:]
    more = world.leases.lease(a.id, a.epoch, count=1, above=SegmentId(4))
    assert [each.segment for each in more] == [5]


def test_lease_above_what_was_ever_leased_is_a_conflict(world: World) -> None:
    """An exporter that knows of segments that the pool does not is of another pool."""
    a = world.written("a", tenant="acme", segments=1)
    with pytest.raises(Conflict):
        world.leases.lease(a.id, a.epoch, count=1, above=SegmentId(9))
    with pytest.raises(Invalid):
        world.leases.lease(a.id, a.epoch, count=0, above=SegmentId(1))


def test_lease_enters_each_segment_in_directory_and_ledger(world: World) -> None:
    """Every key that ever sealed data has its commitment in the ledger."""
    a = world.written("a", tenant="acme", segments=70)
    lineage = LineageNo(a.volume.record.lineage)
    assert list(world.leases.group(a.id, a.epoch, 0)) == a.grants[:63]
    assert list(world.leases.group(a.id, a.epoch, 1)) == a.grants[63:]
    assert list(world.leases.group(a.id, a.epoch, 2)) == []
    with world.keeper.reading() as view:
        ledger = read_ledger(view, lineage, 0) + read_ledger(view, lineage, 1)
    for grant in a.grants:
        at = grant.segment * 32
        assert ledger[at : at + 32] == commitment(grant.key)
    assert not any(ledger[:32])
    assert not any(ledger[71 * 32 :])


def test_lease_in_a_full_pool_is_no_space_and_deleting_still_works(world: World) -> None:
    """A full pool refuses, loses nothing, and recovers when a volume is destroyed."""
    full = world.written("full", tenant="acme", segments=SLOTS)
    last = full.grants[-1].segment
    with pytest.raises(NoSpace):
        world.leases.lease(full.id, full.epoch, count=1, above=last)
    world.volumes.create("next", tenant="zeta", size_bytes=GIB)
    served = world.attachments.attach("next")
    with pytest.raises(NoSpace):
        world.leases.lease(served.volume, served.epoch, count=1, above=NONE)
    world.destroy("full")
    world.forget()
    granted = world.leases.lease(served.volume, served.epoch, count=8, above=NONE)
    assert len(granted) == 8


def test_commit_names_the_checkpoint_and_frees_slots_in_one_change(world: World) -> None:
    """After a commit the next attachment starts from its checkpoint, and the slots are free."""
    a = world.written("a", tenant="acme", segments=4)
    free_before = world.pools.status().slots_free
    done = checkpoint(17, root=99, live_sectors=5)
    free_percent = world.leases.commit(a.id, a.epoch, done, freed=[SegmentId(2), SegmentId(3)])
    counts = world.keeper.pool.counts
    assert free_percent == 100 * counts.available // SLOTS
    assert world.leases.attachment(a.id, a.epoch).checkpoint == done
    assert world.pools.status().slots_free == free_before + 2
    slots = [each.slot for each in world.leases.group(a.id, a.epoch, 0)]
    assert slots == [a.grants[0].slot, None, None, a.grants[3].slot]


def test_commit_sent_again_changes_nothing(world: World) -> None:
    """A repeat frees no slot twice, also when it belongs to another by now (I1)."""
    a = world.written("a", tenant="acme", segments=2)
    done = checkpoint(5)
    world.leases.commit(a.id, a.epoch, done, freed=[SegmentId(1)])
    b = world.written("b", tenant="zeta", segments=8)
    status = world.pools.status()
    world.leases.commit(a.id, a.epoch, done, freed=[SegmentId(1)])
    assert world.pools.status().slots_leased == status.slots_leased
    assert list(world.leases.group(b.id, b.epoch, 0)) == b.grants


def test_commit_of_an_older_checkpoint_is_a_conflict(world: World) -> None:
    """What was durable stays named (I4)."""
    a = world.written("a", tenant="acme")
    world.leases.commit(a.id, a.epoch, checkpoint(9), freed=[])
    with pytest.raises(Conflict):
        world.leases.commit(a.id, a.epoch, checkpoint(8), freed=[])


def test_every_call_of_a_replaced_attachment_is_a_conflict(world: World) -> None:
    """An exporter that another has replaced leases nothing and commits nothing (I5)."""
    a = world.written("a", tenant="acme")
    world.exporters.die(a.id)
    world.attachments.attach("a")
    before = world.keeper.pool.generation
    for call in (
        lambda: world.leases.attachment(a.id, a.epoch),
        lambda: world.leases.lease(a.id, a.epoch, count=1, above=SegmentId(3)),
        lambda: world.leases.group(a.id, a.epoch, 0),
        lambda: world.leases.commit(a.id, a.epoch, checkpoint(1), freed=[SegmentId(1)]),
    ):
        with pytest.raises(Conflict):
            call()
    assert world.keeper.pool.generation == before


def test_every_call_of_a_volume_being_destroyed_is_a_conflict(world: World) -> None:
    """From the decision on nobody gets a key of it any more (I3)."""
    a = world.written("a", tenant="acme")
    world.destroy("a")
    with pytest.raises(Conflict):
        world.leases.group(a.id, a.epoch, 0)
    with pytest.raises(Conflict):
        world.leases.lease(a.id, a.epoch, count=1, above=SegmentId(3))
    world.forget()
    with pytest.raises(NotFound):
        world.leases.group(a.id, a.epoch, 0)
    with pytest.raises(NotFound):
        world.leases.attachment(VolumeId(uuid.UUID(int=3)), 1)


def test_keys_of_survivors_are_the_same_after_a_rotation(world: World) -> None:
    """Forgetting one lineage re-keys the way to it and nothing beside it."""
    a = world.written("a", tenant="acme")
    world.written("b", tenant="acme")
    world.written("c", tenant="zeta")
    for name in ("b", "c"):
        world.destroy(name)
        world.forget()
    assert list(world.leases.group(a.id, a.epoch, 0)) == a.grants
    later = world.written("d", tenant="acme")
    assert list(world.leases.group(later.id, later.epoch, 0)) == later.grants
    assert not {each.key for each in later.grants} & {each.key for each in a.grants}


def test_commit_that_says_nothing_of_purging_leaves_what_is_known(world: World) -> None:
    """Who attaches in a full pool gives segments back before it has looked at anything (I8)."""
    a = world.written("a", tenant="acme")
    told = replace(checkpoint(1, root=1), purged=Purged((), 0, 1_700_000_000, 77))
    world.leases.commit(a.id, a.epoch, told, freed=[])
    before = a_record(world, "a").purge
    assert before
    assert before.moved_bytes == 77
    world.clock.now += 3600 * 10**9
    world.leases.commit(a.id, a.epoch, checkpoint(1, root=1), freed=[SegmentId(3)])
    assert a_record(world, "a").purge == before
    with world.keeper.reading() as view:
        waits = read_waiting(view, LineageNo(a_record(world, "a").lineage), 0)
    assert waits, "what it freed is forgotten all the same"
    assert waits.masks[3] == ALL_STRIPES
    world.leases.commit(a.id, a.epoch, replace(told, purged=Purged()), freed=[])
    after = a_record(world, "a").purge
    assert after
    assert after.waiting_since is None


def test_attachment_says_when_the_volume_was_made(world: World) -> None:
    """The earliest moment at which anything in it may have died."""
    a = world.written("a", tenant="acme")
    made = a_record(world, "a").created_at
    assert world.leases.attachment(a.id, a.epoch).created_s == int(made.timestamp())


def a_record(world: World, name: str) -> VolumeRecord:
    """Return what the pool has of a volume."""
    return world.volumes.find(name).record
