"""Ways in which a log-structured disk can lose what it holds, each played once."""

# ruff: noqa: SLF001 - positions in the open segment are arranged by hand

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest

from scrubjay.base.errors import Corrupt, NoSpace
from scrubjay.base.ports import Medium
from scrubjay.base.units import SECTOR_BYTES, SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.engine import paged
from scrubjay.engine.disk import Disk
from scrubjay.engine.paged import FANOUT
from tests.engine.fsck import fsck
from tests.engine.rig import Machine


def _fill_to(machine: Machine, room_bytes: int) -> None:
    """Write until the open segment has this much room left."""
    while (left := SEGMENT_BYTES - machine.disk._log.position - room_bytes) > 0:
        machine.write((0, min(128, max(1, left // 4112 - 2))))


def test_checkpoint_with_little_room_left_stays_in_its_slot() -> None:
    """A record of map pages never leads out of its segment into another's slot (I1)."""
    machine = Machine(lbas=40 * 512)
    for leaf in range(40):
        machine.write((leaf * 512, 1))
    _fill_to(machine, 80 * 1024)
    segment = machine.disk._log.segment
    end = SLOTS_OFFSET_BYTES + (machine.keeper.places[segment] + 1) * SEGMENT_BYTES
    machine.medium.trace.clear()
    machine.checkpoint()
    for io in machine.medium.trace:
        assert not io.offset_bytes < end < io.offset_bytes + len(io.data)
    machine.kill()
    machine.read(0, 1)


def _half_dead(machine: Machine) -> int:
    """Make a closed segment of which half is live; return its id."""
    machine.write((0, 64), (64, 64))
    segment = machine.disk._log.segment
    machine.close_segment()
    machine.write((0, 64))
    machine.close_segment()
    return segment


def test_clean_without_a_spare_segment_does_not_free_its_victim() -> None:
    """Cleaning that found no room has moved nothing, and nothing is freed (I1)."""
    machine = Machine()
    victim = _half_dead(machine)
    spares = machine.disk._spares.give_back(keep=0)
    for _ in range(3):
        assert not machine.disk.clean()
    assert victim not in machine.disk._cleaner.evacuated
    machine.disk.add_grants(machine.keeper.lessor(1).group(0)[spares[0] - 1 :])
    machine.disk._held -= len(spares)
    machine.checkpoint()
    machine.verify()
    machine.clean()
    machine.checkpoint()
    machine.verify()
    assert victim not in machine.keeper.places


def test_clean_of_a_moved_segment_within_a_checkpoint_loses_nothing() -> None:
    """Dead bits and moves of one checkpoint are of one moment (I4)."""
    machine = Machine()
    _half_dead(machine)
    machine.clean()
    machine.close_moved()
    machine.checkpoint()
    machine.drop(64, 16)
    machine.checkpoint(between=lambda: machine.clean(3))
    machine.kill()
    machine.verify()
    for _ in range(2):
        machine.clean()
        machine.checkpoint()
        machine.verify()
        fsck(machine)


def test_clean_into_a_segment_opened_within_a_checkpoint_loses_nothing() -> None:
    """A segment that a committed checkpoint's moves name is not given back (I4)."""
    machine = Machine()
    _half_dead(machine)
    machine.checkpoint(between=lambda: machine.clean(3))
    machine.kill()
    machine.verify()
    for _ in range(2):
        machine.clean()
        machine.checkpoint()
        machine.verify()
        fsck(machine)


def test_clean_of_a_segment_with_a_damaged_header_keeps_what_can_be_read() -> None:
    """A victim whose records cannot all be read is not freed (I1)."""
    machine = Machine()
    machine.write((0, 8))
    position = machine.disk._log.position
    machine.write((8, 8))
    victim = machine.disk._log.segment
    base = SLOTS_OFFSET_BYTES + machine.keeper.places[victim] * SEGMENT_BYTES
    machine.close_segment()
    machine.write((0, 2))
    machine.medium.flip(8 * (base + position + 40))
    with pytest.raises(Corrupt, match=f"segment {victim}"):
        machine.clean()
    machine.clean()
    for _ in range(2):
        machine.checkpoint()
    machine.verify()


def test_lease_within_a_checkpoint_is_counted_once() -> None:
    """What a volume holds is what the pool says it holds, after any attachment."""
    machine = Machine()
    machine.write((0, 4))
    lessor = machine.keeper.lessor(1)
    machine.checkpoint(between=lambda: machine.disk.add_grants(lessor.lease(1)))
    assert machine.disk.counters.held_segments == len(machine.keeper.places)
    machine.kill()
    assert machine.disk.counters.held_segments == len(machine.keeper.places)
    fsck(machine)


def test_attach_in_a_full_pool_uses_what_the_volume_holds() -> None:
    """A crash in a full pool does not shut a volume out that holds spare segments."""
    machine = Machine(slots=8)
    machine.write((0, 8))
    machine.flush()
    while machine.keeper.free:
        machine.disk.add_grants(machine.keeper.lessor(1).lease(1))
    machine.kill()
    machine.verify()
    fsck(machine)


def test_attach_in_a_pool_that_a_neighbour_fills_serves_reads() -> None:
    """I4: who takes the last slot keeps nobody from what he has; space heals the rest."""
    machine = Machine(slots=8)
    keeper = machine.keeper
    machine.write((0, 8))
    machine.flush()
    machine.write((4, 2))

    def take() -> None:
        keeper.others += keeper.free
        keeper.free.clear()

    keeper.on_change = take
    take()
    for _ in range(3):
        machine.kill()
        machine.verify()
        with pytest.raises(NoSpace):
            machine.write((9, 1))
        machine.requests.pop()
        machine.verify()
    keeper.on_change = lambda: None
    keeper.free, keeper.others = keeper.others, []
    machine.write((2, 9))
    machine.kill()
    machine.verify()
    machine.checkpoint()
    machine.kill()
    machine.verify()
    fsck(machine)


def test_attach_without_a_slot_to_be_had_reads_and_later_writes() -> None:
    """Served without its checkpoint, a volume goes on from where its log ended (I1, I4)."""
    machine = Machine(slots=8)
    machine.write((0, 8))
    machine.checkpoint()
    machine.write((4, 8))
    machine.flush()
    keeper = machine.keeper

    def neighbour() -> None:
        keeper.others, keeper.free = keeper.others + keeper.free, []

    neighbour()
    keeper.on_change = neighbour
    for _ in range(2):
        machine.kill()
        machine.verify()
        fsck(machine)
    keeper.on_change = lambda: None
    keeper.free, keeper.others = keeper.others, []
    machine.write((6, 8))
    machine.flush()
    machine.drop(0, 2)
    machine.kill()
    machine.verify()
    assert fsck(machine).leaked == 0


def test_detach_without_a_write_asks_for_nothing() -> None:
    """Attaching and detaching leaves the volume as it was, without a segment leased."""
    machine = Machine()
    machine.write((0, 8))
    machine.disk.detach()
    before = machine.keeper.copy()
    for _ in range(3):
        machine.disk = machine._open()
        machine.verify()
        machine.disk.detach()
    before.epoch = machine.keeper.epoch
    assert machine.keeper == before


def test_clean_detach_leaks_no_sector() -> None:
    """Every page that a checkpoint replaced is known to be dead after it."""
    machine = Machine()
    for round_ in range(6):
        machine.write((round_ * 8, 8))
        machine.detach()
        machine.write((round_, 2))
        machine.checkpoint()
        assert fsck(machine).leaked == 0


def test_checkpoint_with_eviction_keeps_the_counts_of_its_own_records() -> None:
    """A page of counts that is written by the record that it counts stays dirty (I1)."""
    machine = Machine()
    machine.write((0, 8))
    machine.checkpoint()
    counts = machine.disk._usage._pages
    counts.limit_pages = 0
    counts.evict()
    machine.disk._usage.live.clear()
    assert fsck(machine).leaked == 0


def test_checkpoint_beside_writes_marks_no_page_dead_that_stays() -> None:
    """Only what a checkpoint really moves is entered as dead (I1)."""
    machine = Machine(lbas=4 * 512)
    machine.write((0, 4), (512, 4))
    machine.checkpoint()
    slices = machine.disk.checkpoint()
    next(slices)
    machine.write((2, 2))
    for _ in slices:
        pass
    machine.disk.sync()
    machine.disk.commit_checkpoint()
    fsck(machine)


@pytest.mark.parametrize("when", range(8))
def test_map_that_grows_within_a_checkpoint_is_whole(when: int) -> None:
    """A root names a map with the top that was written, not with one that is to be (I4)."""
    machine = Machine(lbas=1200)
    _half_dead(machine)
    machine.clean()
    for number, _ in enumerate(machine.disk.checkpoint()):
        if number == when:
            machine.write((1000, 4))
    machine.disk.sync()
    machine.disk.commit_checkpoint()
    machine.kill()
    machine.verify()
    fsck(machine)


def test_kill_leaks_no_sector() -> None:
    """Replay finds out which pages of the log nothing refers to."""
    machine = Machine()
    for round_ in range(6):
        machine.write((round_ * 8, 8))
        for _ in machine.disk.checkpoint():
            pass
        machine.kill()
        assert fsck(machine).leaked == 0


def test_clean_of_a_segment_with_a_failed_append_moves_what_counts() -> None:
    """A record that failed and arrived all the same is nobody's, and is not moved."""
    machine = Machine()
    machine.write((0, 64))
    machine.disk.begin(1 << 20)
    machine.disk.write(100, 4, memoryview(bytes(4 * SECTOR_BYTES)))
    _break_append(machine)
    machine.write((0, 32))
    machine.clean()
    assert fsck(machine).leaked == 0
    machine.verify()


def _break_append(machine: Machine) -> None:
    """Have an append report an error though every byte arrived."""
    real = machine.disk._log._medium

    class Liar:
        def write(self, offset_bytes: int, data: memoryview) -> int:
            return real.write(offset_bytes, data) - 1

    machine.disk._log._medium = cast("Medium", Liar())
    with pytest.raises(OSError, match="expected"):
        machine.disk.commit()
    machine.disk._log._medium = real


def test_forget_keys_leaves_no_cipher() -> None:
    """After the keys were dropped nothing seals, opens, or asks for keys again (I3)."""
    machine = Machine()
    _half_dead(machine)
    machine.clean(1)
    machine.disk.forget_keys()
    with pytest.raises(Corrupt):
        machine.disk.read_into(0, 1, memoryview(bytearray(SECTOR_BYTES)))
    with pytest.raises((Corrupt, NoSpace)):
        machine.disk.write(0, 1, memoryview(bytes(SECTOR_BYTES)))
    assert not machine.disk._segments.places
    for appender in (machine.disk._log, machine.disk._mover):
        with pytest.raises(AssertionError):
            appender.encrypt(bytes(12), memoryview(b""), None, memoryview(bytearray(16)))


def test_read_between_commit_and_its_reply_finds_what_moved() -> None:
    """A slot that the pool took back may hold another's bytes before the exporter hears."""
    machine = Machine()
    victim = _half_dead(machine)
    machine.verify()
    machine.clean()
    slot = machine.keeper.places[victim]

    def overwrite() -> None:
        machine.keeper.on_change = lambda: None
        machine.medium.plant(SLOTS_OFFSET_BYTES + slot * SEGMENT_BYTES, b"\xaa" * (1 << 20))
        machine.verify()

    for _ in machine.disk.checkpoint():
        pass
    machine.disk.sync()
    machine.keeper.on_change = overwrite
    machine.disk.commit_checkpoint()
    assert victim not in machine.keeper.places


def test_spare_segments_are_kept_for_the_checkpoint_that_frees() -> None:
    """In a full pool neither cleaning nor trimming takes what a checkpoint needs."""
    machine = Machine(slots=10)
    disk: Disk = machine.disk
    _until_no_space(machine, lambda: machine.write((0, 255)))
    assert disk.full
    held = iter(range(0, 255 * SECTOR_BYTES, SECTOR_BYTES))
    _until_no_space(machine, lambda: disk.drop(next(held), SECTOR_BYTES, exact=True))
    machine.close_segment()
    machine.close_moved()
    while disk.clean():
        machine.close_moved()
    machine.checkpoint()
    machine.feed()
    assert machine.keeper.free or len(disk._spares) > 3


def test_drop_of_what_is_zero_already_costs_nothing() -> None:
    """28 bytes may name 4 GiB: sent by the thousand, they fill neither memory nor the log."""
    machine = Machine()
    disk = machine.disk
    for leaf in range(4):
        machine.write((leaf * 512, 1))
    machine.drop(0, 2048)
    disk._usage.settle()
    before = disk.counters.appended_bytes
    for _ in range(100):
        machine.drop(0, 2048)
    assert len(disk._usage.displaced) == 0
    assert disk.counters.appended_bytes == before


def _until_no_space(machine: Machine, append: Callable[[], None]) -> None:
    for _ in range(machine.keeper.slots):
        try:
            append()
        except NoSpace:
            return
        machine.close_segment()
    raise AssertionError("there is always space")


def test_map_full_of_pages_to_be_written_waits_for_a_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Writes all over a huge volume outrun no checkpoint: memory stays within the limit (I1)."""
    monkeypatch.setattr(paged, "CLOGGED_PAGES_MIN", 8)
    machine = Machine(slots=60, lbas=64 * FANOUT, map_limit_pages=1)
    waited = 0
    for leaf in range(64):
        try:
            machine.write((leaf * FANOUT, 1))
        except NoSpace:
            waited += 1
            assert machine.disk.wants_checkpoint()
            machine.checkpoint()
            machine.write((leaf * FANOUT, 1))
        assert machine.disk.counters.map_pages <= 20
    assert waited
    for leaf in range(64):
        machine.read(leaf * FANOUT, 2)
