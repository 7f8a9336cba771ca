"""Records of what tenants are told: the defaults as they stand, and events (records.md)."""

from __future__ import annotations

import struct

from scrubjay.control.records import U24, U64, Moment, Record

__all__ = [
    "DEFAULTS_KEY",
    "EVENTS_KEY",
    "DefaultsRecord",
    "EventRecord",
    "EventsRecord",
    "StandingDefault",
    "event_key",
]

DEFAULTS_KEY = b"n"
EVENTS_KEY = b"j"


class StandingDefault(Record, frozen=True):
    """A default as it stands in this pool, and the change of it that is announced."""

    setting: str
    value: str
    since: Moment
    """When it took effect here."""
    next: str = ""
    next_at: Moment | None = None
    untold: str | None = None
    """The value before, until the log of evidence has heard of the change."""


class DefaultsRecord(Record, frozen=True):
    """Key `n`: the defaults with which this pool was last served; none before the first time."""

    version: str
    """Of the Scrubjay that served it."""
    standing: tuple[StandingDefault, ...]


class EventsRecord(Record, frozen=True):
    """Key `j` alone: what the next event is called; it only ever grows."""

    next: U64 = 1


class EventRecord(Record, frozen=True):
    """Key `j` with a number: something that a tenant, or every one, is told. Never changed."""

    at: Moment
    kind: str
    text: str
    tenant: U24 | None = None
    """Whom it is for; None: everybody."""
    effective_at: Moment | None = None
    """When what it announces takes effect, where that is another moment."""
    facts: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it


def event_key(number: int) -> bytes:
    """Key of an EventRecord; numbers begin at 1."""
    return struct.pack(">cQ", EVENTS_KEY, number)
