"""Scrubbing: what was freed is overwritten in time, and nothing else ever is."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from scrubjay.base.errors import Conflict, NotFound, ScrubjayError, Unavailable
from scrubjay.base.ids import Slot
from scrubjay.base.ports import Buffer, Medium
from scrubjay.base.units import MIB, PAGE_BYTES, SEGMENT_BYTES
from scrubjay.control.scrubbing import Scrubbing
from scrubjay.media.erase import SAMPLED_PAGES
from scrubjay.media.simulated import Fault, IoKind
from scrubjay.sinks.sink import Grade
from tests.control.rig import Handle, Hands, SharedWorld, World, Written

MARK = b"bytes of a tenant"
DAY_NS = 86_400 * 1_000_000_000


@pytest.fixture
def doomed(world: World) -> Written:
    """A volume with three segments, each marked, that is forgotten and cleared away."""
    written = world.written("db0", tenant="acme")
    for grant in written.grants:
        mark(world, grant.slot)
    world.destroy("db0")
    world.forget()
    return written


def mark(world: World, slot: Slot | None) -> None:
    """Write a mark into the first, a middle and the last page of a slot."""
    assert slot is not None
    for page in _pages():
        world.disks.pool.plant(_offset(world, slot) + page, MARK)


def marks(world: World, slot: Slot | None) -> int:
    """Count the marks that are left in a slot."""
    assert slot is not None
    places = (_offset(world, slot) + page for page in _pages())
    return sum(world.disks.pool.peek(place, len(MARK)) == MARK for place in places)


def _pages() -> tuple[int, int, int]:
    return 0, 5 * MIB + 3 * PAGE_BYTES, SEGMENT_BYTES - PAGE_BYTES


def _offset(world: World, slot: Slot) -> int:
    return world.keeper.pool.geometry.place(slot)[1]


def scrub_all(world: World) -> None:
    """Take turns until nothing is left to scrub."""
    while world.scrubbing.turn():
        pass


class Stubborn(Handle):
    """A medium with places that keep what they hold, whatever is written."""

    stubborn: set[int]

    def write(self, offset_bytes: int, data: Buffer) -> int:
        """Write, but for the places."""
        kept = {at: self._read(at) for at in self.stubborn}
        count = super().write(offset_bytes, data)
        for at, before in kept.items():
            if offset_bytes <= at < offset_bytes + count:
                super().write(at, before)
        return count

    def _read(self, at: int) -> bytes:
        out = bytearray(PAGE_BYTES)
        self.read_into(at, memoryview(out))
        return bytes(out)


def scrubbing_over(
    world: World,
    open_media: Callable[[], Sequence[Medium]],
    *,
    clock: Hands | None = None,
    busy: Callable[[int], bool] = lambda _: False,
) -> Scrubbing:
    """Return scrubbing with other handles than the world's."""
    return Scrubbing(world.keeper, open_media, clock=clock or world.clock, busy=busy, grounds=list)


def test_destroyed_volume_is_overwritten_and_nothing_waits(world: World, doomed: Written) -> None:
    """Its slots hold zeros, count as clean, and the record says what was done."""
    slots = [grant.slot for grant in doomed.grants]
    assert [marks(world, slot) for slot in slots] == [3, 3, 3]
    assert world.pools.status().scrubbing.waiting_slots == 3
    scrub_all(world)
    assert [marks(world, slot) for slot in slots] == [0, 0, 0]
    counts = world.keeper.pool.counts
    assert (counts.waiting, counts.free) == (0, 3)
    record = world.scrubbing.record()
    assert (record.slots, record.failures) == (3, 0)
    assert record.pages == 3 * SEGMENT_BYTES // PAGE_BYTES
    assert record.pages_read == 3 * SAMPLED_PAGES
    assert record.cached_slots == 3, "memory cannot tell that it is no cache"


def test_what_waits_is_dated_by_the_forgetting_until_it_is_scrubbed(world: World) -> None:
    """A second certificate may be issued only once nothing of the volume is left (I8)."""
    written = world.written("db0", tenant="acme")
    before = world.keeper.now()
    world.destroy("db0")
    world.forgetting.carry_out()
    after = world.keeper.now()
    with world.keeper.reading() as view:
        ((_, remains),) = view.remains()
    left = world.scrubbing.left(remains.forgotten_at)
    assert (left.uncleared, left.waiting) == (1, 0), "not yet freed, and not overlooked"
    while world.forgetting.clear():
        pass
    left = world.scrubbing.left(remains.forgotten_at)
    assert (left.uncleared, left.waiting) == (0, len(written.grants))
    assert left.since_s == int(remains.forgotten_at.timestamp())
    assert before <= remains.forgotten_at <= after
    assert world.scrubbing.waits_since(before) is None
    scrub_all(world)
    assert world.scrubbing.waits_since(remains.forgotten_at) is None
    assert world.scrubbing.waits_since(world.keeper.now()) is None


def test_slot_leased_again_counts_until_its_owner_has_filled_it(tmp_path: Path) -> None:
    """Old bytes lie behind the new ones: it is not called gone before."""
    world = World.make(tmp_path, slots=12)
    for name in ("acme", "zeta"):
        world.tenants.create(name)
    small = world.written("db0", tenant="acme", segments=99)
    world.destroy("db0")
    world.forget()
    heir = world.written("db1", tenant="zeta", segments=2)
    left = world.scrubbing.left(world.keeper.now())
    assert (left.waiting, left.leased) == (len(small.grants) - 2, 2)
    scrub_all(world)
    left = world.scrubbing.left(world.keeper.now())
    assert (left.waiting, left.leased) == (0, 2)
    assert left.since_s is not None
    assert world.pools.status().scrubbing.leased_slots == 2
    assert len(heir.grants) == 2
    world.close()


def test_slots_that_their_owner_freed_are_left_to_him_for_half_of_the_time(
    tmp_path: Path,
) -> None:
    """He is likely to write them full himself; but the promise holds for them as well."""
    world = World.make(tmp_path, slots=1024)  # areas of four slots
    world.tenants.create("acme")
    written = world.written("db0", tenant="acme", segments=4)
    freed = written.grants[0]
    checkpoint = world.leases.attachment(written.id, written.epoch).checkpoint
    world.leases.commit(written.id, written.epoch, checkpoint, freed=[freed.segment])
    mark(world, freed.slot)
    assert not world.scrubbing.turn()
    world.clock.now += DAY_NS // 2
    scrub_all(world)
    assert marks(world, freed.slot) == 0
    world.close()


def test_slot_that_does_not_read_back_clean_waits_on_and_is_no_hot_loop(
    world: World, doomed: Written
) -> None:
    """Nobody gets it, nobody calls it clean, and the others are done (I8)."""
    bad, *good = [grant.slot for grant in doomed.grants]
    assert bad is not None
    place = _offset(world, bad)
    handles: list[Stubborn] = []

    def open_media() -> list[Medium]:
        handle = Stubborn(world.disks.pool)
        handle.stubborn = {place}
        handles.append(handle)
        return [handle]

    scrubbing = scrubbing_over(world, open_media, clock=Hands(world.clock.now))
    with structlog.testing.capture_logs() as logs:
        assert scrubbing.turn()
        assert not scrubbing.turn()
    (line,) = [each for each in logs if each["event"] == "scrub.slot_failed"]
    assert (line["slot"], line["wrong"], line["offsets"]) == (bad, 1, [place])
    assert line["medium"] == str(world.keeper.pool.media[0].medium_id)
    assert [each.slot for each in world.keeper.pool.overdue()] == [bad]
    assert (scrubbing.record().slots, scrubbing.record().failures) == (len(good), 1)
    assert scrubbing.progress().withheld_slots == 1
    heir = world.written("db1", tenant="zeta", segments=90)
    assert bad not in [grant.slot for grant in heir.grants]
    handles[0].stubborn.clear()
    assert not scrubbing.turn(), "not before an hour has passed"
    scrubbing._clock.now += DAY_NS // 20  # type: ignore[attr-defined]  # noqa: SLF001 - the clock handed in
    assert scrubbing.turn()
    assert world.keeper.pool.overdue() == []
    assert scrubbing.progress().withheld_slots == 0


@pytest.mark.parametrize("kind", [IoKind.WRITE, IoKind.SYNC])
def test_medium_that_fails_interrupts_and_leaves_the_slot_waiting(
    world: World, doomed: Written, kind: IoKind
) -> None:
    """Of that slot nothing is claimed; the next turn opens the medium anew and goes on."""
    world.disks.pool.inject(Fault.ERROR, kind=kind)
    with pytest.raises(OSError, match="simulated"):
        world.scrubbing.turn()
    scrub_all(world)
    record = world.scrubbing.record()
    assert (record.slots, record.failures) == (2, 1)
    (bad,) = [each.slot for each in world.keeper.pool.overdue()]
    assert bad in [grant.slot for grant in doomed.grants]


def test_medium_that_is_gone_withholds_nothing(world: World, doomed: Written) -> None:
    """The slots are given back as they were."""

    def gone() -> Sequence[Medium]:
        raise Unavailable("pool file: gone")

    with pytest.raises(Unavailable, match="gone"):
        scrubbing_over(world, gone).turn()
    assert len(world.keeper.pool.claim(9, owned_before_s=0)) == len(doomed.grants)


def test_pool_opened_anew_ends_the_claims_of_the_one_before(tmp_path: Path) -> None:
    """The new pool may lease those slots: not one more byte is written to them (I1)."""
    world = SharedWorld.make(tmp_path, slots=20)
    world.tenants.create("acme")
    first = world.written("db0", tenant="acme").grants[0].slot
    world.destroy("db0")
    world.forget()
    paid = 0
    heirs: list[Slot | None] = []

    def revived(_own_bytes: int) -> bool:
        nonlocal paid
        paid += 1
        if paid == 3:
            world.keeper.pool._stop(OSError(errno.EIO, "played"))  # noqa: SLF001 - as a failed commit does
            assert world.keeper.revive()
            heir = world.written("db1", tenant="acme", segments=99)
            for grant in heir.grants:
                mark(world, grant.slot)
            heirs.extend(grant.slot for grant in heir.grants)
        return False

    scrubbing = scrubbing_over(world, world.open_for_scrubbing, busy=revived)
    with pytest.raises(ScrubjayError):
        scrubbing.turn()
    assert first in heirs
    assert all(marks(world, slot) == 3 for slot in heirs)
    world.close()


def test_commit_that_fails_calls_nothing_clean(world: World, doomed: Written) -> None:
    """Nobody knows whether it arrived; opened anew, the pool says which, and all is done."""
    world.disks.pool.inject(Fault.ERROR, after=16 * len(doomed.grants), kind=IoKind.WRITE)
    with pytest.raises(Unavailable, match="stopped"):
        world.scrubbing.turn()
    with pytest.raises(Unavailable, match="stopped"):
        world.scrubbing.turn()
    assert world.keeper.revive()
    scrub_all(world)
    assert world.keeper.pool.overdue() == []
    assert [marks(world, grant.slot) for grant in doomed.grants] == [0, 0, 0]


def test_commit_that_is_refused_lets_nothing_count_as_scrubbed_later(
    world: World, doomed: Written
) -> None:
    """What was erased under a claim that ended is erased again under the next one."""
    pool = world.keeper.pool
    erased = 0

    def taken_back(_own_bytes: int) -> bool:
        nonlocal erased
        erased += 1
        if erased == 20:  # within the second slot
            pool.give_back([grant.slot for grant in doomed.grants if grant.slot is not None])
        return False

    scrubbing = scrubbing_over(world, lambda: [Handle(world.disks.pool)], busy=taken_back)
    with pytest.raises(Conflict, match="not claimed"):
        scrubbing.turn()
    assert (scrubbing.record().slots, len(pool.overdue())) == (0, 3)
    assert scrubbing.turn()
    assert (scrubbing.record().slots, pool.overdue()) == (3, [])


@dataclass
class Still:
    """A clock that stands still, so that a limit of bandwidth waits for ever."""

    now: int = 1_700_000_000_000_000_000

    def now_ns(self) -> int:
        """Return the moment."""
        return self.now

    def monotonic_ns(self) -> int:
        """Return the moment."""
        return self.now


def test_thread_told_to_stop_while_it_waits_for_bandwidth_ends(
    world: World, doomed: Written
) -> None:
    """A daemon ends at once, however slowly it scrubs; what is left waits on."""
    asked = threading.Event()

    def busy(_own_bytes: int) -> bool:
        asked.set()
        return True

    scrubbing = scrubbing_over(world, lambda: [Handle(world.disks.pool)], busy=busy)
    scrubbing._pace._clock = Still()  # noqa: SLF001 - only the limit stands still
    scrubbing.start()
    assert asked.wait(60)
    scrubbing.stop()
    assert len(world.keeper.pool.claim(9, owned_before_s=0)) == len(doomed.grants)
    assert scrubbing.record().slots == 0


def test_thread_survives_a_pool_that_stops_and_scrubs_on_when_it_is_back(
    world: World, doomed: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour of trouble costs an hour, and no restart."""
    monkeypatch.setattr("scrubjay.control.scrubbing._RETRY_S", 0.01)
    monkeypatch.setattr("scrubjay.control.scrubbing._IDLE_S", 0.01)
    world.keeper.pool._stop(OSError(errno.EIO, "played"))  # noqa: SLF001 - as a failed commit does
    opened = threading.Event()

    def open_media() -> Sequence[Medium]:
        opened.set()
        return [Handle(world.disks.pool)]

    scrubbing = scrubbing_over(world, open_media)
    scrubbing.start()
    assert not opened.wait(0.05)
    assert world.keeper.revive()
    while world.keeper.pool.overdue():
        opened.wait(0.01)
    scrubbing.stop()
    assert [marks(world, grant.slot) for grant in doomed.grants] == [0, 0, 0]


def test_status_shows_what_waits_and_how_it_goes(world: World) -> None:
    """Since when, until when, how many are done, when the rest is expected."""
    world.written("db0", tenant="acme", segments=30)
    world.destroy("db0")
    world.forget()
    status = world.pools.status().scrubbing
    assert (status.waiting_slots, status.done_slots, status.done_by) == (30, 0, None)
    assert status.waiting_since is not None
    assert status.due_at is not None
    assert (status.due_at - status.waiting_since).total_seconds() == status.within_s == 86_400
    assert world.scrubbing.turn()
    assert world.scrubbing.turn()
    status = world.pools.status().scrubbing
    assert 0 < status.done_slots == 30 - status.waiting_slots
    assert status.rate_bytes_per_s > 0
    assert status.done_by is not None
    scrub_all(world)
    world.clock.now += 10 * 1_000_000_000
    world.scrubbing.turn()
    status = world.pools.status().scrubbing
    assert (status.waiting_slots, status.waiting_since, status.due_at) == (0, None, None)
    assert (status.done_slots, status.done_by, status.scrubbed_slots) == (0, None, 30)


def test_claims_leave_most_of_what_is_free_to_those_who_write(world: World) -> None:
    """Reuse waits for no scrubbing: a sixteenth of what is free is withheld at most."""
    world.written("db0", tenant="acme", segments=99)
    world.destroy("db0")
    world.forget()
    leased: list[int] = []

    def lease(_own_bytes: int) -> bool:
        if not leased:
            leased.append(len(world.written("db1", tenant="zeta", segments=99).grants))
        return False

    scrubbing_over(world, lambda: [Handle(world.disks.pool)], busy=lease).turn()
    assert leased == [99 - 99 // 16]


def test_media_are_described_for_evidence(world: World) -> None:
    """By the superblock's id, with what overwriting there is worth."""
    (medium,) = world.scrubbing.media()
    entry = world.keeper.pool.media[0]
    assert (medium.id, medium.technique, medium.reads) == (entry.medium_id, "overwrite", "device")
    ground = world.scrubbing.ground(entry.medium_id)
    assert (ground.grade, ground.reason) == (Grade.CONDITIONAL, "memory: it is for tests")
    with pytest.raises(NotFound, match="unknown"):
        world.scrubbing.ground(world.keeper.pool_id)


def test_restarted_daemon_goes_on_where_it_was(world: World, doomed: Written) -> None:
    """A claim is only in memory: after a crash the slots wait as before."""
    world.disks.pool.inject(Fault.ERROR, after=20, kind=IoKind.WRITE)
    with pytest.raises(OSError, match="simulated"):
        world.scrubbing.turn()
    world.close()
    again = World(world.disks.copied(), world.folder)
    assert again.pools.status().scrubbing.waiting_slots == 2
    scrub_all(again)
    assert again.scrubbing.record().slots == 3
    assert [marks(again, grant.slot) for grant in doomed.grants] == [0, 0, 0]
    again.close()
