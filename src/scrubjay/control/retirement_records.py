"""Records of media that a pool has left, on the way to their certificates (records.md)."""

from __future__ import annotations

import uuid

from scrubjay.base.errors import Corrupt
from scrubjay.control.records import U64, Moment, Record, decode
from scrubjay.evidence.statement import MediumRetired, Wiped

__all__ = [
    "RETIREMENT_PREFIX",
    "ErasedRecord",
    "RetirementRecord",
    "parse_retirement",
    "retirement_key",
]

RETIREMENT_PREFIX = b"R"


class ErasedRecord(Record, frozen=True):
    """What one erasing of the medium found, from the process that erased it."""

    wiped: Wiped
    looked_at: Moment
    superblocks_opened: U64
    """How many of its two superblocks the sink still opened, before they were overwritten."""


class RetirementRecord(Record, frozen=True):
    """Key `R`: a medium that the pool leaves.

    It is noted before anything is copied. So only where another medium holds it did the
    pool really leave, and nothing in the home can say so in its place.
    """

    medium: MediumRetired
    noted_at: Moment
    epoch_before: U64
    moved_to: str
    left_at: Moment | None = None
    """When the pool was first opened elsewhere, and the sink had dropped the old epoch."""
    epoch_after: U64 = 0
    erased: ErasedRecord | None = None
    """The newest erasing; None before the first."""
    certificate: str = ""
    """Digest of the certificate about that erasing; "" until it is issued."""


def retirement_key(medium: uuid.UUID) -> bytes:
    """Key of a RetirementRecord."""
    return RETIREMENT_PREFIX + medium.bytes


def parse_retirement(key: bytes, value: bytes) -> RetirementRecord:
    """Return the record under a key; Corrupt where it is about another medium, or none."""
    record = decode(RetirementRecord, value, where=f"pool key {key.hex()}")
    if retirement_key(record.medium.id) != key:
        raise Corrupt(f"pool key {key.hex()}: about medium {record.medium.id}, expected its own")
    return record
