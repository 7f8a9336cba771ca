"""The pool's policy: defaults, changes, and what is refused."""

from __future__ import annotations

import uuid

import pytest

from scrubjay.base.errors import Corrupt, Invalid, NotFound
from scrubjay.base.units import MIB, TIB
from scrubjay.control.records import POLICY_KEY, PolicyRecord
from tests.control.rig import World


def test_policy_nobody_changed_is_the_defaults(world: World) -> None:
    """A pool of an earlier version has no record of it, and needs none."""
    assert world.keeper.pool.get(POLICY_KEY) is None
    assert world.policies.show(world.keeper.pool_id) == PolicyRecord(
        scrub_within_s=86_400,
        purge_within_s=86_400,
        scrub_idle_bytes_per_s=256 * MIB,
        scrub_busy_bytes_per_s=8 * MIB,
    )


def test_policy_that_was_changed_keeps_all_of_its_values(world: World) -> None:
    """A default that a later version changes does not change what was chosen."""
    pool = world.keeper.pool_id
    changed = world.policies.change(pool, {"scrub_within_s": 3600})
    assert changed == world.policies.show(pool) == PolicyRecord(scrub_within_s=3600)
    value = world.keeper.pool.get(POLICY_KEY)
    assert value is not None
    assert b'"purge_within_s":86400' in value
    generation = world.keeper.pool.generation
    assert world.policies.change(pool, {}) == changed
    assert world.keeper.pool.generation == generation


@pytest.mark.parametrize(
    "changes",
    [
        {"scrub_within_s": 0},
        {"scrub_within_s": 59},
        {"purge_within_s": 367 * 86_400},
        {"scrub_idle_bytes_per_s": MIB - 1, "scrub_busy_bytes_per_s": MIB - 1},
        {"scrub_idle_bytes_per_s": TIB + 1},
        {"scrub_busy_bytes_per_s": 0},
        {"scrub_busy_bytes_per_s": 257 * MIB},
        {"scrub_idle_bytes_per_s": 7 * MIB},
    ],
)
def test_policy_that_cannot_be_kept_is_invalid(world: World, changes: dict[str, int]) -> None:
    """And nothing is changed by the attempt."""
    with pytest.raises(Invalid, match="expected"):
        world.policies.change(world.keeper.pool_id, changes)
    assert world.keeper.pool.get(POLICY_KEY) is None


def test_policy_of_another_pool_is_not_found(world: World) -> None:
    """There is one pool."""
    with pytest.raises(NotFound):
        world.policies.show(uuid.UUID(int=7))


def test_policy_with_an_unknown_field_is_corrupt(world: World) -> None:
    """A later version's promise is not dropped in silence."""
    with world.keeper.changing() as change:
        change.put(POLICY_KEY, b'{"scrub_within_s":60,"shred":true}')
    with pytest.raises(Corrupt, match="PolicyRecord"):
        world.policies.show(world.keeper.pool_id)


def test_new_deadline_holds_for_what_waits_already(world: World) -> None:
    """A shorter promise is not only for what is freed later."""
    world.written("db0", tenant="acme")
    world.destroy("db0")
    world.forget()
    world.policies.change(world.keeper.pool_id, {"scrub_within_s": 60})
    scrub = world.pools.status().scrubbing
    assert scrub.due_at is not None
    assert scrub.waiting_since is not None
    assert (scrub.due_at - scrub.waiting_since).total_seconds() == 60
