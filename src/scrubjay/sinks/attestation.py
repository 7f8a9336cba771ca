"""A TPM's signed word that an epoch's key was overwritten, and how to check it without one.

`verify_attestation` is pure: bytes in, facts or an error out, for a verifier that has no TPM,
no daemon and no network. What it proves: the key named `attestation_name` signed that index
A holds the epoch and index B holds nothing but zeros, A and B being the two that a sink of
this id has (root can define others, and have the TPM sign for those). What it does not prove:
that this key lives in a real TPM (pin its name when the sink is made, or check it against the
maker's certificate of the endorsement key), that no copy of the old key exists elsewhere (see
the format: it was in no other place), or what the part's flash keeps underneath.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from scrubjay.base.errors import Corrupt, Invalid
from scrubjay.base.ids import Epoch
from scrubjay.sinks.tpm.public import (
    AK_ATTRIBUTES,
    ECDSA,
    ENDORSEMENT,
    NV_ATTRIBUTES,
    NV_WRITTEN,
    SHA256,
    EccKey,
    NvPublic,
    nv_indices_for,
    parse_ecc,
    parse_nv,
)
from scrubjay.sinks.tpm.slot import SLOT_BYTES, Owners, State, head_of_held, parse
from scrubjay.sinks.tpm.wire import Reader

__all__ = ["Attested", "Certified", "Evidence", "attestation_name", "verify_attestation"]

_GENERATED, _ATTEST_NV = 0xFF544347, 0x8014


class Certified(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a TPM signed of one NV index."""

    nv_public: bytes
    attest: bytes
    """TPMS_ATTEST."""
    signature: bytes
    """TPMT_SIGNATURE."""


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a certificate carries of a TPM sink after a rotation; no secret is in it."""

    sink_id: UUID
    pool_id: UUID
    epoch: int
    held: Certified
    emptied: Certified
    attestation_public: bytes
    endorsement_public: bytes
    manufacturer: str
    """This and what follows the TPM says unsigned."""
    vendor: str
    firmware: int
    """Signed too: `verify_attestation` compares them."""
    indices: list[int]
    """Every NV index that the TPM lists."""


@dataclass(frozen=True, slots=True)
class Attested:
    """What is proven."""

    epoch: Epoch
    dropped: Epoch
    """The last epoch that the other index held; 0: none yet, or cut short and then erased."""
    firmware: int
    clock_ms: int
    """The TPM's own time since it was cleared."""
    resets: int


@dataclass(frozen=True, slots=True)
class _Statement:
    public: NvPublic
    contents: bytes
    clock_ms: int
    counts: tuple[int, int]
    firmware: int


def attestation_name(evidence: Evidence) -> bytes:
    """Return the name of the key that evidence claims to be signed by, to be pinned."""
    return parse_ecc(evidence.attestation_public).name


def verify_attestation(
    evidence: Evidence, *, attestation_name: bytes, challenge: bytes = b""
) -> Attested:
    """Return what the evidence proves; Corrupt if it is forged, or of something else.

    `attestation_name` is the pinned name of the sink's key. Invalid where the evidence is
    sound and says less than it should.
    """
    key = parse_ecc(evidence.attestation_public)
    if key.name != attestation_name:
        raise Corrupt(f"attestation: key {key.name.hex()[:16]}, expected the one that was pinned")
    if key.attributes != AK_ATTRIBUTES or key.scheme != ECDSA:
        raise Corrupt("attestation: key may sign what others made, expected a restricted one")
    held = _statement(evidence.held, key, challenge)
    emptied = _statement(evidence.emptied, key, challenge)
    owners = Owners(evidence.sink_id, evidence.pool_id)
    if held.contents != head_of_held(owners, Epoch(evidence.epoch)):
        raise Corrupt(f"attestation: index holds something else, expected epoch {evidence.epoch}")
    slot = parse(emptied.contents, owners)
    if slot.state is not State.EMPTY:
        raise Invalid("attestation: the other index is not empty, expected it overwritten")
    if slot.epoch >= evidence.epoch:
        raise Invalid(f"attestation: epoch {slot.epoch} dropped, expected one before")
    if {held.public.index, emptied.public.index} != set(nv_indices_for(evidence.sink_id)):
        raise Corrupt("attestation: of other indices, expected both of this sink's")
    if held.counts != emptied.counts or held.clock_ms > emptied.clock_ms:
        raise Corrupt("attestation: of two occasions, expected one")
    if {held.firmware, emptied.firmware} != {evidence.firmware}:
        raise Corrupt("attestation: another firmware signed, expected the one that is named")
    return Attested(
        epoch=Epoch(evidence.epoch),
        dropped=slot.epoch,
        firmware=held.firmware,
        clock_ms=held.clock_ms,
        resets=held.counts[0],
    )


def _statement(certified: Certified, key: EccKey, challenge: bytes) -> _Statement:
    """Return what a TPM signed of an index that is as sinks define theirs."""
    _check_signature(certified, key)
    public = parse_nv(certified.nv_public)
    if (public.attributes, public.policy, public.size_bytes) != (
        NV_ATTRIBUTES | NV_WRITTEN,
        b"",
        SLOT_BYTES,
    ):
        raise Corrupt(f"attestation: index 0x{public.index:08x} is open to others")
    reader = Reader(certified.attest)
    if (reader.uint(4), reader.uint(2)) != (_GENERATED, _ATTEST_NV):
        raise Corrupt("attestation: not about an NV index, expected NV_Certify")
    if reader.sized() != _qualified(key.name):
        raise Corrupt("attestation: signer of another hierarchy, expected the endorsement's")
    if reader.sized() != challenge:
        raise Corrupt("attestation: made for something else, expected this challenge")
    clock_ms, counts = reader.uint(8), (reader.uint(4), reader.uint(4))
    reader.uint(1)
    firmware, name, offset = reader.uint(8), reader.sized(), reader.uint(2)
    contents = reader.sized()
    reader.end()
    if name != public.name or offset:
        raise Corrupt("attestation: of another index, expected the one that is named")
    return _Statement(public, contents, clock_ms, counts, firmware)


def _check_signature(certified: Certified, key: EccKey) -> None:
    reader = Reader(certified.signature)
    algorithm, hashed = reader.uint(2), reader.uint(2)
    r, s = (int.from_bytes(reader.sized()) for _ in range(2))
    reader.end()
    if (algorithm, hashed) != (ECDSA, SHA256):
        raise Corrupt(f"attestation: signed by 0x{algorithm:04x}, expected ECDSA with SHA-256")
    try:
        key.key.verify(encode_dss_signature(r, s), certified.attest, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise Corrupt("attestation: signature wrong, expected the pinned key's") from error


def _qualified(name: bytes) -> bytes:
    """Return the qualified name of a primary key of the endorsement hierarchy (part 1, 16.2)."""
    return SHA256.to_bytes(2) + sha256(ENDORSEMENT.to_bytes(4) + name).digest()
