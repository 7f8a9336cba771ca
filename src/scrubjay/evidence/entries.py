"""What stands in the log: the kinds of entries (docs/format/evidence.md, "The log")."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from scrubjay.base.errors import Invalid
from scrubjay.base.ids import TenantNo, VolumeId
from scrubjay.evidence.strict import Count, Digest, Moment, Record, Text, decode, encode
from scrubjay.evidence.tiles import ENTRY_BYTES_MAX

__all__ = [
    "BLINDING_BYTES",
    "SUBJECTS_MAX",
    "BirthEntry",
    "DeadlineMissed",
    "DefaultChanged",
    "Entry",
    "ForgettingEntry",
    "RetiredEntry",
    "ScrubbedEntry",
    "blind_tenant",
    "blind_volume",
    "pack_entry",
    "parse_entry",
]

BLINDING_BYTES = 16
SUBJECTS_MAX = 900
"""Volumes in one certificate: their ids fit in an entry of the log, which holds 64 KiB."""


class BirthEntry(Record, frozen=True, tag_field="kind", tag="birth"):
    """A volume came to be."""

    at: Moment
    subject: Digest
    tenant: Digest
    pool: UUID
    record: Digest
    """Of the birth record, without its end."""
    born_at: Moment
    epoch: Count
    cipher: Literal["AES-256-GCM"]
    encrypted_from_sector: Annotated[int, Meta(ge=0, le=0)]


_Subjects = Annotated[tuple[Digest, ...], Meta(min_length=1, max_length=SUBJECTS_MAX)]


class ForgettingEntry(Record, frozen=True, tag_field="kind", tag="forgetting"):
    """Volumes were forgotten, and a certificate says so."""

    at: Moment
    statement: Digest
    subjects: _Subjects


class ScrubbedEntry(Record, frozen=True, tag_field="kind", tag="scrubbed"):
    """Their slots were overwritten and read back, and a second certificate says so."""

    at: Moment
    statement: Digest
    forgotten: Digest
    subjects: _Subjects


class RetiredEntry(Record, frozen=True, tag_field="kind", tag="retired"):
    """A medium left its pool and was erased, and a certificate says so."""

    at: Moment
    statement: Digest
    subject: Digest
    """Of the medium's id (stages.py)."""


class DefaultChanged(Record, frozen=True, tag_field="kind", tag="default-changed"):
    """A default that security rests on is another from now on."""

    at: Moment
    setting: Text
    before: Text
    after: Text


class DeadlineMissed(Record, frozen=True, tag_field="kind", tag="deadline-missed"):
    """What was due did not happen in time; it is said, not hidden."""

    at: Moment
    subject: Digest
    deadline: Literal["scrub_within", "purge_within"]
    due_at: Moment
    reason: Text


Entry = (
    BirthEntry | ForgettingEntry | ScrubbedEntry | RetiredEntry | DefaultChanged | DeadlineMissed
)


def pack_entry(entry: Entry) -> bytes:
    """Return the bytes that go into the log; Invalid where a value is out of its bounds."""
    data = encode(entry)
    parse_entry(data)
    return data


def parse_entry(data: bytes) -> Entry:
    """Return the entry in a leaf; Invalid if it is none that this version knows."""
    return decode(Entry, data, what="entry of the log", size_max=ENTRY_BYTES_MAX)  # type: ignore[arg-type]  # mypy takes no union for a type


def blind_volume(blinding: bytes, volume: VolumeId) -> str:
    """Return the id under which evidence speaks of a volume."""
    return _blind(blinding, volume.bytes)


def blind_tenant(blinding: bytes, pool: UUID, tenant: TenantNo) -> str:
    """Return the id under which evidence speaks of a tenant; one for all its volumes."""
    return _blind(blinding, pool.bytes + tenant.to_bytes(4))


def _blind(blinding: bytes, identity: bytes) -> str:
    if len(blinding) != BLINDING_BYTES:
        raise Invalid(f"blinding value: {len(blinding)} bytes, expected {BLINDING_BYTES}")
    return hashlib.sha256(blinding + identity).hexdigest()
