"""What was done, how long it took, what was proven: told while it happens, and as a table."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

__all__ = ["Report", "Running", "Step", "Unproven", "number", "prove", "size"]

MIB = 1 << 20
GIB = 1 << 30


class Unproven(Exception):
    """Something did not come out as promised. The message says what was seen instead."""


def prove(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence: prove(a == b, "a is ...")
    """Raise Unproven, with what was seen instead, unless it holds."""
    if not holds:
        raise Unproven(otherwise)


@dataclass(frozen=True, slots=True)
class Step:
    """A line of the table."""

    title: str
    seconds: float
    proven: tuple[str, ...]


@dataclass(slots=True)
class Running:
    """A step that is being done."""

    title: str
    progress: Progress
    facts: list[str] = field(default_factory=list)

    def proven(self, fact: str) -> None:
        """Note what this step has shown."""
        self.facts.append(fact)

    def doing(self, what: str) -> None:
        """Show what goes on at this moment."""
        for task in self.progress.tasks:
            self.progress.update(task.id, now=what)

    def advance(self, done: int, total: int) -> None:
        """Show how far it is."""
        for task in self.progress.tasks:
            self.progress.update(task.id, completed=done, total=total)


class Report:
    """Shows each step as it goes, and keeps it for the table."""

    def __init__(self, console: Console, *, step_count: int) -> None:
        self.steps: list[Step] = []
        self.closing = ""
        """What is shown beneath the table."""
        self._console = console
        self._step_count = step_count

    @contextmanager
    def step(self, title: str) -> Iterator[Running]:
        """Do one step in the block; it counts once the block has been left in order."""
        progress = Progress(
            SpinnerColumn(),
            TextColumn(f"{len(self.steps) + 1:>2}/{self._step_count}"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[now]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        running = Running(title, progress)
        begun = time.perf_counter()
        with progress:
            progress.add_task(escape(title), total=None, now="")
            yield running
        step = Step(title, time.perf_counter() - begun, tuple(running.facts))
        self.steps.append(step)
        self._console.print(f"[green]done[/] {step.seconds:5.1f} s  {escape(title)}")

    def table(self) -> Table:
        """Return the table of all steps that were done."""
        table = Table(title="What was done, and what it proved", title_justify="left")
        table.add_column("", justify="right", style="dim")
        table.add_column("done", ratio=2)
        table.add_column("took", justify="right", no_wrap=True)
        table.add_column("proven", ratio=3)
        for index, step in enumerate(self.steps, 1):
            facts = escape("\n".join(step.proven))
            table.add_row(str(index), escape(step.title), f"{step.seconds:.1f} s", facts)
        table.add_section()
        total = sum(step.seconds for step in self.steps)
        table.add_row("", "all of it", f"{total:.1f} s", "")
        return table


def number(count: int, noun: str) -> str:
    """Return a count and what it counts: "1 file", "1,904 files"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def size(count_bytes: int) -> str:
    """Return a size as people read it."""
    if count_bytes >= GIB:
        return f"{count_bytes / GIB:.1f} GiB"
    return f"{count_bytes / MIB:.0f} MiB"
