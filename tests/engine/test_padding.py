"""Padding: what a segment's slot held in a former use is written over, also where writing ends."""

# ruff: noqa: SLF001 - where the log stands is looked up where the engine keeps it

from __future__ import annotations

from collections.abc import Callable

import pytest

from scrubjay.base.ids import SegmentId, Slot
from scrubjay.base.units import MIB, SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.engine.lessor import Grant
from scrubjay.media.simulated import Fault, IoKind
from tests.engine.fsck import fsck
from tests.engine.rig import Keeper, Machine
from tests.engine.test_log import FORMER, _former_use
from tests.engine.test_purging import HOUR, NOON, _replayed


def _machine() -> tuple[Machine, set[SegmentId]]:
    """Return a volume on used slots, and the segments that it says were written to the end."""
    machine = Machine(slots=10, lbas=1000)
    _former_use(machine)
    filled: set[SegmentId] = set()
    machine.keeper.on_commit = lambda checkpoint: filled.update(checkpoint.filled)
    machine.disk.tick(NOON)
    return machine, filled


def _held(machine: Machine, segment: int) -> bytearray:
    """Return what the medium has in a segment's slot."""
    held = bytearray(SEGMENT_BYTES)
    base = SLOTS_OFFSET_BYTES + machine.keeper.places[segment] * SEGMENT_BYTES
    machine.medium.read_into(base, memoryview(held))
    return held


def _behind_purging(machine: Machine) -> None:
    machine.write((0, 8))  # of much more: the segment keeps its slot
    machine.purge(NOON + 13 * HOUR)


def _behind_a_detach(machine: Machine) -> None:
    machine.detach()


def _at_rest(machine: Machine) -> None:
    machine.checkpoint(keep_spares=2)


@pytest.mark.parametrize("ends", [_behind_purging, _behind_a_detach, _at_rest])
def test_segment_that_is_written_no_more_holds_nothing_of_a_former_use(
    ends: Callable[[Machine], None],
) -> None:
    """Where the log goes on elsewhere, is detached or rests, zeros go to the slot's end (I8)."""
    machine, filled = _machine()
    for lba in range(0, 1000, 200):
        machine.write((lba, 200))
    segment = machine.disk._log.segment
    machine.checkpoint()
    assert segment not in filled, "it is written, and does not rest"
    ends(machine)
    assert segment in filled
    assert FORMER not in _held(machine, segment)
    machine.write((8, 8))
    machine.verify()
    machine.kill()
    machine.verify()
    fsck(machine)


def test_log_goes_on_over_zeros_and_is_padded_once() -> None:
    """Resting again writes no zeros again, in pieces of 1 MiB the first time (I5)."""
    machine, _ = _machine()
    machine.write((0, 64))
    segment = machine.disk._log.segment
    trace = machine.medium.trace
    for turn in range(3):
        before = len(trace)
        machine.checkpoint(keep_spares=2)
        zeros = [io for io in trace[before:] if io.kind is IoKind.WRITE and not any(io.data)]
        assert bool(zeros) is (not turn)
        assert all(len(io.data) <= MIB for io in zeros)
        machine.write((8 * turn, 8))
        assert machine.disk._log.segment == segment
    machine.kill()
    machine.verify()


def test_end_of_a_segment_that_was_freed_is_left_alone() -> None:
    """The slot is another's by then, and what he wrote stays (I1)."""
    machine, _ = _machine()
    machine.write((0, 64))
    log = machine.disk._log
    segment, base = log.segment, log.base
    log.leave()
    machine.disk._segments.drop(segment)
    machine.medium.write(base, FORMER * (SEGMENT_BYTES // len(FORMER)))
    while log.pad(resting=False):
        pass
    held = bytearray(SEGMENT_BYTES)
    machine.medium.read_into(base, memoryview(held))
    assert held == FORMER * (SEGMENT_BYTES // len(FORMER))
    assert not log.take_filled()


def test_zeros_that_could_not_be_written_are_not_told() -> None:
    """An error while padding costs the date of the slot, and no request (I8)."""
    machine, filled = _machine()
    machine.write((0, 64))
    segment = machine.disk._log.segment
    machine.medium.inject(Fault.ERROR, kind=IoKind.WRITE)
    machine.checkpoint(keep_spares=2)
    machine.checkpoint(keep_spares=2)
    assert segment not in filled
    machine.write((0, 8))
    machine.verify()


def test_clean_slot_is_not_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a slot that held nothing before, no byte is written but what clients write."""

    def clean(segment: int, slot: int | None, gone: int) -> Grant:
        del gone
        assert slot is not None
        return Grant(SegmentId(segment), Slot(slot), bytes([segment]) * 32, clean=True)

    monkeypatch.setattr("tests.engine.rig._grant", clean)
    machine = Machine(slots=10, lbas=64)
    machine.write((0, 64))
    assert not machine.disk.unpadded
    machine.checkpoint(keep_spares=2)
    assert sum(len(io.data) for io in machine.medium.trace if io.kind is IoKind.WRITE) < MIB


@pytest.mark.parametrize("keep", [0, 1])
def test_power_cut_anywhere_while_padding_loses_nothing(keep: int) -> None:
    """Zeros behind the log's end are its end, whichever of them arrived (I4, I5)."""
    machine, _ = _machine()
    machine.flush()
    first = len(machine.medium.trace)
    cuts: list[tuple[int, Keeper]] = [(first, machine.keeper.copy())]
    machine.keeper.on_change = lambda: cuts.append(
        (len(machine.medium.trace), machine.keeper.copy())
    )
    machine._base, machine.requests = dict(machine.state), []
    machine.write((0, 64))
    machine.flush()
    machine.checkpoint(between=lambda: machine.write((4, 9)), keep_spares=2)
    machine.write((20, 8))
    machine.flush()
    last = len(machine.medium.trace)
    for cut in range(first, last + 1, 4):
        keeper = [each for at, each in cuts if at <= cut][-1].copy()
        medium = _replayed(machine, cut).crash(lambda count: (count - 1) * keep)
        again = Machine.after(medium, keeper, lbas=machine.lbas)
        machine.matching(
            again.image(),
            least=machine.durable(cut),
            most=len(machine.requests),
            base=machine._base,
        )
        fsck(again)
