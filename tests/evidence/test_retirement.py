"""The certificate of a medium: what it says follows from facts, and lies about it are found."""

import datetime as dt
import html
import json
from dataclasses import replace

import msgspec
import pytest

from scrubjay.base.errors import Invalid
from scrubjay.evidence.bundle import make_bundle
from scrubjay.evidence.certificate import Certificate, certify_retired
from scrubjay.evidence.entries import RetiredEntry, parse_entry
from scrubjay.evidence.facts import RetireFacts
from scrubjay.evidence.ordering import in_order, unique
from scrubjay.evidence.page import render
from scrubjay.evidence.report import Outcome, Verdict, deadlines_of, words_of
from scrubjay.evidence.retirement import expect_erased, failures_of, remarks_of
from scrubjay.evidence.rules import rules_of
from scrubjay.evidence.stages import name_of_medium, parse_statement
from scrubjay.evidence.statement import FailedRange, Retired
from scrubjay.evidence.verify import verify
from tests.evidence.forging import (
    Json,
    Path,
    is_refused,
    packed,
    payload_of,
    put,
    walk,
    with_payload,
)
from tests.evidence.world import (
    DISK,
    WIPED,
    World,
    facts,
    looked,
    moment,
    retire_facts,
    scrub_facts,
)

FAILED = msgspec.structs.replace(
    WIPED,
    mismatches=2,
    unreadable=1,
    failed=(
        FailedRange(offset_bytes=8192, length_bytes=8192),
        FailedRange(offset_bytes=1 << 22, length_bytes=512),
    ),
)


def predicate_of(made: Certificate) -> Retired:
    """Return what a certificate says."""
    predicate = parse_statement(made.payload).predicate
    assert isinstance(predicate, Retired)
    return predicate


def test_medium_overwritten_in_place_and_read_back_is_erased() -> None:
    """By model and serial number; nothing of it stands in any other check's way."""
    world = World()
    made = world.retire(retire_facts())
    report = verify(world.bundle(made), world.key, now=moment(2000))
    assert report.verdict is Verdict.ERASED, report.reason
    assert {each.outcome for each in report.checks if not each.optional} == {Outcome.PASSED}
    sentence = report.check("erased").sentence
    assert "ST4000NM000A, serial number WS21ABCD" in sentence
    assert "All 4194816 bytes" in sentence
    assert "1025 of 1025 pages" in sentence
    entry = parse_entry(made[0].entry)
    assert isinstance(entry, RetiredEntry)
    assert entry.statement == made[0].digest
    predicate = predicate_of(made[0])
    assert (predicate.erasure.technique, predicate.erasure.method) == ("overwrite", "Clear")
    assert entry.subject == name_of_medium(predicate.medium).name
    assert (predicate.inventory, predicate.deadlines) == ((), ())
    assert deadlines_of([predicate]) == ()
    assert set(rules_of(predicate)) == {"epochs", "times", "verified", "media", "grade"}


def test_asserted_and_assumed_are_kept_apart() -> None:
    """What a disk said of itself is no fact of ours."""
    world = World()
    stages = verify(world.bundle(world.retire(retire_facts())), world.key).stages
    assert words_of(stages, "asserted") == ("retired: The disk goes back to its maker.",)
    assert any("said of itself" in each for each in words_of(stages, "assumed"))
    assert any("epoch 6" in each for each in words_of(stages, "logged"))


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (retire_facts(worth="CONDITIONAL"), "block device on"),
        (retire_facts(disk=msgspec.structs.replace(DISK, rotates=False)), "rotating disks alone"),
        (retire_facts(disk=msgspec.structs.replace(DISK, rotates=None)), "rotating disks alone"),
        (
            replace(
                retire_facts(), medium=msgspec.structs.replace(retire_facts().medium, disks=())
            ),
            "rotating disks alone",
        ),
        (retire_facts(wiped=msgspec.structs.replace(WIPED, reads="cache")), "from a cache"),
        (retire_facts(wiped=msgspec.structs.replace(WIPED, technique="discard")), "a discard"),
        (retire_facts(wiped=msgspec.structs.replace(WIPED, technique="zero range")), "a zero"),
    ],
)
def test_anything_less_is_conditional_and_says_why(known: RetireFacts, reason: str) -> None:
    """Flash, nobody knows what, a cache in between, no overwriting: never Clear (I8)."""
    world = World()
    report = verify(world.bundle(world.retire(known)), world.key)
    assert report.verdict is Verdict.CONDITIONAL
    assert reason in report.reason


def test_medium_that_did_not_read_back_is_certified_and_not_proven() -> None:
    """The certificate is true, and names the ranges; nobody may take it for an erasure."""
    world = World()
    made = world.retire(retire_facts(wiped=FAILED))
    report = verify(world.bundle(made), world.key)
    assert report.verdict is Verdict.NOT_PROVEN
    assert report.failed == ("erased",)
    assert "bytes 8192+8192, 4194304+512" in report.reason
    assert failures_of(predicate_of(made[0]).erasure) == 3
    with pytest.raises(Invalid, match="3 of 1025 pages"):
        expect_erased(predicate_of(made[0]))


def test_sampled_medium_says_how_much_was_read() -> None:
    """A sample may pass; nothing read never does."""
    world = World()
    few = msgspec.structs.replace(WIPED, pages_read=128)
    report = verify(world.bundle(world.retire(retire_facts(wiped=few))), world.key)
    assert report.verdict is Verdict.ERASED
    assert "128 of 1025 pages" in report.check("erased").sentence
    assert "Only 128 of 1025 pages were read back." in report.remarks
    with pytest.raises(Invalid, match="0 of 1025"):
        certify_retired(
            retire_facts(wiped=msgspec.structs.replace(WIPED, pages_read=0)), world.signer
        )


@pytest.mark.parametrize(
    ("kind", "counts", "reason"),
    [
        ("superblocks", {"total": 2, "mismatches": 1}, "could still be opened"),
        ("superblocks", {"total": 2, "examined": 1}, "could still be opened"),
        ("superblocks", {"total": 1}, "expected 2"),
        ("sink", {"mismatches": 1}, "could still be opened"),
        ("sink", {"examined": 0}, "could still be opened"),
    ],
)
def test_medium_that_something_could_still_open_is_not_certified(
    kind: str, counts: dict[str, int], reason: str
) -> None:
    """The builder keeps the verifier's rules."""
    known = retire_facts()
    before = next(each for each in known.looked if each.kind == kind)
    told = looked(kind, before.id, at=1040, **counts)
    others = tuple(each for each in known.looked if each.kind != kind)
    with pytest.raises(Invalid, match=reason):
        certify_retired(replace(known, looked=(*others, told)), World().signer)


def test_remarks_tell_what_a_reader_could_overlook() -> None:
    """A file is no disk, and without a serial number any disk could be meant."""
    world = World()
    assert remarks_of(predicate_of(world.retire(retire_facts())[0])) == ()
    known = retire_facts(disk=msgspec.structs.replace(DISK, serial=None))
    file = msgspec.structs.replace(known.medium, kind="file")
    report = verify(world.bundle(world.retire(replace(known, medium=file))), world.key)
    assert any("was a file" in each for each in report.remarks)
    assert any("no serial number" in each for each in report.remarks)


NEVER = "2031-01-01T00:00:00Z"
EARLY = "2026-03-01T08:00:00Z"
MEDIUM, MOVE, ERASURE = (("predicate", each) for each in ("medium", "move", "erasure"))
LIES: list[tuple[Path, Json, str]] = [
    (("predicate", "issued_at"), EARLY, "times"),
    ((*MEDIUM, "id"), "00000000-0000-0000-0000-000000000000", "statement"),
    ((*MEDIUM, "kind"), "file", "statement"),
    ((*MEDIUM, "place"), "/dev/sdz", "statement"),
    ((*MEDIUM, "size_bytes"), 4096, "statement"),
    ((*MEDIUM, "worth"), "CONDITIONAL", "statement"),
    ((*MEDIUM, "reason"), "because", "statement"),
    ((*MEDIUM, "disks"), [], "statement"),
    ((*MEDIUM, "disks", 0, "node"), "/dev/sdz", "statement"),
    ((*MEDIUM, "disks", 0, "kind"), "part", "statement"),
    ((*MEDIUM, "disks", 0, "model"), "another", "statement"),
    ((*MEDIUM, "disks", 0, "serial"), "another", "statement"),
    ((*MEDIUM, "disks", 0, "wwn"), "another", "statement"),
    ((*MEDIUM, "disks", 0, "rotates"), None, "statement"),
    ((*MEDIUM, "disks", 0, "size_bytes"), 1, "statement"),
    ((*MOVE, "noted_at"), NEVER, "times"),
    ((*MOVE, "left_at"), NEVER, "times"),
    ((*MOVE, "left_at"), EARLY, "times"),
    ((*MOVE, "moved_to"), "/dev/disk/by-id/ata-ST4000NM000A_WS21ABCD", "media"),
    ((*MOVE, "epoch_before"), 6, "epochs"),
    ((*MOVE, "epoch_after"), 5, "epochs"),
    ((*ERASURE, "technique"), "discard", "grade"),
    ((*ERASURE, "method"), "Purge", "media"),
    ((*ERASURE, "method"), "CONDITIONAL", "media"),
    ((*ERASURE, "begun_at"), EARLY, "times"),
    ((*ERASURE, "erased_at"), NEVER, "times"),
    ((*ERASURE, "read_back_at"), EARLY, "times"),
    ((*ERASURE, "bytes_erased"), 1 << 22, "media"),
    ((*ERASURE, "pages"), 1024, "media"),
    ((*ERASURE, "pages_read"), 1024, "verified"),
    ((*ERASURE, "pages_read"), 1026, "media"),
    ((*ERASURE, "pages_read"), 0, "media"),
    ((*ERASURE, "reads"), "cache", "grade"),
    ((*ERASURE, "mismatches"), 1, "media"),
    ((*ERASURE, "unreadable"), 2000, "media"),
    ((*ERASURE, "failed"), [{"offset_bytes": 0, "length_bytes": 4096}], "media"),
    (("predicate", "verified", 0, "total"), 1026, "verified"),
    (("predicate", "verified", 0, "mismatches"), 1, "verified"),
    (("predicate", "verified", 0, "result"), "failed", "verified"),
    (("predicate", "verified", 0, "at"), EARLY, "times"),
    (("predicate", "verified", 0, "id"), "another", "verified"),
    (("predicate", "verified", 1, "mismatches"), 1, "verified"),
    (("predicate", "verified", 1, "kind"), "backup", "verified"),
    (("predicate", "verified", 1, "at"), NEVER, "times"),
    (("predicate", "verified", 2, "mismatches"), 1, "verified"),
    (("predicate", "verified", 2, "kind"), "nodes", "verified"),
    (("predicate", "grade", "value"), "Purge", "grade"),
    (("predicate", "grade", "value"), "CONDITIONAL", "grade"),
    (("predicate", "grade", "reason"), "it is so", "grade"),
    (("subject", 0, "name"), "0" * 64, "statement"),
    (("subject", 0, "digest", "sha256"), "0" * 64, "statement"),
]


@pytest.mark.parametrize(
    ("path", "value", "name"), LIES, ids=[f"{'.'.join(map(str, p))}={v}" for p, v, _ in LIES]
)
def test_lie_that_the_log_signed_is_found_by_its_rule(path: Path, value: Json, name: str) -> None:
    """Signed and logged like any other: only the rules are left to find it."""
    world = World()
    truth = world.retire(retire_facts())
    lie = parse_statement(packed(put(json.loads(truth[0].payload), path, value)))
    assert is_refused(verify(world.bundle(world.sign(lie)), world.key), name)


CONSISTENT: list[tuple[Path, Json, str]] = [
    ((*MEDIUM, "id"), "00000000-0000-0000-0000-000000000000", "verified"),
    ((*MEDIUM, "kind"), "file", "grade"),
    ((*MEDIUM, "place"), "/dev/sdz", "grade"),
    ((*MEDIUM, "size_bytes"), 4096, "media"),
    ((*MEDIUM, "worth"), "CONDITIONAL", "grade"),
    ((*MEDIUM, "worth"), "Purge", "grade"),
    ((*MEDIUM, "reason"), "because", "grade"),
    ((*MEDIUM, "disks"), [], "grade"),
    ((*MEDIUM, "disks", 0, "rotates"), None, "grade"),
    ((*MEDIUM, "disks", 0, "rotates"), False, "grade"),
]


@pytest.mark.parametrize(
    ("path", "value", "name"),
    CONSISTENT,
    ids=[f"{'.'.join(map(str, p))}={v}" for p, v, _ in CONSISTENT],
)
def test_lie_about_the_medium_with_a_subject_to_match_is_found(
    path: Path, value: Json, name: str
) -> None:
    """Whoever signs can name the subject anew; what follows from the medium gives him away."""
    world = World()
    truth = world.retire(retire_facts())
    told = parse_statement(packed(put(json.loads(truth[0].payload), path, value)))
    assert isinstance(told.predicate, Retired)
    lie = msgspec.structs.replace(told, subject=(name_of_medium(told.predicate.medium),))
    assert is_refused(verify(world.bundle(world.sign(lie)), world.key), name)


WORSE: list[tuple[Path, Json, str]] = [
    ((*ERASURE, "mismatches"), 0, "verified"),
    ((*ERASURE, "failed"), [], "media"),
    ((*ERASURE, "failed", 0, "offset_bytes"), 8191, "media"),
    ((*ERASURE, "failed", 0, "offset_bytes"), 1 << 23, "media"),
    ((*ERASURE, "failed", 0, "length_bytes"), 1 << 20, "media"),
    ((*ERASURE, "failed", 1, "length_bytes"), 513, "media"),
    (("predicate", "grade", "value"), "Clear", "grade"),
    (("predicate", "grade", "reason"), "sdb: overwriting happens in place", "grade"),
    (("predicate", "verified", 0, "result"), "passed", "verified"),
]


@pytest.mark.parametrize(
    ("path", "value", "name"), WORSE, ids=[f"{'.'.join(map(str, p))}={v}" for p, v, _ in WORSE]
)
def test_lie_about_an_erasing_that_failed_is_found(path: Path, value: Json, name: str) -> None:
    """Failures can neither be left out nor be made smaller, whichever field is turned."""
    world = World()
    truth = world.retire(retire_facts(wiped=FAILED))
    lie = parse_statement(packed(put(json.loads(truth[0].payload), path, value)))
    report = verify(world.bundle(world.sign(lie)), world.key)
    assert is_refused(report, name)


def test_medium_called_purged_by_its_ground_is_refused() -> None:
    """Overwriting is Clear at most, also where statement and subject agree about more."""
    world = World()
    with pytest.raises(Invalid, match="called Purge"):
        certify_retired(retire_facts(worth="Purge"), world.signer)


def test_every_byte_of_the_statement_is_signed() -> None:
    """No field can be changed under the signature."""
    world = World()
    bundle = json.loads(world.bundle(world.retire(retire_facts())))
    payload = payload_of(bundle)
    for path, value in walk(payload):
        changed = put(payload, path, "x" if value != "x" else "y")
        forged = with_payload(bundle, packed(changed))
        assert is_refused(verify(packed(forged), world.key), "envelope"), path


def test_leaf_of_another_entry_is_refused() -> None:
    """Of another medium, of volumes, of another moment: each named by the leaf."""
    world = World()
    made, index = world.retire(retire_facts())
    first = world.forget(facts(world.bear([1])))
    second = world.retire(replace(retire_facts(), issued_at=moment(1041)))
    for _, other in (first, second):
        forged = make_bundle(world.log, made.envelope, other)
        assert is_refused(verify(forged, world.key), "leaf")
    entry = parse_entry(made.entry)
    assert isinstance(entry, RetiredEntry)
    for changed in (
        msgspec.structs.replace(entry, subject="0" * 64),
        msgspec.structs.replace(entry, at=entry.at + dt.timedelta(seconds=1)),
    ):
        other = world.enter(msgspec.json.encode(changed, order="sorted"))
        assert is_refused(verify(make_bundle(world.log, made.envelope, other), world.key), "leaf")
    assert verify(make_bundle(world.log, made.envelope, index), world.key).verdict is Verdict.ERASED


def test_stages_and_births_of_volumes_do_not_go_with_a_medium() -> None:
    """Neither beside it, nor it in the place of a first stage."""
    world = World()
    first = world.forget(facts(world.bear([1])))
    made = world.retire(retire_facts())
    with pytest.raises(Invalid, match="beside"):
        world.bundle(made, first)
    second = world.scrub(scrub_facts(), first[0])
    with pytest.raises(Invalid, match="expected it alone"):
        world.bundle(second, made)
    known, whole = json.loads(world.bundle(made)), json.loads(world.bundle(second, first))
    beside = {**known, "births": whole["births"]}
    assert is_refused(verify(packed(beside), world.key), "births")
    assert is_refused(verify(packed({**known, "forgotten": whole["forgotten"]}), world.key))
    alone = {"envelope": known["envelope"], "leaf": known["leaf"]}
    assert is_refused(verify(packed({**whole, "forgotten": alone}), world.key), "scrubbing")
    bare = {**json.loads(world.bundle(first)), "births": []}
    assert is_refused(verify(packed(bare), world.key), "births")


def test_page_of_a_medium_has_the_fields_of_the_sample() -> None:
    """Type, model, serial number, technique, verification; and what failed, where it did."""
    world = World()
    report = verify(world.bundle(world.retire(retire_facts())), world.key)
    page = html.unescape(render(report, digest="ab" * 32))
    for text in (
        "Person performing sanitization",
        "Media information",
        "block device",
        "Model",
        "ST4000NM000A",
        "Serial number",
        "WS21ABCD",
        "Method type</th><td>Clear",
        "overwrite (overwrite-zeros), 4194816 bytes",
        "Verification method",
        "1025 of 1025 pages, from the device",
        "Destination",
        "Validation",
        "<strong>ERASED</strong>",
        *report.check("erased").sentence.split(". "),
    ):
        assert text in page, text
    assert "Volumes, by their blinded ids" not in page
    failed = verify(world.bundle(world.retire(retire_facts(wiped=FAILED))), world.key)
    page = render(failed, digest="")
    assert "512 bytes at 4194304" in page
    assert "<strong>NOT PROVEN</strong>" in page


def test_page_of_a_medium_escapes_what_a_disk_said() -> None:
    """A drive's model is a stranger's text."""
    world = World()
    evil = msgspec.structs.replace(DISK, model="<script>alert(1)</script>", serial=None)
    page = render(verify(world.bundle(world.retire(retire_facts(disk=evil))), world.key), digest="")
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_order_and_difference_are_asked_of_lists() -> None:
    """Both say what is wrong."""
    in_order([("a", moment(1)), ("b", None), ("c", moment(1))])
    unique(["a", "b"], "thing")
    with pytest.raises(Invalid, match="before a"):
        in_order([("a", moment(2)), ("b", None), ("c", moment(1))])
    with pytest.raises(Invalid, match="a thing twice"):
        unique(["a", "a"], "thing")
