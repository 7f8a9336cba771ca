"""Promises about the marks, and about the two forms of the result."""

import json
from io import StringIO
from pathlib import Path
from typing import Literal

import pytest
from rich.console import Console

from bench.fio import Figures, Job
from bench.machine import Machine
from bench.reports import Extent, Report
from bench.rows import NBDKIT, QEMU, SCRUBJAY, Row
from bench.table import Result, Verdict, judged, show, verdict, write_json
from bench.turns import Comparison, Turn
from scrubjay.base.units import GIB, MIB


def result(*, failures: dict[str, str] | None = None) -> Result:
    """Return a result with one row and one report."""
    row = Row(
        name="4k random read",
        job=Job(rw="randread", span_bytes=MIB),
        targets={QEMU: 4.0, NBDKIT: 1.0},
    )
    rates = {SCRUBJAY: 3200.0, QEMU: 1000.0, NBDKIT: 6400.0}
    turns: dict[str, tuple[Turn, ...]] = {
        name: (Turn(Figures(iops=iops, bytes_per_s=iops, requests=1, p99_us=70.0), 4.0),)
        for name, iops in rates.items()
    }
    return Result(
        started="2026-01-02T03:04:05+00:00",
        machine=Machine(
            cpu="an abacus",
            cores=2,
            memory_bytes=GIB,
            load=0.5,
            kernel="6.1",
            filesystem="ext4 (rw)",
            versions={"fio": "fio-3.33"},
        ),
        extent=Extent(
            turn_count=1,
            seconds=1,
            disk_bytes=1,
            overwrite_bytes=1,
            mapped_bytes=1,
            scrubbed_bytes=1,
        ),
        comparisons=(Comparison(row, turns),),
        reports=(Report(name="attach 1 GiB", value=100.0, unit="ms", target=150),),
        failures=failures or {},
    )


def printed(what: Result) -> str:
    """Return the tables as text."""
    paper = StringIO()
    console = Console(width=200, file=paper)
    show(what, console)
    return paper.getvalue()


@pytest.mark.parametrize(
    ("reached", "target", "expected"),
    [
        (4.0, 4.0, Verdict.REACHED),
        (3.99, 4.0, Verdict.NEAR),
        (3.0, 4.0, Verdict.NEAR),
        (2.99, 4.0, Verdict.SHORT),
        (2.99, None, Verdict.NONE),
        (None, 4.0, Verdict.NONE),
    ],
)
def test_verdict_at_each_boundary_is_the_documented_one(
    reached: float | None, target: float | None, expected: Verdict
) -> None:
    """Reached means at least the target, near means at least three quarters of it."""
    assert verdict(reached, target) is expected


@pytest.mark.parametrize(
    ("value", "better", "expected"),
    [
        (15.0, "lower", Verdict.REACHED),
        (20.0, "lower", Verdict.NEAR),
        (20.1, "lower", Verdict.SHORT),
        (0.0, "lower", Verdict.REACHED),
        (-9.0, "lower", Verdict.REACHED),
        (20.1, "higher", Verdict.REACHED),
        (11.0, "higher", Verdict.SHORT),
    ],
)
def test_judged_report_knows_which_way_is_better(
    value: float, better: Literal["lower", "higher"], expected: Verdict
) -> None:
    """Fewer MiB and milliseconds are better, more IOPS are."""
    assert judged(Report(name="r", value=value, unit="", target=15, better=better)) is expected


def test_show_prints_each_ratio_beside_its_target_and_mark() -> None:
    """A reader sees what was reached, what was to be reached, and on which machine."""
    text = printed(result())
    assert "3.20 of 4 ≈" in text
    assert "0.50 of 1 ✘" in text
    assert "100 ms" in text
    assert "150 ✔" in text
    assert "an abacus, 2 cores" in text


def test_show_with_a_failure_says_what_was_not_measured_and_why() -> None:
    """What is missing is named, brackets and all; it does not vanish from the tables."""
    assert "cleaning: pool [home]: full" in printed(
        result(failures={"cleaning": "pool [home]: full"})
    )


def test_write_json_keeps_every_turn_and_the_machine(tmp_path: Path) -> None:
    """Other statistics can be taken from the file without measuring again."""
    path = tmp_path / "results" / "bench.json"
    write_json(result(), path)
    document = json.loads(path.read_text())
    row = document["rows"][0]
    assert row["ratios"] == {QEMU: 3.2, NBDKIT: 0.5}
    assert row["verdicts"] == {QEMU: "near", NBDKIT: "short"}
    assert row["turns"][SCRUBJAY][0]["figures"]["iops"] == 3200.0
    assert document["reports"][0]["verdict"] == "reached"
    assert document["machine"]["versions"] == {"fio": "fio-3.33"}
