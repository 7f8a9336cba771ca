"""Certificates out of facts: what is derived, and what the facts do not bear (I8)."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from scrubjay.base.errors import Invalid
from scrubjay.evidence.certificate import ASSUMED, certify_forgotten, certify_scrubbed
from scrubjay.evidence.deriving import deadline_state, has_passed
from scrubjay.evidence.dsse import open_envelope
from scrubjay.evidence.facts import Facts, Held, Kept, Medium, ScrubFacts
from scrubjay.evidence.stages import parse_statement
from scrubjay.evidence.statement import CopyKind, Forgotten, Scrubbed
from tests.evidence.world import (
    World,
    facts,
    looked,
    moment,
    scrub_facts,
    signer,
    sink,
    without,
)

ESCROW = Held("escrow", "kit-1", "a safe", "keys", Kept(moment(9000), "the recovery key lives"))


def forgotten(known: Facts) -> Forgotten:
    """Return the predicate of a certificate about these facts."""
    made = certify_forgotten(known, signer())
    predicate = parse_statement(open_envelope(made.envelope, signer().key)).predicate
    assert isinstance(predicate, Forgotten)
    return predicate


def test_certificate_of_facts_derives_all_that_it_claims() -> None:
    """States, results, method and grade are none of them in the facts."""
    made = forgotten(facts(World().bear([1, 2])))
    states = {each.kind: each.state for each in made.inventory}
    assert states == {
        "sink": "erased",
        "medium": "kept",
        "superblocks": "erased",
        "nodes": "erased",
        "cache": "erased",
        "catalog": "erased",
        "exporter": "erased",
        "log": "kept",
    }
    assert {each.result for each in made.verified} == {"passed"}
    assert made.grade.value == made.destruction.media[0].method == "Clear"
    assert [each.state for each in made.deadlines] == ["pending", "met"]
    assert made.assumed[: len(ASSUMED)] == ASSUMED


@pytest.mark.parametrize(
    ("dead_minutes", "state"), [(-1000, "missed"), (10, "met"), (1000.2, "met"), (None, "met")]
)
def test_purging_is_counted_from_the_oldest_dead_byte(
    dead_minutes: float | None, state: str
) -> None:
    """Inside of a volume, or of one as a whole, which is dead once its end is decided."""
    subjects = World().bear([1, 2])
    decided_at = min(each.end.decided_at for each in subjects)
    dead_since = None if dead_minutes is None else moment(dead_minutes)
    made = forgotten(replace(facts(subjects), dead_since=dead_since))
    purge = made.deadlines[1]
    assert (purge.name, purge.state) == ("purge_within", state)
    assert purge.from_at == min(decided_at, dead_since or decided_at)


@pytest.mark.parametrize("kind", ["sink", "superblocks", "nodes", "cache", "catalog", "exporter"])
def test_certificate_without_a_verification_is_refused(kind: str) -> None:
    """Where nobody looked, or not all was gone, nothing can be said to be erased."""
    known = facts(World().bear([1]))
    with pytest.raises(Invalid, match=f"{kind} .* is not verified to be erased"):
        forgotten(without(known, kind))
    bad = [replace(each, mismatches=1) if each.kind == kind else each for each in known.looked]
    with pytest.raises(Invalid, match=f"{kind} .* is not verified to be erased"):
        forgotten(replace(known, looked=tuple(bad)))
    half = [
        replace(each, total=each.total + 1) if each.kind == kind else each for each in known.looked
    ]
    with pytest.raises(Invalid, match=f"{kind} .* is not verified to be erased"):
        forgotten(replace(known, looked=tuple(half)))


def _held(known: Facts, *more: Held, leave_out: str = "") -> Facts:
    held = tuple(each for each in known.held if each.kind != leave_out)
    looks = tuple(each for each in known.looked if each.kind != leave_out)
    return replace(known, held=(*held, *more), looked=looks)


CONTRADICTIONS: list[tuple[Callable[[Facts], Facts], str]] = [
    (lambda f: replace(f, epoch_after=5), "epochs: .* expected a later one"),
    (lambda f: replace(f, epoch_before=1), "epochs: .* born in epoch 2"),
    (lambda f: replace(f, forgotten_at=moment(999)), "times: forgotten .* before"),
    (lambda f: replace(f, issued_at=moment(1000.6)), "times: issued .* before looked"),
    (lambda f: replace(f, subjects=()), "statement"),
    (lambda f: replace(f, subjects=f.subjects * 2), "a subject twice"),
    (lambda f: replace(f, sinks=()), "no sink"),
    (lambda f: replace(f, sinks=(sink("Purge"),)), "grade: a file sink called Purge"),
    (lambda f: replace(f, media=()), "statement"),
    (lambda f: replace(f, media=f.media * 2), "a copy twice"),
    (lambda f: replace(f, looked=f.looked * 2), "verified: a verification twice"),
    (lambda f: replace(f, looked=(*f.looked, looked("backup", "b"))), "not in the inventory"),
    (lambda f: replace(f, scrub_within_s=0), "statement"),
    (lambda f: replace(f, logged=("line\nline",)), "statement"),
    (lambda f: replace(f, asserted=("\u202egnol",)), "statement"),
    *(
        (lambda f, kind=kind: _held(f, leave_out=kind), f"names no {kind}")
        for kind in ("nodes", "cache", "catalog", "exporter", "log")
    ),
    (
        lambda f: _held(
            f, Held("nodes", "n", "p", "keys", Kept(moment(9000), "x")), leave_out="nodes"
        ),
        "keys kept, expected them gone",
    ),
    (
        lambda f: _held(f, Held("backup", "b", "p", "plaintext", Kept(moment(9000), "x"))),
        "plaintext kept",
    ),
    (
        lambda f: _held(f, Held("escrow", "e", "p", "traces", Kept(None, "x"))),
        "said to hold traces, expected keys",
    ),
    (
        lambda f: _held(f, Held("backup", "b", "p", "ciphertext", Kept(None, "x"))),
        "expected until when and why",
    ),
    (
        lambda f: _held(f, Held("backup", "b", "p", "ciphertext", Kept(moment(5), "x"))),
        "kept until .* before issued",
    ),
    (
        lambda f: _held(f, Held("medium", "m9", "p", "ciphertext", Kept(moment(9000), "x"))),
        "not kept until a deadline",
    ),
    (
        lambda f: replace(f, scope="tenant", subjects=(*f.subjects, *World().bear([4], tenant=8))),
        "tenant: the closing of one tenant names volumes of 2",
    ),
]


@pytest.mark.parametrize(("change", "complaint"), CONTRADICTIONS, ids=range(len(CONTRADICTIONS)))
def test_certificate_that_contradicts_itself_is_refused(
    change: Callable[[Facts], Facts], complaint: str
) -> None:
    """Each contradiction is named."""
    known = facts(World().bear([1, 2]))
    assert forgotten(known).grade.value == "Clear"
    with pytest.raises(Invalid, match=complaint):
        forgotten(change(known))


def test_certificate_with_an_exporter_that_has_no_end_is_refused() -> None:
    """Killed without a time, or a time without an exporter: neither happened."""
    for exporter, at in (("killed", None), ("not attached", moment(1000.2))):
        subject = World().bear([1])[0]
        end = msgspec.structs.replace(subject.end, exporter=exporter, exporter_at=at)
        known = facts([msgspec.structs.replace(subject, end=end)])
        with pytest.raises(Invalid, match="expected a time just where"):
            forgotten(known)


@pytest.mark.parametrize(
    ("worths", "grade"),
    [
        ([("Clear", "file")], "Clear"),
        ([("Purge", "tpm2")], "Purge"),
        ([("CONDITIONAL", "file")], "CONDITIONAL"),
        ([("Purge", "tpm2"), ("Clear", "file")], "Clear"),
        ([("Purge", "tpm2"), ("CONDITIONAL", "file"), ("Clear", "file")], "CONDITIONAL"),
    ],
)
def test_grade_of_several_sinks_is_the_worst(worths: list[tuple[str, str]], grade: str) -> None:
    """Mirrored sinks have all held the key; who has the weakest has it."""
    sinks = [sink(worth, kind, number) for number, (worth, kind) in enumerate(worths)]
    assert forgotten(facts(World().bear([1]), *sinks)).grade.value == grade


def test_grade_with_keys_in_escrow_is_conditional() -> None:
    """What is kept is named in the reason."""
    made = forgotten(_held(facts(World().bear([1])), ESCROW))
    assert made.grade.value == "CONDITIONAL"
    assert "keys are kept in escrow on a safe: the recovery key lives" in made.grade.reason


def test_verification_of_a_sample_passes_for_slots_alone() -> None:
    """Slots may be sampled; nothing else, and no sample of none."""
    kinds: list[tuple[CopyKind, bool]] = [("medium", True), ("catalog", False)]
    for kind, sampled in kinds:
        assert has_passed(kind, total=10, examined=10, mismatches=0)
        assert has_passed(kind, total=0, examined=0, mismatches=0)
        assert has_passed(kind, total=10, examined=3, mismatches=0) is sampled
        assert not has_passed(kind, total=10, examined=0, mismatches=0)
        assert not has_passed(kind, total=3, examined=10, mismatches=0)
        assert not has_passed(kind, total=10, examined=10, mismatches=1)
    assert not has_passed("sink", total=0, examined=0, mismatches=0)


def test_deadline_is_missed_the_moment_after_it_was_due() -> None:
    """Met in time, met late, still to come, and past."""
    due = moment(10)
    assert deadline_state(due=due, met_at=moment(10), now=moment(50)) == "met"
    assert deadline_state(due=due, met_at=moment(11), now=moment(50)) == "missed"
    assert deadline_state(due=due, met_at=None, now=moment(10)) == "pending"
    assert deadline_state(due=due, met_at=None, now=moment(11)) == "missed"


def test_certificate_of_what_was_scrubbed_at_once_says_so() -> None:
    """Where slots were read back before the first certificate, no medium is kept."""
    known = facts(World().bear([1]))
    known = replace(known, looked=(*known.looked, looked("medium", "medium-0", total=0)))
    made = forgotten(known)
    assert made.deadlines[0].state == "met"
    assert "medium" not in {each.kind for each in made.inventory if each.state == "kept"}


def scrubbed(known: ScrubFacts, first: Facts) -> Scrubbed:
    """Return the predicate of a second certificate."""
    made = certify_scrubbed(known, certify_forgotten(first, signer()), signer())
    predicate = parse_statement(made.payload).predicate
    assert isinstance(predicate, Scrubbed)
    return predicate


def test_scrubbing_that_was_read_back_meets_its_deadline() -> None:
    """The second stage takes its deadline and its grade from the first."""
    first = facts(World().bear([1]))
    made = scrubbed(scrub_facts(), first)
    assert [(each.name, each.state) for each in made.deadlines] == [("scrub_within", "met")]
    assert made.grade == forgotten(first).grade
    late = scrubbed(scrub_facts(), replace(first, scrub_within_s=60))
    assert late.deadlines[0].state == "missed"


SCRUB_CONTRADICTIONS: list[tuple[Callable[[ScrubFacts], ScrubFacts], str]] = [
    (lambda f: replace(f, looked=()), "medium medium-0 is not verified"),
    (lambda f: replace(f, looked=scrub_facts(mismatches=1).looked), "is not verified"),
    (lambda f: replace(f, media=()), "statement|media are not those"),
    (lambda f: replace(f, media=f.media * 2), "twice"),
    (lambda f: replace(f, held=()), "log .* was kept, and is not mentioned"),
    (lambda f: replace(f, issued_at=moment(1001)), "issued before the forgetting"),
    (lambda f: replace(f, issued_at=moment(1200)), "times: issued"),
    *(
        (
            lambda f, technique=technique, method=method: replace(
                f,
                media=(msgspec.structs.replace(f.media[0], technique=technique, method=method),),
            ),
            f"media: .* {technique} called {method}",
        )
        for technique, method in (
            ("discard", "Clear"),
            ("zero range", "Clear"),
            ("overwrite", "Purge"),
        )
    ),
]


@pytest.mark.parametrize(
    ("change", "complaint"), SCRUB_CONTRADICTIONS, ids=range(len(SCRUB_CONTRADICTIONS))
)
def test_scrubbing_that_contradicts_itself_is_refused(
    change: Callable[[ScrubFacts], ScrubFacts], complaint: str
) -> None:
    """A slot that was not read back, another medium, a copy that vanished."""
    first = facts(World().bear([1]))
    assert scrubbed(scrub_facts(), first).grade.value == "Clear"
    with pytest.raises(Invalid, match=complaint):
        scrubbed(change(scrub_facts()), first)


def test_scrubbing_of_a_scrubbing_is_refused() -> None:
    """The first stage has to be a forgetting, of the same media."""
    first = certify_forgotten(facts(World().bear([1])), signer())
    second = certify_scrubbed(scrub_facts(), first, signer())
    with pytest.raises(Invalid, match="first stage is a scrubbing"):
        certify_scrubbed(scrub_facts(), second, signer())
    other = replace(facts(World().bear([1])), media=(Medium("file", "medium-9", "/p"),))
    looks = (*without(other, "superblocks").looked, looked("superblocks", "medium-9"))
    with pytest.raises(Invalid, match="media are not those"):
        scrubbed(scrub_facts(), replace(other, looked=looks))
