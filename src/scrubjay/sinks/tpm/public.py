"""Public areas of keys and NV indices: the ones that we make, and what others gave us.

Part 2 of the TPM library, clauses 12.2 (TPMT_PUBLIC) and 13 (TPMS_NV_PUBLIC). The name of a
thing is the digest of its public area, so it says all of its attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec

from scrubjay.base.errors import Corrupt
from scrubjay.sinks.tpm.wire import Reader, b2

__all__ = [
    "AK_ATTRIBUTES",
    "ECDSA",
    "ENDORSEMENT",
    "NULL",
    "NV_ATTRIBUTES",
    "NV_WRITTEN",
    "OWNER",
    "SHA256",
    "EccKey",
    "NvPublic",
    "attestation_template",
    "endorsement_template",
    "nv_indices_for",
    "parse_ecc",
    "parse_nv",
]

OWNER, ENDORSEMENT = 0x40000001, 0x4000000B
SHA256, NULL = 0x000B, 0x0010
_ECC, _AES, _CFB, ECDSA, _P256 = 0x0023, 0x0006, 0x0043, 0x0018, 0x0003
_AES_BITS = 128
_COORDINATE_BYTES = 32

_FIXED_TPM, _FIXED_PARENT, _ORIGIN = 1 << 1, 1 << 4, 1 << 5
_WITH_AUTH, _ADMIN_POLICY, _NO_DA = 1 << 6, 1 << 7, 1 << 10
_RESTRICTED, _DECRYPT, _SIGN = 1 << 16, 1 << 17, 1 << 18

_EK_ATTRIBUTES = _FIXED_TPM | _FIXED_PARENT | _ORIGIN | _ADMIN_POLICY | _RESTRICTED | _DECRYPT
_EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
"""PolicySecret of the endorsement hierarchy, as the EK profile gives it."""
AK_ATTRIBUTES = _FIXED_TPM | _FIXED_PARENT | _ORIGIN | _WITH_AUTH | _NO_DA | _RESTRICTED | _SIGN
"""Restricted: it signs nothing that the TPM did not make itself."""

_NV_AUTH_WRITE, _NV_WRITE_ALL, _NV_AUTH_READ, _NV_NO_DA = 1 << 2, 1 << 12, 1 << 18, 1 << 25
NV_WRITTEN = 1 << 29
NV_ATTRIBUTES = _NV_AUTH_WRITE | _NV_WRITE_ALL | _NV_AUTH_READ | _NV_NO_DA
"""Read and written with its own authorisation and nobody else's, the owner's neither; whole
writes only; and wrong guesses of anybody, ours or another's, never lock it out: 256 random
bits need no protection against guessing."""


_OWNER_INDICES = 0x01800000
"""Where the TCG's registry lets a TPM's owner define indices, up to 0x01BFFFFF."""
_PAIRS = 1 << 21


@dataclass(frozen=True, slots=True)
class EccKey:
    """A key on P-256 as its public area tells of it."""

    attributes: int
    scheme: int
    key: ec.EllipticCurvePublicKey
    name: bytes


@dataclass(frozen=True, slots=True)
class NvPublic:
    """The public area of an NV index."""

    index: int
    attributes: int
    policy: bytes
    size_bytes: int

    def encode(self) -> bytes:
        """Return the TPMS_NV_PUBLIC."""
        head = self.index.to_bytes(4) + SHA256.to_bytes(2) + self.attributes.to_bytes(4)
        return head + b2(self.policy) + self.size_bytes.to_bytes(2)

    @property
    def name(self) -> bytes:
        """The name: the algorithm, and the digest of all of it."""
        return _name(self.encode())


def endorsement_template() -> bytes:
    """Return template L-2 of the TCG EK Credential Profile: its key is the certified one."""
    symmetric = _AES.to_bytes(2) + _AES_BITS.to_bytes(2) + _CFB.to_bytes(2)
    zeros = b2(bytes(_COORDINATE_BYTES))
    return _ecc(_EK_ATTRIBUTES, _EK_POLICY, symmetric, NULL.to_bytes(2), zeros + zeros)


def attestation_template(sink_id: UUID) -> bytes:
    """Return the template of a sink's own signing key; the same one as long as the TPM is."""
    scheme = ECDSA.to_bytes(2) + SHA256.to_bytes(2)
    unique = b2(sha256(b"scrubjay attestation 1" + sink_id.bytes).digest()) + b2(b"")
    return _ecc(AK_ATTRIBUTES, b"", NULL.to_bytes(2), scheme, unique)


def nv_indices_for(sink_id: UUID) -> tuple[int, int]:
    """Return the numbers of a sink's indices: random ones, as its id is."""
    pair = int.from_bytes(sha256(b"scrubjay nv indices 1" + sink_id.bytes).digest()[:4]) % _PAIRS
    return _OWNER_INDICES + 2 * pair, _OWNER_INDICES + 2 * pair + 1


def parse_ecc(public: bytes) -> EccKey:
    """Return the key of a TPMT_PUBLIC; Corrupt unless it is one on P-256 named by SHA-256."""
    reader = Reader(public)
    kind, hashed, attributes = reader.uint(2), reader.uint(2), reader.uint(4)
    reader.sized()
    if reader.uint(2) != NULL:
        reader.take(4)
    if (scheme := reader.uint(2)) != NULL:
        reader.take(2)
    curve, kdf = reader.uint(2), reader.uint(2)
    x, y = reader.sized(), reader.sized()
    reader.end()
    if (kind, hashed, curve, kdf) != (_ECC, SHA256, _P256, NULL):
        raise Corrupt(f"tpm key: type 0x{kind:04x} on curve {curve}, expected P-256")
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), ec.SECP256R1())
    try:
        return EccKey(attributes, scheme, numbers.public_key(), _name(public))
    except ValueError as error:
        raise Corrupt("tpm key: no point of its curve, expected one") from error


def parse_nv(public: bytes) -> NvPublic:
    """Return a TPMS_NV_PUBLIC; Corrupt unless it is one that SHA-256 names."""
    reader = Reader(public)
    index, hashed, attributes = reader.uint(4), reader.uint(2), reader.uint(4)
    parsed = NvPublic(index, attributes, reader.sized(), reader.uint(2))
    reader.end()
    if hashed != SHA256:
        raise Corrupt(f"tpm index 0x{index:08x}: named by 0x{hashed:04x}, expected SHA-256")
    return parsed


def _ecc(attributes: int, policy: bytes, symmetric: bytes, scheme: bytes, unique: bytes) -> bytes:
    head = _ECC.to_bytes(2) + SHA256.to_bytes(2) + attributes.to_bytes(4) + b2(policy)
    return head + symmetric + scheme + _P256.to_bytes(2) + NULL.to_bytes(2) + unique


def _name(public: bytes) -> bytes:
    return SHA256.to_bytes(2) + sha256(public).digest()
