"""What an auditor may ask beside: a newer checkpoint, witnesses, his volume, the time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from scrubjay.base.errors import Invalid
from scrubjay.base.ids import VolumeId
from scrubjay.evidence.bundle import Bundle
from scrubjay.evidence.checkpoint import Checkpoint, open_checkpoint
from scrubjay.evidence.deriving import due_at, meaning_of, spell
from scrubjay.evidence.entries import blind_volume
from scrubjay.evidence.merkle import is_consistent
from scrubjay.evidence.note import COSIGNATURE, VerifierKey, parse_key, parse_note, signed_by
from scrubjay.evidence.report import Work, deadlines_of
from scrubjay.evidence.statement import Statement

__all__ = ["Asked", "Newer", "ask_clock", "ask_newer", "ask_volume", "ask_witnesses"]


@dataclass(frozen=True, slots=True)
class Newer:
    """A checkpoint that the auditor has from elsewhere, and the proof that it continues ours."""

    checkpoint: bytes
    proof: tuple[bytes, ...] | None = None
    """None where nobody gave one; between equal states it is empty."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A volume about which the certificate should be, by its id and its blinding value."""

    volume: VolumeId
    blinding: bytes


def ask_newer(
    work: Work, newer: Newer | None, checkpoint: Checkpoint | None, key: VerifierKey
) -> None:
    """Check that a checkpoint from elsewhere continues the bundle's.

    Without a proof that cannot be told of two sizes: it is not checked then, and no failure.
    """
    name = "newer checkpoint"
    if newer is None:
        work.leave(name, "no other checkpoint of this log was given")
    elif checkpoint is None:
        work.skip(name, "the bundle's own checkpoint does not verify")
    else:
        _ask_later(work, name, newer, checkpoint, key)


def _ask_later(
    work: Work, name: str, newer: Newer, checkpoint: Checkpoint, key: VerifierKey
) -> None:
    try:
        later, _ = open_checkpoint(newer.checkpoint, key)
    except Invalid as error:
        work.fail(name, f"what was given: {error.message}")
        return
    sizes = f"the log of {later.size} entries and this one of {checkpoint.size}"
    if newer.proof is None and later.size > checkpoint.size:
        work.skip(name, f"{sizes}: not compared, give --proof (scrubjay certificate proof)")
    elif newer.proof is None and later.size < checkpoint.size:
        work.skip(name, f"{sizes}: not compared, the one that was given is the older one")
    else:
        work.check(name, lambda: _continues(later, newer.proof or (), checkpoint))


def _continues(later: Checkpoint, proof: Sequence[bytes], checkpoint: Checkpoint) -> str:
    if not is_consistent(
        old=checkpoint.size,
        old_root=checkpoint.root,
        new=later.size,
        new_root=later.root,
        proof=proof,
    ):
        raise Invalid(f"the log of {later.size} entries does not continue this one")
    return f"The log of {later.size} entries begins with the one that this certificate is in."


def ask_witnesses(work: Work, bundle: Bundle, witnesses: Sequence[str]) -> None:
    """Check that each of the witnesses cosigned the bundle's checkpoint."""
    if not witnesses:
        work.leave("witnesses", "no witness's key was given")
        work.remark(
            "No witness was asked: the holder of the log's key could show others another log."
        )
        return
    work.check("witnesses", lambda: _cosigned(bundle, [parse_key(each) for each in witnesses]))


def _cosigned(bundle: Bundle, keys: Sequence[VerifierKey]) -> str:
    if any(key.kind != COSIGNATURE for key in keys):
        raise Invalid("a key that is no witness's, expected one of kind 4")
    found = signed_by(parse_note(bundle.checkpoint.encode()), keys)
    if missing := [key.label for key in keys if key not in found]:
        raise Invalid(f"not cosigned by {', '.join(missing)}")
    return f"The checkpoint is cosigned by {', '.join(key.name for key in keys)}."


def ask_volume(work: Work, asked: Asked | None, statement: Statement | None) -> None:
    """Check that a volume is among the subjects, under its blinded id."""
    if asked is None:
        work.leave("volume", "no volume was named; the certificate knows blinded ids")
    elif statement is None:
        work.skip("volume", "there is no statement to look in")
    else:
        work.check("volume", lambda: _names(asked, statement))


def _names(asked: Asked, statement: Statement) -> str:
    blinded = blind_volume(asked.blinding, asked.volume)
    if blinded not in {each.name for each in statement.subject}:
        raise Invalid(f"volume {asked.volume} is not among its subjects")
    return f"Volume {asked.volume} is among its subjects."


def ask_clock(
    work: Work,
    now: dt.datetime | None,
    statement: Statement | None,
    first: Statement | None = None,
) -> None:
    """Check that a certificate is not of tomorrow, and remark what it says is kept or due.

    Of a certificate in two stages, the deadlines of both count: a missed one stays missed.
    """
    if now is None:
        work.leave("clock", "nobody said what time it is")
    elif statement is None:
        work.skip("clock", "there is no statement to look in")
    else:
        work.check("clock", lambda: _before(now, statement.predicate.issued_at))
    if statement is None:
        return
    for each in statement.predicate.inventory:
        if each.state == "kept":
            until = "for good" if each.until is None else f"until {spell(each.until)}"
            work.remark(
                f"{each.kind} on {each.place} ({each.holds}) is kept {until}: {each.because}."
            )
    stages = [each.predicate for each in (first, statement) if each is not None]
    for stage, deadline in deadlines_of(stages):
        gone = now is not None and deadline.state == "pending" and now > due_at(deadline)
        if deadline.state != "met":
            what = "has passed; ask for the next stage" if gone else f"is {deadline.state}"
            due = spell(due_at(deadline))
            work.remark(f"{stage}: {deadline.name}, due {due}, {what}{meaning_of(deadline)}.")


def _before(now: dt.datetime, issued_at: dt.datetime) -> str:
    if issued_at > now:
        raise Invalid(f"issued at {spell(issued_at)}, which is yet to come")
    return f"It was issued before {spell(now)}."
