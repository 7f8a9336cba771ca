"""Certificates of erasure, made from facts (docs/format/evidence.md, "The certificate").

Facts are counts, times and places. Results, states, methods and the grade are derived from
them, and a certificate that would contradict itself is refused: nothing can be set by hand
to say "erased" where its verification failed (I8).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec

from scrubjay import __version__
from scrubjay.base.errors import Invalid
from scrubjay.evidence.attesting import Attests, assumed_of, check_attestations
from scrubjay.evidence.deriving import (
    deadline_state,
    decided_at,
    due_at,
    grade_of,
    grade_of_medium,
    has_passed,
    is_erased,
)
from scrubjay.evidence.dsse import Envelope, digest_of, seal_envelope
from scrubjay.evidence.entries import ForgettingEntry, RetiredEntry, ScrubbedEntry, pack_entry
from scrubjay.evidence.facts import Facts, Held, Kept, Looked, Medium, RetireFacts, ScrubFacts
from scrubjay.evidence.note import Signer
from scrubjay.evidence.rules import Rule, rules_of
from scrubjay.evidence.stages import (
    check_scrubbing,
    check_statement,
    name_of_medium,
    names_of,
    parse_statement,
)
from scrubjay.evidence.statement import (
    Certified,
    Copy,
    Deadline,
    Destruction,
    Forgotten,
    Grade,
    MediumErased,
    MediumScrubbed,
    MediumWiped,
    Retired,
    Scrubbed,
    Statement,
    SubjectName,
    Verification,
)
from scrubjay.evidence.strict import encode

__all__ = [
    "ASSUMED",
    "Certificate",
    "certify_forgotten",
    "certify_retired",
    "certify_scrubbed",
    "entry_of",
]

ASSUMED = (
    "AES-256-GCM, HMAC-SHA-256 and Ed25519 are not broken.",
    "The machine's clock told these times.",
    "What a drive says is synced and read back is what lies on it.",
    "Nobody copied keys or plaintext out of the memory of the host, or of a client, before.",
    "No copy of the sink from before is left: no backup, no snapshot of the host or of its disk.",
)
"""What every certificate rests on and nobody checks."""
_HINT = "a certificate says what was verified; verify again, or say what is kept and why"
_TOOL = f"Scrubjay {__version__}"
_WAITING = "ciphertext whose keys are gone, overwritten within scrub_within"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A signed statement, and the entry that has to go into the log with it."""

    payload: bytes
    envelope: Envelope
    entry: bytes

    @property
    def digest(self) -> str:
        """The digest by which the log and a second stage name it."""
        return digest_of(self.payload)


def certify_forgotten(
    facts: Facts, signer: Signer, *, attests: Attests | None = None
) -> Certificate:
    """Return the first certificate; Invalid where the facts do not bear it.

    Without `attests` no sink's attestation can be among them.
    """
    looked = tuple(map(_verification, facts.looked))
    scrub = _deadline(
        "scrub_within",
        from_at=facts.forgotten_at,
        within_s=facts.scrub_within_s,
        met_at=_all_scrubbed(facts.media, looked),
        now=facts.issued_at,
    )
    purge = _deadline(
        "purge_within",
        from_at=_purging_from(facts),
        within_s=facts.purge_within_s,
        met_at=facts.forgotten_at,
        now=facts.issued_at,
    )
    inventory = tuple(
        _copy(each, looked) for each in (*_of_media(facts, looked, scrub), *facts.held)
    )
    if not facts.sinks:
        raise Invalid("certificate: no sink, expected one that dropped the epoch")
    value, reason = grade_of(facts.sinks, inventory)
    predicate = Forgotten(
        issued_at=facts.issued_at,
        tool=_TOOL,
        pool=facts.pool,
        scope=facts.scope,
        subjects=facts.subjects,
        destruction=Destruction(
            epoch_before=facts.epoch_before,
            epoch_after=facts.epoch_after,
            forgotten_at=facts.forgotten_at,
            sinks=facts.sinks,
            media=tuple(
                MediumErased(
                    kind=each.kind,
                    id=each.id,
                    place=each.place,
                    technique="cryptographic erase",
                    method=value,
                )
                for each in facts.media
            ),
        ),
        inventory=inventory,
        verified=looked,
        deadlines=(scrub, purge),
        grade=Grade(value=value, reason=reason),
        logged=facts.logged,
        asserted=facts.asserted,
        assumed=(*ASSUMED, *facts.assumed, *assumed_of(facts.sinks)),
    )
    _check("sink", lambda: check_attestations(predicate, attests))
    return _certify(predicate, names_of(facts.subjects), signer)


def certify_scrubbed(facts: ScrubFacts, first: Certificate, signer: Signer) -> Certificate:
    """Return the second certificate, about the same volumes; Invalid as above."""
    before = parse_statement(first.payload)
    forgotten = before.predicate
    if not isinstance(forgotten, Forgotten):
        raise Invalid("certificate: its first stage is a scrubbing, expected a forgetting")
    looked = tuple(map(_verification, facts.looked))
    media = [Held("medium", each.id, each.place, "ciphertext") for each in facts.media]
    scrub = next(each for each in forgotten.deadlines if each.name == "scrub_within")
    predicate = Scrubbed(
        issued_at=facts.issued_at,
        tool=_TOOL,
        pool=forgotten.pool,
        forgotten=first.digest,
        forgotten_at=forgotten.destruction.forgotten_at,
        media=facts.media,
        inventory=tuple(_copy(each, looked) for each in (*media, *facts.held)),
        verified=looked,
        deadlines=(
            _deadline(
                "scrub_within",
                from_at=scrub.from_at,
                within_s=scrub.within_s,
                met_at=_all_scrubbed(facts.media, looked),
                now=facts.issued_at,
            ),
        ),
        grade=forgotten.grade,
        logged=facts.logged,
        asserted=facts.asserted,
        assumed=(*ASSUMED, *facts.assumed),
    )
    check_scrubbing(before, first.digest, predicate)
    return _certify(predicate, before.subject, signer)


def _purging_from(facts: Facts) -> dt.datetime:
    """Return since when the oldest was dead: inside of a volume, or as one whose end is decided."""
    if not facts.subjects:
        return facts.forgotten_at
    decided = decided_at(facts.scope, facts.subjects)
    return decided if facts.dead_since is None else min(decided, facts.dead_since)


def certify_retired(facts: RetireFacts, signer: Signer) -> Certificate:
    """Return the certificate of a medium; Invalid where the facts contradict themselves.

    Pages that did not read back as they were written are facts like others: the certificate
    names them, and whoever verifies it is told that nothing is proven.
    """
    wiped, failures = facts.wiped, facts.wiped.mismatches + facts.wiped.unreadable
    value, reason = grade_of_medium(
        facts.medium, technique=wiped.technique, reads=wiped.reads, failures=failures
    )
    read = Looked(
        "medium",
        str(facts.medium.id),
        f"read pages back, {'past' if wiped.reads == 'device' else 'perhaps from'} the cache",
        wiped.read_back_at,
        total=wiped.pages,
        examined=wiped.pages_read,
        mismatches=failures,
    )
    predicate = Retired(
        issued_at=facts.issued_at,
        tool=_TOOL,
        pool=facts.pool,
        medium=facts.medium,
        move=facts.move,
        erasure=MediumWiped(method=value, **msgspec.structs.asdict(wiped)),
        verified=tuple(map(_verification, (read, *facts.looked))),
        grade=Grade(value=value, reason=reason),
        logged=facts.logged,
        asserted=facts.asserted,
        assumed=(*ASSUMED, *facts.assumed),
    )
    return _certify(predicate, (name_of_medium(facts.medium),), signer)


def _certify(predicate: Certified, subject: tuple[SubjectName, ...], signer: Signer) -> Certificate:
    statement = Statement(
        type="https://in-toto.io/Statement/v1",
        subject=subject,
        predicate_type="urn:scrubjay:erasure:1",
        predicate=predicate,
    )
    payload = encode(statement)
    parse_statement(payload)  # raises where a value is out of its bounds
    check_statement(statement)
    for name, rule in rules_of(predicate).items():
        _check(name, rule)
    entry = pack_entry(entry_of(statement, digest_of(payload)))
    return Certificate(payload, seal_envelope(payload, signer), entry)


def entry_of(statement: Statement, digest: str) -> ForgettingEntry | ScrubbedEntry | RetiredEntry:
    """Return the entry that stands in the log for a statement of this digest."""
    predicate, at = statement.predicate, statement.predicate.issued_at
    names = tuple(each.name for each in statement.subject)
    match predicate:
        case Scrubbed():
            forgotten = predicate.forgotten
            return ScrubbedEntry(at=at, statement=digest, forgotten=forgotten, subjects=names)
        case Retired():
            return RetiredEntry(at=at, statement=digest, subject=names[0])
        case _:
            return ForgettingEntry(at=at, statement=digest, subjects=names)


def _check(name: str, rule: Rule) -> None:
    try:
        rule()
    except Invalid as error:
        raise Invalid(f"certificate: {name}: {error.message}", hint=_HINT) from error


def _verification(look: Looked) -> Verification:
    passed = has_passed(
        look.kind, total=look.total, examined=look.examined, mismatches=look.mismatches
    )
    return Verification(
        kind=look.kind,
        id=look.id,
        method=look.method,
        at=look.at,
        total=look.total,
        examined=look.examined,
        mismatches=look.mismatches,
        result="passed" if passed else "failed",
    )


def _of_media(facts: Facts, looked: tuple[Verification, ...], scrub: Deadline) -> list[Held]:
    """Return the copies that follow from sinks and media."""
    copies = [Held("sink", str(each.id), each.place, "keys") for each in facts.sinks]
    for each in facts.media:
        slots = Held("medium", each.id, each.place, "ciphertext")
        waiting = Held("medium", each.id, each.place, "ciphertext", Kept(due_at(scrub), _WAITING))
        done = _all_scrubbed([each], looked) is not None
        copies += [slots if done else waiting, Held("superblocks", each.id, each.place, "keys")]
    return copies


def _all_scrubbed(
    media: Iterable[Medium | MediumScrubbed], looked: tuple[Verification, ...]
) -> dt.datetime | None:
    """Return when the last of these media was found scrubbed; None where one was not."""
    passed = {
        each.id: each.at for each in looked if each.kind == "medium" and each.result == "passed"
    }
    times = [passed.get(each.id) for each in media]
    known = [each for each in times if each is not None]
    return max(known) if known and len(known) == len(times) else None


def _copy(held: Held, looked: tuple[Verification, ...]) -> Copy:
    copy = Copy(
        kind=held.kind,
        id=held.id,
        place=held.place,
        holds=held.holds,
        state="erased" if held.kept is None else "kept",
        until=None if held.kept is None else held.kept.until,
        because=None if held.kept is None else held.kept.because,
    )
    if held.kept is None and not is_erased(copy, looked):
        raise Invalid(
            f"certificate: {held.kind} {held.id} is not verified to be erased", hint=_HINT
        )
    return copy


def _deadline(
    name: Literal["scrub_within", "purge_within"],
    *,
    from_at: dt.datetime,
    within_s: int,
    met_at: dt.datetime | None,
    now: dt.datetime,
) -> Deadline:
    due = from_at + dt.timedelta(seconds=within_s)
    return Deadline(
        name=name,
        from_at=from_at,
        within_s=within_s,
        met_at=met_at,
        state=deadline_state(due=due, met_at=met_at, now=now),
    )
