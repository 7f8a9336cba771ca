"""Fixtures of this room."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app import rig
from tests.app.rig import Home


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, as sockets want it."""
    with tempfile.TemporaryDirectory(prefix="sj-") as name:
        yield Path(name)


@pytest.fixture
def place() -> Iterator[Home]:
    """A place where no home is yet."""
    with rig.home() as found:
        yield found


@pytest.fixture(scope="session")
def template() -> Iterator[Home]:
    """A home that was just made, for others to be copies of."""
    with rig.home() as found:
        found.init()
        yield found


@pytest.fixture
def home(place: Home, template: Home) -> Home:
    """A home that is not served."""
    place.copy(template)
    return place


@pytest.fixture
def served(home: Home) -> Home:
    """A home that is being served."""
    home.serve()
    return home
