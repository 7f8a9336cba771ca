"""Slots that wait to be scrubbed: who takes them, when they are clean, what is on record."""

from __future__ import annotations

from random import Random

import pytest

from scrubjay.base.errors import Conflict, Corrupt, NoSpace
from scrubjay.base.ids import LineageNo, Slot
from scrubjay.media.geometry import Geometry
from scrubjay.media.pool import Pool
from scrubjay.media.slots import Slots, SlotState, Waiting
from tests.media.rig import create, reopen, size_of

ANN, BOB = LineageNo(1), LineageNo(2)
ANY_AGE_S = 1 << 40


class Dropped(Exception):
    """What a block raises that does not want its change."""


def _drop_unless(keep: bool) -> None:
    if not keep:
        raise Dropped


def _lease(pool: Pool, lineage: LineageNo, count: int) -> list[Slot]:
    with pool.change() as change:
        return change.lease_slots(lineage, count)


def _release(pool: Pool, lineage: LineageNo, *slots: Slot) -> None:
    with pool.change() as change:
        change.release_slots(lineage, slots)


def _slots_of(waiting: list[Waiting]) -> list[Slot]:
    return [each.slot for each in waiting]


def test_freed_slot_waits_until_it_is_scrubbed_and_then_is_clean() -> None:
    """Freed, claimed, scrubbed, given back: counted as what it is at each step."""
    pool = create(slots=16, area_slots=4)
    slots = _lease(pool, ANN, 4)
    _release(pool, ANN, *slots)
    assert _slots_of(pool.overdue()) == slots
    assert pool.claim(9, owned_before_s=0) == [], "who lives is likely to want them again"
    claimed = pool.claim(9, owned_before_s=ANY_AGE_S)
    assert _slots_of(claimed) == slots
    with pool.change() as change:
        change.scrubbed_slots(slots)
    pool.give_back(slots)
    assert (pool.counts.waiting, pool.counts.free) == (0, 4)
    assert pool.overdue() == []
    assert pool.claim(9, owned_before_s=ANY_AGE_S) == []
    assert set(_lease(pool, BOB, 15)) >= set(slots)


def test_claimed_slot_is_leased_by_nobody_until_it_is_given_back() -> None:
    """What is being overwritten must not be written by its next owner (I1)."""
    pool = create(slots=8, area_slots=4)
    slots = _lease(pool, ANN, 7)
    _release(pool, ANN, *slots[:5])
    claimed = _slots_of(pool.claim(3, owned_before_s=ANY_AGE_S))
    rest = [*_lease(pool, ANN, 9), *_all_of(pool, BOB)]
    assert not set(claimed) & set(rest)
    assert set(rest) | set(claimed) == set(slots[:5])
    pool.give_back(claimed)
    pool.give_back(claimed)  # once more changes nothing
    again = [*_all_of(pool, ANN), *_all_of(pool, BOB)]
    assert sorted(again) == sorted(claimed)


def test_slot_is_claimed_only_once_its_release_is_durable() -> None:
    """A crash may take the release back, and the owner wants his bytes then (I4)."""
    pool = create(slots=8, area_slots=4)
    slots = _lease(pool, ANN, 5)
    with pool.change() as change:
        change.release_slots(ANN, slots)
        assert pool._slots.claim(9, owned_before_s=ANY_AGE_S) == []  # noqa: SLF001 - within the change
    assert _slots_of(pool.claim(9, owned_before_s=ANY_AGE_S)) == slots


def test_slots_in_an_area_with_an_owner_are_left_to_him_for_a_while() -> None:
    """He takes them first, and writes them full himself."""
    pool = create(slots=8, area_slots=4)
    slots = _lease(pool, ANN, 3)
    _release(pool, ANN, slots[0])
    (waiting,) = pool.overdue()
    assert pool.claim(9, owned_before_s=waiting.since_s) == []
    assert pool.claim(9, owned_before_s=waiting.since_s + 1) == [waiting]


def test_owner_takes_again_first_what_he_gave_up() -> None:
    """It is cached, and need not be overwritten twice; who is forgotten takes nothing again."""
    pool = create(slots=16, area_slots=1)
    theirs, ours = _lease(pool, BOB, 3), _lease(pool, ANN, 3)
    _release(pool, BOB, *theirs)
    _release(pool, ANN, *ours)
    again = _lease(pool, ANN, 2)
    assert set(again) <= set(ours)
    assert pool.claim(9, owned_before_s=0) == []
    with pool.change() as change:
        change.release_slots(ANN, again, since_s=7)
    assert sorted(_slots_of(pool.claim(9, owned_before_s=0))) == sorted(ours)


def test_leased_slot_keeps_its_date_until_it_is_full() -> None:
    """Old bytes lie behind the new ones until then; after it, they are gone."""
    pool = create(slots=4)
    slots = _lease(pool, ANN, 3)
    _release(pool, ANN, *slots)
    dates = {each.slot: each.since_s for each in pool.overdue()}
    again = _lease(pool, BOB, 3)
    assert sorted(again) == sorted(slots)
    assert {each.slot: each.since_s for each in pool.overdue()} == dates
    with pool.change() as change:
        change.filled_slots(BOB, again[:2])
    assert _slots_of(pool.overdue()) == again[2:]
    _release(pool, BOB, *again)
    renewed = {each.slot: each.since_s for each in pool.overdue()}
    assert renewed[again[2]] == dates[again[2]], "it was never overwritten"
    assert renewed[again[0]] >= dates[again[0]]
    assert sorted(reopen(pool._media).overdue()) == sorted(pool.overdue())  # noqa: SLF001 - as another daemon would


def test_area_that_is_being_scrubbed_whole_is_left_to_everybody() -> None:
    """Whoever leases meanwhile must not come to own what he got no slot of."""
    pool = create(slots=4, area_slots=1)
    slots = _lease(pool, ANN, 3)
    _release(pool, ANN, *slots)
    claimed = _slots_of(pool.claim(2, owned_before_s=ANY_AGE_S))
    assert sorted([*claimed, *_all_of(pool, ANN)]) == sorted(slots)
    assert _all_of(pool, BOB) == []
    with pool.change() as change:
        change.scrubbed_slots(claimed[:1])
    assert _all_of(pool, BOB) == [], "scrubbed, but not given back"
    pool.give_back(claimed)
    assert pool.unowned == 2
    assert sorted(_all_of(pool, BOB)) == sorted(claimed)


def test_freed_slot_waits_since_the_end_of_its_use_where_that_is_said() -> None:
    """What is cleared away later was promised to be gone from the forgetting on."""
    pool = create(slots=8, area_slots=4)
    slots = _lease(pool, ANN, 3)
    with pool.change() as change:
        change.release_slots(ANN, slots[:1], since_s=7)
    assert pool.overdue() == [Waiting(7, slots[0])]


def test_backlog_counts_what_overdue_lists(seed: int) -> None:
    """By date, and by whether somebody uses them again."""
    random = Random(seed)
    pool = create(slots=40, area_slots=4)
    held = _lease(pool, ANN, 30)
    for second in range(5, 0, -1):
        gone = [held.pop(random.randrange(len(held))) for _ in range(4)]
        with pool.change() as change:
            change.release_slots(ANN, gone, since_s=second)
    leased = set(_lease(pool, ANN, 7))
    expected: dict[tuple[int, bool], int] = {}
    for each in pool.overdue():
        key = each.since_s, each.slot in leased
        expected[key] = expected.get(key, 0) + 1
    found = pool.backlog()
    assert found == sorted(found)
    assert {(each.since_s, each.leased): each.slots for each in found} == expected


def test_what_is_not_claimed_or_not_leased_is_a_conflict() -> None:
    """Nobody calls a slot clean that he did not scrub, or full that is not his."""
    pool = create(slots=8, area_slots=4)
    slots = _lease(pool, ANN, 2)
    _release(pool, ANN, slots[0])
    with pytest.raises(Conflict, match="not claimed"), pool.change() as change:
        change.scrubbed_slots([slots[0]])
    with pytest.raises(Conflict, match="not leased"), pool.change() as change:
        change.filled_slots(BOB, [slots[1]])
    assert _slots_of(pool.overdue()) == [slots[0]]


def test_dropped_change_leaves_dates_and_claims_as_they_were(seed: int) -> None:
    """Whatever is undone, index and record agree afterwards, and nothing is lost."""
    random = Random(seed)
    pool = create(slots=40, area_slots=4)
    held = _lease(pool, ANN, 20)
    for _ in range(200):
        claimed = _slots_of(pool.claim(random.randrange(4), owned_before_s=ANY_AGE_S))
        gone = random.sample(held, random.randrange(len(held) + 1))
        keep = random.random() < 0.5
        before = pool.overdue(), pool.counts
        try:
            with pool.change() as change:
                if gone:
                    change.release_slots(ANN, gone)
                change.scrubbed_slots(claimed)
                new = change.lease_slots(ANN, random.randrange(1, 9))
                change.filled_slots(ANN, new[::2])
                _drop_unless(keep)
        except Dropped:
            assert (pool.overdue(), pool.counts) == before
        else:
            held = [slot for slot in held if slot not in gone] + new
        pool.give_back(claimed)
        again = Slots(pool.geometry, pool.scan(b"a"))
        assert (again.overdue(), again.counts) == (pool.overdue(), pool.counts)
        assert again._waiting == pool._slots._waiting  # noqa: SLF001 - the index under test
    assert not set(held) & set(_all_of(pool, BOB))


def test_record_with_a_waiting_slot_without_a_date_is_corrupt() -> None:
    """Nobody could say by when it has to be scrubbed."""
    record = b"\0\0\0\0" + bytes((SlotState.WAITING,))
    with pytest.raises(Corrupt, match="since when"):
        Slots(Geometry.of([size_of(8)], area_slots=1), [(b"a\0\0\0\1", record)])


def _all_of(pool: Pool, lineage: LineageNo) -> list[Slot]:
    """Lease all that can be had."""
    try:
        return _lease(pool, lineage, 99)
    except NoSpace:
        return []


def test_release_says_since_when_slots_wait() -> None:
    """The date that is given, or an older one of a slot that was leased with old bytes in it."""
    pool = create(slots=16, area_slots=1)
    slots = _lease(pool, BOB, 3)
    with pool.change() as change:
        freed = change.release_slots(BOB, slots[:2])
    again = _lease(pool, BOB, 2)
    assert set(again) == set(slots[:2])
    with pool.change() as change:
        assert change.release_slots(BOB, [*again, slots[2]], since_s=7) == {*freed, 7}
    assert len(freed) == 1
