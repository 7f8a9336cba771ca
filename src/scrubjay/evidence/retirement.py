"""What has to be true of a medium that was retired; builder and verifier share it (I8).

As in rules.py: each rule returns a sentence for an auditor, or raises Invalid with what
contradicts what. A truthful certificate of an erasing that failed keeps every rule here;
`expect_erased` is what it does not pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from scrubjay.base.errors import Invalid
from scrubjay.base.units import PAGE_BYTES
from scrubjay.evidence.deriving import grade_of_medium, passed, spell
from scrubjay.evidence.ordering import in_order, unique
from scrubjay.evidence.statement import Retired, Wiped

__all__ = ["RULES", "expect_erased", "failures_of", "remarks_of"]

_SUPERBLOCKS = 2


def failures_of(erasure: Wiped) -> int:
    """Return how many pages did not read back as they were written."""
    return erasure.mismatches + erasure.unreadable


def expect_erased(predicate: Retired) -> str:
    """Raise Invalid where something was read back that is not what was written."""
    erasure, medium = predicate.erasure, predicate.medium
    if failures := failures_of(erasure):
        ranges = ", ".join(f"{each.offset_bytes}+{each.length_bytes}" for each in erasure.failed)
        raise Invalid(
            f"{failures} of {erasure.pages_read} pages of {medium.place} did not read back as "
            f"they were written, among them bytes {ranges}: it is not erased"
        )
    labels = "; ".join(
        f"{each.model or 'model unknown'}, serial number {each.serial or 'unknown'}"
        for each in medium.disks
    )
    return (
        f"All {erasure.bytes_erased} bytes of {medium.place} were erased, and {erasure.pages_read} "
        f"of {erasure.pages} pages read back. Beneath: {labels or 'nobody can tell'}."
    )


def remarks_of(predicate: Retired) -> tuple[str, ...]:
    """Return what is no failure and yet has to be known of a medium, in sentences."""
    medium, erasure = predicate.medium, predicate.erasure
    remarks = []
    if medium.kind == "file":
        remarks.append("The medium was a file: the disk beneath it is not erased as a whole.")
    if erasure.pages_read < erasure.pages:
        remarks.append(f"Only {erasure.pages_read} of {erasure.pages} pages were read back.")
    if not medium.disks or not all(each.serial for each in medium.disks):
        remarks.append("Of a disk beneath no serial number is known: nothing ties this to it.")
    return tuple(remarks)


def _epochs(predicate: Retired) -> str:
    before, after = predicate.move.epoch_before, predicate.move.epoch_after
    if after <= before:
        raise Invalid(f"the sink's epoch went from {before} to {after}, expected a later one")
    return f"The sink went from epoch {before} to {after} when the pool left."


def _times(predicate: Retired) -> str:
    move, erasure = predicate.move, predicate.erasure
    in_order(
        [
            ("noted", move.noted_at),
            ("left", move.left_at),
            ("begun", erasure.begun_at),
            ("erased", erasure.erased_at),
            ("read back", erasure.read_back_at),
            ("issued", predicate.issued_at),
        ]
    )
    for look in predicate.verified:
        since = ("erased", erasure.erased_at) if look.kind == "medium" else ("left", move.left_at)
        in_order([since, ("looked", look.at), ("issued", predicate.issued_at)])
    return (
        f"The pool left by {spell(move.left_at)}; the medium was erased and read back by "
        f"{spell(erasure.read_back_at)}, before this was issued."
    )


def _verified(predicate: Retired) -> str:
    names = [(each.kind, each.id) for each in predicate.verified]
    unique(names, "verification")
    for each in predicate.verified:
        if (each.result == "passed") != passed(each):
            raise Invalid(
                f"verification of {each.kind} {each.id}: {each.result}, but {each.examined} of "
                f"{each.total} were examined and {each.mismatches} did not match"
            )
        if each.kind in {"sink", "superblocks"} and not passed(each):
            raise Invalid(f"{each.kind} {each.id}: the medium could still be opened by it")
    medium = str(predicate.medium.id)
    own = {("medium", medium), ("superblocks", medium)}
    if missing := sorted(own - set(names)):
        raise Invalid(f"no verification of the {missing[0][0]}, expected one")
    others = {kind for kind, _ in set(names) - own}
    if others != {"sink"}:
        raise Invalid("expected verifications of the medium, its superblocks and each sink alone")
    looks = {each.kind: each for each in predicate.verified}
    if looks["superblocks"].total != _SUPERBLOCKS:
        raise Invalid(f"{looks['superblocks'].total} superblocks, expected {_SUPERBLOCKS}")
    erasure, look = predicate.erasure, looks["medium"]
    counts = (erasure.pages, erasure.pages_read, failures_of(erasure))
    if (look.total, look.examined, look.mismatches) != counts:
        raise Invalid("the medium's verification counts other pages than its erasure")
    return "No superblock of it opened, no sink held its epoch, and its pages were counted."


def _media(predicate: Retired) -> str:
    medium, erasure = predicate.medium, predicate.erasure
    if erasure.bytes_erased != medium.size_bytes:
        raise Invalid(f"{erasure.bytes_erased} of {medium.size_bytes} bytes were erased")
    pages = -(-medium.size_bytes // PAGE_BYTES)
    if erasure.pages != pages or not 0 < erasure.pages_read <= pages:
        raise Invalid(
            f"{erasure.pages_read} of {erasure.pages} pages read back, expected some of {pages}"
        )
    if failures_of(erasure) > erasure.pages_read:
        raise Invalid(f"{failures_of(erasure)} failures in {erasure.pages_read} pages")
    if bool(erasure.failed) != bool(failures_of(erasure)):
        raise Invalid(f"{len(erasure.failed)} failed ranges for {failures_of(erasure)} failures")
    ends = [0]
    for each in erasure.failed:
        if each.offset_bytes < ends[-1] or each.offset_bytes % PAGE_BYTES:
            raise Invalid(f"failed range at {each.offset_bytes}: expected pages in order")
        ends.append(each.offset_bytes + each.length_bytes)
    named = sum(-(-each.length_bytes // PAGE_BYTES) for each in erasure.failed)
    if ends[-1] > medium.size_bytes or named > failures_of(erasure):
        raise Invalid("the failed ranges are longer than what failed")
    if erasure.method != predicate.grade.value:
        raise Invalid(f"the erasure called {erasure.method}, under {predicate.grade.value}")
    unique([each.node for each in medium.disks], "disk")
    if medium.place == predicate.move.moved_to:
        raise Invalid("the pool moved to the place that it left")
    return f"All of the medium, {medium.size_bytes} bytes, by {erasure.technique}."


def _grade(predicate: Retired) -> str:
    medium, erasure = predicate.medium, predicate.erasure
    if medium.worth == "Purge":
        raise Invalid("overwriting called Purge, expected Clear at most")
    value, reason = grade_of_medium(
        medium,
        technique=erasure.technique,
        reads=erasure.reads,
        failures=failures_of(erasure),
    )
    if predicate.grade.value != value:
        raise Invalid(f"graded {predicate.grade.value}, but {value} follows: {reason}")
    if predicate.grade.reason != reason:
        raise Invalid(f"graded {value} for another reason than the one that follows: {reason}")
    return f"{value}: {reason}."


RULES: Mapping[str, Callable[[Retired], str]] = {
    "epochs": _epochs,
    "times": _times,
    "verified": _verified,
    "media": _media,
    "grade": _grade,
}
