"""Running other programs: their failure is what was not proven."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from demo.report import Unproven

__all__ = ["Failed", "run"]

LIMIT_S = 300
SAID_MAX = 2000


class Failed(Unproven):
    """A program that ended with another status than 0, and what it printed as its result."""

    def __init__(self, message: str, status: int, printed: str) -> None:
        super().__init__(message)
        self.status = status
        self.printed = printed


def run(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Return what a program printed; Failed, with what it said, if it failed."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=LIMIT_S,
        check=False,
        env=env,
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-SAID_MAX:]
        raise Failed(
            f"{Path(command[0]).name} ended with {done.returncode}: {said}",
            done.returncode,
            done.stdout,
        )
    return done.stdout
