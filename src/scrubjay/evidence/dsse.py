"""The envelope of a certificate: DSSE 1.0.2, signed with Ed25519 by the log's key.

Bytes are signed, never meanings: the payload that was verified is the one that is read.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal

from msgspec import Meta

from scrubjay.base.errors import Invalid
from scrubjay.evidence.note import Signer, VerifierKey, decode_base64, encode_base64
from scrubjay.evidence.strict import BYTES_MAX, Record, Text

__all__ = ["PAYLOAD_TYPE", "Envelope", "digest_of", "open_envelope", "pae", "seal_envelope"]

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_SIGNATURES_MAX = 16
_NAMED_MAX = 3
_SHOWN_MAX = 300
"""The longest name of a key, its id, and some."""
_URL_SAFE = str.maketrans("-_", "+/")
_Base64 = Annotated[str, Meta(max_length=BYTES_MAX)]


class EnvelopeSignature(Record, frozen=True):
    """A signature; `keyid` tells which key to try, and is not believed."""

    keyid: Text
    sig: _Base64


class Envelope(Record, frozen=True, rename={"payload_type": "payloadType"}):
    """A statement's bytes, in base64, and who signed them."""

    payload: _Base64
    payload_type: Literal["application/vnd.in-toto+json"]
    signatures: Annotated[
        tuple[EnvelopeSignature, ...], Meta(min_length=1, max_length=_SIGNATURES_MAX)
    ]


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return what is signed: the pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def seal_envelope(payload: bytes, signer: Signer) -> Envelope:
    """Return the signed envelope of a payload."""
    signature = signer.signature(pae(PAYLOAD_TYPE, payload))
    return Envelope(
        payload=encode_base64(payload),
        payload_type=PAYLOAD_TYPE,
        signatures=(EnvelopeSignature(keyid=signer.key.label, sig=encode_base64(signature)),),
    )


def open_envelope(envelope: Envelope, key: VerifierKey) -> bytes:
    """Return the payload that this key signed; Invalid where it signed none.

    Either alphabet of base64 is read, as the specification demands. Signatures of other
    keys are ignored; one under this key's id has to verify.
    """
    payload = _decode(envelope.payload)
    message = pae(envelope.payload_type, payload)
    theirs = [each for each in envelope.signatures if each.keyid == key.label]
    if not theirs:
        signers = " and ".join(each.keyid[:_SHOWN_MAX] for each in envelope.signatures[:_NAMED_MAX])
        raise Invalid(f"envelope: signed by {signers}, not a signature of {key.label}")
    if not all(key.verifies(message, _decode(each.sig)) for each in theirs):
        raise Invalid(f"envelope: the signature of {key.label} does not verify")
    return payload


def digest_of(payload: bytes) -> str:
    """Return the digest by which leaves and second stages name a statement."""
    return hashlib.sha256(payload).hexdigest()


def _decode(text: str) -> bytes:
    return decode_base64(text.translate(_URL_SAFE))
