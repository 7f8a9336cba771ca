"""The fence of a pool: claimed slots alone are overwritten, and only while the pool is open."""

from __future__ import annotations

from threading import Event, Thread

import pytest

from scrubjay.base.errors import Conflict, Invalid, Unavailable
from scrubjay.base.ids import LineageNo, Slot
from scrubjay.base.units import MIB, SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.media.erase import Deallocating, Pay, Technique, erase
from scrubjay.media.fence import Fenced
from scrubjay.media.pool import Pool
from scrubjay.media.simulated import SimulatedMedium
from tests.media.rig import Seeded, create, size_of

ANN = LineageNo(1)


def _place(slot: Slot) -> int:
    return SLOTS_OFFSET_BYTES + slot * SEGMENT_BYTES


def _fenced() -> tuple[Pool, SimulatedMedium, Fenced, list[Slot], Slot]:
    """Return a pool, its medium behind the fence, two claimed slots and a leased one."""
    medium = SimulatedMedium(size_of(8))
    pool = create([medium], area_slots=1)
    with pool.change() as change:
        *freed, leased = change.lease_slots(ANN, 3)
    with pool.change() as change:
        change.release_slots(ANN, freed, since_s=1)  # forgotten: he wants them no more
    claimed = [each.slot for each in pool.claim(9, owned_before_s=0)]
    return pool, medium, Fenced(medium, pool.fence, pool.geometry, 0), claimed, leased


def test_claimed_slot_behind_the_fence_is_written_and_no_other_one() -> None:
    """A wrong offset of whoever erases cannot reach a live slot (I1)."""
    pool, medium, fenced, claimed, leased = _fenced()
    assert fenced.write(_place(claimed[0]) + MIB, b"zeros") == 5
    assert medium.peek(_place(claimed[0]) + MIB, 5) == b"zeros"
    with pytest.raises(Conflict, match="not claimed"):
        fenced.write(_place(leased), b"zeros")
    pool.give_back(claimed)
    with pytest.raises(Conflict, match="not claimed"):
        fenced.write(_place(claimed[0]), b"zeros")


@pytest.mark.parametrize(
    ("offset_bytes", "length_bytes"),
    [(0, 4096), (SLOTS_OFFSET_BYTES - 1, 2), (_place(Slot(2)) - 1, 2), (_place(Slot(1)), 0)],
)
def test_write_that_lies_not_within_one_slot_is_invalid(
    offset_bytes: int, length_bytes: int
) -> None:
    """Superblocks and neighbours are out of reach."""
    *_, fenced, _, _ = _fenced()
    with pytest.raises(Invalid, match="not within one slot"):
        fenced.write(offset_bytes, bytes(length_bytes))


def test_commands_of_the_medium_pass_the_fence_too() -> None:
    """A hole destroys a live slot as surely as zeros do."""
    _, _, fenced, _, leased = _fenced()
    extent = (_place(leased), MIB)
    assert isinstance(fenced, Deallocating)
    for command in (fenced.zero_range, fenced.punch_hole, fenced.discard):
        with pytest.raises(Conflict, match="not claimed"):
            command(extent)


def test_nothing_is_written_once_the_pool_was_closed() -> None:
    """Opened anew it may lease the slot: the claim means nothing then."""
    pool, medium, fenced, claimed, _ = _fenced()
    extent = (_place(claimed[0]), SEGMENT_BYTES)
    medium.plant(extent[0] + 5 * MIB, b"of its next owner")
    with pytest.raises(Unavailable, match="was closed"):
        erase(fenced, [extent], entropy=Seeded(), pay=_closing(pool, after_bytes=3 * MIB))
    assert medium.peek(extent[0] + 5 * MIB, 17) == b"of its next owner"


def test_closing_waits_for_the_write_under_way() -> None:
    """Nothing is opened anew while bytes are still on their way to a slot."""
    pool, _, _, claimed, _ = _fenced()
    closing, closed = Event(), Event()

    def close() -> None:
        closing.set()
        pool.close()
        closed.set()

    with pool.fence.passing(claimed[0]):
        thread = Thread(target=close)
        thread.start()
        closing.wait()
        assert not closed.is_set()
    thread.join()
    assert closed.is_set()


def test_erasing_behind_the_fence_says_what_was_done() -> None:
    """The report is that of the medium beneath."""
    _, _, fenced, claimed, _ = _fenced()
    extent = (_place(claimed[0]), SEGMENT_BYTES)
    done = erase(fenced, [extent], entropy=Seeded(), technique=Technique.ZERO_RANGE)
    assert (done.clean, done.used, done.reads_device) == (True, Technique.OVERWRITE, False)


def _closing(pool: Pool, *, after_bytes: int) -> Pay:
    paid = 0

    def pay(size_bytes: int) -> None:
        nonlocal paid
        paid += size_bytes
        if paid > after_bytes:
            pool.fence.close()

    return pay
