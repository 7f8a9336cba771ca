"""Checkpoints: what a log signs about its size and root (c2sp.org/tlog-checkpoint)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from scrubjay.base.errors import Invalid
from scrubjay.evidence.merkle import EMPTY_ROOT, HASH_BYTES, SIZE_MAX, Frontier
from scrubjay.evidence.note import (
    Note,
    Signer,
    VerifierKey,
    decode_base64,
    encode_base64,
    parse_note,
    signed_by,
)

__all__ = ["Checkpoint", "open_checkpoint", "parse_checkpoint", "sign_checkpoint"]

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_LINES_MIN = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log: its first `size` entries have this root."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()
    """Further lines, which nobody audits; none of them empty."""

    @property
    def text(self) -> str:
        """The text that is signed."""
        lines = (self.origin, str(self.size), encode_base64(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


def parse_checkpoint(text: str) -> Checkpoint:
    """Return the checkpoint in the text of a note; Invalid if it is none."""
    *lines, end = text.split("\n")
    if end or len(lines) < _LINES_MIN or not all(lines):
        raise Invalid("checkpoint: expected three lines or more, none of them empty")
    origin, size, root, *extensions = lines
    if not _SIZE.fullmatch(size) or int(size) > SIZE_MAX:
        raise Invalid(f"checkpoint of {origin}: size {size[:20]!r}, expected a decimal number")
    hashed = decode_base64(root)
    if len(hashed) != HASH_BYTES:
        raise Invalid(f"checkpoint of {origin}: a root of {len(hashed)} bytes, expected 32")
    if size == "0" and hashed != EMPTY_ROOT:
        raise Invalid(f"checkpoint of {origin}: a root for no entries, expected the empty hash")
    return Checkpoint(origin, int(size), hashed, tuple(extensions))


def open_checkpoint(data: bytes, key: VerifierKey) -> tuple[Checkpoint, Note]:
    """Return the checkpoint that the log with this key signed, and its note.

    The origin is the key's name. Invalid where anything is not as it should be.
    """
    note = parse_note(data)
    signed_by(note, [key])
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != key.name:
        raise Invalid(f"checkpoint: origin {checkpoint.origin!r}, expected {key.name!r}")
    return checkpoint, note


def sign_checkpoint(frontier: Frontier, signer: Signer, *, extensions: Sequence[str] = ()) -> Note:
    """Return the signed note about a log; its origin is the signer's name."""
    checkpoint = Checkpoint(signer.key.name, frontier.size, frontier.root(), tuple(extensions))
    parse_checkpoint(checkpoint.text)  # raises where an extension line cannot be one
    return signer.sign_note(checkpoint.text)
