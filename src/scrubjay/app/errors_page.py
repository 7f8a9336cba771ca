"""The page docs/errors.md, made from the error classes.

    python -m scrubjay.app.errors_page > docs/errors.md

A test keeps page and classes in step.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from errno import errorcode

import scrubjay
from scrubjay.base.errors import ScrubjayError

__all__ = ["render"]

_HEAD = """\
# Errors

Made from the classes by `python -m scrubjay.app.errors_page`; do not edit.

Every error that Scrubjay raises on purpose has a class, by what you do next, and each
class has a code. The code, the HTTP status and the exit status of a class never change.
The API answers with a problem (RFC 9457, `application/problem+json`) whose `code` is the
class's, whose `detail` reads "subject id: observed, expected", and whose `hint` says what
to do. The command line prints both, with `--json` as an object with `code`, `detail` and
`hint` on stderr, and ends with the exit status. An NBD client gets the error number.

| code | what it means | HTTP | exit | NBD |
|---|---|---|---|---|
"""

_TAIL = """
Other exit statuses of the command line: 0, done; 1, `pool scan` or `audit` found what it
looked for, `certificate verify` found it not proven, `pool retire` read back a page wrongly,
or you said no (or pressed Ctrl-C) when asked; 2 also for a command line that
cannot be parsed; 70, with a traceback: that is a bug, please report it; 130, you
interrupted it; 141, who read the output left. What cannot be printed, as on a full disk, is
`unavailable`, 6; the command was done all the same.
"""


def render() -> str:
    """Return the page."""
    rows = {
        (each.exit_status, depth, each.code): _row(each)
        for depth, each in _below(ScrubjayError, 0)
        if "code" in vars(each)  # what has none of its own is, to others, its parent
    }
    return _HEAD + "".join(row for _, row in sorted(rows.items())) + _TAIL


def _below(kind: type[ScrubjayError], depth: int) -> Iterator[tuple[int, type[ScrubjayError]]]:
    """Yield every class below one, wherever in the package it stands."""
    if kind is ScrubjayError:
        for module in pkgutil.walk_packages(scrubjay.__path__, "scrubjay."):
            if ".migrations" not in module.name:  # they run when they are imported
                importlib.import_module(module.name)
    for each in kind.__subclasses__():
        yield depth, each
        yield from _below(each, depth + 1)


def _row(kind: type[ScrubjayError]) -> str:
    meaning = (kind.__doc__ or "").partition("\n")[0]
    nbd = errorcode[kind.nbd_errno]
    return f"| `{kind.code}` | {meaning} | {kind.http_status} | {kind.exit_status} | {nbd} |\n"


if __name__ == "__main__":
    sys.stdout.write(render())
