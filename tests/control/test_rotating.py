"""The one rotation: shared, paced by what the sink bears, and never in vain (I3, I8)."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from random import Random

import pytest

from scrubjay.base.errors import NoSpace, NotFound, Unavailable
from scrubjay.base.ids import Epoch, SegmentId
from scrubjay.control import forgetting, purging, rotating
from scrubjay.control.keeper import Change
from scrubjay.control.purging import Purging
from scrubjay.control.stripes import every_waiting
from scrubjay.keys.segment import SegmentKey
from scrubjay.sinks.budget import Budget, Certainty
from scrubjay.sinks.file import FileSink
from scrubjay.sinks.tpm.ground import rotation_budget
from tests.control.cutting import copy_catalog, cuts
from tests.control.rig import (
    World,
    Written,
    everything_kept,
    nothing_kept,
)
from tests.control.test_purging import MASK, give_up, keys, later


def rations(
    monkeypatch: pytest.MonkeyPatch, *, interval_h: float, burst: int, seen: list[str] | None = None
) -> None:
    """Have file sinks wear out; what is prepared is `seen`."""
    budget = Budget(interval_h * 3600, burst, Certainty.ASSUMED, "for a test")
    monkeypatch.setattr(FileSink, "budget", lambda _sink: budget)
    real = FileSink.prepare

    def prepare(sink: FileSink, epoch: Epoch, key: bytes) -> None:
        if seen is not None:
            seen.append(f"epoch {epoch}")
        real(sink, epoch, key)

    monkeypatch.setattr(FileSink, "prepare", prepare)


def groups_waiting(world: World) -> int:
    """Of how many groups anything is given up and not forgotten."""
    with world.keeper.reading() as view:
        return len(list(every_waiting(view)))


def is_gone(world: World, written: Written) -> bool:
    """Whether a volume is no more."""
    try:
        world.volumes.find(str(written.id))
    except NotFound:
        return True
    return False


def test_rotation_for_a_destroy_takes_waiting_purges_along_where_they_are_rationed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though they are not due; one epoch forgets both."""
    rations(monkeypatch, interval_h=12, burst=9)
    a, b = world.written("a", tenant="acme"), world.written("b", tenant="zeta")
    give_up(world, a, (2, MASK))
    world.destroy("b")
    world.forgetting.carry_out()
    assert world.keeper.epoch == 2
    assert is_gone(world, b)
    assert not groups_waiting(world)
    assert keys(world, a)[1] == SegmentKey(a.grants[1].key).without([3, 40])


def test_purge_that_gets_the_only_rotation_takes_the_waiting_destroy_along(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever of the two asks first."""
    rations(monkeypatch, interval_h=12, burst=0)
    a, b = world.written("a", tenant="acme"), world.written("b", tenant="zeta")
    give_up(world, a, (2, MASK), dead_h=13)
    world.destroy("b")
    world.forgetting.carry_out()
    assert world.forgetting.pending() == 1
    later(world, 12.5)
    world.purging.turn()
    assert (world.keeper.epoch, world.forgetting.pending()) == (2, 0)
    assert is_gone(world, b)
    assert not groups_waiting(world)


def test_purging_for_a_month_costs_no_destroy_a_rotation_of_a_tpm(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes at the pace that the part bears for ten years, and the 500 ahead are there still."""
    monkeypatch.setattr(FileSink, "budget", lambda _sink: rotation_budget())
    a = world.written("a", tenant="acme")
    for _ in range(30 * 24):
        give_up(world, a, (2, MASK), dead_h=12)
        later(world, 1)
        world.purging.turn()
    assert not world.missed, "every deadline is kept at that pace"
    rotations = world.keeper.epoch - 1
    assert rotations <= 30 * 24 * 3600 / rotation_budget().interval_min_s * 1.15
    assert rotation_budget().rotations(30 * 24 * 3600.0) - rotations > 490


def test_purges_leave_a_tenth_of_the_rotations_ahead_to_destroys(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is late waits then, and shows; a destroy does not, and takes it along."""
    rations(monkeypatch, interval_h=24_000, burst=20)
    a, b = world.written("a", tenant="acme"), world.written("b", tenant="zeta")
    for _ in range(30):
        give_up(world, a, (2, MASK), dead_h=25)
        world.rotating.ask()
    assert world.keeper.epoch - 1 == 18
    assert world.purging.status.of(a.id).missed
    assert groups_waiting(world)
    world.destroy("b")
    world.forgetting.carry_out()
    assert world.keeper.epoch - 1 == 19
    assert is_gone(world, b)
    assert not groups_waiting(world)


def test_thread_that_forgets_rotates_for_purges_when_asked(world: World) -> None:
    """The daemon's thread does what the tests above do by hand."""
    world.rotating.on_asked = world.wake_forgetting
    a = world.written("a", tenant="acme")
    world.forgetting.start()
    for epoch in (2, 3):
        give_up(world, a, (epoch, MASK), dead_h=21)
        later(world, 1)
        world.purging.turn()
        while groups_waiting(world):
            pass
        assert world.keeper.epoch == epoch
    world.forgetting.stop()
    assert not world.missed


@pytest.mark.parametrize("interval_h", [0.0, 2.0])
def test_volumes_that_are_late_one_after_the_other_share_rotations(
    world: World, monkeypatch: pytest.MonkeyPatch, interval_h: float
) -> None:
    """Fifteen in fifteen minutes do not rotate fifteen times, on any sink."""
    rations(monkeypatch, interval_h=interval_h, burst=500)
    for number in range(15):
        late = world.written(f"v{number}", tenant="acme", segments=1)
        give_up(world, late, (1, 1), dead_h=23)
        later(world, 1 / 60)
        world.purging.turn()
    assert world.keeper.epoch - 1 == (1 if interval_h else 2)


def test_one_rotation_forgets_any_number_of_slices(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice is a commit, and bounds what is staged at once; a rotation is not bounded by it."""
    monkeypatch.setattr(purging, "_SEGMENTS_MAX", 1)
    volumes = [world.written(f"v{number}", tenant="acme") for number in range(5)]
    world.purging.turn()  # what earlier versions freed is entered by a commit of its own
    for each in volumes:
        give_up(world, each, (2, MASK), freed=(3,))
    before = world.keeper.pool.generation
    later(world, 1)
    world.purging.turn()
    assert world.keeper.epoch == 2
    assert world.keeper.pool.generation - before == 5 + 2 + 1
    for each in volumes:
        assert keys(world, each)[1:] == [SegmentKey(each.grants[1].key).without([3, 40]), None]
    assert not groups_waiting(world)


def test_destroy_that_is_decided_meanwhile_waits_for_one_slice_at_most(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of what waits goes with the next rotation (I3)."""
    monkeypatch.setattr(purging, "_SEGMENTS_MAX", 1)
    volumes = [world.written(f"v{number}", tenant="acme") for number in range(5)]
    doomed = world.written("doomed", tenant="zeta")
    for each in volumes:
        give_up(world, each, (2, MASK))
    real, sliced = Purging.cut, []

    def cut(self: Purging) -> bool:
        sliced.append(real(self))
        if len(sliced) == 2:
            world.destroy("doomed")
        return sliced[-1]

    monkeypatch.setattr(Purging, "cut", cut)
    assert world.purge()
    assert groups_waiting(world) == 3
    world.rotating.ask()
    assert is_gone(world, doomed)
    assert len(sliced) == 3
    assert world.purge()
    assert not groups_waiting(world)


def test_destroy_takes_no_more_than_a_few_slices_along(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is forgotten within seconds, also where it brings purges their turn."""
    monkeypatch.setattr(purging, "_SEGMENTS_MAX", 1)
    monkeypatch.setattr(rotating, "_HELD_UP_SLICES", 2)
    rations(monkeypatch, interval_h=12, burst=100)
    for number in range(5):
        give_up(world, world.written(f"v{number}", tenant="acme"), (2, MASK))
    for left in (3, 1, 0):
        doomed = world.written(f"doomed{left}", tenant="zeta")
        world.destroy(f"doomed{left}")
        world.forgetting.carry_out()
        assert (is_gone(world, doomed), groups_waiting(world)) == (True, left)


def test_destroy_that_does_not_fit_wears_no_sink_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is staged before a key is prepared, however often it is tried."""
    seen: list[str] = []
    rations(monkeypatch, interval_h=12, burst=100, seen=seen)
    doomed = world.written("doomed", tenant="acme")
    world.destroy("doomed")

    def full(*_: object, **__: object) -> None:
        raise NoSpace("metadata: full")

    with monkeypatch.context() as patched:
        patched.setattr(forgetting, "_take_out", full)
        for _ in range(60):
            with pytest.raises(NoSpace):
                world.forgetting.carry_out()
    assert seen == []
    assert world.rotating.trouble == "metadata: full"
    world.forgetting.carry_out()
    assert (seen, is_gone(world, doomed)) == (["epoch 2"], True)
    assert world.rotating.trouble == ""


def test_purge_that_cannot_be_cut_prepares_nothing_and_keeps_no_destroy(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where purging has a bug."""
    seen: list[str] = []
    rations(monkeypatch, interval_h=12, burst=100, seen=seen)
    a, doomed = world.written("a", tenant="acme"), world.written("doomed", tenant="zeta")
    give_up(world, a, (2, MASK), dead_h=23)

    def broken(*_: object) -> None:
        raise OverflowError("date value out of range")

    monkeypatch.setattr(purging, "_paths", broken)
    for _ in range(3):
        world.purging.turn()
    assert seen == []
    world.destroy("doomed")
    world.forgetting.carry_out()
    assert (seen, is_gone(world, doomed)) == (["epoch 2"], True)
    assert groups_waiting(world)


def fails_behind_prepare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every rotation fail that has prepared, with the pool as it was."""

    def fail(*_: object, **__: object) -> None:
        raise NoSpace("metadata: taken meanwhile")

    monkeypatch.setattr("scrubjay.control.keeper.Keeper.rehearse", lambda *_: None)
    monkeypatch.setattr(Change, "forget", fail)


def test_key_that_is_prepared_in_vain_counts_as_a_rotation_and_the_next_waits_longer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds, then minutes, up to an hour; the next epoch says how many there were."""
    seen: list[str] = []
    rations(monkeypatch, interval_h=12, burst=100, seen=seen)
    doomed = world.written("doomed", tenant="acme")
    world.destroy("doomed")
    with monkeypatch.context() as patched:
        fails_behind_prepare(patched)
        waits = []
        for _ in range(12):
            with pytest.raises(NoSpace):
                world.forgetting.carry_out()
            waits.append(world.rotating.wait_s())
            if waits[-1] > 60:
                world.forgetting.carry_out()  # too early: nothing is tried
            later(world, waits[-1] / 3600)
    assert seen == [f"epoch {number}" for number in range(2, 14)]
    assert waits == sorted(waits)
    assert waits[0] < 5
    assert 3500 < waits[-1] <= 3600
    world.forgetting.carry_out()
    assert is_gone(world, doomed)
    assert (world.keeper.epoch, world.sink.epochs()) == (14, (14,))
    assert world.rotating.wait_s() == 0


def test_keys_prepared_in_vain_use_the_budget_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What wore the sink is not done again for nothing (I8)."""
    rations(monkeypatch, interval_h=1000, burst=3)
    world.written("doomed", tenant="acme")
    world.destroy("doomed")
    fails_behind_prepare(monkeypatch)
    for _ in range(3):
        with pytest.raises(NoSpace):
            world.forgetting.carry_out()
        later(world, 0.1)
    world.forgetting.carry_out()
    assert world.rotating.wait_s() > 900 * 3600
    assert world.keeper.epoch == 1


def test_sink_that_is_away_is_asked_again_within_a_minute_and_counts_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was stored in it; a destroy goes on soon after a member has come back."""
    rations(monkeypatch, interval_h=12, burst=3)
    doomed = world.written("doomed", tenant="acme")
    world.destroy("doomed")

    def away(*_: object) -> None:
        raise Unavailable("sink: a member is away")

    with monkeypatch.context() as patched:
        patched.setattr(FileSink, "prepare", away)
        for _ in range(10):
            with pytest.raises(Unavailable):
                world.forgetting.carry_out()
            assert world.rotating.wait_s() <= 60
            assert world.rotating.trouble == "sink: a member is away"
            later(world, 1 / 60)
    world.forgetting.carry_out()
    assert (is_gone(world, doomed), world.keeper.epoch) == (True, 2)


def test_clock_before_the_pool_keeps_no_rotation_waiting(world: World) -> None:
    """A file does not wear out, whatever the time."""
    a = world.written("a", tenant="acme")
    give_up(world, a, (2, MASK))
    world.clock.now -= 365 * 86_400 * 10**9
    assert world.rotating.wait_s() == 0
    world.purging.turn()
    assert world.keeper.epoch == 2


def test_purge_in_a_full_pool_leaves_destroys_their_pages(world: World) -> None:
    """Stripes take room, and wait where there is none; segments and volumes go on (I3)."""
    a = world.written("a", tenant="acme")
    give_up(world, a, freed=(3,))
    _fill(world, a)
    give_up(world, a, (1, MASK), (2, MASK))
    assert world.purge()
    assert groups_waiting(world) == 1
    used, held = world.keeper.pool.pages
    assert held - used > 512
    assert keys(world, a) == [*(SegmentKey(each.key) for each in a.grants[:2]), None]
    world.destroy("a")
    world.forget()
    assert is_gone(world, a)


def _fill(world: World, written: Written) -> None:
    """Have a volume take every slot, and values every page but the reserve."""
    with contextlib.suppress(NoSpace):
        top = SegmentId(len(written.grants))
        while True:
            got = world.leases.lease(written.id, written.epoch, count=256, above=top)
            top = max(each.segment for each in got)
    for size_bytes in (60_000, 4_000):
        with contextlib.suppress(NoSpace):
            for number in range(1 << 16):
                with world.keeper.changing() as change:
                    change.put(b"~%d/%d" % (size_bytes, number), bytes(size_bytes))


@pytest.mark.slow
@pytest.mark.parametrize("rationed", [False, True])
def test_power_lost_anywhere_in_a_rotation_that_takes_a_destroy_and_slices_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, rationed: bool
) -> None:
    """Whatever was cut before, all of it is forgotten in the end, and nothing else (I3, I4, I6)."""
    _play_power_losses(tmp_path, monkeypatch, rationed=rationed)


@pytest.mark.slow
def test_slices_that_are_taken_for_forgotten_before_the_rotation_are_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above sees it when what is only cut leaves the list of what waits (I8)."""
    real = Purging.cut

    def hasty(self: Purging) -> bool:
        more = real(self)
        self.dropped(Epoch(1 << 40))
        return more

    monkeypatch.setattr(Purging, "cut", hasty)
    with pytest.raises(AssertionError, match="waits until the old epoch is dropped"):
        _play_power_losses(tmp_path, monkeypatch, rationed=True)


def _play_power_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, rationed: bool) -> None:
    monkeypatch.setattr(purging, "_SEGMENTS_MAX", 1)
    rations(monkeypatch, interval_h=12 if rationed else 0, burst=100)
    world = World.make(tmp_path)
    world.tenants.create("acme")
    a, b, doomed = (world.written(name, tenant="acme") for name in ("a", "b", "doomed"))
    give_up(world, a, (2, MASK), freed=(3,))
    give_up(world, b, (1, 1))
    world.destroy("doomed")
    world.close()
    catalog = copy_catalog(tmp_path, tmp_path / "before")
    before = world.disks.copied()
    world = World(world.disks, tmp_path)
    steps = world.disks.watched()
    assert world.purge()
    world.close()
    found = set()
    for at, disks in enumerate(cuts(steps, before.copied())):
        for choose in (nothing_kept, everything_kept, Random(at).randrange):
            folder = copy_catalog(catalog, catalog / "again")
            again = World(disks.after_power_loss(choose), folder, seed=7)
            assert groups_waiting(again) == 2 or again.keeper.epoch > 1, (
                "what is cut waits until the old epoch is dropped"
            )
            found.add((again.keeper.epoch, keys(again, a)[2] is None))
            again.forgetting.recover()
            again.forgetting.carry_out()
            while again.purge():
                pass
            first, second, third = keys(again, a)
            assert first == SegmentKey(a.grants[0].key)
            assert second == SegmentKey(a.grants[1].key).without([3, 40])
            assert third is None
            assert keys(again, b)[0] == SegmentKey(b.grants[0].key).without([0])
            assert is_gone(again, doomed)
            assert not groups_waiting(again)
            assert again.sink.epochs() == (again.keeper.epoch,)
            again.close()
            shutil.rmtree(folder)
    assert found == {(1, False), (1, True), (2, True)}, "a crash between slice and rotation as well"
