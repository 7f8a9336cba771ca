"""Room for metadata: the tree grows into free slots, and deleting works in a full pool."""

from __future__ import annotations

import pytest

from scrubjay.base.errors import NoSpace
from scrubjay.base.ids import LineageNo, Slot
from scrubjay.media.geometry import SLOT_PAGES
from scrubjay.media.pool import RESERVED_PAGES, Pool
from scrubjay.media.simulated import SimulatedMedium
from tests.media.rig import create, reopen, size_of, state_of


def test_metadata_takes_more_slots_as_it_grows() -> None:
    """The tree grows into slots that nobody leased, and opens again from all of them."""
    medium = SimulatedMedium(size_of(8))
    pool = create([medium])
    with pool.change() as change:
        for number in range(120):
            change.put(b"k%03d" % number, bytes([number]) * 65536)
        held = change.lease_slots(LineageNo(1), 1)
    with pool.change() as change:
        for number in range(120, 240):
            change.put(b"k%03d" % number, bytes([number]) * 65536)
    assert pool.counts.metadata == 2
    assert pool.pages[1] == 2 * SLOT_PAGES
    again = reopen([medium])
    assert (again.counts, again.pages) == (pool.counts, pool.pages)
    assert again.get(b"k200") == bytes([200]) * 65536
    assert held == [1]


def test_full_pool_refuses_growth_but_lets_go_of_anything() -> None:
    """Pool full: NoSpace for what adds; replacing, deleting and forgetting still work."""
    pool = create([SimulatedMedium(size_of(3))])
    with pool.change() as change:
        change.lease_slots(LineageNo(1), 2)
    stored = _fill(pool, 65000)
    used, capacity = pool.pages
    assert capacity == SLOT_PAGES, "no slot is left to grow into"
    assert used > capacity - RESERVED_PAGES - 32
    before = state_of(pool)
    with pytest.raises(NoSpace), pool.change() as change:
        change.put(b"one more", bytes(65000))
    assert state_of(pool) == before
    with pool.change() as change:
        change.put(stored[0], b"y" * 65000)  # a volume's record can still be replaced
    with pool.change(frees=True) as change:  # forgetting adds tables before it gives back
        for number in range(60):
            change.put(b"table%02d" % number, bytes(60000))
    for key in stored:
        with pool.change(frees=True) as change:
            change.delete(key)
    assert pool.pages[0] < used / 2
    with pool.change() as change:
        change.put(b"one more", bytes(65000))


def test_full_pool_can_still_drop_everything_at_once() -> None:
    """The largest destruction fits as well: what vanishes needs no page to be written."""
    pool = create([SimulatedMedium(size_of(3))])
    with pool.change() as change:
        change.lease_slots(LineageNo(1), 2)
    stored = _fill(pool, 500)
    with pool.change(frees=True) as change:
        for key in stored:
            change.delete(key)
        change.release_slots(LineageNo(1), [Slot(1), Slot(2)])
    assert pool.pages[0] == 1
    assert pool.counts.leased == 0


def _fill(pool: Pool, size: int) -> list[bytes]:
    """Put values until the pool is full; return their keys."""
    stored: list[bytes] = []
    count = 256
    while count:
        keys = [b"x%06d" % number for number in range(len(stored), len(stored) + count)]
        try:
            with pool.change() as change:
                for key in keys:
                    change.put(key, bytes(size))
        except NoSpace:
            count //= 2
        else:
            stored += keys
    return stored
