"""What commands print: results on stdout, as tables or JSON; everything else on stderr.

A table fits the screen; where there is none, it is as wide as it needs. Nothing is cut off.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scrubjay.base.errors import ScrubjayError, Unavailable
from scrubjay.base.units import GIB, KIB, MIB, TIB

__all__ = [
    "AsJson",
    "ago",
    "counted",
    "fail",
    "fits_screen",
    "note",
    "print_facts",
    "print_json",
    "print_paragraphs",
    "print_table",
    "size_text",
    "watch_stdout",
    "wrapped",
]

_WIDE = 1000
_ROOM_MIN = 20
_INDENT = 4

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def print_json(result: object) -> None:
    """Print a result for programs."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(result), indent=2).decode() + "\n")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """Print rows under headings; say `empty` on stderr where there are none.

    A heading that ends in ">" is of a column of numbers.
    """
    if not rows:
        note(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        right = heading.endswith(">")
        table.add_column(
            heading.removesuffix(">"), justify="right" if right else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*row)
    _print(table)


def fits_screen(rows: Sequence[Sequence[str]]) -> bool:
    """Whether a table of these rows, headings among them, needs no line of it to be broken."""
    if not sys.stdout.isatty():
        return True
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return sum(widths) + 2 * (len(widths) - 1) <= Console().width


def print_paragraphs(paragraphs: Sequence[Sequence[str]]) -> None:
    """Print each under its first line, which stands out, broken between words."""
    console = Console(highlight=False, markup=False, emoji=False)
    for first, *others in paragraphs:
        for line in _words(first, console.width):
            console.print(Text(line, "bold"), soft_wrap=True)
        for other in others:
            for line in _words(other, console.width - _INDENT):
                console.print(" " * _INDENT + line, soft_wrap=True)


def print_facts(facts: Sequence[tuple[str, str]], *, wrapped: bool = False) -> None:
    """Print facts about one thing, a line each; `wrapped` under their column on a terminal.

    Otherwise lines are left to the terminal: an address, or a command, is to be copied.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    width = max(len(name) for name, _ in facts)
    room = console.width - width - 2 if wrapped and sys.stdout.isatty() else _WIDE
    for name, value in facts:
        lines = [value] if len(value) <= room else _words(value, max(room, _ROOM_MIN))
        for at, line in enumerate(lines):
            heading = name.ljust(width) if at == 0 else " " * width
            console.print(Text.assemble((heading, "bold"), "  ", line), soft_wrap=True)


def wrapped(text: str, *, indent: str = "") -> str:
    """Return a sentence in lines that fit the screen; as one line where there is no screen."""
    if not sys.stdout.isatty():
        return text
    width = shutil.get_terminal_size().columns
    return textwrap.fill(text, width, subsequent_indent=indent, break_on_hyphens=False)


def note(text: str) -> None:
    """Tell the person something that is no result."""
    sys.stderr.write(f"{text}\n")


def fail(error: ScrubjayError, *, as_json: bool) -> None:
    """Say what went wrong and what to do about it, on stderr; for programs as one object."""
    if as_json:
        problem = {"code": error.code, "detail": error.message, "hint": error.hint}
        note(msgspec.json.encode(problem).decode())
        return
    note(f"scrubjay: {error.message}")
    if error.hint:
        note(f"    hint: {error.hint}")


def watch_stdout() -> None:
    """Let what cannot be printed raise Unavailable, told from every other failure."""
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and not isinstance(out, _Watched):
        sys.stdout = _Watched(
            out.buffer,
            encoding=out.encoding,
            errors=out.errors,
            line_buffering=out.line_buffering,
            write_through=out.write_through,
        )


def size_text(size_bytes: int) -> str:
    """Return a size as people read it: "10GiB", "1.5TiB", "0"."""
    for name, unit in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f}".removesuffix(".0") + name
    return str(size_bytes)


def counted(count: int, what: str) -> str:
    """Return "1 slot", "2 slots"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def ago(moment: dt.datetime) -> str:
    """Return a moment as people read it, in their own zone, to the minute."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


class _Watched(io.TextIOWrapper):
    def write(self, text: str, /) -> int:
        if text == "":  # as click does to see what takes it, deaf to what that raises
            return 0
        with self._told():
            return super().write(text)

    def flush(self) -> None:
        with self._told():
            super().flush()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nowhere, self.fileno())  # Python tries once more at its end
            os.close(nowhere)
            if isinstance(error, BrokenPipeError):
                raise
            raise Unavailable(f"output: {error.strerror}") from error


def _words(text: str, room: int) -> list[str]:
    """Return lines that break between words only."""
    return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)


def _print(table: Table) -> None:
    if sys.stdout.isatty():
        Console(highlight=False, markup=False, emoji=False).print(table)
        return
    text = io.StringIO()
    Console(file=text, width=_WIDE, highlight=False, markup=False, emoji=False).print(table)
    for line in text.getvalue().splitlines():
        sys.stdout.write(line.rstrip() + "\n")
