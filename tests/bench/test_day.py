"""A day of one random overwrite a second on 1 TiB, on a simulated clock."""

from __future__ import annotations

import pytest

from bench.day import play
from scrubjay.base.units import GIB


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_random_overwrite_a_second_for_a_day_on_1_tib_moves_less_than_32_gib(seed: int) -> None:
    """In the second day, where as much is purged as dies; and no deadline is missed."""
    played = play(seed)
    assert 15 * GIB < played.moved_bytes <= 32 * GIB
    assert played.oldest_s < 14 * 3600
    assert played.rounds <= 38
