"""Purging against what an attacker found: keys that return, copies that nobody counts (I3, I6)."""

# ruff: noqa: SLF001 - what is due is looked up where the engine keeps it

from __future__ import annotations

import pytest

from scrubjay.engine.lessor import Checkpoint
from scrubjay.engine.stripes import Segments
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
        if checkpoint.purged.stripes:
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
    assert not machine.keeper.checkpoint.purged.waiting_since_s
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
