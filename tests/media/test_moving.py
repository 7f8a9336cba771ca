"""A pool from one medium to another: every slot, and superblocks of which only one set opens."""

from __future__ import annotations

from random import Random

import pytest

from scrubjay.base.errors import Corrupt, Denied, Invalid
from scrubjay.base.ids import Epoch, LineageNo, Slot
from scrubjay.base.units import SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.media.geometry import Geometry
from scrubjay.media.moving import copy_slots, expect_room, write_superblocks
from scrubjay.media.simulated import Fault, IoKind, SimulatedMedium
from scrubjay.media.slots import AREA_PREFIX, Slots
from tests.media.rig import Seeded, Sink, Tick, create, reopen, size_of, state_of

NEXT = Epoch(2)


def ignored(_size_bytes: int) -> None:
    """Count nothing."""


def test_pool_is_the_same_on_a_larger_medium_and_only_there() -> None:
    """Under the new epoch the new one opens, under the old one the old; never both."""
    old, new, sink = SimulatedMedium(size_of(8)), SimulatedMedium(size_of(11)), Sink()
    pool = create([old], sink=sink)
    with pool.change() as change:
        leased = change.lease_slots(LineageNo(1), 2)
        change.put(b"x", b"y" * 5000)
    old.write(SLOTS_OFFSET_BYTES + leased[1] * SEGMENT_BYTES, b"sealed" * 100)
    before = state_of(pool)
    held = list(Slots(pool.geometry, pool.scan(AREA_PREFIX)).held_slots())
    assert set(leased) < set(held)
    assert len(held) == pool.counts.leased + pool.counts.metadata
    copied: list[int] = []
    copy_slots(old, new, held, copied.append)
    assert sum(copied) == 2 * len(held) * SEGMENT_BYTES, "copied, and read back"
    sink.prepare(NEXT)
    moved = write_superblocks(
        old, new, epoch_keys=sink.key, epoch=NEXT, clock=Tick(), entropy=Seeded(Random(9))
    )
    assert moved.after.medium_id != moved.before.medium_id
    assert (moved.before.epoch, moved.after.epoch) == (1, 2)
    del sink.keys[1]
    again = reopen([new], sink=sink)
    assert state_of(again) == before
    assert again.geometry == pool.geometry
    assert again.verify()
    with pytest.raises(Denied, match="does not hold"):
        reopen([old], sink=sink)
    back = Sink()
    with pytest.raises(Denied, match="does not hold"):
        reopen([new], sink=back)
    assert state_of(reopen([old], sink=back)) == before


def test_copy_that_does_not_come_back_is_refused() -> None:
    """A disk that takes a write and keeps something else is found before anything depends on it."""

    class Lying(SimulatedMedium):
        def sync(self, extents: object = None) -> None:
            self.plant(SLOTS_OFFSET_BYTES + SEGMENT_BYTES, b"rotten".ljust(4096, b"\0"))

    with pytest.raises(Corrupt, match="not what was copied"):
        copy_slots(SimulatedMedium(size_of(4)), Lying(size_of(4)), [Slot(0), Slot(1)], ignored)


def test_copy_onto_a_failing_medium_raises_what_the_system_said() -> None:
    """Nothing is made of half a copy."""
    new = SimulatedMedium(size_of(4))
    new.inject(Fault.ERROR, after=3, kind=IoKind.WRITE)
    with pytest.raises(OSError, match="simulated"):
        copy_slots(SimulatedMedium(size_of(4)), new, [Slot(0)], ignored)


def test_medium_too_small_for_the_pool_is_refused() -> None:
    """It says how large one has to be."""
    geometry = Geometry.of([size_of(8)])
    expect_room(geometry, size_of(8))
    with pytest.raises(Invalid, match="room for 7 slots, expected 8") as caught:
        expect_room(geometry, size_of(8) - 1)
    assert str(size_of(8)) in caught.value.hint
    with pytest.raises(Invalid, match="expected one to be retired"):
        expect_room(Geometry.of([size_of(4), size_of(4)]), size_of(8))
