"""What a TPM signed for an erasure: over which challenge, what it shows, and what it does not.

The challenge is derived here alone, so that who asks a TPM and who checks its answer mean the
same erasure (docs/format/evidence.md, "What a TPM signs"). Evidence stands on base alone: who
reads a TPM's structures is handed in as `Attests`, and without him nothing signed is believed.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from scrubjay.base.errors import Invalid
from scrubjay.evidence.report import Work
from scrubjay.evidence.statement import Attestation, Certified, Forgotten, SinkDropped, Subject

__all__ = [
    "Attests",
    "Shown",
    "ask_keys",
    "ask_sinks",
    "assumed_of",
    "challenge_of",
    "check_attestations",
]

_DOMAIN = b"scrubjay erasure attested 1"
_EVENT = struct.Struct(">16s16sQqI")
_START = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NOTHING = "no sink signed anything: what they hold is what the daemon found"


@dataclass(frozen=True, slots=True)
class Shown:
    """What a TPM's signatures show."""

    epoch: int
    """The one that the one index holds."""
    dropped: int
    """The last one that the other index, now empty, held; 0: none, or a drop was cut short."""
    firmware: int
    clock_ms: int
    """The TPM's own time since it was cleared."""
    resets: int


class Attests(Protocol):
    """Reads what a TPM signed."""

    def __call__(
        self, attestation: Attestation, *, pool: UUID, sink: UUID, key: str, challenge: bytes
    ) -> Shown:
        """Return what it shows of this sink, signed by the key of this name; Invalid if forged."""
        ...


def challenge_of(
    *,
    pool: UUID,
    sink: UUID,
    epoch_after: int,
    forgotten_at: dt.datetime,
    subjects: Sequence[Subject],
) -> bytes:
    """Return the 32 bytes that bind a TPM's word to one sink's part in one erasure."""
    at_us = (forgotten_at - _START) // dt.timedelta(microseconds=1)
    digest = hashlib.sha256(_DOMAIN)
    digest.update(_EVENT.pack(pool.bytes, sink.bytes, epoch_after, at_us, len(subjects)))
    for each in subjects:
        digest.update(bytes.fromhex(each.id) + bytes.fromhex(each.birth.record))
    return digest.digest()


def check_attestations(predicate: Forgotten, attests: Attests | None) -> str:
    """Check whatever the sinks of a forgetting signed; return what it shows, in words."""
    words = []
    for each in predicate.destruction.sinks:
        if each.kind != "tpm2" and (each.key or each.attestation):
            raise Invalid(f"sink {each.id}: a {each.kind} sink with a TPM's word, expected none")
        if each.attestation is not None:
            words.append(_words(each, _shown(predicate, each, each.attestation, attests)))
    return " ".join(words)


def ask_sinks(work: Work, name: str, predicate: Certified, attests: Attests | None) -> None:
    """Check what TPMs signed of a forgetting, and remark where one signed nothing."""
    if not isinstance(predicate, Forgotten):
        return
    sinks = predicate.destruction.sinks
    if not any(each.key or each.attestation for each in sinks):
        work.leave(name, _NOTHING)
    elif attests is None:
        work.skip(name, "nobody here reads what a TPM signs")
    else:
        work.check(name, lambda: check_attestations(predicate, attests) or f"{_NOTHING}.")
    for each in sinks:
        if each.kind == "tpm2" and each.attestation is None:
            work.remark(_silent(each))


def ask_keys(work: Work, keys: Sequence[str], predicate: Certified | None) -> None:
    """Check that TPMs signed with keys that the auditor was given, or tell him to compare."""
    name = "sink key"
    if not isinstance(predicate, Forgotten):
        if keys:
            work.skip(name, "there is no forgetting to look in")
        return
    signed = [each for each in predicate.destruction.sinks if each.attestation is not None]
    if keys:
        work.check(name, lambda: _given(signed, keys))
    elif signed:
        work.leave(name, "no key of a sink was given")
        for each in signed:
            work.remark(
                f"Sink {each.id} signed with the key {each.key}: compare it with the one that "
                "`scrubjay sink show` printed and you were given before; anybody can make a key."
            )


def assumed_of(sinks: Sequence[SinkDropped]) -> tuple[str, ...]:
    """Return what a certificate rests on as far as its TPMs signed, or did not."""
    return tuple(
        _silent(each) if each.attestation is None else _genuine(each)
        for each in sinks
        if each.kind == "tpm2"
    )


# --- leaves -------------------------------------------------------------------------------


def _shown(
    predicate: Forgotten, sink: SinkDropped, attestation: Attestation, attests: Attests | None
) -> Shown:
    event = predicate.destruction
    if sink.key is None:
        raise Invalid(f"sink {sink.id}: its TPM's word without the name of the key that signed")
    if attests is None:
        raise Invalid(f"sink {sink.id}: its TPM's word, and nobody here who reads it")
    challenge = challenge_of(
        pool=predicate.pool,
        sink=sink.id,
        epoch_after=event.epoch_after,
        forgotten_at=event.forgotten_at,
        subjects=predicate.subjects,
    )
    try:
        shown = attests(
            attestation, pool=predicate.pool, sink=sink.id, key=sink.key, challenge=challenge
        )
    except Invalid as error:
        raise Invalid(f"sink {sink.id}: {error.message}") from error
    if shown.epoch < event.epoch_after:
        raise Invalid(
            f"sink {sink.id}: its TPM holds epoch {shown.epoch}, expected {event.epoch_after} "
            "or later"
        )
    return shown


def _words(sink: SinkDropped, shown: Shown) -> str:
    held_before = (
        f"epoch {shown.dropped} was dropped from it last"
        if shown.dropped
        else "it held none yet, or its last drop was cut short and made up for"
    )
    parts = (shown.firmware >> 48, shown.firmware >> 32, shown.firmware >> 16, shown.firmware)
    version = ".".join(str(each & 0xFFFF) for each in parts)
    return (
        f"For this erasure, the TPM of sink {sink.id} signed with the key {sink.key}: one index "
        f"holds epoch {shown.epoch}, the other is overwritten and empty ({held_before}); "
        f"firmware {version}, its clock at {shown.clock_ms // 1000} s since it was cleared, "
        f"reset {shown.resets} times. That the key lives in a genuine TPM is not shown."
    )


def _given(signed: Sequence[SinkDropped], keys: Sequence[str]) -> str:
    if not signed:
        raise Invalid("no sink's TPM signed anything, expected one with the key that was given")
    wanted = {each.strip().lower() for each in keys}
    for each in signed:
        if each.key not in wanted:
            raise Invalid(f"sink {each.id} signed with the key {each.key}, expected one given")
    return "Each TPM that signed did so with a key that was given."


def _silent(sink: SinkDropped) -> str:
    return (
        f"The TPM of sink {sink.id} signed nothing for this erasure: that it dropped the old key "
        "is what the daemon found, and nobody else can check."
    )


def _genuine(sink: SinkDropped) -> str:
    return (
        f"The key {sink.key}, which signed for sink {sink.id}, lives in a genuine TPM: that rests "
        "on its maker's endorsement certificate, which nobody checked."
    )
