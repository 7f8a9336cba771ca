"""Fixtures of this room."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.api.rig import client_of, made_home
from tests.control.rig import World


@pytest.fixture
def served() -> Iterator[tuple[World, httpx.Client]]:
    """A world with one tenant that is being served, and a client."""
    with made_home() as (world, home), client_of(home) as client:
        world.tenants.create("acme")
        yield world, client


@pytest.fixture
def client(served: tuple[World, httpx.Client]) -> httpx.Client:
    """A client of an API with the tenant acme."""
    return served[1]
