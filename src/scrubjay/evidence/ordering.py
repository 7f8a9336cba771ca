"""Two things that rules ask of many lists: that moments are in order, and that names differ."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Sequence

from scrubjay.base.errors import Invalid

__all__ = ["in_order", "unique"]


def in_order(moments: Sequence[tuple[str, dt.datetime | None]]) -> None:
    """Raise Invalid, naming two of them, where a moment is before the one that it follows."""
    known = [(name, moment) for name, moment in moments if moment is not None]
    for (earlier, first), (later, second) in itertools.pairwise(known):
        if second < first:
            raise Invalid(f"{later} at {second.isoformat()}, before {earlier}")


def unique(names: Sequence[object], what: str) -> None:
    """Raise Invalid where one occurs twice."""
    if len(set(names)) != len(names):
        raise Invalid(f"a {what} twice")
