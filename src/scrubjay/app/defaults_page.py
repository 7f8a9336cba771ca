"""The page docs/defaults.md, made from the ledger of defaults.

    python -m scrubjay.app.defaults_page > docs/defaults.md

A test keeps page and ledger in step.
"""

from __future__ import annotations

import sys

from scrubjay.evidence.defaults import Entry, Setting
from scrubjay.evidence.promises import LEDGER

__all__ = ["render"]

_HEAD = """\
# Defaults are promises

Made from the ledger by `python -m scrubjay.app.defaults_page`; do not edit.

Whoever uses Scrubjay relies on what it does when nobody says otherwise. So every default that
security rests on stands in a ledger (`src/scrubjay/evidence/promises.py`), with its value, since
which version and day, what it was before, and why. `scrubjay defaults` prints it, with no daemon
too. The test suite fails when a default in the code is not the newest entry, and when an entry
that was made is changed.

**A change** is one more entry. The pool remembers with which defaults it was last served. A
daemon whose ledger says something else tells every tenant so, before it serves anything:
`scrubjay event list --tenant NAME`, or `GET /v1/events`. The event says what it was, what it
will be, why, and from which moment on.

- What protects better, or as well, takes effect at once.
- What protects less takes effect after seven days, where the daemon can go on with the value
  before (*held* below). A second event says when it did.
- What protects less and cannot be held back takes effect with the upgrade, and the event says
  so. **Read the changelog before you upgrade**: for these there is no notice but that.

What an operator sets himself is no default, and is not announced by this. An event is for
everybody who can ask the API, which today is the daemon's owner alone: handing it to tenants
is up to him. A pool that an older Scrubjay made begins to remember when this one first serves it.

| setting | value | since | before | what it is, and why | if weakened |
|---|---|---|---|---|---|
"""


def render() -> str:
    """Return the page."""
    return _HEAD + "".join(
        _row(setting, LEDGER.newest(name)) for name, setting in LEDGER.settings.items()
    )


def _row(setting: Setting, newest: Entry) -> str:
    since = f"{newest.version}, {newest.day}"
    weakened = "held for seven days" if setting.held else "with the upgrade"
    return (
        f"| `{setting.name}` | {newest.value} | {since} | {newest.before or '-'} "
        f"| {setting.means}: {newest.why} | {weakened} |\n"
    )


if __name__ == "__main__":
    sys.stdout.write(render())
