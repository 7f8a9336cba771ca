"""Promises about the order of turns and about their medians."""

import os
from collections.abc import Sequence

from bench.fio import Figures, Job
from bench.rows import Row, Unit
from bench.turns import Comparison, Turn, compare
from scrubjay.base.units import MIB

JOB = Job(rw="randread", span_bytes=MIB)


class StillPeer:
    """A peer that serves nothing; it notes when its caches are dropped."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self._log = log

    def start(self) -> str:
        """Return a URI that names the peer."""
        return f"nbd:{self.name}"

    def pids(self) -> list[int]:
        """Return a process that is there for sure."""
        return [os.getpid()]

    def drop_caches(self) -> None:
        """Note it."""
        self._log.append(f"drop {self.name}")

    def stop(self) -> None:
        """Do nothing."""


def played(row: Row, turn_count: int) -> list[str]:
    """Return what `compare` did to two peers, step by step."""
    log: list[str] = []
    pair = [StillPeer(name, log) for name in ("a", "b")]

    def run(job: Job, uris: Sequence[str], *, seed: int) -> Figures:
        log.append(f"run {uris[0]} seed {seed} for {job.seconds} s")
        return Figures(iops=1.0, bytes_per_s=1.0, requests=1, p99_us=1.0)

    uris = {peer.name: peer.start() for peer in pair}
    compare(row, pair, uris, turn_count=turn_count, seconds=2.0, run=run)
    return log


def turn(iops: float) -> Turn:
    """Return a turn with one rate, of 4 KiB blocks."""
    return Turn(Figures(iops=iops, bytes_per_s=iops * 4096, requests=1, p99_us=1.0), 1.0)


def test_compare_takes_turns_and_gives_equal_work_within_each() -> None:
    """Peers alternate; blocks are the same for all within a turn, and others in the next."""
    assert played(Row(name="warm", job=JOB), 2) == [
        "run nbd:a seed 1 for 2.0 s",
        "run nbd:b seed 1 for 2.0 s",
        "run nbd:a seed 2 for 2.0 s",
        "run nbd:b seed 2 for 2.0 s",
    ]


def test_compare_cold_row_drops_the_caches_of_the_peer_before_its_turn() -> None:
    """A cold row is cold in every turn, for every peer."""
    steps = [step.split(" seed")[0] for step in played(Row(name="cold", job=JOB, cold=True), 2)]
    assert steps == ["drop a", "run nbd:a", "drop b", "run nbd:b"] * 2


def test_ratio_with_one_wild_turn_is_that_of_the_medians() -> None:
    """One disturbed turn of three does not move the result."""
    turns = {"a": tuple(map(turn, (20.0, 900.0, 30.0))), "b": tuple(map(turn, (10.0, 0.1, 15.0)))}
    assert Comparison(Row(name="r", job=JOB), turns).ratio("a", to="b") == 3.0


def test_ratio_to_an_absent_peer_is_nothing() -> None:
    """A peer that is not installed leaves a gap, not an error and not a zero."""
    comparison = Comparison(Row(name="r", job=JOB), {"a": (turn(1.0),)})
    assert comparison.ratio("a", to="b") is None
    assert comparison.ratio("b", to="a") is None


def test_median_in_mib_per_s_is_of_the_bytes() -> None:
    """A row that compares throughput shows throughput."""
    row = Row(name="r", job=JOB, unit=Unit.MIB_PER_S)
    assert Comparison(row, {"a": (turn(512.0),)}).median("a") == 2.0
