"""Forgetting: decided once, carried out together, true when it says done."""

from __future__ import annotations

import hashlib
import json
import uuid

import pytest

from scrubjay.base.errors import Conflict, NotFound, Unavailable
from scrubjay.base.units import GIB
from scrubjay.control.directory import COMMITMENT_BYTES, commitment
from scrubjay.control.volumes import Volume
from scrubjay.media.simulated import Fault, IoKind
from tests.control.rig import World


def state_of(world: World, operation: uuid.UUID) -> str:
    """How an operation stands."""
    return world.operations.find(operation)[0].state


def decide(world: World, name: str) -> uuid.UUID:
    """Decide a volume's end."""
    return world.forgetting.destroy(name, check=lambda _volume: None)


def test_destruction_is_running_until_the_old_epoch_is_dropped(world: World) -> None:
    """Done means that nothing opens it any more (I3, I8)."""
    a = world.written("a", tenant="acme")
    operation = decide(world, "a")
    assert state_of(world, operation) == "running"
    assert world.forgetting.pending() == 1
    world.forgetting.carry_out()
    row, _ = world.operations.find(operation)
    assert row.state == "done"
    assert world.sink.epochs() == (2,)
    assert world.forgetting.pending() == 0
    result = json.loads(row.result)
    assert (result["epoch_before"], result["epoch_after"], result["segments"]) == (1, 2, 3)
    with pytest.raises(NotFound):
        world.volumes.find(str(a.id))


def test_destructions_decided_together_share_one_rotation(world: World) -> None:
    """Many forgets cost one epoch of the sink."""
    for index in range(20):
        world.volumes.create(f"v{index}", tenant="acme", size_bytes=GIB)
    operations = [decide(world, f"v{index}") for index in range(20)]
    world.forgetting.carry_out()
    assert world.keeper.epoch == 2
    assert {state_of(world, each) for each in operations} == {"done"}
    assert world.volumes.page(after="", limit=9) == []


def test_destruction_decided_twice_is_one(world: World) -> None:
    """Asking again returns the same operation, and decides nothing new."""
    world.volumes.create("a", tenant="acme", size_bytes=GIB)
    assert decide(world, "a") == decide(world, "a")
    assert world.forgetting.pending() == 1


def test_destruction_on_a_condition_that_fails_decides_nothing(world: World) -> None:
    """The condition is looked at in the same change (If-Match)."""
    world.volumes.create("a", tenant="acme", size_bytes=GIB)

    def refuse(_volume: Volume) -> None:
        raise Conflict("changed")

    with pytest.raises(Conflict):
        world.forgetting.destroy("a", check=refuse)
    assert world.volumes.find("a").record.state == "ready"
    assert world.operations.left_behind() == []


def test_destruction_frees_every_slot_of_the_volume(world: World) -> None:
    """What was leased goes to the next tenant."""
    free = world.pools.status().slots_free
    world.written("a", tenant="acme", segments=70)
    decide(world, "a")
    world.forget()
    assert world.pools.status().slots_free == free
    assert world.pools.status().slots_leased == 0


def test_birth_record_outlives_its_volume_and_names_the_ledger(world: World) -> None:
    """The certificates to come can say what was forgotten: by the ledger's Merkle root."""
    a = world.written("a", tenant="acme", segments=5)
    decide(world, "a")
    world.forgetting.carry_out()
    with world.keeper.reading() as view:
        birth = view.birth_record(a.id)
    assert birth.destruction is not None
    assert birth.destruction.segments == 5
    leaves = [commitment(each.key) for each in a.grants]
    assert all(len(each) == COMMITMENT_BYTES for each in leaves)
    assert birth.destruction.ledger_root == merkle(leaves).hex()


def test_volume_whose_exporter_stays_waits_and_keeps_no_other_waiting(world: World) -> None:
    """A key in a living process is not forgotten, so nothing is claimed about it (I3, I8)."""
    stuck = world.written("stuck", tenant="acme")
    world.volumes.create("other", tenant="acme", size_bytes=GIB)
    operations = [decide(world, "stuck"), decide(world, "other")]
    world.exporters.fails["kill"] = Unavailable("exporter: in the kernel")
    world.forgetting.carry_out()
    assert [state_of(world, each) for each in operations] == ["running", "done"]
    assert world.volumes.find("stuck").record.state == "destroying"
    world.exporters.fails.clear()
    world.exporters.die(stuck.id)
    world.forgetting.carry_out()
    assert state_of(world, operations[0]) == "done"


def test_exporter_that_says_it_ended_and_did_not_is_not_believed(world: World) -> None:
    """The lock says who lives, not the answer (I3)."""
    a = world.written("a", tenant="acme")
    operation = decide(world, "a")
    world.exporters.kill = lambda _volume: True  # type: ignore[method-assign, assignment] # a fake's own
    world.forgetting.carry_out()
    assert state_of(world, operation) == "running"
    assert world.keeper.epoch == 1
    assert world.volumes.find(str(a.id)).record.state == "destroying"


def test_sink_that_fails_to_prepare_leaves_everything_as_it_was(world: World) -> None:
    """Before the commit nothing is lost; the next try goes through."""
    world.written("a", tenant="acme")
    operation = decide(world, "a")
    world.disks.sink.inject(Fault.ERROR, kind=IoKind.SYNC)
    with pytest.raises(Unavailable):
        world.forgetting.carry_out()
    assert state_of(world, operation) == "running"
    assert world.volumes.find("a").record.state == "destroying"
    world.forgetting.carry_out()
    assert state_of(world, operation) == "done"
    assert world.sink.epochs() == (world.keeper.epoch,)


def test_sink_that_fails_to_drop_is_asked_again_before_anything_is_claimed(world: World) -> None:
    """Committed is not forgotten: only the drop is (I3, I8)."""
    world.written("a", tenant="acme")
    operation = decide(world, "a")
    world.disks.sink.inject(Fault.ERROR, after=2, kind=IoKind.WRITE)
    with pytest.raises(Unavailable):
        world.forgetting.carry_out()
    assert world.keeper.epoch == 2
    assert state_of(world, operation) == "running"
    assert world.forgetting.pending() == 1
    world.forgetting.carry_out()
    assert state_of(world, operation) == "done"
    assert world.sink.epochs() == (2,)


def test_pool_whose_commit_fails_in_a_rotation_stops_and_drops_nothing(world: World) -> None:
    """Where nobody knows which epoch the pool names, the sink keeps both (I4)."""
    world.volumes.create("a", tenant="acme", size_bytes=GIB)
    decide(world, "a")
    world.disks.pool.inject(Fault.ERROR, kind=IoKind.SYNC)
    for _ in range(2):
        with pytest.raises(Unavailable):
            world.forgetting.carry_out()
    assert world.sink.epochs() == (1, 2)


@pytest.mark.parametrize("syncs", range(6))
def test_rotation_whose_commit_failed_is_finished_once_the_pool_is_opened_anew(
    world: World, syncs: int
) -> None:
    """Whichever sync fails, the operation tells the truth, and the volume ends (I3, I4, I8)."""
    world.written("a", tenant="acme")
    operation = decide(world, "a")
    world.disks.pool.inject(Fault.ERROR, after=syncs, kind=IoKind.SYNC)
    try:
        world.forgetting.carry_out()
    except Unavailable:
        assert state_of(world, operation) == "running"
        assert world.keeper.revive()
        world.forgetting.recover()
        world.forgetting.carry_out()
    assert state_of(world, operation) == "done"
    assert world.sink.epochs() == (world.keeper.epoch,)
    with pytest.raises(NotFound):
        world.volumes.find("a")


def test_destruction_of_an_unknown_volume_is_not_found(world: World) -> None:
    """Nothing is decided about what is not there."""
    with pytest.raises(NotFound):
        decide(world, "nothing")


def test_thread_carries_out_what_is_decided_and_ends_when_told(world: World) -> None:
    """The daemon's thread does what the tests above do by hand."""
    world.forgetting.start()
    operations = []
    for name in ("a", "b"):
        world.volumes.create(name, tenant="acme", size_bytes=GIB)
        operations.append(decide(world, name))
        while state_of(world, operations[-1]) == "running":
            pass
    world.forgetting.stop()
    assert [state_of(world, each) for each in operations] == ["done", "done"]


def merkle(leaves: list[bytes]) -> bytes:
    """The Merkle tree hash as RFC 9162 defines it, word by word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + merkle(leaves[:split]) + merkle(leaves[split:])).digest()
