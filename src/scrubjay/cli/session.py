"""How a command meets the daemon, and the person: the connection, waiting, asking."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable
from urllib.parse import quote

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from scrubjay.base.errors import Invalid, NotFound
from scrubjay.client.connection import Connection, error_of
from scrubjay.client.places import api_socket, find_home
from scrubjay.client.replies import Operation

__all__ = ["confirm", "connect", "new_key", "part", "wait_for"]

_POLL_FIRST_S = 0.02
_POLL_MAX_S = 0.5
_NAMES = {
    "volume.destroy": "forgetting the key",
    "tenant.close": "forgetting all keys",
    "pool.scan": "searching the media",
}
"""What people call the kinds of operations."""


def connect() -> Connection:
    """Return a connection to the daemon of this person's home; NotFound without a home."""
    home = find_home(os.environ, uid=os.geteuid())
    socket = api_socket(home)
    try:
        socket.parent.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            f"home {home}: not there",
            hint="make it with: scrubjay init, or set SCRUBJAY_HOME",
        ) from error
    except OSError:
        pass  # connecting says what it is
    return Connection(socket)


def new_key() -> str:
    """Return an Idempotency-Key for one POST."""
    return str(uuid.uuid4())  # noqa: TID251 - guards against repeats, protects no secret


def part(name: str) -> str:
    """Return a name or id as one part of a path, whatever is in it."""
    if name in ("", ".", ".."):
        raise Invalid(f"name {name!r}: expected a name or an id")
    return quote(name, safe="")


def confirm(question: str, *, subject: str, yes: bool) -> None:
    """Ask before something is destroyed; Invalid where nobody can answer."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Invalid(f"{subject}: no terminal to ask on", hint="say --yes if you mean it")
    typer.confirm(question, abort=True, err=True)


def wait_for(
    connection: Connection, operation: Operation, *, why: Callable[[], str] = lambda: ""
) -> Operation:
    """Wait for an operation, with its progress on a terminal; raise what made it fail.

    `why` says what long waiting is for, "" where it is only long: that is told once each.
    """
    named = _NAMES.get(operation.kind, operation.kind)
    told = ""
    bar = Progress(
        TextColumn(named),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    pause_s = _POLL_FIRST_S
    with bar:
        task = bar.add_task(named, total=None)
        while operation.state == "running":
            time.sleep(pause_s)
            if pause_s == _POLL_MAX_S and (reason := why()) not in ("", told):
                told = reason
                bar.console.print(f"waits: {reason}", soft_wrap=True, markup=False, highlight=False)
            pause_s = min(pause_s * 1.5, _POLL_MAX_S)
            operation = connection.get(f"operations/{operation.id}", Operation)
            bar.update(
                task,
                completed=operation.progress.done,
                total=operation.progress.total or None,
            )
    if operation.problem is not None:
        raise error_of(operation.problem)
    return operation
