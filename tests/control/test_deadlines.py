"""Deadlines of scrubbing: how fast it has to go, and what is told when one was missed."""

from __future__ import annotations

from pathlib import Path

import structlog
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.ids import Slot
from scrubjay.base.units import MIB
from scrubjay.control.deadlines import WORK_BYTES, Missed, needed_rates
from scrubjay.control.keeper import Change
from scrubjay.control.records import PolicyRecord
from scrubjay.control.scrubbing import Scrubbing
from scrubjay.media.slots import Backlog
from tests.control.rig import World

DAY_S = 86_400
POLICY = PolicyRecord()
NOTE = b"n a line of evidence"


def _destroyed(world: World, name: str, *, segments: int = 3) -> list[Slot | None]:
    written = world.written(name, tenant="acme", segments=segments)
    world.destroy(name)
    world.forget()
    return [grant.slot for grant in written.grants]


def _days_pass(world: World, days: int) -> None:
    world.clock.now += days * DAY_S * 1_000_000_000


def _watching(world: World) -> tuple[Scrubbing, list[Missed]]:
    told: list[Missed] = []

    def tell(change: Change, missed: Missed) -> None:
        told.append(missed)
        change.put(NOTE, missed.reason.encode())

    scrubbing = Scrubbing(
        world.keeper,
        world.open_for_scrubbing,
        clock=world.clock,
        busy=lambda _: False,
        grounds=list,
        on_missed=tell,
    )
    return scrubbing, told


def test_little_work_leaves_the_rates_as_they_were_chosen() -> None:
    """What the bandwidth limit manages in time needs no more."""
    rates = needed_rates([Backlog(1000, leased=False, slots=100)], POLICY, now_s=1000)
    assert (rates.idle_bytes_per_s, rates.busy_bytes_per_s) == (256 * MIB, 8 * MIB)


@given(
    st.lists(
        st.builds(
            Backlog, st.integers(1, DAY_S), leased=st.booleans(), slots=st.integers(0, 100_000)
        )
    ),
    st.integers(DAY_S, 2 * DAY_S),
)
def test_rates_that_are_kept_meet_every_deadline_that_can_be_met(
    backlog: list[Backlog], now_s: int
) -> None:
    """Work up to each deadline fits into the time until then, at the rate beside tenants."""
    rates = needed_rates(backlog, POLICY, now_s=now_s)
    work_bytes = 0
    for each in sorted(backlog):
        work_bytes += 0 if each.leased else each.slots * WORK_BYTES
        left_s = each.since_s + DAY_S - now_s
        if left_s > DAY_S // 10:
            assert work_bytes <= rates.busy_bytes_per_s * left_s
    assert rates.busy_bytes_per_s <= max(8 * MIB, work_bytes * 24 // DAY_S + 1)


def test_late_work_is_spread_so_that_tenants_go_on() -> None:
    """A day's backlog that is late already is not done in a second."""
    late = [Backlog(1000, leased=False, slots=10_000)]
    rates = needed_rates(late, POLICY, now_s=1000 + 3 * DAY_S)
    assert rates.busy_bytes_per_s == -(-10_000 * WORK_BYTES * 24 // DAY_S)


def test_missed_deadline_is_told_once_in_the_commit_that_notes_it(world: World) -> None:
    """An alarm, a counter, a line of evidence: once, not once a second."""
    scrubbing, told = _watching(world)
    _destroyed(world, "db0")
    (backlog,) = world.keeper.pool.backlog()
    _days_pass(world, 2)
    with structlog.testing.capture_logs() as logs:
        scrubbing.turn()
        _destroyed(world, "db1")
        for _ in range(20):
            scrubbing.turn()
    (missed,) = told
    assert (missed.waiting, missed.leased, missed.slots) == (3, 0, 3)
    assert missed.due_at.timestamp() == backlog.since_s + DAY_S
    assert missed.reason == "3 freed slots were not overwritten in time"
    (line,) = [each for each in logs if each["event"] == "scrub.deadline_missed"]
    assert (line["log_level"], line["waiting"]) == ("error", 3)
    assert world.keeper.pool.get(NOTE) == missed.reason.encode()
    assert scrubbing.record().missed_slots == 3
    assert world.pools.status().scrubbing.missed_slots == 3
    assert world.pools.status().scrubbing.late_slots == 0, "late, but done"


def test_missed_deadline_is_not_told_again_by_the_next_daemon(world: World, tmp_path: Path) -> None:
    """What was told is in the pool."""
    scrubbing, told = _watching(world)
    slots = _destroyed(world, "db0")
    world.keeper.pool.claim(len(slots), owned_before_s=0)  # nothing gets done
    _days_pass(world, 2)
    scrubbing.turn()
    assert len(told) == 1
    assert world.pools.status().scrubbing.late_slots == 3
    world.close()
    again = World(world.disks.copied(), tmp_path)
    again.clock.now = world.clock.now
    scrubbing, told_again = _watching(again)
    scrubbing.turn()
    assert told_again == []
    assert scrubbing.record().missed_slots == 3
    again.close()


def test_slot_in_use_again_that_is_not_full_in_time_is_told_as_that(tmp_path: Path) -> None:
    """Its bytes are late all the same; who holds it is no secret."""
    world = World.make(tmp_path, slots=8)
    world.tenants.create("acme")
    _destroyed(world, "db0", segments=7)
    world.written("db1", tenant="acme", segments=2)
    scrubbing, told = _watching(world)
    while scrubbing.turn():
        pass
    _days_pass(world, 2)
    scrubbing.turn()
    (missed,) = told
    assert (missed.waiting, missed.leased) == (0, 2)
    assert missed.reason == "2 were leased again and not yet written to the end"
    world.close()


def test_volume_that_is_not_cleared_away_is_told_after_that(world: World) -> None:
    """Its slots have no date yet; none of them must be passed over."""
    scrubbing, told = _watching(world)
    world.written("db0", tenant="acme")
    world.destroy("db0")
    world.forgetting.carry_out()
    _days_pass(world, 1)
    _destroyed_later = _only_decided(world)
    _days_pass(world, 2)
    scrubbing.turn()
    assert told == []
    while world.forgetting.clear():
        pass
    for _ in range(9):
        scrubbing.turn()
    assert sum(each.waiting for each in told) == 3 + _destroyed_later


def _only_decided(world: World) -> int:
    """Destroy another volume, without clearing away what is left of either."""
    written = world.written("db1", tenant="acme", segments=2)
    world.destroy("db1")
    world.forgetting.carry_out()
    return len(written.grants)


def test_hook_that_raises_leaves_the_deadline_untold(world: World) -> None:
    """What could not be put on record is told at the next look."""

    def fail(_change: Change, _missed: Missed) -> None:
        raise OSError

    scrubbing, told = _watching(world)
    scrubbing._on_missed = fail  # noqa: SLF001 - a hook that fails once
    _destroyed(world, "db0")
    _days_pass(world, 2)
    assert scrubbing._attempt() > 0  # noqa: SLF001 - what the thread does
    assert scrubbing.record().missed_slots == 0
    good, told = _watching(world)
    good.turn()
    assert len(told) == 1
