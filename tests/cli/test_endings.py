"""How a command line ends where no error of ours ends it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from scrubjay.cli.main import run


def ended(commands: typer.Typer, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> object:
    """Run a command line in this process; return its status."""
    monkeypatch.setattr(sys, "argv", ["scrubjay", *arguments])
    with pytest.raises(SystemExit) as caught:
        run(commands)
    return caught.value.code


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("end", ["typer.echo('result')", "print('result')"])
def test_output_that_cannot_be_written_is_one_line_and_unavailable(
    end: str, unbuffered: str
) -> None:
    """A full disk is no bug of ours, and no success either; it may show only at the end."""
    program = (
        "import typer; from scrubjay.cli.main import run; commands = typer.Typer()\n"
        f"commands.command()(lambda: {end}); run(commands)"
    )
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.stderr, done.returncode) == ("scrubjay: output: No space left on device\n", 6)


def test_bug_shows_its_traceback_and_has_a_status_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts can tell it from what `pool scan` finds."""
    commands = typer.Typer(pretty_exceptions_enable=False)

    @commands.command()
    def broken() -> None:
        raise OSError(5, "nobody foresaw it")

    assert ended(commands, monkeypatch=monkeypatch) == 70
    assert "nobody foresaw it" in capsys.readouterr().err


def test_argument_that_is_no_text_is_invalid(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever it would have named: neither a path nor JSON can carry it."""
    commands = typer.Typer(pretty_exceptions_enable=False)
    commands.command()(typer.echo)
    assert ended(commands, "\udcff\udcfe", monkeypatch=monkeypatch) == 2
    assert capsys.readouterr().err == "scrubjay: argument '\\udcff\\udcfe': not UTF-8\n"
