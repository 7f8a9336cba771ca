"""The result as tables for people and as JSON for programs."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.machine import Machine
from bench.reports import Extent, Report
from bench.rows import NBDKIT, QEMU, SCRUBJAY
from bench.turns import Comparison, Turn
from scrubjay.base.units import GIB

__all__ = ["Result", "Verdict", "judged", "show", "verdict", "write_json"]

AGAINST = (QEMU, NBDKIT)
NEAR = 0.75
"""Three quarters of a target: what every row against qemu-nbd has to reach."""


class Verdict(StrEnum):
    """How a figure stands to its target."""

    REACHED = "reached"
    NEAR = "near"
    SHORT = "short"
    NONE = "-"


MARKS = {
    Verdict.REACHED: "[green]✔[/]",
    Verdict.NEAR: "[yellow]≈[/]",
    Verdict.SHORT: "[red]✘[/]",
    Verdict.NONE: "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Everything that one run found."""

    started: str
    machine: Machine
    extent: Extent
    comparisons: tuple[Comparison, ...]
    reports: tuple[Report, ...]
    failures: dict[str, str]
    """What could not be measured, and why."""


def verdict(reached: float | None, target: float | None) -> Verdict:
    """Judge a figure of which more is better."""
    if reached is None or target is None:
        return Verdict.NONE
    if reached >= target:
        return Verdict.REACHED
    return Verdict.NEAR if reached >= NEAR * target else Verdict.SHORT


def judged(report: Report) -> Verdict:
    """Judge a report either way round."""
    if report.target is None:
        return Verdict.NONE
    if report.better == "higher":
        return verdict(report.value, report.target)
    if report.value <= report.target:  # of a cost that noise hides there may be less than none
        return Verdict.REACHED
    return verdict(report.target / report.value, 1.0)


def show(result: Result, console: Console) -> None:
    """Print what was measured, on what, and what it stands beside."""
    machine = result.machine
    console.print(
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_bytes / GIB:.0f} GiB, "
        f"Linux {machine.kernel}, {machine.filesystem}, load {machine.load:.1f} at the start"
    )
    console.print(", ".join(f"{name} {version}" for name, version in machine.versions.items()))
    if result.comparisons:
        console.print(_side_by_side(result))
    if result.reports:
        console.print(_reports(result.reports))
    console.print(
        f"{MARKS[Verdict.REACHED]} reached  {MARKS[Verdict.NEAR]} three quarters or more  "
        f"{MARKS[Verdict.SHORT]} less; "
        f"medians of {result.extent.turn_count} turns of {result.extent.seconds:g} s, "
        "the peers in alternation"
    )
    for name, reason in result.failures.items():
        console.print(f"[red]not measured:[/] {name}: {escape(reason)}")


def write_json(result: Result, path: Path) -> None:
    """Write everything, each turn included, so that other statistics can be taken."""
    document = {
        "started": result.started,
        "machine": asdict(result.machine),
        "extent": asdict(result.extent),
        "rows": [_row_document(comparison) for comparison in result.comparisons],
        "reports": [asdict(report) | {"verdict": judged(report)} for report in result.reports],
        "failures": result.failures,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")


def _side_by_side(result: Result) -> Table:
    table = Table(title="Side by side")
    table.add_column("row", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    peers = tuple(result.comparisons[0].turns)
    for peer in peers:
        table.add_column(peer, justify="right")
    for peer in AGAINST:
        table.add_column(f"to {peer}", justify="right")
    table.add_column("p99 us", justify="right")
    table.add_column("server CPU us", justify="right")
    for comparison in result.comparisons:
        turns = comparison.turns
        table.add_row(
            comparison.row.name,
            comparison.row.unit,
            *(f"{comparison.median(peer):,.0f}" for peer in peers),
            *(_ratio_cell(comparison, peer) for peer in AGAINST),
            _each(turns, lambda turn: turn.figures.p99_us),
            _each(turns, lambda turn: turn.server_us_per_request),
        )
    return table


def _reports(reports: Sequence[Report]) -> Table:
    table = Table("report", title="Scrubjay alone")
    for heading in ("measured", "target"):
        table.add_column(heading, justify="right")
    for report in reports:
        target = "" if report.target is None else f"{report.target:g}"
        measured = f"{report.value:,.3g}" if report.value < 100 else f"{report.value:,.0f}"
        table.add_row(report.name, f"{measured} {report.unit}", f"{target} {MARKS[judged(report)]}")
    return table


def _ratio_cell(comparison: Comparison, peer: str) -> str:
    ratio = comparison.ratio(SCRUBJAY, to=peer)
    if ratio is None:
        return ""
    target = comparison.row.targets.get(peer)
    goal = "" if target is None else f" of {target:g}"
    return f"{ratio:.2f}{goal} {MARKS[verdict(ratio, target)]}"


def _each(turns: Mapping[str, Sequence[Turn]], figure: Callable[[Turn], float]) -> str:
    """Return one figure of all peers, in the order of their columns."""
    return " / ".join(f"{median(map(figure, each)):.0f}" for each in turns.values())


def _row_document(comparison: Comparison) -> dict[str, object]:
    row = comparison.row
    ratios = {peer: comparison.ratio(SCRUBJAY, to=peer) for peer in AGAINST}
    return {
        "row": row.name,
        "unit": row.unit,
        "cold": row.cold,
        "job": asdict(row.job),
        "medians": {peer: comparison.median(peer) for peer in comparison.turns},
        "ratios": ratios,
        "targets": row.targets,
        "verdicts": {peer: verdict(ratio, row.targets.get(peer)) for peer, ratio in ratios.items()},
        "turns": {
            peer: [asdict(turn) for turn in turns] for peer, turns in comparison.turns.items()
        },
    }
