"""Slots: who gets which, when one is given again, and what a dropped change leaves behind."""

from __future__ import annotations

from random import Random

import pytest

from scrubjay.base.errors import Conflict, Corrupt, Invalid, NoSpace
from scrubjay.base.ids import LineageNo, Slot
from scrubjay.base.units import GIB, MIB, TIB
from scrubjay.media.geometry import Geometry
from scrubjay.media.pool import Pool
from scrubjay.media.slots import METADATA, SlotCounts, Slots
from tests.media.rig import create, reopen, size_of

ANN, BOB = LineageNo(1), LineageNo(2)


class Dropped(Exception):
    """What a block raises that does not want its change."""


def _lease(pool: Pool, lineage: LineageNo, count: int) -> list[Slot]:
    with pool.change() as change:
        return change.lease_slots(lineage, count)


def _release(pool: Pool, lineage: LineageNo, *slots: Slot) -> None:
    with pool.change() as change:
        change.release_slots(lineage, slots)


@pytest.mark.parametrize(
    ("size_bytes", "slots", "area_slots"),
    [
        (64 * MIB, 3, 1),
        (GIB, 63, 1),
        (20 * GIB, 1279, 4),
        (TIB, 65535, 64),
        (16 * TIB, 1048575, 64),
    ],
)
def test_geometry_of_a_pool_leaves_room_for_many_volumes(
    size_bytes: int, slots: int, area_slots: int
) -> None:
    """Areas are large where the pool is, and there are 256 of them where it can be."""
    geometry = Geometry.of([size_bytes])
    assert (geometry.slots, geometry.area_slots) == (slots, area_slots)
    assert geometry.slots_of(geometry.areas - 1).stop == slots


@pytest.mark.parametrize("size_bytes", [0, MIB, 48 * MIB, 1 << 57])
def test_geometry_of_a_silly_size_is_invalid(size_bytes: int) -> None:
    """Too small and too large are refused with what would do."""
    with pytest.raises(Invalid, match="slots: expected 3 to"):
        Geometry.of([size_bytes])


def test_slots_of_a_lineage_lie_in_areas_of_its_own() -> None:
    """Neighbours on the medium are neighbours in the volume, and areas are never shared."""
    pool = create(slots=32, area_slots=4)
    mine = [_lease(pool, ANN, 1)[0] for _ in range(3)]
    yours = _lease(pool, BOB, 6)
    mine += _lease(pool, ANN, 2)
    assert mine == [4, 5, 6, 7, 16]
    assert yours == [8, 9, 10, 11, 12, 13]


def test_slots_freed_last_are_leased_first() -> None:
    """Recycled slots are cached and written once already: they come before new ones."""
    pool = create(slots=32, area_slots=4)
    slots = _lease(pool, ANN, 8)
    _release(pool, ANN, slots[1])
    _release(pool, ANN, slots[6])
    _release(pool, ANN, slots[3])
    assert _lease(pool, ANN, 4) == [slots[3], slots[6], slots[1], slots[7] + 1]


def test_area_that_is_free_as_a_whole_goes_to_others_once_no_clean_one_is_left() -> None:
    """Reuse waits for no scrubbing (I1 rests on keys), and leaves it time where there is room."""
    pool = create(slots=16, area_slots=4)
    slots = _lease(pool, ANN, 6)
    _release(pool, ANN, *slots[:4])
    assert pool.counts == SlotCounts(never_used=9, free=0, leased=2, metadata=1, waiting=4)
    assert _lease(pool, ANN, 2) == [slots[5] + 1, slots[5] + 2], "its own area comes first"
    clean = _lease(pool, BOB, 4)
    assert not set(clean) & set(slots)
    assert _lease(pool, BOB, 4) == slots[:4]


def test_slot_freed_in_a_commit_that_is_not_durable_is_not_leased() -> None:
    """A slot is given again only after the commit that freed it: a crash may take that back."""
    pool = create(slots=4)
    (first, second, third) = _lease(pool, ANN, 3)
    with pool.change() as change:
        change.release_slots(ANN, [first, second])
        with pytest.raises(NoSpace):
            change.lease_slots(BOB, 1)
    assert sorted(_lease(pool, BOB, 5)) == [first, second]
    assert third not in _lease_all(pool, ANN)


def test_change_that_is_dropped_leaves_slots_as_they_were(seed: int) -> None:
    """A dropped change takes back every lease and every release, in every combination."""
    random = Random(seed)
    pool = create(slots=40, area_slots=4)
    held: dict[LineageNo, list[Slot]] = {ANN: _lease(pool, ANN, 7), BOB: _lease(pool, BOB, 5)}
    for _ in range(300):
        before = _picture(pool)
        drop = random.random() < 0.6
        moved = {lineage: list(slots) for lineage, slots in held.items()}
        try:
            with pool.change() as change:
                for _ in range(random.randrange(1, 6)):
                    lineage = random.choice((ANN, BOB))
                    if random.random() < 0.5:
                        try:
                            moved[lineage] += change.lease_slots(lineage, random.randrange(1, 9))
                        except NoSpace:
                            continue
                    elif moved[lineage]:
                        count = random.randrange(1, len(moved[lineage]) + 1)
                        gone = random.sample(moved[lineage], count)
                        change.release_slots(lineage, gone)
                        moved[lineage] = [slot for slot in moved[lineage] if slot not in gone]
                _drop_if(drop)
        except Dropped:
            assert _picture(pool) == before
        else:
            held = moved
        assert not set(held[ANN]) & set(held[BOB])
        assert pool.counts.leased == len(held[ANN]) + len(held[BOB])
    again = Slots(pool.geometry, pool.scan(b"a"))
    assert again.counts == pool.counts
    assert _offered(again) == _offered(pool._slots)  # noqa: SLF001 - the index under test


def test_release_of_what_is_not_leased_is_a_conflict() -> None:
    """Freed twice, by another, out of range, or metadata: refused, and nothing has changed."""
    pool = create(slots=8)
    (slot, other) = _lease(pool, ANN, 2)
    _release(pool, ANN, other)
    before = _picture(pool)
    for lineage, bad in (
        (ANN, [other]),
        (BOB, [slot]),
        (ANN, [slot, slot]),
        (ANN, [Slot(0)]),
        (METADATA, [Slot(0)]),
        (ANN, [Slot(99)]),
    ):
        with pytest.raises(Conflict, match="not leased"):
            _release(pool, lineage, *bad)
        assert _picture(pool) == before


def test_full_pool_refuses_leases_until_something_is_freed() -> None:
    """Pool full: a clear NoSpace, nothing lost, and on it goes once there is space."""
    pool = create(slots=6)
    slots = _lease(pool, ANN, 100)
    assert len(slots) == 5
    for lineage in (ANN, BOB):
        with pytest.raises(NoSpace, match="0 free"):
            _lease(pool, lineage, 1)
    _release(pool, ANN, slots[2])
    assert _lease(pool, BOB, 1) == [slots[2]]


def test_slots_after_reopening_are_as_they_were() -> None:
    """What the tree says of slots is all there is: a restart changes nothing."""
    pool = create(slots=40, area_slots=4)
    slots = _lease(pool, ANN, 9)
    _lease(pool, BOB, 2)
    _release(pool, ANN, *slots[2:7])
    before = _picture(pool)
    assert _picture(reopen(pool._media)) == before  # noqa: SLF001 - as another daemon would


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"a\0\0\0", bytes(5)),
        (b"a\0\0\0\x08", bytes(5)),
        (b"a\0\0\0\x01", bytes(4)),
        (b"a\0\0\0\x01", bytes(6)),
        (b"a\0\0\0\x01", b"\1\0\0\0\x07"),
        (b"a\0\0\0\x01", b"\1\0\0\0\x03"),
        (b"a\0\0\0\x01", b"\0\0\0\0\x02"),
        (b"a\0\0\0\x01", b"\xff\xff\xff\xff\x02"),
    ],
)
def test_area_record_that_makes_no_sense_is_corrupt(key: bytes, value: bytes) -> None:
    """States that no commit ever wrote are refused at opening."""
    with pytest.raises(Corrupt):
        Slots(Geometry(8, 1), [(key, value)])


def test_slot_of_any_medium_lies_where_the_format_says() -> None:
    """Slot n of a medium begins at 1 MiB + n * 16 MiB."""
    geometry = Geometry.of([size_of(8), size_of(4)])
    assert geometry.place(Slot(7)) == (0, MIB + 7 * 16 * MIB)
    assert geometry.place(Slot(8)) == (1, MIB)


def _drop_if(drop: bool) -> None:
    if drop:
        raise Dropped


def _lease_all(pool: Pool, lineage: LineageNo) -> list[Slot]:
    try:
        return _lease(pool, lineage, 1000)
    except NoSpace:
        return []


def _offered(slots: Slots) -> tuple[dict[int, set[Slot]], set[int]]:
    free = {owner: set(each) for owner, each in slots._free.items() if each}  # noqa: SLF001 - the index under test
    return free, set(slots._idle)  # noqa: SLF001 - the index under test


def _picture(pool: Pool) -> object:
    return pool.scan(b"a"), pool.counts, _offered(pool._slots)  # noqa: SLF001 - the index under test


def test_slots_in_an_area_of_somebody_are_for_nobody_else() -> None:
    """What a pool has for anybody is whole areas: free slots beside a tenant's are his."""
    pool = create(slots=32, area_slots=4)
    unowned = pool.unowned
    (slot,) = _lease(pool, ANN, 1)
    assert pool.unowned == unowned - 4
    _release(pool, ANN, slot)
    assert pool.unowned == unowned
