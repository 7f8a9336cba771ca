"""Signed notes and their keys, as C2SP's signed-note specifies them (c2sp.org/signed-note).

A note is a text with signature lines beneath. What a line's key is not known for is carried
through and believed by nobody; a line of a known key that does not verify spoils the note.
Two kinds of keys are read: Ed25519 of the note itself (0x01, a log's), and timestamped
cosignatures of checkpoints (0x04, a witness's; c2sp.org/tlog-cosignature).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from scrubjay.base.errors import Corrupt, Invalid
from scrubjay.evidence.strict import plain

__all__ = [
    "COSIGNATURE",
    "ED25519",
    "KEY_TEXT_MAX",
    "Note",
    "Signature",
    "Signer",
    "VerifierKey",
    "decode_base64",
    "encode_base64",
    "parse_key",
    "parse_note",
    "signed_by",
]

ED25519 = 0x01
COSIGNATURE = 0x04
NOTE_BYTES_MAX = 1 << 20
SIGNATURES_MAX = 100
"""The specification demands 16 at least; signatures of other kinds reach 5 kB."""
KEY_TEXT_MAX = 4096
"""Characters of a verifier key's text, far above the longest name."""
_NAME_MAX = 255
_SHOWN_MAX = 80
_NAMED_MAX = 3
_KEY_BYTES = 32
_ID_BYTES = 4
_SIGNATURE_BYTES = 64
_TIME_BYTES = 8
_TIME_MAX = (1 << 63) - 1
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f]")
_KEY_ID = re.compile("[0-9a-f]{8}")
_LINE_START = "\N{EM DASH} "


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name: what somebody who verifies has to have got from elsewhere."""

    name: str
    public_key: bytes
    """32 bytes (RFC 8032)."""
    kind: int = ED25519

    def __post_init__(self) -> None:
        if not _is_name(self.name):
            raise Invalid(
                f"key name {self.name[:_SHOWN_MAX]!r}: expected 1 to {_NAME_MAX} characters, "
                "no blank, no +, none that controls or hides"
            )
        if self.kind not in {ED25519, COSIGNATURE} or len(self.public_key) != _KEY_BYTES:
            raise Invalid(f"key of {self.name}: expected 32 bytes of Ed25519, of kind 1 or 4")

    @property
    def key_id(self) -> bytes:
        """The first four bytes of SHA-256 over name, newline, kind and key."""
        named = self.name.encode() + b"\n" + bytes((self.kind,)) + self.public_key
        return hashlib.sha256(named).digest()[:_ID_BYTES]

    @property
    def label(self) -> str:
        """Name and id, as `keyid` of an envelope."""
        return f"{self.name}+{self.key_id.hex()}"

    def __str__(self) -> str:
        """The verifier key's text: `name+hex id+base64 of kind and key`."""
        return f"{self.label}+{encode_base64(bytes((self.kind,)) + self.public_key)}"

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether this is the key's Ed25519 signature over the message."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """A key that signs, wherever its private half lives."""

    key: VerifierKey
    sign: Callable[[bytes], bytes]
    """Message -> 64 bytes of Ed25519 signature."""

    def signature(self, message: bytes) -> bytes:
        """Return a signature that is known to verify; Corrupt where the signer gave another."""
        signature = self.sign(message)
        if not self.key.verifies(message, signature):
            raise Corrupt(f"signer {self.key.label}: its signature does not verify with its key")
        return signature

    def sign_note(self, text: str) -> Note:
        """Return the text as a note with this signature; Invalid where it can be none."""
        _check_text(text)
        signature = Signature(self.key.name, self.key.key_id, self.signature(text.encode()))
        return Note(text, (signature,))


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature line; whose it is, is a claim until a key verifies it."""

    name: str
    key_id: bytes
    value: bytes

    def __str__(self) -> str:
        return f"{_LINE_START}{self.name} {encode_base64(self.key_id + self.value)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text that ends in a newline, and one signature or more."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return f"{self.text}\n{''.join(map(str, self.signatures))}"

    def with_signatures(self, more: Sequence[Signature]) -> Note:
        """Return the note with further signatures, none of them twice."""
        fresh = [each for each in dict.fromkeys(more) if each not in self.signatures]
        return Note(self.text, (*self.signatures, *fresh))


def parse_note(data: bytes) -> Note:
    """Return the note in `data`, of which nothing is verified yet; Invalid if it is none."""
    if len(data) > NOTE_BYTES_MAX:
        raise Invalid(f"note: {len(data)} bytes, expected at most {NOTE_BYTES_MAX}")
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        raise Invalid("note: not UTF-8") from error
    if _CONTROL.search(whole):
        raise Invalid("note: a control character, expected none but newlines")
    text, blank, lines = whole.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise Invalid("note: expected a text, an empty line, and signature lines")
    rows = lines.split("\n")[:-1]
    if len(rows) > SIGNATURES_MAX:
        raise Invalid(f"note: {len(rows)} signatures, expected at most {SIGNATURES_MAX}")
    return Note(text + "\n", tuple(_parse_line(row) for row in rows))


def signed_by(note: Note, keys: Sequence[VerifierKey]) -> tuple[VerifierKey, ...]:
    """Return which of the keys signed the note.

    Signatures of other keys are ignored. Invalid where one of a known key does not
    verify, or no known key has signed.
    """
    known = {(key.name, key.key_id): key for key in keys}
    found: dict[VerifierKey, None] = {}
    for each in note.signatures:
        key = known.get((each.name, each.key_id))
        if key is None:
            continue
        if not _verifies(key, note.text, each.value):
            raise Invalid(f"note: the signature of {key.label} does not verify")
        found[key] = None
    if not found:
        signers = [f"{each.name}+{each.key_id.hex()}" for each in note.signatures[:_NAMED_MAX]]
        raise Invalid(
            f"note: signed by {' and '.join(signers) or 'nobody'}, not by the key of "
            + " or ".join(key.label for key in keys[:_NAMED_MAX]),
        )
    return tuple(found)


def parse_key(text: str) -> VerifierKey:
    """Return the verifier key in a text, as `str(key)` writes it; Invalid if it is none."""
    if len(text) > KEY_TEXT_MAX:
        raise Invalid(
            f"verifier key: {len(text)} characters, expected at most {KEY_TEXT_MAX}", hint=_KEY_HINT
        )
    name, _, rest = text.strip("\n").partition("+")
    key_id, _, material = rest.partition("+")
    try:
        decoded = decode_base64(material)
        key = VerifierKey(name, decoded[1:], decoded[0] if decoded else 0)
    except Invalid as error:
        raise Invalid(
            f"verifier key: damaged, or no key ({error.message})", hint=_KEY_HINT
        ) from error
    if not _KEY_ID.fullmatch(key_id) or bytes.fromhex(key_id) != key.key_id:
        raise Invalid(
            f"verifier key of {name[:_SHOWN_MAX]}: damaged, its id is {key_id[:8]!r}, expected "
            f"{key.key_id.hex()} for this name and key",
            hint=_KEY_HINT,
        )
    return key


_KEY_HINT = "it reads name+id+base64, in one line; the log's operator publishes it"


def encode_base64(data: bytes) -> str:
    """Return standard base64 with padding (RFC 4648, section 4)."""
    return base64.b64encode(data).decode()


def decode_base64(text: str) -> bytes:
    """Return what `encode_base64` encoded; Invalid for any other spelling of it."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise Invalid("base64: expected its standard alphabet and padding") from error
    if encode_base64(data) != text:
        raise Invalid("base64: expected the one spelling that encoding gives")
    return data


def _parse_line(row: str) -> Signature:
    start, name, encoded = row[: len(_LINE_START)], *_pair(row[len(_LINE_START) :])
    if start != _LINE_START or not _is_name(name):
        raise Invalid("note: a signature line, expected an em dash, a key's name and base64")
    data = decode_base64(encoded)
    if len(data) <= _ID_BYTES:
        raise Invalid(f"note: a signature of {len(data)} bytes, expected a key id and more")
    return Signature(name, data[:_ID_BYTES], data[_ID_BYTES:])


def _pair(text: str) -> tuple[str, str]:
    name, _, rest = text.partition(" ")
    return name, rest


def _is_name(name: str) -> bool:
    """Whether a key may be called so: what is no blank, and seen as what it is."""
    strange = any(c.isspace() for c in name) or plain(name) != name
    return 0 < len(name) <= _NAME_MAX and "+" not in name and not strange


def _check_text(text: str) -> None:
    if not text.endswith("\n") or _CONTROL.search(text):
        raise Invalid("note: expected a text of whole lines without control characters")


def _verifies(key: VerifierKey, text: str, value: bytes) -> bool:
    if key.kind == ED25519:
        return len(value) == _SIGNATURE_BYTES and key.verifies(text.encode(), value)
    time = int.from_bytes(value[:_TIME_BYTES])
    if len(value) != _TIME_BYTES + _SIGNATURE_BYTES or time > _TIME_MAX:
        return False
    message = f"cosignature/v1\ntime {time}\n{text}".encode()
    return key.verifies(message, value[_TIME_BYTES:])
