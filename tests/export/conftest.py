"""Fixtures of the export room: a home of real processes, and clients that do not stay open."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from scrubjay.client.nbd import NbdClient
from tests.export.rig import Connect, Home, home


@pytest.fixture
def here() -> Iterator[Home]:
    """A home with a parent and a daemon's export room."""
    with home() as made:
        yield made


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes clients that are closed when the test is over, whatever became of their server."""
    with contextlib.ExitStack() as clients:
        yield lambda path: clients.enter_context(NbdClient(path))
