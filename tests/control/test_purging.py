"""Purging as the daemon does it: given up, granted to nobody, forgotten in time (I3, I8)."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path
from random import Random

import pytest

from scrubjay.base.errors import Unavailable
from scrubjay.base.ids import BranchNo, Entry, Epoch, LineageNo, SegmentId, TenantNo
from scrubjay.control.keeper import Change
from scrubjay.control.stripes import ALL_STRIPES, every_waiting
from scrubjay.engine.lessor import Checkpoint, Grant, Purged
from scrubjay.keys import path
from scrubjay.keys.aead import children
from scrubjay.keys.forgotten import Forgotten
from scrubjay.keys.segment import SegmentKey
from scrubjay.sinks.budget import Budget, Certainty
from scrubjay.sinks.file import FileSink
from tests.control.cutting import copy_catalog, cuts
from tests.control.rig import (
    World,
    Written,
    everything_kept,
    nothing_kept,
)

HOUR_NS = 3600 * 10**9
MASK = 1 << 3 | 1 << 40


def give_up(
    world: World,
    written: Written,
    *stripes: tuple[int, int],
    freed: tuple[int, ...] = (),
    dead_h: int = 0,
    waiting_h: int | None = None,
    clean: bool = True,
) -> None:
    """Commit a checkpoint that gives these up; what died in them did so hours ago."""
    now_s = world.clock.now // 10**9
    purged = Purged(
        tuple((SegmentId(segment), mask) for segment, mask in stripes),
        now_s - dead_h * 3600,
        0 if waiting_h is None else now_s - waiting_h * 3600,
        5000,
    )
    checkpoint = Checkpoint(Entry(1), 1, clean, 0, (), purged)
    world.leases.commit(
        written.id, written.epoch, checkpoint, freed=[SegmentId(each) for each in freed]
    )


def granted(world: World, written: Written) -> dict[int, Grant]:
    """Return what an exporter that attaches now is told of a volume's segments."""
    return {each.segment: each for each in world.leases.group(written.id, written.epoch, 0)}


def keys(world: World, written: Written) -> list[SegmentKey | None]:
    """Return what the tree of keys has of a volume's segments."""
    record = written.volume.record
    numbers = TenantNo(record.tenant), LineageNo(record.lineage), BranchNo(record.branch)
    with world.keeper.changing() as change:
        return change.segment_keys(path.branch(*numbers), range(1, len(written.grants) + 1))


def later(world: World, hours: float) -> None:
    """Let hours go by."""
    world.clock.now += int(hours * HOUR_NS)


def test_stripes_given_up_are_granted_to_nobody_from_the_commit_on(world: World) -> None:
    """Whoever attaches before the next rotation gets what survives, and no seed (I3)."""
    a = world.written("a", tenant="acme")
    give_up(world, a, (2, MASK), freed=(3,))
    now = granted(world, a)
    assert now[1] == a.grants[0]
    assert now[2].key == b""
    numbers = [n for n in range(65) if not MASK >> n & 1]
    assert now[2].stripes == tuple(zip(numbers, children(a.grants[1].key, numbers), strict=True))
    assert (now[3].slot, now[3].key, now[3].stripes) == (None, b"", ())


def test_turn_after_an_hour_forgets_what_was_given_up(world: World) -> None:
    """One rotation for all of it; what was granted stays as it was (I3)."""
    a = world.written("a", tenant="acme")
    b = world.written("b", tenant="zeta")
    give_up(world, a, (2, MASK), freed=(3,))
    give_up(world, b, (1, 1))
    before = granted(world, a)
    world.purging.turn()
    assert world.keeper.epoch == 1
    later(world, 1)
    world.purging.turn()
    assert world.keeper.epoch == 2
    assert world.sink.epochs() == (2,)
    assert granted(world, a) == before
    first, second, third = keys(world, a)
    assert first == SegmentKey(a.grants[0].key)
    assert second is not None
    assert third is None
    with pytest.raises(Forgotten):
        second.stripe(3)
    with world.keeper.reading() as view:
        assert not list(every_waiting(view))
    assert world.purging.status.pool().waiting_since is None
    world.purging.turn()
    assert world.keeper.epoch == 2


def test_commit_that_is_sent_again_after_the_forgetting_changes_no_key(world: World) -> None:
    """A lost reply costs a rotation at most (I6)."""
    a = world.written("a", tenant="acme")
    give_up(world, a, (2, MASK))
    assert world.purge()
    before = keys(world, a)
    give_up(world, a, (2, MASK))
    assert world.purge()
    assert keys(world, a) == before


def test_turn_does_not_wait_an_hour_where_a_deadline_is_near(world: World) -> None:
    """A sixth of `purge_within` is kept for the rotation."""
    a = world.written("a", tenant="acme")
    give_up(world, a, (2, MASK), dead_h=21)
    world.purging.turn()
    assert world.keeper.epoch == 2
    assert not world.missed


def test_sink_that_cannot_drop_leaves_it_waiting_and_late_across_restarts(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Committed is not forgotten before the sink has dropped: told once, and shown (I8)."""

    def away(_sink: FileSink, _epoch: Epoch) -> None:
        raise Unavailable("sink: a member is away")

    a = world.written("a", tenant="acme")
    give_up(world, a, (2, MASK), dead_h=23)
    with monkeypatch.context() as patched:
        patched.setattr(FileSink, "drop", away)
        for _ in range(3):
            with pytest.raises(Unavailable):
                world.purging.turn()
            later(world, 2)
        stands = world.purging.status.of(a.id)
        assert stands.missed
        assert (
            stands.reason
            == "all of it is moved; its keys go with the next change of the sink's key"
        )
        assert [(each.volume, each.due_at) for each in world.missed] == [(a.id, stands.due_at)]
        assert world.purging.status.pool().missed == ["a"]
        world.close()
    again = World(world.disks, copy_catalog(world.folder, tmp_path / "again"), seed=2)
    again.clock.now = world.clock.now
    assert again.purging.status.pool().missed == ["a"]
    again.purging.turn()
    assert again.purging.status.pool().missed == []
    assert again.sink.epochs() == (again.keeper.epoch,)
    again.close()


def test_sink_that_rations_its_rotations_makes_purging_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the budget nothing rotates; that is seen, and told when it is late (I8)."""
    budget = Budget(36 * 3600.0, 0, Certainty.ASSUMED, "wears out")
    monkeypatch.setattr(FileSink, "budget", lambda _sink: budget)
    a = world.written("a", tenant="acme")
    give_up(world, a, (2, MASK), dead_h=1)
    later(world, 12)
    world.purging.turn()
    assert world.keeper.epoch == 1
    later(world, 12)
    world.purging.turn()
    assert [each.volume for each in world.missed] == [a.id]
    later(world, 12)
    world.purging.turn()
    assert world.keeper.epoch == 2
    assert not world.purging.status.of(a.id).missed


def test_volume_that_is_detached_is_served_for_its_purging_alone(world: World) -> None:
    """What is dead in it is due as well; who attaches it meanwhile takes it over (I3)."""
    a = world.written("a", tenant="acme")
    give_up(world, a, waiting_h=1)
    world.attachments.detach("a")
    assert world.purging.status.of(a.id).reason == "it is not attached"
    world.purging.turn()
    assert not world.liveness.attached(a.id)
    later(world, 12)
    world.purging.turn()
    assert world.liveness.attached(a.id)
    served = world.attachments.find("a")
    give_up(world, Written(a.volume, served.epoch, a.grants), (2, MASK))
    world.purging.turn()
    assert not world.liveness.attached(a.id)


def test_attach_of_a_volume_that_is_tended_takes_it_over(world: World) -> None:
    """A person is not refused because of upkeep, and upkeep does not detach what he uses."""
    a = world.written("a", tenant="acme")
    give_up(world, a, waiting_h=13)
    world.attachments.detach("a")
    world.purging.turn()
    tended = world.attachments.find("a")
    assert world.attachments.attach("a") == tended
    give_up(world, Written(a.volume, tended.epoch, a.grants))
    world.purging.turn()
    assert world.liveness.attached(a.id)


def test_volume_that_ended_without_a_checkpoint_may_hold_more_than_it_said(world: World) -> None:
    """Its log may have deaths that nobody was told of: dated with the last word of it (I8)."""
    a = world.written("a", tenant="acme")
    world.leases.commit(a.id, a.epoch, Checkpoint(Entry(1), 1, False, 0, (), Purged()), freed=[])
    assert world.purging.status.of(a.id).waiting_since is None
    world.exporters.die(a.id)
    later(world, 25)
    stands = world.purging.status.of(a.id)
    assert stands.missed
    assert stands.waiting_since is not None
    assert stands.waiting_since < world.keeper.now() - dt.timedelta(hours=25)


def test_changed_policy_is_told_to_exporters_that_serve(world: World, tmp_path: Path) -> None:
    """Each hears it once, and at each change; the next daemon tells them once more."""
    a, b = (world.written(name, tenant="acme") for name in ("a", "b"))
    world.attachments.detach("b")
    for _ in range(3):
        world.purging.turn()
    assert world.exporters.within_s == {a.id: [86_400]}
    world.policies.change(world.keeper.pool_id, {"purge_within_s": 3600})
    for _ in range(3):
        world.purging.turn()
    assert world.exporters.within_s == {a.id: [86_400, 3600]}
    world.attachments.attach("b")
    world.purging.turn()
    world.attachments.detach("b")
    world.attachments.attach("b")  # by another policy, as far as anybody knows
    world.purging.turn()
    assert world.exporters.within_s == {a.id: [86_400, 3600], b.id: [3600, 3600]}
    exporters = world.exporters
    world.database.close()
    again = World(world.disks, copy_catalog(world.folder, tmp_path / "again"), seed=2)
    again.liveness = again.purging._liveness = world.liveness  # noqa: SLF001 - exporters go on
    again.attachments._liveness = world.liveness  # noqa: SLF001 - as above
    again.attachments._exporters = exporters  # noqa: SLF001 - as above
    again.purging.turn()
    assert exporters.within_s[a.id] == [86_400, 3600, 3600]
    again.close()


def test_exporter_that_does_not_hear_is_told_at_the_next_turn(world: World) -> None:
    """And it keeps nobody else from hearing."""
    a = world.written("a", tenant="acme")
    world.exporters.fails["purge_within"] = Unavailable("exporter: away")
    world.purging.turn()
    assert world.exporters.within_s == {}
    del world.exporters.fails["purge_within"]
    world.purging.turn()
    assert world.exporters.within_s == {a.id: [86_400]}


def test_destroyed_volume_leaves_no_waiting_stripes(world: World) -> None:
    """They go with everything else; a batch that still names them is harmless."""
    a = world.written("a", tenant="acme")
    b = world.written("b", tenant="acme")
    give_up(world, a, (2, MASK))
    give_up(world, b, (2, MASK))
    world.destroy("a")
    world.forgetting.carry_out()
    assert world.purge()
    world.forget()
    with world.keeper.reading() as view:
        assert not list(every_waiting(view))
    assert keys(world, b)[1] == SegmentKey(b.grants[1].key).without([3, 40])


@pytest.mark.slow
def test_power_lost_anywhere_in_a_purge_forgets_it_in_the_end(tmp_path: Path) -> None:
    """At every write and sync of pool and sink it opens, and grants nothing back (I3, I6)."""
    world = World.make(tmp_path)
    world.tenants.create("acme")
    a = world.written("a", tenant="acme")
    give_up(world, a, (2, MASK), freed=(3,))
    world.close()
    catalog = copy_catalog(tmp_path, tmp_path / "before")
    before = world.disks.copied()
    world = World(world.disks, tmp_path)
    steps = world.disks.watched()
    assert world.purge()
    world.close()
    expected = SegmentKey(a.grants[1].key).without([3, 40])
    found = set()
    for at, disks in enumerate(cuts(steps, before.copied())):
        for choose in (nothing_kept, everything_kept, Random(at).randrange):
            folder = copy_catalog(catalog, catalog / "again")
            again = World(disks.after_power_loss(choose), folder, seed=7)
            again.forgetting.recover()
            assert granted(again, a)[2].stripes == expected.stripes
            found.add(again.keeper.epoch)
            again.purge()
            assert keys(again, a) == [SegmentKey(a.grants[0].key), expected, None]
            assert again.sink.epochs() == (again.keeper.epoch,)
            with again.keeper.reading() as view:
                assert not list(every_waiting(view))
            again.close()
            shutil.rmtree(folder)
    assert found == {1, 2}


@pytest.mark.slow
def test_purge_that_keeps_the_keys_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above sees it when masks go and keys stay (I3)."""
    monkeypatch.setattr(Change, "take_out", lambda *_: None)
    with pytest.raises(AssertionError):
        test_power_lost_anywhere_in_a_purge_forgets_it_in_the_end(tmp_path)


def test_mask_of_all_stripes_is_the_whole_segment() -> None:
    """Its headers go as well: 64 stripes are a segment."""
    assert ALL_STRIPES.bit_count() == 64


def test_volume_killed_after_a_clean_detach_waits_since_its_attachment(world: World) -> None:
    """Its log may know of deaths that nobody was told of, though it was clean once (I8)."""
    a = world.written("a", tenant="acme")
    world.leases.commit(a.id, a.epoch, Checkpoint(Entry(1), 1, True, 0, (), Purged()), freed=[])
    world.attachments.detach("a")
    later(world, 24 * 30)
    assert world.purging.status.of(a.id).waiting_since is None
    attached_at = world.keeper.now()
    world.attachments.attach("a")
    assert world.purging.status.of(a.id).waiting_since is None
    world.exporters.die(a.id)
    stands = world.purging.status.of(a.id)
    assert stands.waiting_since is not None
    assert attached_at <= stands.waiting_since < attached_at + dt.timedelta(minutes=1)
    assert not stands.missed
    later(world, 13)
    world.purging.turn()
    assert world.liveness.attached(a.id)


def test_what_waited_at_a_clean_detach_keeps_its_date_through_attachments(world: World) -> None:
    """An attachment makes nothing younger (I8)."""
    a = world.written("a", tenant="acme")
    give_up(world, a, waiting_h=3)
    world.attachments.detach("a")
    before = world.purging.status.of(a.id).waiting_since
    world.attachments.attach("a")
    world.exporters.die(a.id)
    assert world.purging.status.of(a.id).waiting_since == before


def test_volume_killed_before_its_first_checkpoint_waits_since_its_birth(world: World) -> None:
    """Segments were leased to it, and nobody said what became of them (I8)."""
    a = world.written("a", tenant="acme")
    assert world.purging.status.of(a.id).waiting_since is None
    world.exporters.die(a.id)
    later(world, 48)
    stands = world.purging.status.of(a.id)
    assert stands.waiting_since == a.volume.record.created_at
    assert stands.missed
    world.purging.turn()
    assert world.liveness.attached(a.id)


def test_volume_that_was_never_leased_anything_waits_for_nothing(world: World) -> None:
    """There is nothing in it that could be dead."""
    volume = world.volumes.create("a", tenant="acme", size_bytes=1 << 30)
    world.attachments.attach("a")
    world.exporters.die(volume.id)
    later(world, 48)
    assert world.purging.status.of(volume.id).waiting_since is None


def test_volume_that_is_forgotten_as_a_whole_costs_no_rotation_more(world: World) -> None:
    """What it gave up waits for nothing but to be cleared away; not even the hour is lost."""
    a = world.written("a", tenant="acme")
    give_up(world, a, (2, MASK), dead_h=22)
    world.destroy("a")
    world.forgetting.carry_out()
    assert world.keeper.epoch == 2
    later(world, 2)
    world.purging.turn()
    assert not world.purge()
    assert world.keeper.epoch == 2
