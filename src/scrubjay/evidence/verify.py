"""The offline verifier: a bundle, the log's key, and nothing else (docs/format/evidence.md).

The bundle is an enemy's. No signature is believed but that of the key which the auditor
brought, nothing is read out of a payload before that signature verified, and what could not
be checked counts as not proven.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from scrubjay.base.errors import Invalid
from scrubjay.evidence.attesting import Attests, ask_keys, ask_sinks
from scrubjay.evidence.bundle import Bundle, First, Leaf, parse_bundle
from scrubjay.evidence.checkpoint import Checkpoint, open_checkpoint
from scrubjay.evidence.deriving import spell
from scrubjay.evidence.dsse import digest_of, open_envelope
from scrubjay.evidence.entries import (
    BirthEntry,
    ForgettingEntry,
    RetiredEntry,
    ScrubbedEntry,
    parse_entry,
)
from scrubjay.evidence.merkle import is_included, leaf_hash
from scrubjay.evidence.note import COSIGNATURE, VerifierKey, parse_key
from scrubjay.evidence.questions import (
    Asked,
    Newer,
    ask_clock,
    ask_newer,
    ask_volume,
    ask_witnesses,
)
from scrubjay.evidence.report import Outcome, Report, Verdict, Work
from scrubjay.evidence.retirement import expect_erased, remarks_of
from scrubjay.evidence.rules import NAMES, rules_of
from scrubjay.evidence.stages import check_scrubbing, check_statement, parse_statement
from scrubjay.evidence.statement import Certified, Forgotten, Retired, Scrubbed, Statement

__all__ = ["verify"]

_LATE = dt.timedelta(hours=1)
"""A birth that was logged later than this is remarked."""
_FIRST = "forgetting: "
_PARTS = ("envelope", "statement", "leaf", "inclusion")
_RULES = (*NAMES, "sink")


@dataclass(frozen=True, slots=True)
class _Stage:
    """One certificate whose signature verified."""

    payload: bytes
    statement: Statement
    leaf: Leaf


def verify(
    bundle: bytes,
    key: str,
    *,
    newer: Newer | None = None,
    witnesses: Sequence[str] = (),
    volume: Asked | None = None,
    now: dt.datetime | None = None,
    attests: Attests | None = None,
    sink_keys: Sequence[str] = (),
) -> Report:
    """Check a bundle against the text of the log's verifier key; it never raises on their account.

    `witnesses` are verifier keys, each of which has to have cosigned the checkpoint. With
    `now`, times after it fail and deadlines that have passed since are remarked. `attests`
    reads what TPMs signed: without it nothing is proven where one did. `sink_keys` are names
    of their keys, in hex, as the auditor was given them.
    """
    work = Work()
    log_key = work.find("log key", lambda: _log_key(key))
    parsed = work.find(
        "bundle", lambda: (parse_bundle(bundle), f"A bundle of {len(bundle)} bytes.")
    )
    if log_key is None or parsed is None:
        lacks = "no bundle to check" if parsed is None else "no key to check it with"
        for name in ("checkpoint", *_PARTS, "births", *_RULES):
            work.skip(name, f"not looked at: there is {lacks}")
        return _report(work, None, None)
    checkpoint = work.find("checkpoint", lambda: _open(parsed, log_key))
    stage = _stage(work, "", parsed, log_key, checkpoint)
    first = stage
    if parsed.forgotten is not None:
        first = _stage(work, _FIRST, parsed.forgotten, log_key, checkpoint)
    _link(work, stage, first, has_first=parsed.forgotten is not None)
    if checkpoint is None or first is None:
        work.skip("births", "without a checkpoint and a first stage there is nothing to compare")
    else:
        work.check("births", partial(_births, work, parsed, first, checkpoint))
    ask_newer(work, newer, checkpoint, log_key)
    ask_witnesses(work, parsed, witnesses)
    for prefix, each in (("", stage), (_FIRST, first if first is not stage else None)):
        if each is not None:
            ask_sinks(work, prefix + "sink", each.statement.predicate, attests)
    ask_keys(work, sink_keys, None if first is None else first.statement.predicate)
    statement = None if stage is None else stage.statement
    ask_volume(work, volume, statement)
    before = None if first is None or first is stage else first.statement
    ask_clock(work, now, statement, before)
    return _report(work, stage, first)


def _log_key(text: str) -> tuple[VerifierKey, str]:
    key = parse_key(text)
    if key.kind == COSIGNATURE:
        raise Invalid(f"verifier key of {key.name}: a witness's, expected a log's")
    return key, f"The log is {key.name}, key {key.key_id.hex()}."


def _open(bundle: Bundle, key: VerifierKey) -> tuple[Checkpoint, str]:
    try:
        data = bundle.checkpoint.encode()
    except UnicodeEncodeError as error:
        raise Invalid("checkpoint: not text") from error
    checkpoint, _ = open_checkpoint(data, key)
    return checkpoint, f"The log signed its state of {checkpoint.size} entries."


def _stage(
    work: Work, prefix: str, given: Bundle | First, key: VerifierKey, checkpoint: Checkpoint | None
) -> _Stage | None:
    """Check one certificate by itself: its signature, its place in the log, its rules."""
    envelope, leaf = given.envelope, given.leaf
    payload = work.find(
        prefix + "envelope",
        lambda: (open_envelope(envelope, key), "The log's key signed this statement."),
    )
    statement = None
    if payload is None:
        work.skip(prefix + "statement", "what nobody signed is not read")
    else:
        statement = work.find(prefix + "statement", lambda: _statement(payload))
    if checkpoint is None:
        work.skip(prefix + "inclusion", "without a checkpoint there is no log to be in")
    else:
        work.check(prefix + "inclusion", lambda: _included(leaf, checkpoint))
    if payload is None or statement is None:
        for name in ("leaf", *_RULES):
            work.skip(prefix + name, "there is no statement to check")
        return None
    work.check(prefix + "leaf", lambda: _leaf(leaf, payload, statement))
    for name, rule in rules_of(statement.predicate).items():
        work.check(prefix + name, rule)
    if isinstance(statement.predicate, Retired):
        work.check(prefix + "erased", partial(expect_erased, statement.predicate))
        for sentence in remarks_of(statement.predicate):
            work.remark(sentence)
    return _Stage(payload, statement, leaf)


def _statement(payload: bytes) -> tuple[Statement, str]:
    statement = parse_statement(payload)
    return statement, check_statement(statement)


def _included(leaf: Leaf, checkpoint: Checkpoint) -> str:
    if not is_included(
        leaf_hash(_bytes(leaf)),
        index=leaf.index,
        size=checkpoint.size,
        proof=leaf.hashes,
        root=checkpoint.root,
    ):
        raise Invalid(f"its proof does not lead from entry {leaf.index} to the checkpoint")
    return f"It is entry {leaf.index} of the log's {checkpoint.size}."


def _leaf(leaf: Leaf, payload: bytes, statement: Statement) -> str:
    entry, predicate = parse_entry(_bytes(leaf)), statement.predicate
    told = isinstance(entry, ForgettingEntry | ScrubbedEntry | RetiredEntry)
    if not told or type(entry) is not _entry_kind(predicate):
        raise Invalid("the entry is of another kind, expected that of the certificate's stage")
    if entry.statement != digest_of(payload):
        raise Invalid("the entry names another statement")
    subjects = (entry.subject,) if isinstance(entry, RetiredEntry) else entry.subjects
    if subjects != tuple(each.name for each in statement.subject):
        raise Invalid("the entry names other subjects")
    if entry.at != predicate.issued_at:
        raise Invalid(f"the entry is of {spell(entry.at)}, expected when this was issued")
    forgotten = predicate.forgotten if isinstance(predicate, Scrubbed) else ""
    if isinstance(entry, ScrubbedEntry) and entry.forgotten != forgotten:
        raise Invalid("the entry refers to another forgetting")
    return f"The log's entry of {spell(entry.at)} names this very statement."


def _entry_kind(predicate: Certified) -> type[ForgettingEntry | ScrubbedEntry | RetiredEntry]:
    if isinstance(predicate, Retired):
        return RetiredEntry
    return ScrubbedEntry if isinstance(predicate, Scrubbed) else ForgettingEntry


def _link(work: Work, stage: _Stage | None, first: _Stage | None, *, has_first: bool) -> None:
    """Check that a second stage has its first one beside it, and a first stage none."""
    if stage is None or first is None:
        work.skip("scrubbing", "a stage could not be read")
    elif isinstance(stage.statement.predicate, Scrubbed):
        work.check("scrubbing", lambda: _scrubbing(stage, first, has_first=has_first))
    elif has_first:
        work.check("scrubbing", _too_many)
    elif isinstance(stage.statement.predicate, Retired):
        work.leave("scrubbing", "a medium: it was erased whole, and there is no second stage")
    else:
        work.leave("scrubbing", "a forgetting; its slots are overwritten later")


def _too_many() -> str:
    raise Invalid("a first stage, with another one beside it")


def _scrubbing(stage: _Stage, first: _Stage, *, has_first: bool) -> str:
    scrubbed = stage.statement.predicate
    if not has_first or not isinstance(scrubbed, Scrubbed):
        raise Invalid("a second stage without the first one")
    sentence = check_scrubbing(first.statement, digest_of(first.payload), scrubbed)
    if stage.statement.subject != first.statement.subject:
        raise Invalid("its subjects are not those of the forgetting")
    if stage.leaf.index <= first.leaf.index:
        raise Invalid("it stands in the log before the forgetting")
    return sentence


def _births(work: Work, bundle: Bundle, first: _Stage, checkpoint: Checkpoint) -> str:
    predicate = first.statement.predicate
    if isinstance(predicate, Retired) and not bundle.births:
        return "A medium: nothing was born."
    if not isinstance(predicate, Forgotten):
        raise Invalid("there is no first stage, whose subjects could have been born")
    if len(bundle.births) != len(predicate.subjects):
        raise Invalid(f"{len(bundle.births)} birth leaves for {len(predicate.subjects)} volumes")
    for number, (leaf, subject) in enumerate(
        zip(bundle.births, predicate.subjects, strict=True), 1
    ):
        entry, birth = parse_entry(_bytes(leaf)), subject.birth
        told = BirthEntry(
            at=entry.at,
            subject=subject.id,
            tenant=subject.tenant,
            pool=predicate.pool,
            record=birth.record,
            born_at=birth.born_at,
            epoch=birth.epoch,
            cipher=birth.cipher,
            encrypted_from_sector=birth.encrypted_from_sector,
        )
        if entry != told:
            raise Invalid(f"volume {number}: its birth leaf tells of another birth")
        if leaf.index != birth.log_index or leaf.index >= first.leaf.index:
            raise Invalid(f"volume {number}: its birth is not where the statement says")
        if not birth.born_at <= entry.at <= predicate.issued_at:
            raise Invalid(f"volume {number}: its birth was logged out of order")
        _included(leaf, checkpoint)
        if entry.at - birth.born_at > _LATE:
            work.remark(
                f"Volume {number} was born at {spell(birth.born_at)}, and its birth logged only "
                f"at {spell(entry.at)}: what it was until then is asserted."
            )
    found = "1 birth stands" if len(bundle.births) == 1 else f"{len(bundle.births)} births stand"
    return f"{found} in the log, encrypted from sector 0."


def _bytes(leaf: Leaf) -> bytes:
    return leaf.entry.encode()


def _report(work: Work, stage: _Stage | None, first: _Stage | None) -> Report:
    failed = [each for each in work.checks if each.outcome is Outcome.FAILED]
    missing = [
        each for each in work.checks if each.outcome is Outcome.NOT_CHECKED and not each.optional
    ]
    if failed or missing or stage is None or first is None:
        worst = (failed or missing)[0]
        said = worst.sentence.removeprefix(f"{worst.name.removeprefix(_FIRST)}: ")
        verdict, reason = Verdict.NOT_PROVEN, f"{worst.name}: {said}"
    elif stage.statement.predicate.grade.value == "CONDITIONAL":
        verdict, reason = Verdict.CONDITIONAL, stage.statement.predicate.grade.reason
    else:
        verdict, reason = Verdict.ERASED, ""
    return Report(
        verdict,
        reason,
        tuple(work.checks),
        tuple(work.remarks),
        None if stage is None else stage.statement,
        None if first is None or first is stage else first.statement,
    )
