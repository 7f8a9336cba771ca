"""The house in which stories with planted bugs are told."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scrubjay.sinks.split import merge
from tests.model.blank import IN_MEMORY
from tests.model.house import House


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A house in which nothing has happened."""
    monkeypatch.setattr("scrubjay.sinks.file.merge", functools.lru_cache(merge))
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        made = House(Path(folder))
        yield made
        made.close()
