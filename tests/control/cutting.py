"""What crash tests of this room share: the disks after each step, and the catalog beside them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.control.rig import Disks, Step


def copy_catalog(folder: Path, to: Path) -> Path:
    """Copy a closed catalog into another folder; return that."""
    to.mkdir()
    shutil.copy(folder / "catalog.db", to)
    return to


def cuts(steps: list[Step], disks: Disks) -> Iterator[Disks]:
    """Play a trace; yield the disks before its first step and after each one."""
    yield disks
    for step in steps:
        disks.play(step)
        yield disks
