"""Room for the checkpoint that gives space back: whatever clients do, it is there."""

# ruff: noqa: SLF001 - the reserve is between writer, cleaner and checkpoint

from __future__ import annotations

import contextlib

import pytest

from scrubjay.base.errors import NoSpace
from scrubjay.engine import paged, writing
from scrubjay.engine.paged import FANOUT
from tests.engine.rig import Machine

LEAVES = 12_000


def _filled(slots: int) -> Machine:
    """Return a volume of 24 GiB whose writes, one to a leaf, have filled the pool."""
    machine = Machine(slots=slots, lbas=LEAVES * FANOUT, map_limit_pages=1 << 14)
    with contextlib.suppress(NoSpace):
        for step in range(10 * LEAVES):
            machine.write(((step * 7919 % LEAVES) * FANOUT + step // LEAVES, 1))
        pytest.fail("the pool is smaller than what was written")
    return machine


def test_full_pool_has_room_for_the_checkpoint_of_a_large_map() -> None:
    """As many pages are dirty as 16 GiB have: they fit the spares that no write may take."""
    machine = _filled(slots=14)
    assert machine.disk._checkpointer.dirty_pages > 2 * 4080
    machine.checkpoint()
    assert machine.disk.counters.spare_segments >= 2, "cleaning needs one, what follows it another"


def test_full_pool_without_that_room_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with the reserve of a small volume: the checkpoint does not fit."""
    monkeypatch.setattr(writing.Writer, "_for_pages", lambda _writer, _more: 0)
    machine = _filled(slots=14)
    with pytest.raises(NoSpace):
        machine.checkpoint()


def test_small_volume_keeps_no_more_than_it_needs() -> None:
    """A pool of few slots serves many small volumes."""
    machine = Machine(slots=14)
    machine.write((0, 4))
    assert machine.disk._writer.reserve == 3


@pytest.mark.parametrize("sectors", [2, FANOUT])
def test_clogged_map_refuses_writes_that_reach_into_another_leaf(
    monkeypatch: pytest.MonkeyPatch, sectors: int
) -> None:
    """Memory stays bounded, however a client lays its writes out."""
    monkeypatch.setattr(paged, "CLOGGED_PAGES_MIN", 8)
    machine = Machine(slots=60, lbas=64 * FANOUT, map_limit_pages=1)
    for leaf in range(7):
        machine.write((leaf * FANOUT, 1))
    machine.write((7 * FANOUT, 1))
    assert machine.disk.clogged
    machine.write((7 * FANOUT, FANOUT))
    with pytest.raises(NoSpace, match="map"):
        machine.write((8 * FANOUT - 1, sectors))
    machine.checkpoint()
    machine.write((8 * FANOUT - 1, sectors))


def test_clogged_map_refuses_trims_that_reach_into_another_leaf(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A trim dirties pages as a write does; it waits for the checkpoint as well."""
    monkeypatch.setattr(paged, "CLOGGED_PAGES_MIN", 8)
    machine = Machine(slots=60, lbas=64 * FANOUT, map_limit_pages=1)
    for leaf in range(20):
        if machine.disk.clogged:
            machine.checkpoint()
        machine.write((leaf * FANOUT, 8))
    machine.checkpoint()
    for leaf in range(8):
        machine.write((leaf * FANOUT, 1))
    with pytest.raises(NoSpace, match="map"):
        machine.drop(15 * FANOUT, 4)
    machine.drop(3 * FANOUT, 4)
    machine.checkpoint()
    machine.drop(15 * FANOUT, 4)


def test_volume_at_rest_gives_spare_segments_back() -> None:
    """Half a second of segments ahead is for who writes; a neighbour has a use for them."""
    machine = Machine(slots=60)
    machine.disk._held += 400  # as of a large volume
    machine.write((0, 4))
    machine.feed()
    assert machine.disk.counters.spare_segments > 20
    machine.checkpoint(keep_spares=5)
    assert machine.disk.counters.spare_segments == 5
    assert machine.disk.wants_grants() == 0
    machine.close_segment()
    machine.write((0, 4))
    assert machine.disk.wants_grants() > 20
