"""Every crash point of short workloads: what was flushed is there, the rest is whole (I4, I5).

Each cut lies between two I/Os of the medium, and with each state that the keeper had
there; writes since the last sync are dropped, torn and reordered. The seed is printed;
SCRUBJAY_CRASH_LONG=1 plays every outcome that `SimulatedMedium.crashes` knows.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from random import Random

import pytest

from tests.crash.power import cuts, outcomes, record, survive
from tests.engine.rig import GROWTH, Machine, churn

LONG = bool(os.environ.get("SCRUBJAY_CRASH_LONG"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(0 if LONG else 300)]


def requests(machine: Machine) -> None:
    """Writes, flushes, FUA, trims, zeroes."""
    machine.write((0, 12), (40, 3))
    machine.write((2, 1))
    machine.flush()
    machine.write((4, 8), (4, 2), (90, 6))
    machine.drop(1, 5)
    machine.flush()
    machine.write((0, 1))
    machine.flush()  # FUA
    machine.drop(0, 96)
    machine.write((50, 2))
    machine.write((51, 2))


def checkpoints(machine: Machine) -> None:
    """Checkpoints, with requests between their slices, and behind them."""
    machine.write((0, 20))
    machine.checkpoint()
    machine.write((3, 4))
    slices = iter([[(2, 3), (30, 1)], [(3, 2), (9, 1)]])

    def once_each() -> None:
        for extents in slices:
            machine.write(*extents)
            machine.write(*extents)
            return

    machine.checkpoint(once_each)
    machine.drop(4, 10)
    machine.checkpoint(lambda: machine.drop(0, 3))
    machine.write((5, 5))


def segments(machine: Machine) -> None:
    """The log goes on in another segment, in the middle of everything."""
    for lba in range(0, 40, 8):
        machine.write((lba, 8))
        machine.close_segment()
    machine.checkpoint(machine.close_segment)
    machine.write((0, 4))
    machine.close_segment()
    machine.write((2, 4))
    machine.flush()
    machine.close_segment()
    machine.write((4, 4))


def trims(machine: Machine) -> None:
    """Segments that hold nothing but trims, freed and used again (section 8, line 3)."""
    machine.write((0, 16))
    machine.close_segment()
    machine.drop(0, 8)
    machine.close_segment()
    machine.write((50, 4))
    machine.checkpoint()
    machine.drop(8, 8)
    machine.close_segment()
    machine.checkpoint()
    machine.write((60, 4))
    machine.checkpoint()
    machine.write((61, 1))


def cleaning(machine: Machine) -> None:
    """Sectors move, move again, are overwritten and trimmed; slots are freed."""
    machine.write((0, 16), (16, 16))
    machine.close_segment()
    machine.write((0, 8))
    machine.close_segment()
    machine.clean()
    machine.checkpoint()
    machine.write((10, 4))
    machine.close_moved()
    machine.close_segment()
    machine.clean(2)
    machine.checkpoint(lambda: machine.clean(1))
    machine.clean()
    machine.drop(12, 10)
    machine.checkpoint(lambda: machine.write((20, 2)))
    machine.write((24, 4))


def cleaning_again(machine: Machine) -> None:
    """What moved once is due again while a checkpoint is being written."""
    machine.write((0, 32), (32, 32))
    machine.close_segment()
    machine.write((0, 32))
    machine.close_segment()
    machine.clean()
    machine.close_moved()
    machine.checkpoint()
    machine.drop(32, 8)
    machine.checkpoint(lambda: machine.clean(3))
    machine.clean()
    machine.checkpoint()
    machine.write((40, 4))


def purging(machine: Machine) -> None:
    """Stripes are emptied and forgotten, twice over, beside writes; and cleaned in the end."""
    machine.disk.tick(1_000_000)
    for hour in (13, 26):
        for lba in range(0, 96, 12):
            machine.write((lba, 12))
        machine.flush()
        machine.close_segment()
        machine.write((3, 2), (30, 1), (90, 6))
        machine.drop(50, 3)
        machine.flush()
        machine.purge(1_000_000 + hour * 3600, slices=2)
        machine.write((4, 1), (60, 1))
        machine.purge(1_000_000 + hour * 3600 + 1800)
        machine.checkpoint(machine.disk.purge)
    assert machine.keeper.gone
    machine.clean()
    machine.checkpoint()
    machine.flush()


def pages(machine: Machine) -> None:
    """Segments are emptied that hold pages of the map which nobody changes any more."""
    machine.write((550, 4), (0, 8))
    machine.checkpoint()
    machine.write((8, 16))
    machine.close_segment()
    machine.write((8, 14))
    machine.clean()
    machine.checkpoint()
    machine.write((8, 2))
    machine.close_segment()
    machine.clean()
    machine.checkpoint()


def full(machine: Machine) -> None:
    """The pool is full: the volume lives on what it holds, and on what it frees."""
    keeper = machine.keeper
    machine.write((0, 24))
    machine.close_segment()
    keeper.others, keeper.free = keeper.free, []
    keeper.on_change()
    machine.write((0, 12))
    machine.flush()
    machine.kill()
    machine.drop(12, 4)
    machine.clean()
    machine.checkpoint()
    machine.kill()
    keeper.free, keeper.others = keeper.free + keeper.others, []
    keeper.on_change()
    machine.write((16, 8))


LBAS: dict[Callable[[Machine], None], int] = {pages: 560}
"""More than one leaf of the map, where that matters."""


def attachments(machine: Machine) -> None:
    """Detaching in order, being killed, and attaching again."""
    machine.write((0, 16))
    machine.detach()
    machine.write((4, 4))
    machine.flush()
    machine.kill()
    machine.write((6, 4))
    machine.kill()
    machine.detach()
    machine.detach()
    machine.write((8, 1))


@pytest.mark.parametrize(
    "workload",
    [
        requests,
        checkpoints,
        segments,
        trims,
        cleaning,
        cleaning_again,
        purging,
        pages,
        full,
        attachments,
    ],
)
def test_power_cut_anywhere_keeps_what_was_flushed(
    workload: Callable[[Machine], None], seed: int
) -> None:
    """The volume is as it was at one moment, no earlier than the last sync (I4, I5)."""
    run = record(workload, lbas=LBAS.get(workload, 96))
    for cut in cuts(run):
        random = Random(f"{seed} {cut.at}")
        every = cut.medium.crashes() if LONG else outcomes(cut.medium, random, count=1)
        for left in every:
            survive(run, cut, left, random)


def test_power_cut_in_a_random_history_keeps_what_was_flushed(seed: int) -> None:
    """The same, for histories that nobody thought of (I4, I5)."""
    chosen = Random(seed)
    for number in range(200 if LONG else 6):
        random = Random(f"{seed} {number}")
        far = number % 2
        run = record(
            partial(_history, random), lbas=560 if far else 96, first_segment=GROWTH[number % 3]
        )
        share = 1.0 if LONG else 0.15 if far else 0.35
        for cut in cuts(run, only=partial(_some, chosen, share)):
            for left in outcomes(cut.medium, random, count=1):
                survive(run, cut, left, random)


def _history(random: Random, machine: Machine) -> None:
    for _ in range(25):
        match random.randrange(12):
            case 0 | 1 | 2:
                churn(machine, random)
            case 3:
                machine.write((random.randrange(machine.lbas - 20, machine.lbas - 4), 4))
            case 4:
                machine.drop(random.randrange(60), random.randrange(1, 30))
            case 5:
                machine.close_segment()
            case 6:
                machine.close_moved()
            case 7:
                machine.clean(random.randrange(1, 6))
                machine.purge(1_000_000 + machine.version * 3600, slices=random.randrange(1, 9))
            case 8 | 9:
                machine.checkpoint(lambda: _beside(machine, random))
            case 10:
                machine.flush()
            case _:
                random.choice([machine.detach, machine.kill])()


def _beside(machine: Machine, random: Random) -> None:
    match random.randrange(6):
        case 0:
            churn(machine, random)
        case 1:
            machine.write((machine.lbas - 4, 4))
        case 2:
            machine.drop(random.randrange(60), 20)
        case 3:
            machine.close_segment()
        case _:
            machine.clean(1)


def _some(random: Random, share: float, _at: int) -> bool:
    return random.random() < share
