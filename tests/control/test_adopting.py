"""What a version freed that forgot nothing is forgotten by this one, once (I3)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from scrubjay.base.errors import NoSpace
from scrubjay.base.ids import Entry, LineageNo, SegmentId
from scrubjay.control import adopting
from scrubjay.control.adopting import adopt_freed
from scrubjay.control.keeper import Keeper
from scrubjay.control.records import POOL_KEY, encode, stripes_key
from scrubjay.control.stripes import ALL_STRIPES, every_waiting
from scrubjay.engine.lessor import Checkpoint, Purged
from scrubjay.keys.segment import SegmentKey
from tests.control.rig import World, Written
from tests.control.test_purging import MASK, give_up, keys, later


def freed_before(world: World, written: Written, freed: Sequence[int]) -> None:
    """Free segments as an older version did: their slots go, and nothing else."""
    checkpoint = Checkpoint(Entry(1), 1, True, 0, (), Purged())
    segments = [SegmentId(each) for each in freed]
    world.leases.commit(written.id, written.epoch, checkpoint, freed=segments)
    with world.keeper.changing() as change:
        for group in {each // 64 for each in freed}:
            change.delete(stripes_key(LineageNo(written.volume.record.lineage), group))


def waiting(world: World) -> dict[int, int]:
    """Return of each segment that waits which stripes do."""
    with world.keeper.reading() as view:
        return {
            64 * group + at: mask
            for _, group, each in every_waiting(view)
            for at, mask in enumerate(each.masks)
            if mask
        }


def test_segments_freed_by_an_older_version_are_forgotten(world: World) -> None:
    """They count since the volume's birth, for nobody knows when what they held died."""
    a = world.written("a", tenant="acme", segments=3)
    freed_before(world, a, [2])
    assert keys(world, a)[1] is not None
    adopt_freed(world.keeper)
    assert waiting(world) == {2: ALL_STRIPES}
    assert world.purging.status.of(a.id).waiting_since == a.volume.record.created_at
    later(world, 1)
    world.purging.turn()
    first, second, third = keys(world, a)
    assert (first, second, third) == (
        SegmentKey(a.grants[0].key),
        None,
        SegmentKey(a.grants[2].key),
    )


def test_turn_enters_them_in_every_group_and_volume(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In several commits; what is waiting already stays as it is."""
    monkeypatch.setattr(adopting, "_GROUPS", 1)
    a = world.written("a", tenant="acme", segments=66)
    b = world.written("b", tenant="zeta")
    freed_before(world, a, [1, 65])
    freed_before(world, b, [3])
    give_up(world, a, (2, MASK))
    with world.keeper.reading() as view:
        before = view.pool()
    world.purging.turn()
    assert sorted(waiting(world).items()) == [
        (1, ALL_STRIPES),
        (2, MASK),
        (3, ALL_STRIPES),
        (65, ALL_STRIPES),
    ]
    with world.keeper.reading() as view:
        assert view.pool() == msgspec.structs.replace(before, freed_entered=True)


def test_what_is_forgotten_already_is_not_entered_again(world: World) -> None:
    """A crash in between costs a look and no rotation; later calls do not even look."""
    a = world.written("a", tenant="acme")
    freed_before(world, a, [2])
    adopt_freed(world.keeper)
    assert world.purge()
    with world.keeper.changing() as change:
        pool = msgspec.structs.replace(change.pool(), freed_entered=False)
        change.put(POOL_KEY, encode(pool))
    adopt_freed(world.keeper)
    assert not waiting(world)
    before = world.keeper.pool.generation
    adopt_freed(world.keeper)
    assert world.keeper.pool.generation == before


def test_volume_whose_end_is_decided_is_passed_over(world: World) -> None:
    """It is forgotten as a whole; so are the segments that ephemeral ones never had keys of."""
    a = world.written("a", tenant="acme")
    freed_before(world, a, [2])
    world.destroy("a")
    adopt_freed(world.keeper)
    assert not waiting(world)


def test_pool_that_is_full_is_looked_through_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else waits for it."""

    def full(_keeper: Keeper) -> None:
        raise NoSpace("pool: full")

    a = world.written("a", tenant="acme")
    freed_before(world, a, [2])
    give_up(world, a, (3, MASK), dead_h=21)
    with monkeypatch.context() as patched:
        patched.setattr("scrubjay.control.purging.adopt_freed", full)
        world.purging.turn()
    assert world.keeper.epoch == 2
    assert not waiting(world)
    world.purging.turn()
    assert waiting(world) == {2: ALL_STRIPES}
