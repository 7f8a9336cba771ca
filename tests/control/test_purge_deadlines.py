"""Missed deadlines of purging: told once, durably, in the log and to the tenant (I8)."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
import structlog
from msgspec.structs import replace

from scrubjay.base.ids import Entry, SegmentId
from scrubjay.control import leases, purge_deadlines
from scrubjay.control.deadlines import PurgeMissed
from scrubjay.control.keeper import Change
from scrubjay.control.records import (
    BirthRecord,
    CheckpointRecord,
    PurgeRecord,
    birth_key,
    encode,
    volume_key,
)
from scrubjay.engine.lessor import Checkpoint, Purged
from scrubjay.evidence.entries import DeadlineMissed, blind_volume, parse_entry
from tests.control.cutting import copy_catalog
from tests.control.rig import (
    World,
    Written,
)
from tests.control.test_purging import MASK, give_up, later


def logged(world: World) -> list[DeadlineMissed]:
    """Return the missed deadlines of purging in the published log."""
    size = world.log.publish()
    entries = [parse_entry(world.log.published.entry(index, size)) for index in range(size)]
    return [each for each in entries if isinstance(each, DeadlineMissed)]


def events(world: World, tenant: str) -> list[str]:
    """Return what a tenant was told."""
    return [each.record.text for each in world.events.page(after=0, limit=99, tenant=tenant)]


def purge_of(world: World, written: Written) -> PurgeRecord | None:
    """Return what the pool says of a volume's purging."""
    with world.keeper.reading() as view:
        return view.volume(written.id).purge


def restarted(world: World, folder: Path, *, seed: int) -> World:
    """Kill the daemon, and return the next one over the same pool."""
    world.close()
    again = World(world.disks, copy_catalog(world.folder, folder), seed=seed)
    again.clock.now = world.clock.now
    return again


def test_missed_deadline_is_in_the_log_and_told_to_the_tenant_alone(world: World) -> None:
    """Under the id by which evidence speaks of the volume; one alarm, one entry, one event."""
    a = world.written("a", tenant="acme")
    give_up(world, a, waiting_h=25)
    with structlog.testing.capture_logs() as logs:
        for _ in range(5):
            world.purging.turn()
    stands = world.purging.status.of(a.id)
    (entry,) = logged(world)
    with world.keeper.reading() as view:
        birth = view.birth_record(a.id)
    assert entry.subject == blind_volume(bytes.fromhex(birth.blinding), a.id)
    assert (entry.deadline, entry.due_at) == ("purge_within", stands.due_at)
    assert entry.reason == "its sectors wait to be moved"
    (line,) = [each for each in logs if each["event"] == "purge.deadline_missed"]
    assert (line["log_level"], line["volume"]) == ("error", str(a.id))
    (text,) = events(world, "acme")
    assert str(a.id) in text
    assert text.endswith("and is not: its sectors wait to be moved")
    assert events(world, "zeta") == []
    purge = purge_of(world, a)
    assert purge is not None
    assert (purge.missed, purge.missed_due) == (1, stands.due_at)


def test_missed_deadline_is_not_told_again_by_the_next_daemon(world: World, tmp_path: Path) -> None:
    """What was told is in the pool; the next miss is told by whoever comes then."""
    a = world.written("a", tenant="acme")
    give_up(world, a, waiting_h=25)
    world.purging.turn()
    (first,) = world.missed
    again = restarted(world, tmp_path / "again", seed=2)
    served = again.attachments.attach("a")
    again.purging.turn()
    assert again.missed == []
    assert [each.due_at for each in logged(again)] == [first.due_at]
    give_up(again, Written(a.volume, served.epoch, a.grants), waiting_h=26)
    again.purging.turn()
    assert len(again.missed) == 1
    assert len(logged(again)) == 2
    purge = purge_of(again, a)
    assert purge is not None
    assert purge.missed == 2
    again.close()


def story_of_two_misses(world: World) -> None:
    """The oldest is late, a checkpoint says so again, then it is forgotten and another is late."""
    a = world.written("a", tenant="acme")
    died_s = world.clock.now // 10**9 - 25 * 3600
    for since_s in (died_s, died_s, died_s + 1800, died_s + 1800):
        named = Checkpoint(Entry(1), 1, True, 0, (), Purged((), 0, since_s, 0))
        world.leases.commit(a.id, a.epoch, named, freed=[])
        world.purging.turn()
    purge = purge_of(world, a)
    assert purge is not None
    assert [each.due_at.timestamp() for each in world.missed] == [
        died_s + 24 * 3600,
        died_s + 24 * 3600 + 1800,
    ]
    assert purge.missed == len(logged(world)) == len(events(world, "acme")) == 2


def test_each_deadline_is_told_once_through_checkpoints(world: World) -> None:
    """A commit says anew what waits, and forgets nothing of what was told."""
    story_of_two_misses(world)


def test_checkpoint_that_forgets_what_was_told_is_found_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The story above sees it when commits write a record without the misses."""
    real = leases._told  # noqa: SLF001 - the bug is planted there

    def forgetful(
        purged: Purged | None, now: dt.datetime, *, before: PurgeRecord | None
    ) -> PurgeRecord | None:
        del before
        return real(purged, now, before=None)

    monkeypatch.setattr(leases, "_told", forgetful)
    with pytest.raises(AssertionError):
        story_of_two_misses(world)


def test_hook_that_raises_leaves_the_deadline_untold(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be put on record is told at the next look."""

    def fail(_change: Change, _missed: PurgeMissed) -> None:
        raise OSError

    a = world.written("a", tenant="acme")
    give_up(world, a, waiting_h=25)
    with monkeypatch.context() as patched:
        patched.setattr(world.purging, "_on_missed", fail)
        with pytest.raises(OSError):  # noqa: PT011 - it has no words
            world.purging.turn()
    purge = purge_of(world, a)
    assert purge is not None
    assert purge.missed == 0
    world.purging.turn()
    assert len(world.missed) == 1


def test_volume_that_never_said_anything_of_purging_is_told_of_and_stays_late(
    world: World,
) -> None:
    """Of a version that did not purge: late since its birth, and the record keeps that."""
    a = world.written("a", tenant="acme")
    with world.keeper.changing() as change:
        record = change.volume(a.id)
        named = CheckpointRecord(root=1, flushed=1, clean=True, live_sectors=0)
        change.put(volume_key(a.id), encode(replace(record, checkpoint=named)))
    later(world, 25)
    before = world.purging.status.of(a.id)
    world.purging.turn()
    world.purging.turn()
    assert [each.due_at for each in world.missed] == [before.due_at]
    purge = purge_of(world, a)
    assert purge is not None
    assert purge.waiting_since == before.waiting_since == a.volume.record.created_at


def test_birth_from_before_the_log_is_entered_with_the_first_miss(world: World) -> None:
    """Without a blinding value nothing could be said of the volume."""
    a = world.written("a", tenant="acme")
    with world.keeper.changing() as change:
        birth: BirthRecord = change.birth_record(a.id)
        change.put(birth_key(a.id), encode(replace(birth, log_index=None, blinding="")))
    give_up(world, a, waiting_h=25)
    world.purging.turn()
    with world.keeper.reading() as view:
        birth = view.birth_record(a.id)
    assert birth.log_index is not None
    assert logged(world)[0].subject == blind_volume(bytes.fromhex(birth.blinding), a.id)


def test_all_that_are_late_are_told_in_several_commits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that was away for days finds many; one whose end is decided is told no more."""
    monkeypatch.setattr(purge_deadlines, "_BATCH", 2)
    written = [world.written(f"v{number}", tenant="acme") for number in range(6)]
    for each in written:
        give_up(world, each, (2, MASK), dead_h=30)
    world.destroy("v0")
    generation = world.keeper.pool.generation
    monkeypatch.setattr(type(world.purging), "_is_due", lambda _: False)
    world.purging.turn()
    assert {each.volume for each in world.missed} == {each.id for each in written[1:]}
    assert world.keeper.pool.generation >= generation + 3


def test_volume_destroyed_in_between_is_passed_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was late at the first look, and is no more at the second."""
    a = world.written("a", tenant="acme")
    give_up(world, a, waiting_h=25)
    real = purge_deadlines._note  # noqa: SLF001 - between the two looks

    def note(*given: object) -> list[PurgeMissed]:
        world.destroy("a")
        world.forget()
        return real(*given)  # type: ignore[arg-type] # as it was called

    monkeypatch.setattr(purge_deadlines, "_note", note)
    world.purging.turn()
    assert world.missed == []


def test_misses_of_an_ephemeral_volume_outlive_its_attachment(world: World) -> None:
    """Its keys end with each; that something was late in it does not."""
    world.volumes.create("scratch", tenant="acme", size_bytes=1 << 30, ephemeral=True)
    served = world.attachments.attach("scratch")
    volume = world.volumes.find("scratch")
    leased = world.leases.lease(volume.id, served.epoch, count=1, above=SegmentId(0))
    scratch = Written(volume, served.epoch, list(leased))
    give_up(world, scratch, waiting_h=25)
    world.purging.turn()
    assert len(world.missed) == 1
    world.attachments.detach("scratch")
    purge = purge_of(world, scratch)
    assert purge is not None
    assert (purge.missed, purge.waiting_since) == (1, None)
    assert world.purging.status.of(scratch.id).waiting_since is None
