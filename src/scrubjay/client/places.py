"""Where a home lies, and where in it the daemon listens."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from scrubjay.base.errors import Invalid

__all__ = ["api_socket", "find_home"]

_ROOT = 0


def find_home(environ: Mapping[str, str], *, uid: int) -> Path:
    """Return the home: $SCRUBJAY_HOME, else /var/lib/scrubjay for root, else the XDG data folder.

    XDG Base Directory Specification 0.8: a relative path is to be ignored.
    """
    if given := environ.get("SCRUBJAY_HOME"):
        home = Path(given)
        if not home.is_absolute():
            raise Invalid(f"SCRUBJAY_HOME {given}: expected an absolute path")
        return home
    if uid == _ROOT:
        return Path("/var/lib/scrubjay")
    data = environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(data):  # noqa: PTH117 - a text that may be empty, not yet a path
        if not (user := environ.get("HOME")):
            raise Invalid("home: neither SCRUBJAY_HOME nor HOME is set, expected one")
        data = f"{user}/.local/share"
    return Path(data) / "scrubjay"


def api_socket(home: Path) -> Path:
    """Return where the daemon of a home listens."""
    return home / "run" / "api.sock"
