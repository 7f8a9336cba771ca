"""Fixtures of this room."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control.rig import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A control plane with two tenants."""
    made = World.make(tmp_path)
    for name in ("acme", "zeta"):
        made.tenants.create(name)
    yield made
    made.close()
    shutil.rmtree(tmp_path, ignore_errors=True)
