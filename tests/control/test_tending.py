"""Volumes that nobody has attached are served for their purging, each in its turn (I8)."""

from __future__ import annotations

from itertools import pairwise

from scrubjay.base.errors import Unavailable
from tests.control.rig import World, Written
from tests.control.test_purging import give_up, later


def detached(world: World, count: int) -> list[Written]:
    """Make volumes in which something is due, the first one's the longest."""
    made = [world.written(f"v{each}", tenant="acme", segments=1) for each in range(count)]
    for at, each in enumerate(made):
        give_up(world, each, waiting_h=20 - at)
        world.attachments.detach(f"v{at}")
    return made


def served(world: World, volumes: list[Written]) -> set[int]:
    """Return which of them are served."""
    return {at for at, each in enumerate(volumes) if world.liveness.attached(each.id)}


def test_volumes_that_make_no_progress_leave_room_for_others(world: World) -> None:
    """Four at a time, and each of ten comes to its turn before any has its third."""
    volumes = detached(world, 10)
    turns: list[set[int]] = []
    for _ in range(4 * 12):
        world.purging.turn()
        turns.append(served(world, volumes))
        later(world, 0.25)
    assert all(len(each) == 4 for each in turns)
    assert set().union(*turns) == set(range(10))
    begun = [at for before, after in pairwise([set(), *turns]) for at in after - before]
    assert max(begun.count(at) for at in range(10)) <= 2


def test_volume_goes_on_where_nobody_else_waits_for_its_place(world: World) -> None:
    """What takes long takes long: it is not begun anew for nothing."""
    (volume,) = detached(world, 1)
    for _ in range(40):
        world.purging.turn()
        later(world, 0.5)
    assert world.exporters.calls.count(("start", volume.id)) == 2
    assert served(world, [volume]) == {0}


def test_volume_that_cannot_be_served_is_left_alone_for_a_while(world: World) -> None:
    """It costs a start in three hours, not in a minute, and no other its place."""
    volumes = detached(world, 6)
    world.exporters.fails["start"] = Unavailable("exporter: does not come up")
    for _ in range(60):
        world.purging.turn()
        later(world, 1 / 60)
    starts = [volume for call, volume in world.exporters.calls if call == "start"][6:]
    assert sorted(starts) == sorted(each.id for each in volumes)
    del world.exporters.fails["start"]
    later(world, 3)
    world.purging.turn()
    assert len(served(world, volumes)) == 4


def test_exporter_that_dies_while_it_is_tended_frees_its_place(world: World) -> None:
    """Who is not there does not count among the four."""
    volumes = detached(world, 5)
    world.purging.turn()
    assert served(world, volumes) == {0, 1, 2, 3}
    world.exporters.die(volumes[0].id)
    world.purging.turn()
    assert served(world, volumes) == {1, 2, 3, 4}
