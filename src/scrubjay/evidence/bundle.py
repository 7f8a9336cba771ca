"""The bundle: one file with a certificate and all that proves it (docs/format/evidence.md)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from scrubjay.base.errors import Corrupt, Invalid, NotFound
from scrubjay.evidence.checkpoint import Checkpoint
from scrubjay.evidence.dsse import Envelope, open_envelope
from scrubjay.evidence.entries import SUBJECTS_MAX
from scrubjay.evidence.log import Log
from scrubjay.evidence.note import decode_base64, encode_base64
from scrubjay.evidence.stages import parse_statement
from scrubjay.evidence.statement import Forgotten, Retired, Scrubbed
from scrubjay.evidence.strict import BYTES_MAX, Count, Record, decode

__all__ = ["FORMAT", "Bundle", "First", "Leaf", "make_bundle", "parse_bundle"]

FORMAT: Literal["scrubjay certificate 1"] = "scrubjay certificate 1"
_PROOF_MAX = 64
_NOTE_CHARACTERS_MAX = 1 << 20
_LOOKED_AT = 4096
_HINT = "give the JSON that `certificate show` prints"


class Leaf(Record, frozen=True):
    """An entry of the log, and the way from it to the checkpoint's root."""

    entry: Annotated[str, Meta(min_length=1, max_length=0xFFFF)]
    index: Count
    proof: Annotated[
        tuple[Annotated[str, Meta(min_length=44, max_length=44)], ...], Meta(max_length=_PROOF_MAX)
    ]

    @property
    def hashes(self) -> list[bytes]:
        """The proof's hashes; Invalid where one is no base64."""
        return [decode_base64(each) for each in self.proof]


class First(Record, frozen=True):
    """The first stage, beside a certificate of the second."""

    envelope: Envelope
    leaf: Leaf


class Bundle(Record, frozen=True):
    """A certificate, its leaf, the births of its subjects, and the checkpoint of all proofs."""

    format: Literal["scrubjay certificate 1"]
    envelope: Envelope
    leaf: Leaf
    births: Annotated[tuple[Leaf, ...], Meta(max_length=SUBJECTS_MAX)]
    """None of a medium."""
    forgotten: First | None
    checkpoint: Annotated[str, Meta(max_length=_NOTE_CHARACTERS_MAX)]


def parse_bundle(data: bytes) -> Bundle:
    """Return the bundle in `data`; Invalid, saying what else it seems to be, for anything else."""
    try:
        return decode(Bundle, data, what="bundle")
    except Invalid as error:
        if likeness := _likeness(data):
            raise Invalid(f"this is no certificate bundle: {likeness}", hint=_HINT) from error
        raise


def make_bundle(
    log: Log, envelope: Envelope, index: int, *, first: tuple[Envelope, int] | None = None
) -> bytes:
    """Return the bundle of a certificate whose entry is number `index` of a published log.

    `first` is the first stage and its index, for a certificate of the second. NotFound
    where the checkpoint does not reach an entry yet, Corrupt where the tiles are damaged,
    Invalid where the parts do not belong together.
    """
    known = log.checkpoint()
    if known is None:
        raise NotFound("log: no checkpoint yet", hint="the log is published after each commit")
    checkpoint, note = known
    envelopes = [envelope] if first is None else [envelope, first[0]]
    stages = [parse_statement(open_envelope(each, log.key)).predicate for each in envelopes]
    last = stages[-1]
    if isinstance(last, Scrubbed) or isinstance(stages[0], Scrubbed) != bool(first):
        raise Invalid("bundle: expected a first stage, beside a second one or alone")
    if isinstance(last, Retired) and first is not None:
        raise Invalid("bundle: a medium beside a scrubbing, expected it alone")
    born = [each.birth.log_index for each in last.subjects] if isinstance(last, Forgotten) else []
    bundle = Bundle(
        format=FORMAT,
        envelope=envelope,
        leaf=_leaf(log, index, checkpoint),
        births=tuple(_leaf(log, each, checkpoint) for each in born),
        forgotten=first and First(envelope=first[0], leaf=_leaf(log, first[1], checkpoint)),
        checkpoint=str(note),
    )
    data = msgspec.json.format(msgspec.json.encode(bundle), indent=1) + b"\n"
    if len(data) > BYTES_MAX:
        raise Invalid(f"bundle: {len(data)} bytes, expected at most {BYTES_MAX}")
    parse_bundle(data)
    return data


def _likeness(data: bytes) -> str:
    """Return what a file is that was given for a bundle; "" where its JSON may be a damaged one."""
    start = data[:_LOOKED_AT].lstrip(b"\xef\xbb\xbf \t\r\n\0")
    if not start:
        likeness = "it is empty"
    elif start.startswith(b"<"):
        likeness = "it looks like an HTML page, as people read"
    elif start.startswith(b"%PDF"):
        likeness = "it looks like a page in PDF, as people read"
    elif b"\n\xe2\x80\x94 " in start:
        likeness = "it looks like a checkpoint of a log"
    elif not start.startswith(b"{"):
        likeness = "it is not JSON"
    elif _is_envelope(data):
        likeness = (
            "it is an envelope, as in the folder evidence/certificates: signed, but without its "
            "place in the log; `certificate bundle` makes one of both"
        )
    else:
        return ""
    return f"{likeness}; {_HINT}"


def _is_envelope(data: bytes) -> bool:
    try:
        decode(Envelope, data, what="envelope")
    except Invalid:
        return False
    return True


def _leaf(log: Log, index: int, checkpoint: Checkpoint) -> Leaf:
    if index >= checkpoint.size:
        raise NotFound(
            f"entry {index}: not in the log of {checkpoint.size} entries yet",
            hint="the log is published after each commit: try again",
        )
    proof = log.prove_inclusion(index, checkpoint)
    try:
        entry = log.entry(index, checkpoint.size).decode()
    except UnicodeDecodeError as error:
        raise Corrupt(f"entry {index} of the log: not UTF-8") from error
    return Leaf(entry=entry, index=index, proof=tuple(map(encode_base64, proof)))
