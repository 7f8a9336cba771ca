"""Purging against what an attacker found: keys that return, copies that nobody counts (I3, I6)."""

# ruff: noqa: SLF001 - what is due is looked up where the engine keeps it

from __future__ import annotations

import pytest

from scrubjay.engine.lessor import Checkpoint
from scrubjay.engine.paged import PagedMap
from scrubjay.engine.stripes import Segments
from scrubjay.engine.usage import CLOCK_SLACK_S, Usage
from scrubjay.keys.aead import KEY_BYTES
from tests.engine.fsck import fsck
from tests.engine.rig import Machine
from tests.engine.test_purging import HOUR, NOON, stale, volume


def _read_while_stripes_are_given_up() -> dict[int, int]:
    """Return how long the key is that the exporter holds of each segment that lost a stripe.

    A client reads a sector that cleaning moved, so that its group is asked for, when the keys
    are dropped and the keeper has not heard of it.
    """
    machine = Machine(slots=60, lbas=9000, first_segment=64)
    disk = machine.disk
    disk.tick(NOON)
    for lba in range(0, 9000, 100):
        machine.write((lba, 100))
    machine.checkpoint()
    victim = disk._map[1] >> 28
    for lba in range(0, 3800, 2):
        machine.write((lba, 1))
    disk._cleaner.begin(victim, (1 << 64) - 1)
    while disk._cleaner.victim:
        machine.feed()
        disk.clean()
    machine.checkpoint()
    machine.checkpoint()
    assert victim not in machine.keeper.places
    machine.write((8000, 1))
    asked: list[int] = []

    def read(checkpoint: Checkpoint) -> None:
        if checkpoint.purged and checkpoint.purged.stripes:
            before = set(disk._segments._groups)
            with disk.lock:
                machine.read(1, 1)
            asked.extend(disk._segments._groups - before)

    machine.keeper.on_commit = read
    machine.purge(NOON + 13 * HOUR)
    assert asked, "the read had to ask"
    machine.verify()
    keys = {each: disk._segments._arena.get(each) for each in machine.keeper.gone}
    return {each: len(key) for each, key in keys.items() if key is not None}


def test_read_while_a_commit_is_under_way_brings_back_no_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the keeper still grants of a stripe that was given up is not taken in (I3, I6)."""
    held = _read_while_stripes_are_given_up()
    assert held
    assert KEY_BYTES not in held.values(), "a seed opens every stripe"
    monkeypatch.setattr(Segments, "withhold", lambda *_: None)
    assert KEY_BYTES in _read_while_stripes_are_given_up().values(), "the check can fail"


def _moved_behind_the_checkpoint() -> Machine:
    """Return a volume that was killed when purging had moved what no checkpoint names."""
    machine = volume()
    machine.write((2000, 1), (5000, 1))
    machine.checkpoint()
    machine.purge(NOON + 13 * HOUR)
    disk = machine.disk
    mover, position = disk._mover.segment, disk._mover.position
    machine.write((3000, 1), (1000, 1))
    machine.checkpoint()
    disk.tick(NOON + 26 * HOUR)
    while disk.purger.wants and disk.purge():
        machine.feed()
    assert disk._mover.segment == mover
    assert disk._mover.position > position, "copies stand behind what is named"
    machine.flush()
    machine.kill()
    machine.disk.tick(NOON + 26 * HOUR)
    assert mover in machine.keeper.places
    return machine


def _overwrite_what_was_copied(machine: Machine) -> None:
    for lba in (900, 1000, 2900, 3000):
        machine.write((lba, 100))
    machine.checkpoint()
    for hour in range(40, 60, 2):
        machine.purge(NOON + hour * HOUR)
    machine.checkpoint()


def test_copies_that_a_kill_orphaned_are_purged_with_what_they_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Moves that no checkpoint names leave copies in a segment that it names: they go too (I3)."""
    machine = _moved_behind_the_checkpoint()
    assert machine.disk.purger.waiting_since_s
    _overwrite_what_was_copied(machine)
    assert not stale(machine)
    assert not machine.keeper.purged.waiting_since_s
    machine.verify()
    fsck(machine)
    machine.kill()
    machine.verify()
    monkeypatch.setattr("scrubjay.engine.disk.mark_orphans", lambda *_, **__: None)
    machine = _moved_behind_the_checkpoint()
    _overwrite_what_was_copied(machine)
    assert stale(machine), "the check can fail"


def test_detach_behind_purging_leaves_nothing_to_be_purged() -> None:
    """What was moved in order is named, and nothing follows it."""
    machine = volume()
    machine.write((2000, 1))
    machine.purge(NOON + 13 * HOUR)
    assert machine.disk._mover.segment
    machine.detach()
    assert not machine.disk.purger.waiting_since_s


YEARS = 50 * 365 * 24 * HOUR


def test_clock_that_jumps_ahead_for_one_look_purges_in_time_and_keeps_the_dates() -> None:
    """Within an attachment: the dates that the wrong clock gave go back with it (I8)."""
    machine = volume()
    machine.disk.tick(NOON + HOUR)
    machine.disk.tick(NOON + YEARS)
    machine.write((7, 1))
    machine.disk.tick(NOON + HOUR + 60)
    assert machine.disk.purger.waiting_since_s == NOON + HOUR + 60
    machine.write((3000, 1))
    machine.purge(NOON + 14 * HOUR)
    machine.purge(NOON + 16 * HOUR)
    assert not stale(machine)
    assert not machine.keeper.purged.waiting_since_s


def test_round_that_a_clock_ahead_began_keeps_no_later_one_waiting() -> None:
    """A round is over an hour after it began, whatever the clock said then."""
    machine = volume()
    machine.write((7, 1))
    machine.purge(NOON + YEARS)
    assert not stale(machine)
    machine.disk.tick(NOON + HOUR)
    machine.write((7, 1))
    machine.disk.tick(NOON + HOUR)
    machine.purge(NOON + 14 * HOUR)
    assert not stale(machine)


def test_dates_yet_to_come_count_as_the_earliest_at_the_next_attachment() -> None:
    """What a wrong clock made durable is due at once, and says that nobody knows better (I8)."""
    machine = volume()
    machine.disk.tick(NOON + YEARS)
    machine.write((7, 1))
    machine.checkpoint()
    machine.detach()
    machine.disk.tick(NOON + HOUR)
    machine.kill()
    machine.disk.tick(NOON + HOUR)
    machine.purge(NOON + HOUR)
    assert not stale(machine)
    for day in range(1, 4):
        machine.write((4000 + day, 1))
        machine.checkpoint()
        machine.detach()
        machine.disk.tick(NOON + day * 24 * HOUR)
        machine.purge(NOON + day * 24 * HOUR)
    machine.purge(NOON + 5 * 24 * HOUR)
    assert not stale(machine)


def test_dates_a_moment_ahead_are_taken_for_now() -> None:
    """A clock that is set by seconds between two attachments raises no alarm."""
    usage = Usage(*_blank_maps(), live_sectors=0)
    usage.now_s, usage.earliest_s = NOON, NOON - 100 * HOUR
    assert usage.past(NOON - 1) == NOON - 1
    assert usage.past(NOON + CLOCK_SLACK_S) == NOON
    assert usage.past(NOON + CLOCK_SLACK_S + 1) == NOON - 100 * HOUR
    usage.earliest_s = NOON + 1
    assert usage.past(NOON + YEARS) == NOON, "never later than now, whatever is said"
    assert usage.past(0) == 0


def _blank_maps() -> tuple[PagedMap, PagedMap]:
    def page(address: int, entry: int) -> bytes:
        raise AssertionError(f"page {address} at {entry}: read, expected none")

    return PagedMap(1, page, height=0, root=0), PagedMap(2, page, height=0, root=0)


def test_attach_in_a_full_pool_wipes_nothing_of_what_waits() -> None:
    """What the log does not reach is given back, and of purging nothing is said (I8)."""
    machine = volume()
    machine.write((2000, 1))
    machine.checkpoint()
    machine.write((2100, 1))
    machine.flush()
    keeper = machine.keeper
    keeper.others, keeper.free = [*keeper.others, *keeper.free], []
    said: list[Checkpoint] = []
    keeper.on_commit = said.append
    machine.kill()
    assert said
    assert said[0].purged is None
    assert keeper.purged.waiting_since_s == NOON


def _as_an_older_version_left_it(machine: Machine) -> None:
    """Blank what says of each segment what is to be purged, and attach again."""
    disk = machine.disk
    for segment in range(1, machine.keeper.next_segment):
        page, at = disk._usage._words(segment)
        page[at + 66 : at + 71] = memoryview(bytes(40)).cast("Q")
    disk._usage.dirty.clear()
    disk.purger.adopted = False
    disk.purger._look_at = disk.purger._look_stop
    machine.checkpoint()
    machine.kill()
    assert not machine.disk.purger.adopted


def test_adoption_takes_what_was_dead_beside_a_new_death() -> None:
    """A segment that is dated by now is looked through all the same, stripe by stripe (I3)."""
    machine = volume()
    machine.write((100, 1), (2000, 1))
    machine.checkpoint()
    _as_an_older_version_left_it(machine)
    machine.disk.tick(NOON + HOUR)
    machine.write((3000, 1))
    machine.disk._usage.settle()
    for hour in (2, 15, 16):
        machine.purge(NOON + hour * HOUR)
    assert machine.disk.purger.adopted
    assert not stale(machine)
    assert not machine.keeper.purged.waiting_since_s
    machine.verify()
    fsck(machine)


def test_adoption_dates_what_is_dead_from_the_beginning_and_says_so() -> None:
    """When an older version's bytes died nobody knows: as early as can be, in a commit (I8)."""
    machine = volume()
    machine.keeper.created_s = NOON - 9 * HOUR
    machine.write((100, 1), (2000, 1))
    machine.checkpoint()
    _as_an_older_version_left_it(machine)
    machine.purge(NOON + HOUR)
    assert machine.keeper.purged.waiting_since_s == NOON - 9 * HOUR, "not due, and told"
    assert machine.disk.purger.adopted
    machine.kill()
    assert machine.disk.purger.adopted
    machine.purge(NOON + 4 * HOUR)
    assert not stale(machine)
    assert not machine.keeper.purged.waiting_since_s


def test_adoption_takes_copies_that_a_kill_of_an_older_version_left() -> None:
    """What stands in a moved segment behind all that counts there is purged as well (I3)."""
    machine = _moved_behind_the_checkpoint()
    _as_an_older_version_left_it(machine)
    machine.disk.tick(NOON + 27 * HOUR)
    _overwrite_what_was_copied(machine)
    assert not stale(machine)
    machine.verify()


def test_death_in_a_volume_that_is_always_written_is_told_within_the_hour() -> None:
    """A checkpoint is worth it for what waits alone: the keeper is who is asked (I8)."""
    machine = volume()
    for minute in range(59):
        machine.disk.tick(NOON + minute * 60)
        machine.write((2000, 1))
        assert not machine.disk.purger.wants_checkpoint
    machine.purge(NOON + HOUR)
    assert machine.keeper.purged.waiting_since_s == NOON
    machine.purge(NOON + 3 * HOUR)
    assert not machine.disk.purger.wants_checkpoint, "it is told once"
    machine.write((2000, 1))
    machine.purge(NOON + 4 * HOUR)
    assert machine.disk.counters.checkpoints == 2, "the date is the same"
