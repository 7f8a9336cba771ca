"""Fixtures of this room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.app import rig
from tests.app.rig import Home


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
