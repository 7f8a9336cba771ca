"""A TPM made of a key: whatever it should say, it signs; so forgers have one."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from scrubjay.base.ids import Epoch
from scrubjay.sinks.attestation import Certified, Evidence
from scrubjay.sinks.tpm.public import (
    NV_ATTRIBUTES,
    NV_WRITTEN,
    NvPublic,
    attestation_template,
    nv_indices_for,
)
from scrubjay.sinks.tpm.slot import SLOT_BYTES, Owners, empty, head_of_held
from scrubjay.sinks.tpm.wire import b2
from tests.sinks.disks import POOL, SINK

__all__ = [
    "CHALLENGE",
    "EMPTIED",
    "FIRMWARE",
    "HELD",
    "INDICES",
    "KEY",
    "OTHER_KEY",
    "OWNERS",
    "Signed",
    "evidence",
    "index",
    "public_of",
]

OWNERS = Owners(SINK, POOL)
KEY = ec.derive_private_key(4711, ec.SECP256R1())
OTHER_KEY = ec.derive_private_key(4712, ec.SECP256R1())
CHALLENGE = b"certificate 7"
FIRMWARE = 0x0007000200050001


def public_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public area of a sink's signing key with this point."""
    numbers = key.public_key().public_numbers()
    point = b2(numbers.x.to_bytes(32)) + b2(numbers.y.to_bytes(32))
    return attestation_template(SINK)[:-36] + point


@dataclass(frozen=True)
class Signed:
    """A TPM made of a key: what it says of one index."""

    contents: bytes
    index: NvPublic
    clock_ms: int = 1000
    resets: int = 3
    firmware: int = FIRMWARE
    challenge: bytes = CHALLENGE
    magic: int = 0xFF544347
    kind: int = 0x8014
    offset: int = 0
    signer: bytes = b""
    key: ec.EllipticCurvePrivateKey = KEY
    public: bytes = b""
    """Of the key whose name the statement bears, where that is not KEY."""

    def certified(self) -> Certified:
        """Sign it."""
        name = b"\0\x0b" + sha256(self.public or public_of(KEY)).digest()
        qualified = b"\0\x0b" + sha256((0x4000000B).to_bytes(4) + name).digest()
        attest = (
            self.magic.to_bytes(4)
            + self.kind.to_bytes(2)
            + b2(self.signer or qualified)
            + b2(self.challenge)
            + self.clock_ms.to_bytes(8)
            + self.resets.to_bytes(4)
            + bytes(4)
            + b"\1"
            + self.firmware.to_bytes(8)
            + b2(self.index.name)
            + self.offset.to_bytes(2)
            + b2(self.contents)
        )
        r, s = decode_dss_signature(self.key.sign(attest, ec.ECDSA(hashes.SHA256())))
        signature = b"\0\x18\0\x0b" + b2(r.to_bytes(32)) + b2(s.to_bytes(32))
        return Certified(self.index.encode(), attest, signature)


def index(number: int, attributes: int = NV_ATTRIBUTES | NV_WRITTEN) -> NvPublic:
    """Return the public area of an index."""
    return NvPublic(number, attributes, b"", SLOT_BYTES)


INDICES = nv_indices_for(SINK)
HELD = Signed(head_of_held(OWNERS, Epoch(2)), index(INDICES[0]))
EMPTIED = Signed(empty(OWNERS, Epoch(1)), index(INDICES[1]), clock_ms=1001)


def evidence(kept: Signed = HELD, emptied: Signed = EMPTIED, **changes: object) -> Evidence:
    """Return evidence that is sound but for the changes."""
    made = Evidence(
        sink_id=SINK,
        pool_id=POOL,
        epoch=2,
        held=kept.certified(),
        emptied=emptied.certified(),
        attestation_public=public_of(KEY),
        endorsement_public=b"",
        manufacturer="IFX",
        vendor="SLB9672",
        firmware=FIRMWARE,
        indices=list(INDICES),
    )
    return msgspec.structs.replace(made, **changes)
