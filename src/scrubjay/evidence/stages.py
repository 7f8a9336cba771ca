"""How the parts of a certificate agree: statement and predicate, second stage and first."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from scrubjay.base.errors import Invalid
from scrubjay.evidence.statement import (
    Forgotten,
    MediumErased,
    MediumRetired,
    MediumScrubbed,
    Retired,
    Scrubbed,
    Statement,
    Subject,
    SubjectDigest,
    SubjectName,
)
from scrubjay.evidence.strict import decode, encode

__all__ = ["check_scrubbing", "check_statement", "name_of_medium", "names_of", "parse_statement"]


def parse_statement(payload: bytes) -> Statement:
    """Return the statement in a payload; Invalid if it is not exactly one of this version."""
    return decode(Statement, payload, what="statement")


def check_statement(statement: Statement) -> str:
    """Check that the subjects of statement and predicate agree; return it as a sentence."""
    predicate = statement.predicate
    if isinstance(predicate, Forgotten) and statement.subject != names_of(predicate.subjects):
        raise Invalid("statement: its subjects are not those of its predicate")
    if isinstance(predicate, Retired):
        if statement.subject != (name_of_medium(predicate.medium),):
            raise Invalid("statement: its subject is not the medium of its predicate")
        return f"An erasure of a whole medium, {predicate.medium.kind} {predicate.medium.id}."
    names = [each.name for each in statement.subject]
    if len(set(names)) != len(names):
        raise Invalid("statement: a subject twice")
    stage = "scrubbed" if isinstance(predicate, Scrubbed) else "forgotten"
    volumes = "1 volume" if len(names) == 1 else f"{len(names)} volumes"
    return f"An erasure of {volumes}, stage {stage}."


def names_of(subjects: Iterable[Subject]) -> tuple[SubjectName, ...]:
    """Return the subjects of a statement for those of its predicate."""
    return tuple(
        SubjectName(name=each.id, digest=SubjectDigest(sha256=each.birth.record))
        for each in subjects
    )


def name_of_medium(medium: MediumRetired) -> SubjectName:
    """Return the subject of a statement about a medium: by its id, and by all that it is."""
    name = hashlib.sha256(medium.id.bytes).hexdigest()
    record = hashlib.sha256(encode(medium)).hexdigest()
    return SubjectName(name=name, digest=SubjectDigest(sha256=record))


def check_scrubbing(before: Statement, digest: str, scrubbed: Scrubbed) -> str:
    """Check that a second stage is about this first one; return it as a sentence."""
    first = before.predicate
    if not isinstance(first, Forgotten) or scrubbed.forgotten != digest:
        raise Invalid("scrubbing: it refers to another forgetting")
    event = first.destruction
    if (scrubbed.pool, scrubbed.forgotten_at) != (first.pool, event.forgotten_at):
        raise Invalid("scrubbing: pool or time are not those of the forgetting")
    if scrubbed.grade.value != first.grade.value:
        raise Invalid("scrubbing: the grade is not that of the forgetting")
    if scrubbed.issued_at < first.issued_at:
        raise Invalid("scrubbing: issued before the forgetting was")
    if {(m.kind, m.id) for m in scrubbed.media} != {(m.kind, m.id) for m in event.media}:
        raise Invalid("scrubbing: its media are not those of the forgetting")
    spans = [
        (each.from_at, each.within_s)
        for each in (*first.deadlines, *scrubbed.deadlines)
        if each.name == "scrub_within"
    ]
    if len(set(spans)) != 1:
        raise Invalid("scrubbing: its deadline is not that of the forgetting")
    named = {(each.kind, each.id) for each in scrubbed.inventory}
    kept = {(each.kind, each.id) for each in first.inventory if each.state == "kept"}
    if lost := sorted(kept - named):
        raise Invalid(f"scrubbing: {' '.join(lost[0])} was kept, and is not mentioned any more")
    moved = _moved(event.media, scrubbed.media)
    return " ".join(["The scrubbing is that of the media of this forgetting.", *moved])


def _moved(before: Iterable[MediumErased], after: Iterable[MediumScrubbed]) -> list[str]:
    """Tell which media were found at another place than before: a home may move meanwhile."""
    places = {(each.kind, each.id): each.place for each in before}
    return [
        f"The {each.kind} {each.id} lay on {place} when it was forgotten, and on {each.place} "
        "when it was scrubbed."
        for each in after
        if (place := places[each.kind, each.id]) != each.place
    ]
