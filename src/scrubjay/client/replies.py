"""What the API answers, as types. A field that this version does not know is passed over."""

from __future__ import annotations

import datetime as dt
from typing import Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

__all__ = [
    "Attachment",
    "Certificate",
    "CertificateShown",
    "CertifiedVolume",
    "Default",
    "DefaultEntry",
    "Event",
    "EvidenceLog",
    "Operation",
    "Page",
    "Policy",
    "Pool",
    "PoolPurge",
    "Problem",
    "Progress",
    "Scrubbing",
    "Sink",
    "Tenant",
    "Volume",
    "VolumePurge",
]

ItemT = TypeVar("ItemT")


class Page(Struct, Generic[ItemT], frozen=True):
    """Some items, and where the next ones begin."""

    items: list[ItemT]
    next_cursor: str | None = None


class Problem(Struct, frozen=True):
    """What went wrong (RFC 9457), with the stable code of the error's class."""

    code: str
    title: str
    status: int
    detail: str
    hint: str = ""


class Tenant(Struct, frozen=True):
    """An owner of volumes."""

    id: int
    name: str
    created_at: dt.datetime
    state: str


class Attachment(Struct, frozen=True):
    """A volume being served."""

    volume: str
    name: str
    epoch: int
    socket: str
    uri: str


class CertifiedVolume(Struct, frozen=True):
    """A volume that a certificate is about."""

    id: str
    blinding: str


class Certificate(Struct, frozen=True):
    """Proof that volumes were forgotten, their slots scrubbed; or that a medium was erased."""

    id: str
    stage: str
    scope: str
    volume_count: int
    epoch_before: int
    epoch_after: int
    worth: str
    issued_at: dt.datetime
    medium: str | None
    forgotten: str
    """The id of its first stage, which it keeps."""


class CertificateShown(Certificate, frozen=True):
    """One certificate, with the volumes that it is about."""

    volumes: list[CertifiedVolume]


class EvidenceLog(Struct, frozen=True):
    """The append-only log: its verifier key, and its newest signed checkpoint."""

    key: str
    size: int
    checkpoint: str


class Volume(Struct, frozen=True):
    """A virtual disk."""

    id: str
    name: str
    tenant: str
    size_bytes: int
    mapped_bytes: int
    created_at: dt.datetime
    state: str
    attached: bool
    ephemeral: bool = False


class DefaultEntry(Struct, frozen=True):
    """A line of the ledger of defaults."""

    value: str
    version: str
    day: dt.date
    before: str
    effect: str
    why: str


class Default(Struct, frozen=True):
    """A default that security rests on, and how it stands; no moments where no daemon said so."""

    setting: str
    means: str
    where: str
    value: str
    history: list[DefaultEntry]
    in_force_since: dt.datetime | None = None
    next: str = ""
    next_at: dt.datetime | None = None


class Event(Struct, frozen=True):
    """Something that a tenant, or everybody, is told."""

    id: int
    at: dt.datetime
    kind: str
    tenant: str | None
    text: str
    effective_at: dt.datetime | None = None
    facts: dict[str, str] = {}


class Progress(Struct, frozen=True):
    """How far an operation has come; `total` is 0 where nobody knows."""

    done: int
    total: int
    unit: str


class Operation(Struct, frozen=True):
    """Long work that goes on by itself."""

    id: str
    kind: str
    subject: str
    state: Literal["running", "done", "failed"]
    created_at: dt.datetime
    progress: Progress
    ended_at: dt.datetime | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    problem: Problem | None = None


class SinkMember(Struct, frozen=True):
    """One of a mirror's sinks."""

    number: int
    kind: str
    where: str
    epochs: list[int]
    worth: str
    finding: str
    away: bool
    key: str = ""


class SinkGone(Struct, frozen=True):
    """A sink that was expelled; it may hold these epochs' keys, unless it is destroyed."""

    number: int
    kind: str
    where: str
    epochs: list[int]
    destroyed: bool


class SinkBudget(Struct, frozen=True):
    """How often a sink that wears out can rotate."""

    interval_s: float
    burst: int
    left: int
    wait_s: float
    certainty: str
    reason: str


class Sink(Struct, frozen=True):
    """Where the root of the keys lies, and what forgetting there is worth."""

    kind: str
    epoch: int
    worth: str
    findings: list[str]
    members: list[SinkMember]
    expelled: list[SinkGone]
    owed: list[int]
    budget: SinkBudget | None
    key: str = ""
    where: str = ""
    away: str = ""


class Policy(Struct, frozen=True):
    """What is promised about deadlines, and how fast upkeep may go for it."""

    scrub_within_s: int
    purge_within_s: int
    scrub_idle_bytes_per_s: int
    scrub_busy_bytes_per_s: int


class Scrubbing(Struct, frozen=True):
    """What waits to be overwritten, since when, until when, and how that goes."""

    within_s: int
    waiting_slots: int
    waiting_since: dt.datetime | None
    due_at: dt.datetime | None
    leased_slots: int
    leased_since: dt.datetime | None
    withheld_slots: int
    late_slots: int
    done_slots: int
    rate_bytes_per_s: int
    done_by: dt.datetime | None
    scrubbed_slots: int
    missed_slots: int
    failures: int


class VolumePurge(Struct, frozen=True):
    """What of a volume's overwritten and discarded bytes can still be read, at the worst."""

    waiting_since: dt.datetime | None
    due_at: dt.datetime | None
    missed: bool
    reason: str
    moved_bytes: int


class PoolPurge(Struct, frozen=True):
    """The same of all volumes."""

    within_s: int
    stripes: int
    waiting_since: dt.datetime | None
    due_at: dt.datetime | None
    missed: list[str]
    moved_bytes: int
    missed_deadlines: int = 0


class Pool(Struct, frozen=True):
    """The pool and how full it is."""

    id: str
    label: str
    created_at: dt.datetime
    generation: int
    size_bytes: int
    slot_bytes: int
    slots: int
    slots_free: int
    slots_leased: int
    slots_metadata: int
    tenants: int
    volumes: int
    attached: int
    forgettings: int
    trouble: str
    scrubbing: Scrubbing
    purge: PoolPurge
    sink: Sink
    path: str = ""
