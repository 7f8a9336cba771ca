"""HMAC sessions: no secret crosses the TPM's bus in the clear, and no answer is believed unproven.

Part 1 of the TPM library, clauses 17 to 21 (sessions, parameter encryption) and annex C (ECDH).
A session is salted: its key comes from an ECDH between a fresh key of ours and the TPM's
endorsement key, whose name was pinned when the sink was made. So who recorded the bus, and
later steals the home, still cannot read the epoch keys that went over it; and who sits on
the bus cannot pretend to be the TPM. Parameters are encrypted by XOR with KDFa under fresh
nonces, which every TPM for PCs has.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ec

from scrubjay.base.errors import Corrupt
from scrubjay.base.ports import Entropy
from scrubjay.sinks.tpm.wire import Reader, b2

__all__ = [
    "CONTINUE",
    "ENCRYPTED",
    "NONCE_BYTES",
    "PASSWORD_SESSION",
    "Salt",
    "Session",
    "kdfa",
    "kdfe",
    "salt_for",
    "session_key",
]

NONCE_BYTES = 32
_DIGEST_BITS = 256
_COORDINATE_BYTES = 32
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the curve P-256 (NIST SP 800-186, 3.2.1.3)."""
_SCALAR_BYTES = 48
"""16 more than the order has, so that the remainder is as good as uniform (FIPS 186-5, A.2.1)."""

CONTINUE, ENCRYPTED, DECRYPTED = 0x01, 0x40, 0x20
"""TPMA_SESSION: it lives on; the response's, or the command's first parameter is encrypted."""
PASSWORD_SESSION = (0x40000009).to_bytes(4) + b2(b"") + b"\0" + b2(b"")
"""TPM_RS_PW with an empty authorisation, for keys that have none."""


@dataclass(frozen=True, slots=True)
class Salt:
    """What makes a session's key known to the TPM and us alone."""

    value: bytes
    encrypted: bytes
    """The point that the TPM makes the same value from."""


def salt_for(public: ec.EllipticCurvePublicKey, entropy: Entropy) -> Salt:
    """Agree on a salt with a key in the TPM, by a key of ours that is used once (part 1, C.6.3)."""
    number = 1 + int.from_bytes(entropy.token(_SCALAR_BYTES)) % (_ORDER - 1)
    ours = ec.derive_private_key(number, ec.SECP256R1())
    shared = ours.exchange(ec.ECDH(), public)
    mine, theirs = ours.public_key().public_numbers(), public.public_numbers()
    x, y = (each.to_bytes(_COORDINATE_BYTES) for each in (mine.x, mine.y))
    value = kdfe(shared, b"SECRET", x, theirs.x.to_bytes(_COORDINATE_BYTES))
    return Salt(value, b2(x) + b2(y))


@dataclass(slots=True)
class Session:
    """One session, from the answer to TPM2_StartAuthSession on."""

    handle: int
    key: bytes
    entropy: Entropy
    nonce_tpm: bytes
    nonce_caller: bytes = field(default=b"")

    def authorise(
        self,
        code: int,
        names: list[bytes],
        parameters: bytes,
        auth: bytes,
        *,
        encrypt_first: bool,
        attributes: int,
    ) -> tuple[bytes, bytes]:
        """Return the parameters as they are sent, and the TPMS_AUTH_COMMAND for them."""
        self.nonce_caller = self.entropy.token(NONCE_BYTES)
        if encrypt_first:
            reader = Reader(parameters)
            first = self._masked(reader.sized(), auth, self.nonce_caller, self.nonce_tpm)
            parameters = b2(first) + reader.rest()
            attributes |= DECRYPTED
        digest = sha256(code.to_bytes(4) + b"".join(names) + parameters).digest()
        proof = self._proof(digest, self.nonce_caller, self.nonce_tpm, attributes, auth)
        area = self.handle.to_bytes(4) + b2(self.nonce_caller) + bytes((attributes,)) + b2(proof)
        return parameters, area

    def accept(self, code: int, parameters: bytes, area: Reader, auth: bytes) -> bytes:
        """Return a response's parameters in the clear; Corrupt unless the TPM proves them."""
        nonce, attributes, proof = area.sized(), area.uint(1), area.sized()
        digest = sha256(bytes(4) + code.to_bytes(4) + parameters).digest()
        expected = self._proof(digest, nonce, self.nonce_caller, attributes, auth)
        if not hmac.compare_digest(proof, expected):
            raise Corrupt("tpm: answer not proven by its session, expected the TPM's own")
        self.nonce_tpm = nonce
        if not attributes & ENCRYPTED:
            return parameters
        reader = Reader(parameters)
        first = self._masked(reader.sized(), auth, nonce, self.nonce_caller)
        return b2(first) + reader.rest()

    def _proof(
        self, digest: bytes, newer: bytes, older: bytes, attributes: int, auth: bytes
    ) -> bytes:
        message = digest + newer + older + bytes((attributes,))
        return hmac.digest(self.key + auth, message, "sha256")

    def _masked(self, data: bytes, auth: bytes, newer: bytes, older: bytes) -> bytes:
        """Encrypt or decrypt by XOR (part 1, 11.4.6.3); each pair of nonces is used once."""
        mask = kdfa(self.key + auth, b"XOR", newer, older, 8 * len(data))
        return bytes(left ^ right for left, right in zip(data, mask, strict=True))


def kdfa(key: bytes, label: bytes, context_u: bytes, context_v: bytes, bits: int) -> bytes:
    """Derive whole bytes from a key: KDFa with SHA-256 (part 1, 11.4.10.2; SP 800-108)."""
    tail = label + b"\0" + context_u + context_v + bits.to_bytes(4)
    out = b""
    while 8 * len(out) < bits:
        counter = len(out) // sha256().digest_size + 1
        out += hmac.digest(key, counter.to_bytes(4) + tail, "sha256")
    return out[: bits // 8]


def kdfe(shared: bytes, label: bytes, party_u: bytes, party_v: bytes) -> bytes:
    """Derive 32 bytes from an ECDH secret: KDFe with SHA-256 (part 1, 11.4.10.3; SP 800-56A)."""
    return sha256((1).to_bytes(4) + shared + label + b"\0" + party_u + party_v).digest()


def session_key(salt: bytes, nonce_tpm: bytes, nonce_caller: bytes) -> bytes:
    """Derive the key of a salted session that is bound to nothing (part 1, 19.6.8)."""
    return kdfa(salt, b"ATH", nonce_tpm, nonce_caller, _DIGEST_BITS)
