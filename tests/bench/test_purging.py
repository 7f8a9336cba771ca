"""The study of purging: what it imagines is of the size that it says."""

from __future__ import annotations

from bench.purging import bytes_to_forget_a_stripe
from scrubjay.base.units import KIB


def test_forgetting_a_stripe_of_1_tib_writes_a_few_tables_and_no_more() -> None:
    """The way from the root down to it, which is written anew: more than nothing, and bounded."""
    costs = bytes_to_forget_a_stripe()
    assert all(2 * KIB < each <= 64 * KIB for each in costs)
