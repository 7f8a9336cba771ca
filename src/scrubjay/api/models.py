"""What goes in and out of the API, as OpenAPI shows it."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterable
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from scrubjay.api.problems import Problem
from scrubjay.api.purge_models import PoolPurge
from scrubjay.api.sink_models import Sink
from scrubjay.base.units import SECTOR_BYTES
from scrubjay.catalog.operations import OperationRow
from scrubjay.control import pool_status
from scrubjay.control.attachments import Served
from scrubjay.control.certificates import Issued
from scrubjay.control.defaults import Default as ControlDefault
from scrubjay.control.events import Event as ControlEvent
from scrubjay.control.operations import Progress as OperationProgress
from scrubjay.control.records import PolicyRecord, TenantRecord
from scrubjay.control.volumes import Volume as ControlVolume

__all__ = [
    "Attachment",
    "Certificate",
    "CertificateShown",
    "CertifiedVolume",
    "Default",
    "DefaultEntry",
    "Destruction",
    "Event",
    "EvidenceLog",
    "NewAttachment",
    "NewScan",
    "NewTenant",
    "NewVolume",
    "Operation",
    "Page",
    "Policy",
    "PolicyChange",
    "Pool",
    "Progress",
    "Scrubbing",
    "Size",
    "Tenant",
    "Volume",
    "VolumeChange",
]

ItemT = TypeVar("ItemT", bound=BaseModel)
_Text = Annotated[str, Field(max_length=255)]
Size = Annotated[
    Annotated[int, Field(ge=0, strict=True)] | Annotated[str, Field(max_length=40)],
    Field(description="bytes, or text such as 10GiB", examples=["10GiB", 10737418240]),
]


Span = Annotated[
    Annotated[int, Field(ge=0, strict=True)] | Annotated[str, Field(max_length=40)],
    Field(description="seconds, or text such as 12h", examples=["12h", 43200]),
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewTenant(_Request):
    """A tenant to make."""

    name: _Text


class NewVolume(_Request):
    """A volume to make: all zeros, of a size that is a multiple of 4096."""

    name: _Text
    tenant: _Text = Field(description="name or id of its owner")
    size: Size
    ephemeral: bool = Field(
        default=False,
        description="keys in memory alone: detaching it, or a crash, returns it to zeros",
    )


class VolumeChange(_Request):
    """What may change about a volume: it can grow."""

    size: Size


class NewAttachment(_Request):
    """A volume to serve on a unix socket."""

    volume: _Text = Field(description="name or id")
    socket_group: _Text | None = Field(
        None, description="group that may connect too, such as a hypervisor's"
    )


class NewScan(_Request):
    """Bytes to look for in the raw media."""

    hex: str = Field(
        description="an even number of hex digits, 2 to 8192", examples=["6d61726b6572"]
    )


class PolicyChange(_Request):
    """What may change about a policy; what is left out stays as it is."""

    scrub_within: Span | None = None
    purge_within: Span | None = None
    scrub_bandwidth: Size | None = Field(
        None, description="bytes a second, or text such as 256MiB, while nobody uses the device"
    )
    scrub_bandwidth_busy: Size | None = Field(
        None, description="the same, while tenants use it; deadlines that come near raise it"
    )


class Page(BaseModel, Generic[ItemT]):
    """Some items; `next_cursor` leads to more, null says that there are none."""

    items: list[ItemT]
    next_cursor: str | None


class Tenant(BaseModel):
    """An owner of volumes."""

    id: int
    name: str
    created_at: dt.datetime
    state: Literal["active", "closing", "closed"]

    @classmethod
    def of(cls, record: TenantRecord) -> Self:
        """Show a record."""
        return cls(id=record.id, name=record.name, created_at=record.created_at, state=record.state)


class Volume(BaseModel):
    """A virtual disk. Its ETag names its definition, not `mapped_bytes` and `attached`."""

    id: uuid.UUID
    name: str
    tenant: str
    size_bytes: int
    mapped_bytes: int = Field(description="bytes in use, as of the last checkpoint")
    created_at: dt.datetime
    state: Literal["ready", "destroying"]
    attached: bool
    ephemeral: bool

    @classmethod
    def of(cls, volume: ControlVolume) -> Self:
        """Show a volume."""
        record = volume.record
        return cls(
            id=volume.id,
            name=record.name,
            tenant=volume.tenant,
            size_bytes=record.size_bytes,
            mapped_bytes=record.checkpoint.live_sectors * SECTOR_BYTES,
            created_at=record.created_at,
            state=record.state,
            attached=volume.attached,
            ephemeral=record.keys == "memory",
        )


class CertifiedVolume(BaseModel):
    """A volume that a certificate is about; with `blinding` a stranger can see that it is."""

    id: uuid.UUID
    blinding: str


class Certificate(BaseModel):
    """Proof that volumes were forgotten, their slots scrubbed; or that a medium was erased."""

    id: str = Field(description="digest of the newest stage")
    stage: Literal["forgotten", "scrubbed", "retired"]
    forgotten: str = Field(description="digest of the first stage")
    scope: Literal["volumes", "tenant", "medium"]
    medium: uuid.UUID | None
    volume_count: int
    epoch_before: int
    epoch_after: int
    worth: str
    issued_at: dt.datetime

    @classmethod
    def of(cls, issued: Issued) -> Self:
        """Show a certificate."""
        record = issued.record
        return cls(
            id=issued.id,
            stage=issued.stage,
            forgotten=record.forgotten,
            scope=record.scope,
            medium=record.medium,
            volume_count=len(record.volumes),
            epoch_before=record.epoch_before,
            epoch_after=record.epoch_after,
            worth=record.worth,
            issued_at=issued.issued_at,
        )


class CertificateShown(Certificate):
    """One certificate, with the volumes that it is about; lists only count them."""

    volumes: list[CertifiedVolume]

    @classmethod
    def about(cls, issued: Issued, blindings: Iterable[tuple[uuid.UUID, str]]) -> Self:
        """Show a certificate, and (volume, blinding value) of each volume."""
        volumes = [CertifiedVolume(id=volume, blinding=blinding) for volume, blinding in blindings]
        return cls(**dict(Certificate.of(issued)), volumes=volumes)


class EvidenceLog(BaseModel):
    """The append-only log: its verifier key, and its newest signed checkpoint."""

    key: str
    size: int
    checkpoint: str


class Attachment(BaseModel):
    """A volume being served; `uri` is what NBD clients take."""

    volume: uuid.UUID
    name: str
    epoch: int
    socket: str
    uri: str

    @classmethod
    def of(cls, served: Served) -> Self:
        """Show an attachment."""
        return cls(
            volume=served.volume,
            name=served.name,
            epoch=served.epoch,
            socket=str(served.socket),
            uri=served.uri,
        )


class Policy(BaseModel):
    """What is promised about deadlines, and how fast upkeep may go for it."""

    scrub_within_s: int = Field(description="freed slots are overwritten within this time")
    purge_within_s: int = Field(
        description="overwritten sectors of live volumes are forgotten within this time"
    )
    scrub_idle_bytes_per_s: int
    scrub_busy_bytes_per_s: int

    @classmethod
    def of(cls, record: PolicyRecord) -> Self:
        """Show a policy."""
        return cls.model_validate(record, from_attributes=True)


class Scrubbing(BaseModel):
    """What waits to be overwritten, since when, until when, and how that goes."""

    within_s: int
    waiting_slots: int
    waiting_since: dt.datetime | None
    due_at: dt.datetime | None
    leased_slots: int = Field(description="in use again, with bytes of a former use left in them")
    leased_since: dt.datetime | None
    withheld_slots: int = Field(description="could not be overwritten, or did not read back")
    late_slots: int = Field(description="waiting or leased for longer than `within_s` now")
    done_slots: int = Field(description="overwritten since nothing waited")
    rate_bytes_per_s: int
    done_by: dt.datetime | None = Field(description="expected, at the rate seen")
    scrubbed_slots: int = Field(description="overwritten since the pool was made")
    missed_slots: int = Field(description="whose deadline was missed, since the pool was made")
    failures: int = Field(description="of overwriting a slot, since the pool was made")


class Pool(BaseModel):
    """The pool and how full it is."""

    id: uuid.UUID
    label: str
    path: str
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
    forgettings: int = Field(description="decided and not yet done")
    trouble: str = Field(description="why forgetting has to wait; empty where it does not")
    scrubbing: Scrubbing
    purge: PoolPurge
    sink: Sink

    @classmethod
    def of(cls, status: pool_status.PoolStatus) -> Self:
        """Show a pool's state."""
        return cls.model_validate(status, from_attributes=True)


class DefaultEntry(BaseModel):
    """A line of the ledger: a value, since which version and day, what it was before, and why."""

    value: str
    version: str
    day: dt.date
    before: str
    effect: Literal["first", "stronger", "weaker"]
    why: str


class Default(BaseModel):
    """A default that security rests on: in force in this pool since a moment, and its history."""

    setting: str
    means: str
    where: str = Field(description="in the code, as an import finds it")
    value: str = Field(description="in force; the newest of the history, or the one before it")
    in_force_since: dt.datetime
    next: str = Field(description="the announced value, empty where there is none")
    next_at: dt.datetime | None
    history: list[DefaultEntry]

    @classmethod
    def of(cls, default: ControlDefault) -> Self:
        """Show a default."""
        setting, standing = default.setting, default.standing
        return cls(
            setting=setting.name,
            means=setting.means,
            where=setting.where,
            value=standing.value,
            in_force_since=standing.since,
            next=standing.next,
            next_at=standing.next_at,
            history=[
                DefaultEntry.model_validate(each, from_attributes=True) for each in default.history
            ],
        )


class Event(BaseModel):
    """Something that a tenant, or everybody, is told; numbered, never changed."""

    id: int
    at: dt.datetime
    kind: str
    tenant: str | None = Field(description="whom it is for, null for everybody")
    text: str
    effective_at: dt.datetime | None
    facts: dict[str, str]

    @classmethod
    def of(cls, event: ControlEvent) -> Self:
        """Show an event."""
        record = event.record
        return cls(
            id=event.number,
            at=record.at,
            kind=record.kind,
            tenant=event.tenant,
            text=record.text,
            effective_at=record.effective_at,
            facts=record.facts,
        )


class Progress(BaseModel):
    """How far it has come; `total` is 0 where nobody knows."""

    done: int
    total: int
    unit: str


class Operation(BaseModel):
    """Long work that goes on by itself: ask again until `state` is not `running`."""

    id: uuid.UUID
    kind: str
    subject: str
    state: Literal["running", "done", "failed"]
    created_at: dt.datetime
    ended_at: dt.datetime | None
    progress: Progress
    result: dict[str, Any] | None
    problem: Problem | None

    @classmethod
    def of(cls, row: OperationRow, progress: OperationProgress) -> Self:
        """Show an operation."""
        return cls(
            id=row.id,
            kind=row.kind,
            subject=row.subject,
            state=row.state,
            created_at=row.created_at,
            ended_at=row.ended_at,
            progress=Progress(done=progress.done, total=progress.total, unit=progress.unit),
            result=json.loads(row.result) if row.result else None,
            problem=Problem.model_validate_json(row.problem) if row.problem else None,
        )


class Destruction(Operation):
    """The operation that forgets a volume, and what holds from now on."""

    withheld_at: dt.datetime = Field(description="since when nobody reads it")
    shared: list[str] = Field(description="what others still share of it, and keep: nothing yet")
    scrub_first: bool = Field(description="its bytes are overwritten before those of others")
