"""`scrubjay audit ...`: a tenant's own checks."""

from __future__ import annotations

import sys
import uuid
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from scrubjay.audit.daemon import DaemonStorage
from scrubjay.audit.remanence import Remanence, Report, check_extent
from scrubjay.base.units import MIB
from scrubjay.cli.output import AsJson, note, print_facts, print_json, size_text
from scrubjay.cli.pools import only_pool
from scrubjay.cli.session import connect, new_key
from scrubjay.client.connection import Connection

__all__ = ["commands"]

commands = typer.Typer(no_args_is_help=True, help="Checks that need to trust nobody.")

_FOUND = 1
_ROTATIONS_PER_CYCLE = 2
"""One to destroy the volume, one to purge what was overwritten in it."""
_ROTATIONS_BESIDE = 2
"""To close the two tenants."""


@commands.command(epilog="Example: scrubjay audit remanence --cycles 100")
def remanence(
    *,
    cycles: Annotated[int, typer.Option(help="Volumes to make, fill and destroy.")] = 10,
    size_mib: Annotated[
        int, typer.Option("--size-mib", help="Of each, at first; it is grown to twice that.")
    ] = 8,
    json: AsJson = False,
) -> None:
    """Fill volumes with marked blocks, destroy them, and look for the marks everywhere.

    Two tenants of its own take turns. Everything is read back, and the raw media are searched.

    It destroys the volumes that it made, also after Ctrl-C. Two closed tenants, and a
    certificate for each volume, stay. Each cycle costs about two rotations of the sink: a
    TPM affords few (see: scrubjay sink show), and then destroys of others wait too.

    Exit status 1 if anything was found.
    """
    check_extent(cycles, size_mib * MIB)
    bar = Progress(
        TextColumn("audit"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} cycles"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with connect() as daemon, bar:
        _warn_of_wear(daemon, cycles)
        task = bar.add_task("audit", total=cycles)
        audit = Remanence(
            DaemonStorage(daemon, new_key=new_key),
            mark=uuid.uuid4().bytes,  # noqa: TID251 - tells this run from others, guards nothing
            size_bytes=size_mib * MIB,
            tell=lambda report: bar.update(task, completed=report.cycles),
        )
        try:
            report = audit.run(cycles)
        finally:
            for each in audit.report.left:
                note(f"left behind: {each}")
    _print(report, as_json=json)
    if not report.clean:
        raise typer.Exit(_FOUND)


def _warn_of_wear(daemon: Connection, cycles: int) -> None:
    """Say what it costs where the sink wears out."""
    budget = only_pool(daemon).sink.budget
    if budget is None:
        return
    needed = _ROTATIONS_PER_CYCLE * cycles + _ROTATIONS_BESIDE
    note(
        f"warning: this takes about {needed} rotations of a sink that wears out and affords "
        f"{budget.left} now; beyond that it waits, as every destroy does (Ctrl-C ends it)"
    )


@commands.callback()
def _group() -> None:
    """Checks that need to trust nobody."""


def _print(report: Report, *, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    print_facts(
        [
            ("cycles", str(report.cycles)),
            ("blocks written", str(report.blocks_written)),
            ("blocks read", str(report.blocks_read)),
            ("foreign blocks read", str(report.foreign_blocks)),
            ("blocks lost", str(report.lost_blocks)),
            ("marks in raw media", f"{report.raw_marks}, in {size_text(report.raw_bytes)}"),
            *(("", finding) for finding in report.findings),
            ("verdict", "nothing came back" if report.clean else "FOUND what must not be there"),
        ]
    )
