"""What a certificate says of purging: counted from the oldest dead byte, and what was missed."""

from __future__ import annotations

import datetime as dt

import pytest

from scrubjay.base.ids import SegmentId
from scrubjay.control import forgetting
from scrubjay.control.certificates import Issued
from scrubjay.control.records import VolumeRecord
from scrubjay.evidence.statement import Deadline, Forgotten
from scrubjay.evidence.verify import verify
from tests.control.rig import World, Written
from tests.control.test_purging import MASK, give_up, later


def newest(world: World) -> Issued:
    """Return the certificate that was issued last."""
    return world.certificates.page(after=b"", limit=99)[-1]


def certified(world: World, name: str) -> Forgotten:
    """Destroy a volume; return what its certificate says, which a stranger believes."""
    world.destroy(name)
    world.forgetting.carry_out()
    return believed(world, newest(world))


def believed(world: World, issued: Issued) -> Forgotten:
    """Verify a certificate; return what it says."""
    report = verify(world.certificates.bundle(issued), str(world.log.key))
    assert report.failed == ()
    assert report.statement is not None
    predicate = report.statement.predicate
    assert isinstance(predicate, Forgotten)
    return predicate


def purging_of(predicate: Forgotten) -> Deadline:
    """Return the deadline of purging."""
    (found,) = [each for each in predicate.deadlines if each.name == "purge_within"]
    return found


def decided(predicate: Forgotten) -> dt.datetime:
    """Return when its volume's end was decided."""
    (subject,) = predicate.subjects
    return subject.end.decided_at


def missed_in_life(predicate: Forgotten) -> list[str]:
    """Return what is logged of deadlines that were missed before."""
    return [each for each in predicate.logged if "purge_within" in each]


def test_volume_destroyed_while_overdue_has_missed_in_its_certificate(world: World) -> None:
    """It is counted from the oldest byte that was dead inside, not from the decision (I8)."""
    overdue(world)


def overdue(world: World) -> None:
    """Destroy a volume in which something is dead for 30 hours."""
    a = world.written("a", tenant="acme")
    give_up(world, a, waiting_h=30)
    since = world.purging.status.of(a.id).waiting_since
    world.purging.turn()
    told = certified(world, "a")
    purging = purging_of(told)
    assert (purging.state, purging.from_at) == ("missed", since)
    (line,) = missed_in_life(told)
    assert "missed 1 deadline of purging" in line


def test_certificate_that_counts_from_the_decision_is_found_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above sees it when what was dead inside is left out."""

    def nothing(_view: object, _record: VolumeRecord, *, attached: bool, now: dt.datetime) -> None:
        del attached, now

    monkeypatch.setattr(forgetting, "dead_since", nothing)
    with pytest.raises(AssertionError):
        overdue(world)


def test_stripes_that_wait_for_a_rotation_count_too(world: World) -> None:
    """Given up is not forgotten; and here it was in time."""
    a = world.written("a", tenant="acme")
    give_up(world, a, (2, MASK), dead_h=10)
    since = world.purging.status.of(a.id).waiting_since
    told = certified(world, "a")
    purging = purging_of(told)
    assert (purging.state, purging.from_at) == ("met", since)
    assert missed_in_life(told) == []


def test_idle_volume_with_nothing_dead_is_counted_from_the_decision(world: World) -> None:
    """Attached for days, it said that nothing waits: nothing is late."""
    a = world.written("a", tenant="acme")
    give_up(world, a)
    later(world, 72)
    told = certified(world, "a")
    purging = purging_of(told)
    assert (purging.state, purging.from_at) == ("met", decided(told))


def test_volume_whose_exporter_had_died_is_counted_from_its_last_word(world: World) -> None:
    """Its log may have deaths of which nobody was told: the early side (I8)."""
    a = world.written("a", tenant="acme")
    give_up(world, a, clean=False)
    world.exporters.die(a.id)
    later(world, 30)
    since = world.purging.status.of(a.id).waiting_since
    purging = purging_of(certified(world, "a"))
    assert (purging.state, purging.from_at) == ("missed", since)


def test_ephemeral_volume_that_is_detached_is_counted_from_the_decision(world: World) -> None:
    """Its keys ended with its exporter; what it missed before is told all the same."""
    world.volumes.create("scratch", tenant="acme", size_bytes=1 << 30, ephemeral=True)
    served = world.attachments.attach("scratch")
    volume = world.volumes.find("scratch")
    world.leases.lease(volume.id, served.epoch, count=1, above=SegmentId(0))
    give_up(world, Written(volume, served.epoch, []), waiting_h=30)
    world.purging.turn()
    world.attachments.detach("scratch")
    told = certified(world, "scratch")
    assert purging_of(told).from_at == decided(told)
    assert len(missed_in_life(told)) == 1


def test_closing_counts_what_its_own_rotation_forgot_and_tells_of_all_misses(
    world: World,
) -> None:
    """A volume that was destroyed overdue before has a certificate of its own that says so."""
    for name in ("a", "b"):
        give_up(world, world.written(name, tenant="acme"), waiting_h=30)
    world.purging.turn()
    certified(world, "a")
    b = world.purging.status.of(world.volumes.find("b").id)
    world.forgetting.close("acme", check=lambda _: None)
    world.forget()
    told = believed(world, newest(world))
    assert told.scope == "tenant"
    assert (purging_of(told).state, purging_of(told).from_at) == ("missed", b.waiting_since)
    (line,) = missed_in_life(told)
    assert "missed 2 deadlines of purging" in line
