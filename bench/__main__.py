"""`python -m bench`: measure, print the tables, write the JSON.

Exit status 0 says that everything was measured, not that every target was reached.
"""

import argparse
import datetime as dt
import re
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from bench.machine import Machine, describe
from bench.peers import Peer, nbdkit, qemu_luks
from bench.product import Scrubjay
from bench.reports import STUDIES, Extent, Report, Study
from bench.rows import ROWS, WORKING_SET_BYTES, Row
from bench.table import Result, show, write_json
from bench.turns import Comparison, compare, fill
from scrubjay.base.errors import ScrubjayError
from scrubjay.base.units import GIB, TIB

__all__ = ["Bench", "main"]

FULL = Extent(
    turn_count=3,
    seconds=4,
    disk_bytes=2 * GIB,
    overwrite_bytes=8 * GIB,
    mapped_bytes=TIB,
    scrubbed_bytes=20 * GIB,
)
QUICK = replace(
    FULL,
    seconds=0.5,
    disk_bytes=GIB // 2,
    overwrite_bytes=GIB,
    mapped_bytes=64 * GIB,
    scrubbed_bytes=2 * GIB,
)
ON_DISK = Path("/var/tmp")  # noqa: S108 - a folder made by tempfile goes there, and /tmp may be memory
WIDTH = 160
"""Columns of the tables where there is no terminal to ask."""
EXPECTED = (ScrubjayError, OSError, LookupError, ValueError)
"""What a server that is missing, broken or of another make can raise: noted, and on to the next."""


@dataclass(slots=True)
class Bench:
    """One run: what it measures on, and what it has found so far."""

    folder: Path
    extent: Extent
    machine: Machine
    console: Console
    comparisons: list[Comparison] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def side_by_side(self, peers: Sequence[Peer], rows: Sequence[Row]) -> None:
        """Measure `rows` on all `peers` that start."""
        with ExitStack() as running:
            uris: dict[str, str] = {}
            for peer in peers:
                running.callback(peer.stop)
                try:
                    uris[peer.name] = peer.start()
                except EXPECTED as error:
                    self._failed(peer.name, error)
            there = [peer for peer in peers if peer.name in uris]
            self._tell("writing the working sets")
            fill(uris)
            for row in rows:
                self._tell(row.name)
                try:
                    self.comparisons.append(
                        compare(
                            row,
                            there,
                            uris,
                            turn_count=self.extent.turn_count,
                            seconds=self.extent.seconds,
                        )
                    )
                except EXPECTED as error:
                    self._failed(row.name, error)

    def studies(self, studies: Sequence[Study]) -> None:
        """Answer `studies`, each in a home of its own."""
        for study in studies:
            self._tell(study.name)
            try:
                self.reports += study.measure(self.folder, self.extent)
            except EXPECTED as error:
                self._failed(study.name, error)

    def result(self, *, started: str) -> Result:
        """Return all that was found."""
        return Result(
            started=started,
            machine=self.machine,
            extent=self.extent,
            comparisons=tuple(self.comparisons),
            reports=tuple(self.reports),
            failures=self.failures,
        )

    def _tell(self, doing: str) -> None:
        now = dt.datetime.now().astimezone()
        self.console.print(f"[dim]{now:%H:%M:%S}[/] {doing}", highlight=False)

    def _failed(self, what: str, error: Exception) -> None:
        self.failures[what] = str(error)
        self.console.print(f"[red]not measured:[/] {what}", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; returns the exit status."""
    args = _arguments(argv)
    wanted = re.compile(args.only, re.IGNORECASE)
    rows = [row for row in ROWS if wanted.search(row.name)]
    studies = [study for study in STUDIES if wanted.search(study.name)]
    started = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory(prefix="scrubjay-bench-", dir=args.dir) as name:
        folder = Path(name)
        bench = Bench(
            folder=folder,
            extent=QUICK if args.quick else FULL,
            machine=describe(folder),
            console=Console(stderr=True),
        )
        size_bytes = 2 * WORKING_SET_BYTES
        if rows:
            peers: tuple[Peer, ...] = (
                Scrubjay(folder, size_bytes=size_bytes),
                qemu_luks(folder, size_bytes=size_bytes),
                nbdkit(folder, size_bytes=size_bytes),
            )
            bench.side_by_side(peers, rows)
        bench.studies(studies)
        result = bench.result(started=started)
    out = Console()
    show(result, out if out.is_terminal else Console(width=WIDTH))
    write_json(result, args.json)
    print(f"every turn: {args.json}")
    return 1 if result.failures else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs: what is roughly true")
    parser.add_argument("--only", metavar="ROWPATTERN", default="", help="rows and reports whose"
                        " name this regular expression finds")  # fmt: skip
    parser.add_argument("--dir", type=Path, default=ON_DISK, help="where all servers keep"
                        " their files; some 40 GiB, on a disk (default: %(default)s)")  # fmt: skip
    parser.add_argument("--json", type=Path, default=Path("results/bench.json"), metavar="FILE",
                        help="where every turn is written (default: %(default)s)")  # fmt: skip
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
