"""Operations: asked for, going on, ended; never lost."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Mapping

import pytest

from scrubjay.base.errors import Invalid, NotFound
from scrubjay.catalog.operations import Operations as OperationRows
from scrubjay.control.operations import Operations, Progress
from tests.control.rig import World


def ended(world: World, operation: uuid.UUID) -> None:
    """Wait for the operation's thread."""
    world.operations.stop(30)
    assert world.operations.find(operation)[0].state != "running"


def test_operation_shows_its_progress_and_then_its_result(world: World) -> None:
    """How far it is can be asked at any time."""
    seen, go_on = threading.Event(), threading.Event()

    def work(progress: Progress) -> Mapping[str, object]:
        progress.total, progress.done, progress.unit = 10, 4, "bytes"
        seen.set()
        assert go_on.wait(30)
        return {"found": 3}

    operation = world.operations.run("pool.scan", "4 bytes", work)
    assert seen.wait(30)
    row, progress = world.operations.find(operation)
    assert (row.state, progress.done, progress.total) == ("running", 4, 10)
    go_on.set()
    ended(world, operation)
    row, _ = world.operations.find(operation)
    assert (row.state, json.loads(row.result)) == ("done", {"found": 3})
    assert row.ended_at is not None


@pytest.mark.parametrize("error", [Invalid("pattern: odd", hint="even"), ZeroDivisionError()])
def test_operation_whose_work_raises_has_failed_and_says_why(
    world: World, error: Exception
) -> None:
    """A failure is a problem with a code, also where nobody foresaw it."""

    def work(_progress: Progress) -> Mapping[str, object]:
        raise error

    operation = world.operations.run("pool.scan", "x", work)
    ended(world, operation)
    row, _ = world.operations.find(operation)
    problem = json.loads(row.problem)
    assert row.state == "failed"
    assert problem["code"] == ("invalid" if isinstance(error, Invalid) else "unavailable")
    assert problem["detail"]


def test_operation_of_a_dead_daemon_has_failed(world: World) -> None:
    """What nobody goes on with does not stay `running` for ever (I8)."""
    operation = world.operations.begin("pool.scan", "x")
    later = Operations(OperationRows(world.database), clock=world.clock, entropy=world.entropy)
    assert [row.id for row in later.left_behind()] == [operation]
    later.fail_left_behind()
    assert later.find(operation)[0].state == "failed"
    assert later.left_behind() == []


def test_operation_that_ended_ends_no_second_time(world: World) -> None:
    """Its end is written once."""
    operation = world.operations.begin("volume.destroy", "x")
    world.operations.succeed([operation], {"epoch_after": 2})
    world.operations.fail([operation], Invalid("late"))
    row, _ = world.operations.find(operation)
    assert (row.state, row.problem) == ("done", "")


def test_operations_listed_in_pages_come_newest_first_each_once(world: World) -> None:
    """Pages begin behind the last operation of the one before."""
    made = [world.operations.begin("pool.scan", str(index)) for index in range(5)]
    first = world.operations.page(before=None, limit=2)
    last, _ = first[-1]
    rest = world.operations.page(before=(last.created_at, str(last.id)), limit=9)
    assert [row.id for row, _ in first + rest] == made[::-1]


def test_operation_unknown_is_not_found(world: World) -> None:
    """An id of nothing is NotFound."""
    with pytest.raises(NotFound):
        world.operations.find(uuid.UUID(int=1))


def test_operations_of_long_ago_are_pruned_and_others_kept(world: World) -> None:
    """The history does not grow for ever, and nothing that runs is dropped."""
    done, running = (world.operations.begin("pool.scan", "x") for _ in range(2))
    world.operations.succeed([done], {})
    world.clock.now += 40 * 86400 * 10**9
    world.operations.prune()
    with pytest.raises(NotFound):
        world.operations.find(done)
    assert world.operations.find(running)[0].state == "running"
