"""The JSON values of the pool's tree, and their keys (docs/format/records.md)."""

from __future__ import annotations

import struct
import uuid
from typing import Annotated, Literal

from msgspec import Meta

from scrubjay.base.errors import Corrupt
from scrubjay.base.ids import BranchNo, LineageNo, TenantNo, VolumeId
from scrubjay.base.units import MIB, TIB, VOLUME_BYTES_MAX, VOLUME_BYTES_MIN
from scrubjay.control.encoding import U24, U64, Moment, Record, at, decode, encode

__all__ = [
    "CERTIFICATE_PREFIX",
    "ENTRY_PREFIX",
    "FRONTIER_KEY",
    "OUTSTANDING_PREFIX",
    "POLICY_KEY",
    "POOL_KEY",
    "SCRUB_KEY",
    "SIGNER_KEY",
    "U24",
    "U64",
    "BirthRecord",
    "BranchRecord",
    "CertificateRecord",
    "CheckpointRecord",
    "ClosedRecord",
    "ClosingRecord",
    "DestructionRecord",
    "EndingRecord",
    "ForgettingRecord",
    "LineageRecord",
    "Moment",
    "PolicyRecord",
    "PoolRecord",
    "PurgeRecord",
    "Record",
    "RemainsRecord",
    "ScrubRecord",
    "SignerRecord",
    "TenantRecord",
    "VolumeRecord",
    "at",
    "birth_key",
    "branch_key",
    "branch_prefix",
    "certificate_key",
    "closed_key",
    "closing_key",
    "decode",
    "directory_key",
    "directory_prefix",
    "encode",
    "ending_key",
    "entry_key",
    "forgetting_key",
    "ledger_key",
    "ledger_prefix",
    "lineage_key",
    "named_key",
    "outstanding_key",
    "peaks_key",
    "remains_key",
    "stripes_key",
    "stripes_prefix",
    "tenant_key",
    "volume_key",
    "volume_of",
]

POOL_KEY = b"p"
SIGNER_KEY = b"s"
FRONTIER_KEY = b"m"
ENTRY_PREFIX = b"e"
CERTIFICATE_PREFIX = b"c"
OUTSTANDING_PREFIX = b"q"
POLICY_KEY = b"y"
SCRUB_KEY = b"z"
WITHIN_S_MIN, WITHIN_S_MAX = 60, 366 * 86_400
"""A deadline that can be met, and one that somebody will live to see."""
RATE_MIN, RATE_MAX = MIB, TIB
_U32 = Annotated[int, Meta(ge=1, lt=1 << 32)]
_Size = Annotated[int, Meta(ge=VOLUME_BYTES_MIN, le=VOLUME_BYTES_MAX, multiple_of=4096)]
_Within = Annotated[int, Meta(ge=WITHIN_S_MIN, le=WITHIN_S_MAX)]
_Rate = Annotated[int, Meta(ge=RATE_MIN, le=RATE_MAX)]
_Ranges = tuple[tuple[U64, U64], ...]
_Blinding = Annotated[str, Meta(pattern="^([0-9a-f]{32})?$")]
_Digest = Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")]


class PoolRecord(Record, frozen=True):
    """Key `p`: the pool; its counters make sure that no number is given twice."""

    label: str
    created_at: Moment
    next_tenant: U24
    next_lineage: _U32
    freed_entered: bool = False
    """All segments that earlier versions freed are forgotten, or wait to be (adopting.py)."""


class TenantRecord(Record, frozen=True):
    """Key `t`: an owner of volumes; tenants never share a key."""

    id: U24
    name: str
    created_at: Moment
    state: Literal["active", "closing", "closed"]
    """One that is `closing` takes no new volumes, and all that it has are withheld."""
    request: str = ""
    """Digest of the request that made it, so that the same one sent again finds it."""
    blinding: _Blinding = ""
    """16 random bytes, hex, under which evidence speaks of it; "" before its first volume."""


class CheckpointRecord(Record, frozen=True):
    """What the volume's record says of its log (engine/lessor.py, `Checkpoint`)."""

    root: U64
    flushed: U64
    clean: bool
    live_sectors: U64


class PurgeRecord(Record, frozen=True):
    """What a volume's last checkpoint said of purging (engine/lessor.py, `Purged`)."""

    told_at: Moment
    """Or when it was attached, having been detached in order: its log knew no more before."""
    waiting_since: Moment | None = None
    """Since when the oldest is dead that is not given up to be forgotten yet."""
    moved_bytes: U64 = 0
    """Moved in the volume's life, in order to purge."""
    missed: U64 = 0
    """Deadlines missed in the volume's life."""
    missed_due: Moment | None = None
    """Of the last one that was told: it is told once."""


class VolumeRecord(Record, frozen=True):
    """Key `v`: a virtual disk. A `destroying` one is withheld: its end is decided."""

    name: str
    tenant: U24
    lineage: _U32
    branch: U24
    size_bytes: _Size
    created_at: Moment
    state: Literal["ready", "destroying"]
    attach_epoch: U64
    checkpoint: CheckpointRecord
    keys: Literal["tree", "memory"] = "tree"
    """Where its segments' keys are: those of an ephemeral one in its exporter's memory alone."""
    purge: PurgeRecord | None = None
    slots_since: _Ranges | None = None
    """Since when slots wait that it freed (dates.py); None: an earlier version did not note it."""


class LineageRecord(Record, frozen=True):
    """Key `l`: all that can share segments; its counters are never turned back."""

    tenant: U24
    next_segment: Annotated[int, Meta(ge=1, lt=1 << 36)]
    next_branch: U24


class BranchRecord(Record, frozen=True):
    """Key `b`: the segments written between two freezes."""

    state: Literal["open", "frozen"]
    parents: tuple[U24, ...]
    first_group: U64
    roots: tuple[U64, ...]


class DestructionRecord(Record, frozen=True):
    """How a volume ended: the rotation that forgot it, and the root of its ledger."""

    decided_at: Moment
    epoch_before: U64
    epoch_after: U64
    segments: U64
    """Segments that the volume was ever given."""
    ledger_root: str
    """Merkle tree hash (RFC 9162, section 2.1) of their key commitments in order of birth, hex."""
    exporter: Literal["acknowledged", "killed", "not attached"] = "not attached"
    """How the process ended that held its keys: it said that it overwrote them, or not."""
    exporter_at: Moment | None = None
    slots: U64 = 0
    """Slots that were freed since, by all that was cleared away so far."""
    certificate: _Digest = ""
    """Digest of the certificate's first stage; "" before it is issued."""
    dead_since: Moment | None = None
    """Since when the oldest was dead inside that was not forgotten yet; None: nothing was."""
    purges_missed: U64 = 0
    """Deadlines of purging that it missed while it lived."""
    slots_since: _Ranges | None = None
    """As in the VolumeRecord, with those that were freed since."""


class BirthRecord(Record, frozen=True):
    """Key `r`: how a volume came to be; it outlives the volume, for its certificate."""

    volume: uuid.UUID
    pool: uuid.UUID
    tenant: U24
    lineage: _U32
    branch: U24
    size_bytes: _Size
    created_at: Moment
    encrypted_from_sector: Annotated[int, Meta(ge=0, le=0)]
    cipher: Literal["AES-256-GCM"]
    epoch: U64
    """The sink's epoch at birth."""
    request: str = ""
    """Digest of the request that made it, so that the same one sent again finds it."""
    blinding: _Blinding = ""
    """16 random bytes, hex, under which evidence speaks of it."""
    log_index: U64 | None = None
    """Which entry of the log tells of this birth; None until one does."""
    keys: Literal["tree", "memory"] = "tree"
    """As in the VolumeRecord. Of an ephemeral volume `lineage` is the first of many."""
    destruction: DestructionRecord | None = None


class ForgettingRecord(Record, frozen=True):
    """Key `f`: a forgetting that has been decided and is not yet done."""

    volume: uuid.UUID
    lineage: _U32
    decided_at: Moment
    operation: str
    """The operation that reports about it."""
    exporter: Literal["acknowledged", "killed", ""] = ""
    """How the process ended that held its keys; "" where there was none, or it goes on."""
    exporter_at: Moment | None = None
    scrub_first: bool = False
    """Somebody asked for its bytes to be overwritten before those of others."""


class RemainsRecord(Record, frozen=True):
    """Key `w`: what is left of a lineage that nothing opens any more, until it is cleared away."""

    tenant: U24
    volume: uuid.UUID
    forgotten_at: Moment
    scrub_first: bool = False
    """Its slots are given back, and so begin to wait for scrubbing, before those of others."""


class SignerRecord(Record, frozen=True):
    """Key `s`: the key that signs certificates and the log; in the pool, so sealed like all."""

    name: str
    seed: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    """Ed25519 (RFC 8032)."""
    created_at: Moment


class CertificateRecord(Record, frozen=True):
    """Key `c`: what one certificate is about, from the rotation on; issued in two stages."""

    scope: Literal["volumes", "tenant", "medium"]
    volumes: tuple[uuid.UUID, ...]
    epoch_before: U64
    epoch_after: U64
    rotated_at: Moment | None = None
    """When the rotation was committed."""
    dropped_at: Moment | None = None
    """When the sink had dropped the old epoch; kept where the first stage had to wait."""
    forgotten: _Digest = ""
    """Digest of the first stage, a medium's only one; "" until it is issued."""
    forgotten_index: U64 = 0
    issued_at: Moment | None = None
    scrubbed: _Digest = ""
    scrubbed_index: U64 = 0
    worth: str = ""
    """The grade: Clear, Purge or CONDITIONAL; NOT PROVEN of a medium that was not erased."""
    medium: uuid.UUID | None = None
    """Which one the pool has left, where it is about that (retirement_records.py)."""


class PolicyRecord(Record, frozen=True, omit_defaults=False):
    """Key `y`: what the pool's owner promises, and how fast upkeep may go for it.

    There is none until somebody changes it. Then all of it is written down, so that a
    default which a later version changes does not change what was chosen.
    """

    scrub_within_s: _Within = 86_400
    """Freed slots are overwritten within this time."""
    purge_within_s: _Within = 86_400
    """Overwritten sectors of a live volume are forgotten within this time."""
    scrub_idle_bytes_per_s: _Rate = 256 * MIB
    """While nobody else uses the device."""
    scrub_busy_bytes_per_s: _Rate = 8 * MIB
    """While others do; a deadline that would be missed raises it."""


class ScrubRecord(Record, frozen=True):
    """Key `z`: what scrubbing has done since the pool was made; none before the first slot."""

    slots: U64 = 0
    """Overwritten, and read back as they should."""
    pages: U64 = 0
    """Pages of 4096 bytes in those slots."""
    pages_read: U64 = 0
    """And those of them that were read back."""
    cached_slots: U64 = 0
    """Slots of which pages may have been read from the system's cache."""
    failures: U64 = 0
    """Times that a slot could not be overwritten, or did not read back as it should."""
    missed_slots: U64 = 0
    """Slots whose deadline was missed."""
    missed_until_s: U64 = 0
    """Of slots that wait since this second (since 1970) or before, that is told already."""


class ClosingRecord(Record, frozen=True):
    """Key `u`: the end of a tenant and of everything that it ever had (control/closing.py)."""

    tenant: U24
    name: str
    decided_at: Moment
    operation: str
    """The operation that reports about it."""
    epoch_before: U64 = 0
    epoch_after: U64 = 0
    """Of the rotation that took the tenant's key away; 0: it is still to come."""
    forgotten_at: Moment | None = None
    """When the sink had dropped the epoch before."""
    closed_at: Moment | None = None
    """When every volume's end was on record."""
    volumes: U64 = 0
    """How many the tenant ever had; their ids are in the ClosedRecords."""


class EndingRecord(Record, frozen=True):
    """Key `x`: how the exporter of a volume ended whose tenant is closing."""

    exporter: Literal["acknowledged", "killed"]
    exporter_at: Moment


class ClosedRecord(Record, frozen=True):
    """Key `u` and a number: some of the volumes that a closed tenant ever had, in order of birth.

    How each of them ended is in its BirthRecord.
    """

    volumes: tuple[uuid.UUID, ...]


def tenant_key(tenant: TenantNo) -> bytes:
    """Key of a TenantRecord."""
    return struct.pack(">cI", b"t", tenant)


def volume_key(volume: VolumeId) -> bytes:
    """Key of a VolumeRecord."""
    return b"v" + volume.bytes


def volume_of(key: bytes) -> VolumeId:
    """Return the volume that a key of `v` or `r` is about."""
    if len(key) != 17:  # noqa: PLR2004 - one letter and a UUID
        raise Corrupt(f"pool key {key.hex()}: {len(key)} bytes, expected 17")
    return VolumeId(uuid.UUID(bytes=key[1:]))


def lineage_key(lineage: LineageNo) -> bytes:
    """Key of a LineageRecord."""
    return struct.pack(">cI", b"l", lineage)


def branch_key(lineage: LineageNo, branch: BranchNo) -> bytes:
    """Key of a BranchRecord."""
    return struct.pack(">cII", b"b", lineage, branch)


def branch_prefix(lineage: LineageNo) -> bytes:
    """What the keys of a lineage's BranchRecords begin with."""
    return struct.pack(">cI", b"b", lineage)


def directory_key(lineage: LineageNo, group: int) -> bytes:
    """Key of 64 segments' places."""
    return struct.pack(">cII", b"d", lineage, group)


def directory_prefix(lineage: LineageNo) -> bytes:
    """What the keys of a lineage's directory begin with."""
    return struct.pack(">cI", b"d", lineage)


def ledger_prefix(lineage: LineageNo) -> bytes:
    """What the keys of a lineage's ledger begin with."""
    return struct.pack(">cI", b"g", lineage)


def ledger_key(lineage: LineageNo, group: int) -> bytes:
    """Key of 64 segments' commitments."""
    return struct.pack(">cII", b"g", lineage, group)


def peaks_key(lineage: LineageNo) -> bytes:
    """Key of the peaks of the Merkle tree over a lineage's ledger."""
    return struct.pack(">cI", b"h", lineage)


def stripes_key(lineage: LineageNo, group: int) -> bytes:
    """Key of the stripes of 64 segments that wait to be forgotten."""
    return struct.pack(">cII", b"o", lineage, group)


def stripes_prefix(lineage: LineageNo) -> bytes:
    """What the keys of a lineage's waiting stripes begin with."""
    return struct.pack(">cI", b"o", lineage)


def remains_key(lineage: LineageNo) -> bytes:
    """Key of a RemainsRecord."""
    return struct.pack(">cI", b"w", lineage)


def entry_key(index: int) -> bytes:
    """Key of an entry of the log."""
    return struct.pack(">cQ", ENTRY_PREFIX, index)


def certificate_key(epoch_after: int, part: int) -> bytes:
    """Key of a CertificateRecord: a rotation has several where it forgot many volumes."""
    return struct.pack(">cQH", CERTIFICATE_PREFIX, epoch_after, part)


def outstanding_key(certificate: bytes) -> bytes:
    """Key that tells that a certificate, of this key, has a stage to come."""
    return OUTSTANDING_PREFIX + certificate[1:]


def named_key(digest: str) -> bytes:
    """Key under which a certificate is found by the digest of either stage, or its beginning."""
    return b"i" + digest.encode()


def closing_key(tenant: TenantNo) -> bytes:
    """Key of a ClosingRecord."""
    return struct.pack(">cI", b"u", tenant)


def closed_key(tenant: TenantNo, number: int) -> bytes:
    """Key of a ClosedRecord; they are numbered from 0."""
    return struct.pack(">cII", b"u", tenant, number)


def ending_key(volume: VolumeId) -> bytes:
    """Key of an EndingRecord."""
    return b"x" + volume.bytes


def birth_key(volume: VolumeId) -> bytes:
    """Key of a BirthRecord."""
    return b"r" + volume.bytes


def forgetting_key(volume: VolumeId) -> bytes:
    """Key of a ForgettingRecord."""
    return b"f" + volume.bytes
