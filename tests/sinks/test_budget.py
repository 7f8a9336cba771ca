"""What a sink affords, and what of it is kept."""

from __future__ import annotations

from scrubjay.sinks.budget import UNLIMITED, Budget, Certainty

BUDGET = Budget(3600.0, 20, Certainty.ASSUMED, "for a test")


def test_budget_affords_its_burst_at_once_and_then_one_an_interval() -> None:
    """Twenty ahead; the next when an interval has gone by."""
    assert BUDGET.wait_s(rotations=19, age_s=0) == 0
    assert BUDGET.wait_s(rotations=20, age_s=0) == 3600
    assert BUDGET.wait_s(rotations=20, age_s=3600) == 0


def test_budget_keeps_a_tenth_of_its_burst_from_what_can_wait() -> None:
    """After such a rotation two are left at least."""
    assert BUDGET.reserve == 2
    assert BUDGET.wait_s(rotations=17, age_s=0, kept=BUDGET.reserve) == 0
    assert BUDGET.wait_s(rotations=18, age_s=0, kept=BUDGET.reserve) == 3600


def test_sink_that_nothing_wears_out_keeps_nobody_waiting() -> None:
    """However often it rotated."""
    assert UNLIMITED.wait_s(rotations=1 << 40, age_s=0, kept=UNLIMITED.reserve) == 0
