"""Power cuts between any two I/Os of a recorded run, of the medium and of the keeper.

A run is a machine (tests/engine/rig.py) whose medium kept its trace and whose keeper's
states were kept, each with the number of I/Os that were done before it. What the keeper
commits is durable at once, in its place among the I/Os.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from scrubjay.media.simulated import Io, IoKind, SimulatedMedium
from tests.engine.fsck import fsck
from tests.engine.rig import Keeper, Machine

States = list[tuple[int, Keeper]]


@dataclass
class Run:
    """A machine with a memory of everything that became durable."""

    machine: Machine
    states: States = field(default_factory=list)
    """(I/Os done before it, what the keeper had committed by then)."""


def record(workload: Callable[[Machine], None], *, lbas: int = 96, first_segment: int = 1) -> Run:
    """Play a workload and keep all that a crash test needs."""
    machine = Machine(slots=24, lbas=lbas, first_segment=first_segment)
    run = Run(machine, [(0, machine.keeper.copy())])
    _watch(machine.keeper, machine.medium, run.states)
    workload(machine)
    return run


def cuts(run: Run, *, only: Callable[[int], bool] = lambda _cut: True) -> Iterator[Cut]:
    """Yield a cut before the first I/O and behind each, with each state that the keeper had."""
    machine = run.machine
    medium = SimulatedMedium(machine.medium.size_bytes, record=True)
    for at in range(len(machine.medium.trace) + 1):
        if at:
            _do(medium, machine.medium.trace[at - 1])
        if only(at):
            for keeper in _keepers(run.states, at):
                yield Cut(at, medium, keeper)


@dataclass
class Cut:
    """A moment: what was asked of the medium so far, and what the keeper has."""

    at: int
    medium: SimulatedMedium
    keeper: Keeper


def outcomes(medium: SimulatedMedium, random: Random, *, count: int) -> Iterator[SimulatedMedium]:
    """Yield what a power loss now may leave: nothing unsynced, all of it, and some of it."""
    yield medium.crash(lambda n: 0)
    yield medium.crash(lambda n: 2 if n == 6 else 1)
    for _ in range(count):
        yield medium.crash(random.randrange)


def survive(run: Run, cut: Cut, left: SimulatedMedium, random: Random) -> None:
    """Attach what a crash left, and hold it to I4 and I5; crash that again; work on."""
    machine = run.machine
    least, most = machine.durable(cut.at), sum(r.begun < cut.at for r in machine.requests)
    before = left.crash(random.randrange)  # nothing is unsynced: a copy
    keeper = cut.keeper.copy()
    states: States = []
    _watch(keeper, left, states)
    first = Machine.after(left, keeper, lbas=machine.lbas)
    state = machine.matching(first.image(), least=least, most=most, base={})
    # A second crash, anywhere in that recovery.
    trace, at = left.trace, random.randrange(len(left.trace) + 1)
    for io in trace[:at]:
        _do(before, io)
    kept = [kept for when, kept in states if when <= at] or [cut.keeper]
    kept = [keeper for keeper in kept[-2:] if keeper.epoch] or [cut.keeper]
    second = Machine.after(
        before.crash(random.randrange), random.choice(kept).copy(), lbas=machine.lbas
    )
    if at == len(trace) and kept[-1].checkpoint == keeper.checkpoint:
        assert {k: v for k, v in second.state.items() if v} == {k: v for k, v in state.items() if v}
    machine.matching(second.image(), least=least, most=most, base={})
    work_on(random.choice([first, second]), random)


def work_on(machine: Machine, random: Random) -> None:
    """Do a bit of everything on a recovered volume, with room to do it."""
    machine.keeper.free += machine.keeper.others
    machine.keeper.others.clear()
    fsck(machine)
    machine.write((random.randrange(60), 5), (random.randrange(60), 1))
    machine.drop(random.randrange(60), 3)
    machine.clean(3)
    machine.checkpoint()
    machine.clean()
    machine.checkpoint()
    machine.read(0, machine.lbas)
    machine.write((random.randrange(60), 2))
    machine.kill()
    machine.verify()
    assert fsck(machine).leaked == 0


def _watch(keeper: Keeper, medium: SimulatedMedium, states: States) -> None:
    keeper.on_change = lambda: states.append((len(medium.trace), keeper.copy()))


def _keepers(states: States, at: int) -> Iterator[Keeper]:
    """Yield what may have been committed `at` so many I/Os: the last before, and all beside."""
    yield [keeper for when, keeper in states if when < at or when == 0][-1 if at else 0]
    yield from (keeper for when, keeper in states if when == at and at)


def _do(medium: SimulatedMedium, io: Io) -> None:
    if io.kind is IoKind.SYNC:
        medium.sync(io.extents)
    else:
        medium.write(io.offset_bytes, io.data)
