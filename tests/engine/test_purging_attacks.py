"""Purging against what an attacker found: keys that return, copies that nobody counts (I3, I6)."""

# ruff: noqa: SLF001 - what is due is looked up where the engine keeps it

from __future__ import annotations

import pytest

from scrubjay.engine.lessor import Checkpoint
from scrubjay.engine.stripes import Segments
from scrubjay.keys.aead import KEY_BYTES
from tests.engine.rig import Machine
from tests.engine.test_purging import HOUR, NOON


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
