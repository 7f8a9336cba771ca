"""What is printed on a screen of 80 columns, and what long waiting is for."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import sys
import time
from collections.abc import Sequence
from typing import TypeVar

import pytest
import typer

from scrubjay.cli import promises
from scrubjay.cli.main import run
from scrubjay.cli.output import print_facts, print_paragraphs
from scrubjay.cli.session import wait_for
from scrubjay.client.connection import Connection
from scrubjay.client.replies import Operation, Progress
from scrubjay.evidence.promises import LEDGER

_T = TypeVar("_T")
NOON = dt.datetime(2026, 1, 2, 12, tzinfo=dt.UTC)
LONG = "a finding of many words " * 12


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """Say that it is one."""
        return True


def shown(monkeypatch: pytest.MonkeyPatch, act: object, *, screen: bool = True) -> list[str]:
    """Return the lines that something prints on a screen of 80 columns."""
    assert callable(act)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    out = Screen() if screen else io.StringIO()
    with contextlib.redirect_stdout(out):
        act()
    return out.getvalue().splitlines()


def test_facts_break_between_words_under_their_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is cut, and a word stays whole, though it be longer than the line."""
    word = "x" * 100
    facts = [("sink", "file"), ("", LONG), ("at", word)]
    lines = shown(monkeypatch, lambda: print_facts(facts, wrapped=True))
    assert all(len(line) <= 80 for line in lines if word not in line)
    assert all(line.startswith("      a ") or not line[:6].strip() for line in lines[1:-1])
    assert " ".join(line.strip() for line in lines[1:-1]) == LONG.strip()
    assert lines[-1] == f"at    {word}"


def test_facts_for_programs_stay_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script reads lines; so does who copies an address."""
    facts = [("sink", LONG)]
    assert len(shown(monkeypatch, lambda: print_facts(facts, wrapped=True), screen=False)) == 1
    assert len(shown(monkeypatch, lambda: print_facts(facts))) == 1


def test_defaults_fit_on_a_screen_with_every_value_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting, value or reason is cut in the middle of a word."""
    found = [
        promises._shipped(name)  # noqa: SLF001 - what is shown where no daemon is
        for name in LEDGER.settings
    ]
    monkeypatch.setattr(promises, "_asked", lambda: found)
    lines = shown(monkeypatch, promises.defaults)
    assert all(len(line) <= 80 for line in lines)
    for each in found:
        assert f"{each.setting}: {each.value}" in lines
    table = shown(monkeypatch, promises.defaults, screen=False)
    assert len(table) == len(found) + 1


def test_paragraphs_too_long_for_a_line_are_broken_between_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first line too."""
    lines = shown(monkeypatch, lambda: print_paragraphs([[LONG, LONG]]))
    assert all(len(line) <= 80 for line in lines)
    assert " ".join(line.strip() for line in lines) == f"{LONG}{LONG}".strip()


class Answering(Connection):
    """A daemon whose operation runs for so many looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def get(self, path: str, reply: type[_T], **query: str | int | None) -> _T:
        """Answer."""
        assert (path, query) == ("operations/7", {})
        self.looks -= 1
        answer = running("running" if self.looks else "done")
        assert isinstance(answer, reply)
        return answer


def running(state: str) -> Operation:
    """Return a destroy in a state."""
    return Operation(
        id="7",
        kind="volume.destroy",
        subject="volume db0",
        state="done" if state == "done" else "running",
        created_at=NOON,
        progress=Progress(0, 0, ""),
    )


def test_long_waiting_says_what_for_once_per_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also without a terminal; what is only short, or has no reason, says nothing."""
    monkeypatch.setattr(time, "sleep", lambda _s: None)
    reasons = iter(["", "sink away", "sink away", "pool gone", "", "pool gone", "sink away"])
    done = wait_for(Answering(16), running("running"), why=lambda: next(reasons, ""))
    assert done.state == "done"
    assert capsys.readouterr().err.splitlines() == [
        "waits: sink away",
        "waits: pool gone",
        "waits: sink away",
    ]
    wait_for(Answering(3), running("running"), why=lambda: "too early to say")
    assert capsys.readouterr().err == ""


def ended(monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str], act: object) -> object:
    """Return the status of a command line with one command that takes --json."""
    commands = typer.Typer(pretty_exceptions_enable=False)
    commands.callback()(lambda: None)

    @commands.command()
    def make(*, size: str = typer.Option(...), json: bool = False) -> None:
        assert size
        assert callable(act)
        act()

    monkeypatch.setattr(sys, "argv", ["scrubjay", *arguments])
    with pytest.raises(SystemExit) as caught:
        run(commands)
    return caught.value.code


@pytest.mark.parametrize(
    "arguments", [["make", "--json"], ["make", "--size"], ["make", "--no"], ["nothing"]]
)
def test_command_line_that_cannot_be_parsed_is_json_where_that_was_asked_for(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One object on stderr and status 2, as every other error that is the caller's."""
    asked = [*arguments, "--json"] if arguments != ["make", "--size"] else ["--json", *arguments]
    assert ended(monkeypatch, asked, lambda: None) == 2
    error = capsys.readouterr().err
    assert error.startswith('{"code":"invalid","detail":"command line: ')
    assert error.count("\n") == 1


def declined() -> None:
    """Say no."""
    raise typer.Abort


def found() -> None:
    """End as `pool scan` does."""
    raise typer.Exit(1)


@pytest.mark.parametrize(("act", "status"), [(lambda: None, 0), (declined, 1), (found, 1)])
def test_command_with_json_ends_with_the_same_status(
    act: object, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it prints JSON changes nothing else."""
    for extra in ([], ["--json"]):
        assert ended(monkeypatch, ["make", "--size", "1", *extra], act) == status
