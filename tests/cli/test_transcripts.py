"""Command lines as transcripts that one can read: tests/cli/transcripts/*.txt.

    # a comment
    $ scrubjay tenant create acme        a command; what follows is all that it prints
    tenant acme created                  on stdout
    ! scrubjay: ...                      on stderr
    [5]                                  its exit status, unless 0

`...` stands for anything within a line. Each transcript begins with an empty home that is
being served; `$ daemon stop` ends the daemon.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog

from scrubjay.cli.main import make_commands, run
from tests.api.rig import made_home

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@dataclass
class Spoken:
    """One command, and what it is expected to print."""

    line: int
    command: str
    expected: list[str] = field(default_factory=list)


class NoTerminal(io.StringIO):
    """An input that nobody types on."""

    def isatty(self) -> bool:
        """Say that it is none."""
        return False


def spoken_in(path: Path) -> Iterator[Spoken]:
    """Yield the commands of a transcript."""
    spoken = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("#") or (not line and spoken is None):
            continue
        if line.startswith("$ "):
            if spoken:
                yield spoken
            spoken = Spoken(number, line.removeprefix("$ "))
        elif spoken:
            spoken.expected.append(line)
    if spoken:
        yield spoken


def printed_by(command: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run a command in this process; return what it printed, as a transcript has it."""
    program, *arguments = shlex.split(command)
    assert program == "scrubjay"
    out, complaints, status = io.StringIO(), io.StringIO(), 0
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    monkeypatch.setattr(sys, "stdin", NoTerminal())
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(complaints):
        try:
            run(make_commands())
        except SystemExit as ended:
            status = int(ended.code or 0)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    lines += [f"! {line}".rstrip() for line in complaints.getvalue().splitlines()]
    return lines + ([f"[{status}]"] if status else [])


def fits(expected: str, line: str) -> bool:
    """Whether a line is what a transcript says."""
    pattern = ".*".join(re.escape(part) for part in expected.split("..."))
    return re.fullmatch(pattern, line) is not None


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Let the daemon, which is in this process, say nothing among the results."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_command_line_prints_what_its_transcript_says(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What people and their scripts see changes only on purpose."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "dumb")
    time.tzset()
    with contextlib.ExitStack() as daemon:
        _, home = daemon.enter_context(made_home())
        monkeypatch.setenv("SCRUBJAY_HOME", str(home))
        for spoken in spoken_in(path):
            if spoken.command == "daemon stop":
                daemon.close()
                (tmp_path / "run").mkdir()  # a home like it, which is still there
                monkeypatch.setenv("SCRUBJAY_HOME", str(tmp_path))
                continue
            expected = [line for line in spoken.expected if line]
            printed = [line for line in printed_by(spoken.command, monkeypatch) if line]
            agrees = len(expected) == len(printed) and all(map(fits, expected, printed))
            assert agrees, "\n".join([f"{path.name}:{spoken.line}: $ {spoken.command}", *printed])
