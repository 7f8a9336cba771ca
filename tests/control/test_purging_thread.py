"""The thread that purges outlives whatever goes wrong in a turn, and tells what is late (I8)."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

import pytest

from scrubjay.base.errors import Unavailable
from scrubjay.control import purging
from scrubjay.control.purging import Purging
from scrubjay.control.rotating import Rotating
from tests.control.rig import World
from tests.control.test_purging import MASK, give_up, later

ENOUGH_S = 30.0
AWAY = OSError(errno.EMFILE, "too many open files")


class Failing(Purging):
    """Purging of which the first turn fails."""

    error: Exception
    turned: Callable[[], None]
    turns = 0

    def turn(self) -> None:
        """Fail, or say that it was reached."""
        self.turns += 1
        if self.turns == 1:
            raise self.error
        self.turned()


@pytest.mark.parametrize(
    "error", [AWAY, OverflowError("date value out of range"), Unavailable("sink: away")]
)
def test_thread_goes_on_after_a_turn_that_failed(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A descriptor short, or a bug: the next turn comes."""
    monkeypatch.setattr(purging, "_LOOK_S", 0.001)
    again = threading.Event()
    thread = Failing(
        world.keeper, world.rotating, attachments=world.attachments, liveness=world.liveness
    )
    thread.error, thread.turned = error, again.set
    thread.start()
    try:
        assert again.wait(ENOUGH_S)
    finally:
        thread.stop()


def test_exporter_that_the_system_refuses_to_start_ends_no_turn(world: World) -> None:
    """Others are told and served as if nothing were, and what is late is told."""
    a, b = world.written("a", tenant="acme"), world.written("b", tenant="zeta")
    give_up(world, a, waiting_h=25)
    give_up(world, b, (2, MASK), dead_h=21)
    world.attachments.detach("a")
    world.exporters.fails["start"] = AWAY
    world.purging.turn()
    assert world.keeper.epoch == 2
    assert [each.volume for each in world.missed] == [a.id]
    assert b.id in world.exporters.within_s


def test_exporter_that_cannot_be_told_keeps_no_other_from_hearing(world: World) -> None:
    """Whatever keeps it from that."""
    a = world.written("a", tenant="acme")
    world.exporters.fails["purge_within"] = AWAY
    world.purging.turn()
    del world.exporters.fails["purge_within"]
    world.purging.turn()
    assert world.exporters.within_s == {a.id: [86_400]}


@pytest.mark.parametrize("what", ["rotation", "tending"])
def test_what_is_late_is_told_whatever_breaks_before(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Telling depends on neither (I8)."""

    def breaks(*_args: object) -> None:
        raise RuntimeError(what)

    monkeypatch.setattr(Rotating, "ask", breaks if what == "rotation" else lambda _self: None)
    if what == "tending":
        monkeypatch.setattr(Purging, "_tend", breaks)
    a = world.written("a", tenant="acme")
    give_up(world, a, (2, MASK), dead_h=25, waiting_h=25)
    later(world, 1)
    with pytest.raises(RuntimeError, match=what):
        world.purging.turn()
    assert [each.volume for each in world.missed] == [a.id]
