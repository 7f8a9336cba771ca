"""The dates of a volume's slots: few, and never too few."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from scrubjay.control.dates import RANGES_MAX, covers, with_dates

SECONDS = st.integers(1, 200)


@given(st.lists(st.lists(SECONDS)))
def test_ranges_cover_every_date_and_stay_few(batches: list[list[int]]) -> None:
    """Whatever is entered in whatever order; ascending, apart, at most so many (I8)."""
    ranges: tuple[tuple[int, int], ...] = ()
    for batch in batches:
        ranges = with_dates(ranges, batch)
    dates = {each for batch in batches for each in batch}
    assert all(covers(ranges, [each]) for each in dates)
    assert len(ranges) <= RANGES_MAX
    assert all(first <= last for first, last in ranges)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(ranges))
    assert {first for first, _ in ranges} | {last for _, last in ranges} <= dates


@given(st.sets(st.integers(0, RANGES_MAX - 1)), SECONDS)
def test_few_dates_are_kept_as_they_are(places: set[int], date: int) -> None:
    """Nobody waits for a slot that was never the volume's."""
    dates = {1000 * (each + 1) for each in places}
    assert not covers(with_dates((), dates), [date])
    assert with_dates((), dates) == tuple((each, each) for each in sorted(dates))


def test_nearest_ranges_become_one_where_there_are_too_many() -> None:
    """The gap between them is what is lost."""
    dates = [100 * each for each in range(RANGES_MAX)] + [105]
    assert with_dates((), dates)[1] == (100, 105)
