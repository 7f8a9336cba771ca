"""Peers measured in turns: A B C A B C ..., so that drift of the machine hits all alike."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Protocol

from bench import fio, machine
from bench.peers import Peer
from bench.rows import FILL, Row, Unit
from scrubjay.base.units import MIB

__all__ = ["Comparison", "Runner", "Turn", "compare", "fill"]


class Runner(Protocol):
    """What does a job: `fio.run`."""

    def __call__(self, job: fio.Job, uris: Sequence[str], *, seed: int) -> fio.Figures:
        """Do `job` on all `uris`, with the blocks that `seed` draws."""
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of one peer."""

    figures: fio.Figures
    server_us_per_request: float
    """Processor time of the server's processes for one request."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All turns of one row, by the name of the peer."""

    row: Row
    turns: dict[str, tuple[Turn, ...]]

    def median(self, peer: str) -> float:
        """Return the peer's median over its turns, in the row's unit."""
        return median(_value(self.row.unit, turn.figures) for turn in self.turns[peer])

    def ratio(self, peer: str, *, to: str) -> float | None:
        """Return the quotient of two medians; nothing where a peer did not take part."""
        if peer not in self.turns or to not in self.turns:
            return None
        return self.median(peer) / self.median(to)


def fill(uris: dict[str, str]) -> None:
    """Write every peer's working set once, in order."""
    for uri in uris.values():
        fio.run(FILL, [uri], seed=0)
    os.sync()


def compare(
    row: Row,
    peers: Sequence[Peer],
    uris: dict[str, str],
    *,
    turn_count: int,
    seconds: float,
    run: Runner = fio.run,
) -> Comparison:
    """Measure `row` on every peer, `turn_count` times each, in alternation.

    What one turn left dirty is written back before the next begins, and the other servers
    stand still meanwhile: what a server does when it is idle (Scrubjay cleans) disturbs
    none but itself. Every turn draws its blocks anew, the same for all peers: a log whose
    blocks are overwritten in the order in which they were written would clean itself.
    """
    job = replace(row.job, seconds=seconds)
    turns: dict[str, tuple[Turn, ...]] = {peer.name: () for peer in peers}
    for index in range(turn_count):
        for peer in peers:
            os.sync()
            if row.cold:
                peer.drop_caches()
            pids = peer.pids()
            others = {pid for other in peers for pid in other.pids()} - {*pids}
            before_s = machine.cpu_s(pids)
            with machine.stopped(others):
                figures = run(job, [uris[peer.name]], seed=index + 1)
            used_s = machine.cpu_s(pids) - before_s
            turns[peer.name] += (Turn(figures, used_s * 1e6 / figures.requests),)
    return Comparison(row, turns)


def _value(unit: Unit, figures: fio.Figures) -> float:
    return figures.iops if unit is Unit.IOPS else figures.bytes_per_s / MIB
