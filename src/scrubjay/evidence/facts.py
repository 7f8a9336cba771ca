"""The facts of an erasure: counts, times and places, as control knows them.

No field here says that something is erased, passed or met: certificate.py derives that.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from scrubjay.evidence.statement import (
    CopyKind,
    MediumKind,
    MediumRetired,
    MediumScrubbed,
    Move,
    SinkDropped,
    Subject,
    Wiped,
)

__all__ = ["Facts", "Held", "Kept", "Looked", "Medium", "RetireFacts", "ScrubFacts"]


@dataclass(frozen=True, slots=True)
class Medium:
    """A medium that the volumes lay on."""

    kind: MediumKind
    id: str
    place: str


@dataclass(frozen=True, slots=True)
class Kept:
    """Why a copy is not erased, and until when; None: for good, if it is but traces."""

    until: dt.datetime | None
    because: str


@dataclass(frozen=True, slots=True)
class Held:
    """A copy, beside sinks and media; without `kept`, it is to be erased, and to be proven so."""

    kind: CopyKind
    id: str
    place: str
    holds: Literal["ciphertext", "keys", "plaintext", "traces"]
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class Looked:
    """Somebody looked whether a copy is gone: how, when, at how much, and what was still there."""

    kind: CopyKind
    id: str
    method: str
    at: dt.datetime
    total: int
    examined: int
    mismatches: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What happened to volumes that share one rotation."""

    issued_at: dt.datetime
    pool: UUID
    scope: Literal["volumes", "tenant"]
    subjects: tuple[Subject, ...]
    epoch_before: int
    epoch_after: int
    forgotten_at: dt.datetime
    sinks: tuple[SinkDropped, ...]
    media: tuple[Medium, ...]
    held: tuple[Held, ...]
    looked: tuple[Looked, ...]
    scrub_within_s: int
    purge_within_s: int
    dead_since: dt.datetime | None = None
    """Since when the oldest was dead inside them that this forgetting made unreadable."""
    logged: tuple[str, ...] = ()
    asserted: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    """Beside `ASSUMED` of certificate.py."""


@dataclass(frozen=True, slots=True)
class ScrubFacts:
    """What happened to the slots of what a first certificate is about."""

    issued_at: dt.datetime
    media: tuple[MediumScrubbed, ...]
    held: tuple[Held, ...]
    """What the first certificate said is kept, beside media; and what was found since."""
    looked: tuple[Looked, ...]
    logged: tuple[str, ...] = ()
    asserted: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RetireFacts:
    """What happened to a medium that a pool has left."""

    issued_at: dt.datetime
    pool: UUID
    medium: MediumRetired
    move: Move
    wiped: Wiped
    looked: tuple[Looked, ...]
    """At its superblocks and at each sink; what was read back of it follows from `wiped`."""
    logged: tuple[str, ...] = ()
    asserted: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
