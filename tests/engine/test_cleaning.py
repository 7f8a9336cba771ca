"""When cleaning is worth it: the share that is live, and how much of the pool is free."""

from __future__ import annotations

from random import Random

import pytest

from scrubjay.engine.cleaning import _share_in
from tests.engine.rig import Machine

LBAS = 16384
"""64 MiB: four segments, and eight more that a small volume may waste."""


def overwritten(*, free_percent: int) -> Machine:
    """Overwrite a volume at random five times over, in a pool that is so empty."""
    machine = Machine(slots=80, lbas=LBAS)
    machine.keeper.free_percent = free_percent
    random = Random(free_percent)
    machine.write((0, LBAS // 4))
    machine.checkpoint()
    for _ in range(160):
        machine.write(*((random.randrange(LBAS - 4), 1 + random.randrange(4)) for _ in range(200)))
        while machine.disk.needs_upkeep:
            machine.disk.maintain()
        if machine.disk.wants_checkpoint():
            machine.checkpoint()
    return machine


def test_cleaning_waits_in_a_pool_with_plenty_and_not_in_a_scarce_one() -> None:
    """The same writes: where space is plenty more is held, and less is moved."""
    plenty, scarce = overwritten(free_percent=80), overwritten(free_percent=10)
    assert plenty.disk.counters.held_segments > scarce.disk.counters.held_segments
    assert plenty.disk.counters.moved_bytes < scarce.disk.counters.moved_bytes
    assert scarce.disk.counters.moved_bytes > 0


def test_cleaning_at_rest_is_the_same_in_plenty() -> None:
    """What a busy volume put off is done once nobody writes."""
    machine = overwritten(free_percent=80)
    assert machine.disk.wants_cleaning()
    machine.clean()
    assert not machine.disk.wants_cleaning()
    machine.checkpoint()
    machine.verify()


@pytest.mark.parametrize(
    ("free_percent", "share"), [(0, 0.6), (25, 0.6), (40, 0.42), (50, 0.3), (100, 0.3)]
)
def test_share_falls_as_the_pool_empties(free_percent: int, share: float) -> None:
    """From 60 % live where a quarter is free to 30 % where half is."""
    assert _share_in(free_percent) == pytest.approx(share)
