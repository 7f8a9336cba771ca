"""What an exporter says at a commit is checked before it counts for others (I3, I8)."""

from __future__ import annotations

import datetime as dt

import pytest

from scrubjay.base.errors import Corrupt, Invalid
from scrubjay.base.ids import Entry, LineageNo, SegmentId
from scrubjay.control.directory import read_group
from scrubjay.control.purge_status import given_up
from scrubjay.control.records import directory_key, stripes_key
from scrubjay.control.stripes import ALL_STRIPES, Waiting, every_waiting
from scrubjay.engine.lessor import Checkpoint, Purged
from scrubjay.keys.segment import SegmentKey
from tests.control.rig import World, Written
from tests.control.test_purging import MASK, give_up, granted, keys, later

LAST_SECOND = int(dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC).timestamp())
STRANGE = [0, 4, 64, (1 << 36) - 1]


def say(world: World, written: Written, purged: Purged) -> None:
    """Commit a checkpoint that says this of purging."""
    checkpoint = Checkpoint(Entry(1), 1, True, 0, (), purged)
    world.leases.commit(written.id, written.epoch, checkpoint, freed=[])


@pytest.mark.parametrize("segment", STRANGE)
def test_commit_about_a_segment_that_was_never_leased_is_refused(
    world: World, segment: int
) -> None:
    """Freed, given up or full: he who says so hears it, and nobody else's purge waits (I8)."""
    a, b = world.written("a", tenant="acme"), world.written("b", tenant="zeta")
    give_up(world, b, (2, MASK))
    for stripes, freed, filled in (
        (((1, 1), (segment, 1)), (), ()),
        ((), (segment,), ()),
        ((), (), (segment,)),
    ):
        purged = Purged(tuple((SegmentId(each), mask) for each, mask in stripes))
        checkpoint = Checkpoint(Entry(1), 1, True, 0, tuple(map(SegmentId, filled)), purged)
        with pytest.raises(Invalid, match=rf"segment {segment}, expected .* from 1 to 3"):
            world.leases.commit(a.id, a.epoch, checkpoint, freed=list(map(SegmentId, freed)))
    later(world, 2)
    world.purging.turn()
    assert world.keeper.epoch == 2
    assert keys(world, a) == [SegmentKey(each.key) for each in a.grants]


def test_commit_about_a_segment_without_a_directory_entry_is_refused(world: World) -> None:
    """What the directory does not know was not leased either."""
    a = world.written("a", tenant="acme")
    with world.keeper.changing() as change:
        change.delete(directory_key(LineageNo(a.volume.record.lineage), 0))
    with pytest.raises(Invalid, match="segment 2"):
        give_up(world, a, (2, 1))


@pytest.mark.parametrize("mask", [-1, ALL_STRIPES + 1])
def test_commit_with_a_mask_of_other_stripes_is_refused(world: World, mask: int) -> None:
    """A segment has 64."""
    a = world.written("a", tenant="acme")
    with pytest.raises(Invalid, match="expected a mask of 64"):
        give_up(world, a, (2, mask))


def test_masks_of_one_segment_add_up(world: World) -> None:
    """A commit that names a segment twice gives up both (I3)."""
    a = world.written("a", tenant="acme")
    give_up(world, a, (2, 1), (2, 2))
    with world.keeper.reading() as view:
        assert [each.masks[2] for _, _, each in every_waiting(view)] == [3]


@pytest.mark.parametrize("second", [1 << 62, (1 << 64) - 1, LAST_SECOND, -1])
def test_date_to_come_counts_as_the_oldest_that_it_can_be(world: World, second: int) -> None:
    """A clock that was set back ends no exporter, and stops no status and no batch (I8)."""
    a = world.written("a", tenant="acme")
    say(world, a, Purged())
    told = world.keeper.now()
    later(world, 2)
    say(world, a, Purged(((SegmentId(1), 1),), second, second))
    stands = world.purging.status.of(a.id)
    assert stands.waiting_since is not None
    assert told - dt.timedelta(seconds=9) < stands.waiting_since <= told
    world.purging.turn()
    assert world.keeper.epoch == 2


@pytest.mark.parametrize("second", [1 << 62, LAST_SECOND])
def test_date_to_come_that_is_in_the_pool_counts_as_the_volumes_birth(
    world: World, second: int
) -> None:
    """An earlier version believed it: it is forgotten at once, and what is late is late (I8)."""
    a = world.written("a", tenant="acme")
    lineage = LineageNo(a.volume.record.lineage)
    with world.keeper.changing() as change:
        change.put(stripes_key(lineage, 0), Waiting(second, [0, 1] + [0] * 62).pack())
    later(world, 23)
    with world.keeper.reading() as view:
        assert given_up(view, world.keeper.now()) == {lineage: a.volume.record.created_at}
    assert world.purging.status.of(a.id).waiting_since == a.volume.record.created_at
    world.purging.turn()
    assert world.keeper.epoch == 2


def test_what_is_entered_of_segments_never_leased_stops_nobody(world: World) -> None:
    """Earlier versions believed it: it goes with the next batch, and touches no key (I3)."""
    a, b = world.written("a", tenant="acme"), world.written("b", tenant="zeta")
    give_up(world, b, (2, MASK))
    with world.keeper.changing() as change:
        key = stripes_key(LineageNo(a.volume.record.lineage), 0)
        change.put(key, Waiting(1, [1, 0, 0, 0, 1] + [0] * 59).pack())
    assert world.purge()
    with world.keeper.reading() as view:
        assert not list(every_waiting(view))
    more = world.leases.lease(a.id, a.epoch, count=1, above=SegmentId(3))
    assert granted(world, a)[4] == more[0]
    assert len(more[0].key) == 32


def test_group_that_cannot_be_read_keeps_no_other_from_being_forgotten(world: World) -> None:
    """It is passed over, and goes on waiting (I3, I8)."""
    a, b = world.written("a", tenant="acme"), world.written("b", tenant="zeta")
    give_up(world, a, (2, MASK))
    give_up(world, b, (2, MASK))
    lineage = LineageNo(a.volume.record.lineage)
    with world.keeper.changing() as change:
        change.put(directory_key(lineage, 0), b"short")
    with world.keeper.reading() as view, pytest.raises(Corrupt):
        read_group(view, lineage, 0)
    assert world.purge()
    assert keys(world, b)[1] == SegmentKey(b.grants[1].key).without([3, 40])
    with world.keeper.reading() as view:
        assert [each for each, _, _ in every_waiting(view)] == [lineage]
    assert not world.purge()
    assert world.keeper.epoch == 2
