"""A clock that jumps makes nothing younger, and lets nothing wait for its next coming (I8)."""

from __future__ import annotations

import datetime as dt

from scrubjay.control.purge_status import dead_since
from tests.control.rig import World
from tests.control.test_purging import HOUR_NS, MASK, give_up, later

YEARS_NS = 50 * 365 * 24 * HOUR_NS


def test_what_died_in_a_future_that_was_taken_back_counts_as_the_oldest(world: World) -> None:
    """It is forgotten by the next turn, tended where it is inside, and late in time."""
    a, b = world.written("a", tenant="acme"), world.written("b", tenant="zeta")
    before = world.clock.now
    world.clock.now += YEARS_NS
    give_up(world, a, (2, MASK))
    give_up(world, b, waiting_h=0)
    world.attachments.detach("b")
    world.clock.now = before
    for each in (a, b):
        stands = world.purging.status.of(each.id)
        assert stands.waiting_since == each.volume.record.created_at
    later(world, 23)
    world.purging.turn()
    assert world.keeper.epoch == 2
    assert world.liveness.attached(b.id)
    assert not world.missed
    later(world, 2)
    world.purging.turn()
    assert [each.volume for each in world.missed] == [b.id]


def test_volume_killed_in_such_a_future_waits_since_its_birth(world: World) -> None:
    """The last that was heard of it is dated to come as well."""
    a = world.written("a", tenant="acme")
    before = world.clock.now
    world.clock.now += YEARS_NS
    give_up(world, a, clean=False)
    world.exporters.die(a.id)
    world.clock.now = before
    assert world.purging.status.of(a.id).waiting_since == a.volume.record.created_at


def test_exporter_is_told_no_date_to_come(world: World) -> None:
    """What it would add to it were never due."""
    a = world.written("a", tenant="acme")
    before = world.clock.now
    world.clock.now += YEARS_NS
    give_up(world, a, waiting_h=0)
    world.clock.now = before
    told = world.leases.attachment(a.id, a.epoch)
    assert told.waiting_since_s == int(a.volume.record.created_at.timestamp())


def test_clock_that_is_corrected_by_seconds_makes_nothing_late(world: World) -> None:
    """As clocks are every day: what died just now is dated now, also in a certificate."""
    a, b = world.written("a", tenant="acme"), world.written("b", tenant="zeta")
    give_up(world, a, (2, MASK), waiting_h=0)
    give_up(world, b, waiting_h=0)
    world.clock.now -= 40 * 10**9
    for each in (a, b):
        stands = world.purging.status.of(each.id)
        assert stands.waiting_since is not None
        assert abs(stands.waiting_since - world.keeper.now()) < dt.timedelta(seconds=20)
        assert not stands.missed
    now = world.keeper.now()
    with world.keeper.reading() as view:
        since = dead_since(view, view.volume(a.id), attached=True, now=now)
    assert since is not None
    assert since <= now


def test_clock_before_the_pool_leaves_every_status_readable(world: World) -> None:
    """A machine without a battery begins in 1970."""
    a = world.written("a", tenant="acme")
    give_up(world, a, (2, MASK), waiting_h=0)
    world.clock.now = 10**9
    stands = world.purging.status.of(a.id)
    assert stands.waiting_since is not None
    assert stands.waiting_since <= world.keeper.now()
    assert not stands.missed
    assert world.purging.status.pool().missed == []
    give_up(world, a, (1, 1), dead_h=-5)
    world.purging.turn()
