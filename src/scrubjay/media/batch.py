"""Changes on their way to the media: gathered in a batch, sealed as pages (pool.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event

from scrubjay.media.change import Change
from scrubjay.media.commit import Crown
from scrubjay.media.tree import Root

__all__ = ["Batch", "Sealed"]


@dataclass(slots=True)
class Batch:
    """Changes that will be, or were, committed together; the first one's thread writes."""

    changes: list[Change] = field(default_factory=list)
    settled: Event = field(default_factory=Event)
    """Set once it is durable, or the pool has stopped."""
    durable: bool = False


@dataclass(frozen=True, slots=True)
class Sealed:
    """A batch as pages, ready to be written."""

    root: Root
    crown: Crown
    pages: dict[int, bytes]
    freed: list[int]
