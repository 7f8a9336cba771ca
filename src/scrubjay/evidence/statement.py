"""The records of a certificate: an in-toto statement and its predicate.

Of volumes there are two stages, of a medium that left its pool there is one.

They only say what may stand in a certificate (docs/format/evidence.md); what has to be true
among the values is said by rules.py. A version that needs another field is another
predicate type: `urn:scrubjay:erasure:2`. What a sink's TPM signed stands where there is such:
without it the bytes are those of before, with it an older verifier refuses them.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, field

from scrubjay.evidence.entries import SUBJECTS_MAX
from scrubjay.evidence.strict import Count, Digest, LongText, Moment, Record, Text

__all__ = [
    "Attestation",
    "Birth",
    "Certified",
    "Copy",
    "CopyKind",
    "Deadline",
    "DeadlineState",
    "Destruction",
    "DiskBeneath",
    "End",
    "FailedRange",
    "Forgotten",
    "Grade",
    "Ledger",
    "MediumErased",
    "MediumRetired",
    "MediumScrubbed",
    "MediumWiped",
    "Move",
    "NvCertified",
    "Predicate",
    "Retired",
    "Scrubbed",
    "SinkDropped",
    "Statement",
    "Subject",
    "SubjectDigest",
    "SubjectName",
    "Verification",
    "Wiped",
    "Worth",
]

Worth = Literal["Clear", "Purge", "CONDITIONAL"]
"""A method of NIST SP 800-88r2, or that none can be promised."""
CopyKind = Literal[
    "medium",
    "superblocks",
    "nodes",
    "sink",
    "cache",
    "catalog",
    "exporter",
    "log",
    "escrow",
    "backup",
    "replica",
    "snapshot",
]
_COPIES_MAX = 512
_MEDIA_MAX = 64
_SINKS_MAX = 16
_DISKS_MAX = 256
_RANGES_MAX = 256
_WITHIN_S_MAX = 10 * 366 * 86_400
_PUBLIC_BYTES_MAX, _ATTEST_BYTES_MAX, _SIGNATURE_BYTES_MAX = 256, 1024, 256
"""What a TPM gives has about a third of these: other curves and contents would fit."""
_Sentences = Annotated[tuple[Text, ...], Meta(max_length=100)]
MediumKind = Literal["file", "block device", "mirror", "object store", "memory"]


KeyName = Annotated[str, Meta(min_length=68, max_length=68, pattern=r"\A000b[0-9a-f]*\Z")]
"""A TPM's name of a key: SHA-256's number, and the digest of the key's public area, in hex."""


class Birth(Record, frozen=True):
    """How a volume came to be, as its birth leaf says."""

    record: Digest
    born_at: Moment
    epoch: Count
    cipher: Literal["AES-256-GCM"]
    encrypted_from_sector: Annotated[int, Meta(ge=0, le=0)]
    log_index: Count


class Ledger(Record, frozen=True):
    """Commitments to every segment key that the volume ever had."""

    root: Digest
    count: Count


class End(Record, frozen=True):
    """How a volume was withheld, and its exporter ended."""

    decided_at: Moment
    withheld_at: Moment
    exporter: Literal["acknowledged", "killed", "not attached"]
    exporter_at: Moment | None


class Subject(Record, frozen=True):
    """One volume, under its blinded id and its tenant's."""

    id: Digest
    tenant: Digest
    birth: Birth
    ledger: Ledger
    end: End


class NvCertified(Record, frozen=True):
    """What a TPM signed of one NV index: base64 of its structures, as it gave them."""

    nv_public: Annotated[bytes, Meta(min_length=1, max_length=_PUBLIC_BYTES_MAX)]
    attest: Annotated[bytes, Meta(min_length=1, max_length=_ATTEST_BYTES_MAX)]
    signature: Annotated[bytes, Meta(min_length=1, max_length=_SIGNATURE_BYTES_MAX)]


class Attestation(Record, frozen=True):
    """A TPM's signed word on both indices of a sink, after the drop."""

    epoch: Count
    """The one that is held: the new epoch, or a later one."""
    firmware: Annotated[str, Meta(min_length=16, max_length=16, pattern=r"\A[0-9a-f]*\Z")]
    """All 64 bits in hex, as they are signed too."""
    public: Annotated[bytes, Meta(min_length=1, max_length=_PUBLIC_BYTES_MAX)]
    """The public area of the key that signed."""
    held: NvCertified
    emptied: NvCertified


class SinkDropped(Record, frozen=True, omit_defaults=True):
    """A sink that destroyed the old epoch."""

    kind: Literal["file", "tpm2", "pkcs11", "memory"]
    id: UUID
    place: Text
    worth: Worth
    reason: Text
    key: KeyName | None = None
    """The name of the key with which a TPM signs, pinned when the sink was made."""
    attestation: Attestation | None = None
    """None where it signs nothing, or could not when this was issued."""


class MediumErased(Record, frozen=True):
    """A medium whose ciphertext lost its keys."""

    kind: MediumKind
    id: Text
    place: Text
    technique: Literal["cryptographic erase"]
    method: Worth


class MediumScrubbed(Record, frozen=True):
    """A medium whose slots were overwritten, zeroed or discarded."""

    kind: MediumKind
    id: Text
    place: Text
    technique: Literal["overwrite", "zero range", "discard"]
    method: Worth
    reason: Text


class Destruction(Record, frozen=True):
    """The rotation that made all that was forgotten unreadable."""

    epoch_before: Count
    epoch_after: Count
    forgotten_at: Moment
    sinks: Annotated[tuple[SinkDropped, ...], Meta(min_length=1, max_length=_SINKS_MAX)]
    media: Annotated[tuple[MediumErased, ...], Meta(min_length=1, max_length=_MEDIA_MAX)]


class Copy(Record, frozen=True):
    """Something that held, or holds, a part of what was to be erased."""

    kind: CopyKind
    id: Text
    place: Text
    holds: Literal["ciphertext", "keys", "plaintext", "traces"]
    state: Literal["erased", "kept"]
    until: Moment | None
    because: Text | None


class Verification(Record, frozen=True):
    """What was looked at afterwards, and what was found."""

    kind: CopyKind
    id: Text
    method: Text
    at: Moment
    total: Count
    examined: Count
    mismatches: Count
    result: Literal["passed", "failed"]


DeadlineState = Literal["pending", "met", "missed"]


class Deadline(Record, frozen=True):
    """What has to be done within a time, and whether it was."""

    name: Literal["scrub_within", "purge_within"]
    from_at: Moment
    within_s: Annotated[int, Meta(ge=1, le=_WITHIN_S_MAX)]
    met_at: Moment | None
    state: DeadlineState


class Grade(Record, frozen=True):
    """What the erasure amounts to, and why."""

    value: Worth
    reason: LongText


_Subjects = Annotated[tuple[Subject, ...], Meta(min_length=1, max_length=SUBJECTS_MAX)]
_Inventory = Annotated[tuple[Copy, ...], Meta(min_length=1, max_length=_COPIES_MAX)]
_Verified = Annotated[tuple[Verification, ...], Meta(min_length=1, max_length=_COPIES_MAX)]
_Deadlines = Annotated[tuple[Deadline, ...], Meta(min_length=1, max_length=2)]


class Forgotten(Record, frozen=True, tag_field="stage", tag="forgotten"):
    """First stage: the keys are gone."""

    issued_at: Moment
    tool: Text
    """What erased, or scrubbed, and issued this: name and version."""
    pool: UUID
    scope: Literal["volumes", "tenant"]
    subjects: _Subjects
    destruction: Destruction
    inventory: _Inventory
    verified: _Verified
    deadlines: _Deadlines
    grade: Grade
    logged: _Sentences
    asserted: _Sentences
    assumed: _Sentences


class Scrubbed(Record, frozen=True, tag_field="stage", tag="scrubbed"):
    """Second stage: the ciphertext is gone too."""

    issued_at: Moment
    tool: Text
    """What erased, or scrubbed, and issued this: name and version."""
    pool: UUID
    forgotten: Digest
    forgotten_at: Moment
    media: Annotated[tuple[MediumScrubbed, ...], Meta(min_length=1, max_length=_MEDIA_MAX)]
    inventory: _Inventory
    verified: _Verified
    deadlines: _Deadlines
    grade: Grade
    logged: _Sentences
    asserted: _Sentences
    assumed: _Sentences


class DiskBeneath(Record, frozen=True):
    """A disk of which a medium is made, or on which it lies: by its label, as it tells."""

    node: Text
    kind: Text
    model: Text | None
    serial: Text | None
    """What the disk itself said; None where nothing told."""
    wwn: Text | None
    rotates: bool | None
    size_bytes: Count


class MediumRetired(Record, frozen=True):
    """A medium that left its pool: what it is, and what overwriting it is worth."""

    kind: Literal["file", "block device"]
    id: UUID
    """As the pool's superblocks named it."""
    place: Text
    size_bytes: Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
    disks: Annotated[tuple[DiskBeneath, ...], Meta(max_length=_DISKS_MAX)]
    """Empty where nobody can tell."""
    worth: Worth
    reason: Text


class Move(Record, frozen=True):
    """How the pool left: noted in it before it was copied, true since it was opened elsewhere."""

    noted_at: Moment
    left_at: Moment
    moved_to: Text
    epoch_before: Count
    """The sink's, under which the last superblock of the medium was sealed."""
    epoch_after: Count


class FailedRange(Record, frozen=True):
    """Where something else lay than what was written, or nothing could be read."""

    offset_bytes: Count
    length_bytes: Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]


class Wiped(Record, frozen=True):
    """How all of a medium was erased, and what was found when it was read back: facts alone."""

    technique: Literal["overwrite", "zero range", "discard"]
    pattern: Text
    begun_at: Moment
    erased_at: Moment
    read_back_at: Moment
    bytes_erased: Count
    pages: Count
    """Of 4096 bytes; the last one may be shorter."""
    pages_read: Count
    reads: Literal["device", "cache"]
    """Where from; "cache" where it may have been so."""
    mismatches: Count
    unreadable: Count
    failed: Annotated[tuple[FailedRange, ...], Meta(max_length=_RANGES_MAX)]
    """The first of them, where there are many."""


class MediumWiped(Wiped, frozen=True):
    """The same, and what follows from it."""

    method: Worth


class Retired(Record, frozen=True, tag_field="stage", tag="retired"):
    """The only stage of a medium: a pool left it, and all of it was erased."""

    issued_at: Moment
    tool: Text
    pool: UUID
    medium: MediumRetired
    move: Move
    erasure: MediumWiped
    verified: _Verified
    grade: Grade
    logged: _Sentences
    asserted: _Sentences
    assumed: _Sentences

    @property
    def inventory(self) -> tuple[Copy, ...]:
        """No copies: the certificate is about one medium, and what lay on it goes on elsewhere."""
        return ()

    @property
    def deadlines(self) -> tuple[Deadline, ...]:
        """None: nobody promised when."""
        return ()


Predicate = Forgotten | Scrubbed
"""What is said of volumes."""
Certified = Forgotten | Scrubbed | Retired
"""What a statement may be about."""


class SubjectDigest(Record, frozen=True):
    """in-toto's digest set, of the one kind that we use."""

    sha256: Digest


class SubjectName(Record, frozen=True):
    """in-toto's resource descriptor: a blinded id, and the digest of a birth record.

    Of a medium: the digest of its id, and that of its record (stages.py).
    """

    name: Digest
    digest: SubjectDigest


class Statement(Record, frozen=True, rename={"predicate_type": "predicateType"}):
    """in-toto's statement, version 1."""

    type: Literal["https://in-toto.io/Statement/v1"] = field(name="_type")
    subject: Annotated[tuple[SubjectName, ...], Meta(min_length=1, max_length=SUBJECTS_MAX)]
    predicate_type: Literal["urn:scrubjay:erasure:1"]
    predicate: Certified
