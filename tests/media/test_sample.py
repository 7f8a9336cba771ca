"""Which pages are read back."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.units import PAGE_BYTES
from scrubjay.media.sample import pick_pages
from tests.media.rig import Seeded


@given(
    pages=st.lists(st.integers(0, 200), max_size=5),
    per_extent=st.integers(0, 300),
)
def test_picked_pages_of_any_extents_are_distinct_and_inside(
    pages: list[int], per_extent: int
) -> None:
    """So many of each extent as were asked for, or all of it; its ends among them."""
    extents = [(index * 1000 * PAGE_BYTES, count * PAGE_BYTES) for index, count in enumerate(pages)]
    picked = pick_pages(extents, per_extent, Seeded())
    assert picked == sorted(set(picked))
    for start, length in extents:
        inside = [page for page in picked if start <= page < start + length]
        assert len(inside) == min(per_extent, length // PAGE_BYTES)
        assert all(page % PAGE_BYTES == 0 for page in inside)
        if len(inside) >= 2:
            assert inside[0] == start
            assert inside[-1] == start + length - PAGE_BYTES
    assert len(picked) == sum(min(per_extent, count) for count in pages)


def test_picked_pages_over_many_draws_leave_none_out() -> None:
    """Every inner page is as likely as any other."""
    entropy = Seeded()
    extent = (0, 12 * PAGE_BYTES)
    counts = Counter(page for _ in range(2000) for page in pick_pages([extent], 5, entropy))
    inner = [counts[page * PAGE_BYTES] for page in range(1, 11)]
    assert all(500 < count < 700 for count in inner), inner
    assert counts[0] == counts[11 * PAGE_BYTES] == 2000
