"""Forgetting with a sink that cannot drop now, or that rations its rotations."""

from __future__ import annotations

from pathlib import Path

import pytest

from scrubjay.base.errors import Unavailable
from scrubjay.base.ids import Epoch
from scrubjay.base.units import GIB
from scrubjay.sinks.budget import Budget, Certainty
from scrubjay.sinks.file import FileSink
from tests.control.cutting import copy_catalog
from tests.control.rig import (
    World,
)
from tests.control.test_forgetting import decide, state_of


def test_destruction_is_not_done_while_the_sink_cannot_drop(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A destroy waits visibly, across restarts, while the pool serves on (I3, I8)."""

    def away(_sink: FileSink, _epoch: Epoch) -> None:
        raise Unavailable("sink: a member is away")

    spared = world.written("spared", tenant="acme")
    world.written("a", tenant="acme")
    operation = decide(world, "a")
    with monkeypatch.context() as patched:
        patched.setattr(FileSink, "drop", away)
        with pytest.raises(Unavailable):
            world.forgetting.carry_out()
        assert state_of(world, operation) == "running"
        assert world.forgetting.pending() == 1
        world.close()
        again = World(world.disks, copy_catalog(world.folder, tmp_path / "again"), seed=2)
        again.forgetting.recover()
        again.forgetting.recover()
        again.operations.fail_left_behind()
        assert state_of(again, operation) == "running"
        assert again.forgetting.pending() == 1
        assert again.sink.epochs() == (1, 2)
        assert again.volumes.find("spared").id == spared.id
    again.forgetting.carry_out()
    assert state_of(again, operation) == "done"
    assert again.sink.epochs() == (2,)
    again.close()


def test_destruction_beyond_the_sinks_budget_waits_for_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What wears out is rationed: the volume is withheld at once, and forgotten in its turn."""
    scarce = Budget(3600.0, 1, Certainty.ASSUMED, "for a test")
    monkeypatch.setattr(FileSink, "budget", lambda _sink: scarce)
    for name in ("a", "b"):
        world.volumes.create(name, tenant="acme", size_bytes=GIB)
    first = decide(world, "a")
    world.forgetting.carry_out()
    assert state_of(world, first) == "done"
    second = decide(world, "b")
    world.forgetting.carry_out()
    assert (state_of(world, second), world.keeper.epoch) == ("running", 2)
    assert world.volumes.find("b").record.state == "destroying"
    world.clock.now += 3600 * 1_000_000_000
    world.forgetting.carry_out()
    assert (state_of(world, second), world.keeper.epoch) == ("done", 3)


def test_pool_status_names_the_kind_of_its_sink(world: World) -> None:
    """The kind is the sink's own."""
    assert world.pools.status().sink.kind == world.sink.kind == "file"
