"""The offline verifier: good bundles, and every forgery that we could think of."""

import base64
import copy
import datetime as dt
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.errors import Invalid, NotFound
from scrubjay.evidence.bundle import make_bundle
from scrubjay.evidence.certificate import Certificate
from scrubjay.evidence.checkpoint import Checkpoint, parse_checkpoint
from scrubjay.evidence.entries import BirthEntry, parse_entry
from scrubjay.evidence.facts import Held, Kept
from scrubjay.evidence.questions import Asked, Newer
from scrubjay.evidence.report import Outcome, Report, Verdict
from scrubjay.evidence.stages import parse_statement
from scrubjay.evidence.verify import verify
from tests.evidence.world import (
    BLINDING,
    World,
    cosigned,
    facts,
    moment,
    scrub_facts,
    signer,
    sink,
    volume,
)

Json = Any
Path = tuple[str | int, ...]


class Story:
    """A world with a forgetting of three volumes, its scrubbing, and another forgetting."""

    def __init__(self) -> None:
        self.world = World()
        self.subjects = self.world.bear([1, 2, 3])
        others = self.world.bear([11, 12])
        self.first = self.world.forget(facts(self.subjects))
        self.early = self.world.bundle(self.first)
        self.other = self.world.forget(facts(others))
        self.second = self.world.scrub(scrub_facts(), self.first[0])
        self.other_second = self.world.scrub(scrub_facts(), self.other[0])
        self.forgotten = self.world.bundle(self.first)
        self.scrubbed = self.world.bundle(self.second, self.first)
        self.other_forgotten = self.world.bundle(self.other)
        self.other_scrubbed = self.world.bundle(self.other_second, self.other)
        self.key = self.world.key


@cache
def story() -> Story:
    """Return the story; nobody changes it."""
    return Story()


def walk(value: Json, path: Path = ()) -> Iterator[tuple[Path, Json]]:
    """Yield every place in a JSON value that holds no object and no list."""
    if isinstance(value, dict | list):
        for name, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from walk(each, (*path, name))
    else:
        yield path, value


def put(value: Json, path: Path, new: Json) -> Json:
    """Return a JSON value that differs in one place."""
    changed = copy.deepcopy(value)
    at = changed
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = new
    return changed


def others(value: Json) -> list[Json]:
    """Return values to put in the place of one: near it, of other types, and none."""
    if isinstance(value, str):
        swapped = ("B" if value[:1] == "A" else "A") + value[1:]
        return [swapped, value + "A", value[:-1], "", None, 7]
    if isinstance(value, int):
        return [value + 1, value - 1, str(value), None, -1, 1 << 70]
    return ["2026-03-02T00:40:00Z", {}, 0]


def packed(value: Json) -> bytes:
    """Return a bundle's bytes."""
    return json.dumps(value).encode()


def payload_of(bundle: Json) -> Json:
    """Return the statement in a bundle."""
    return json.loads(base64.b64decode(bundle["envelope"]["payload"]))


def with_payload(bundle: Json, payload: bytes) -> Json:
    """Return a bundle with another payload under the old signature."""
    return put(bundle, ("envelope", "payload"), base64.b64encode(payload).decode())


def is_refused(report: Report, *names: str) -> bool:
    """Whether nothing is proven, and one of these checks failed, by its name."""
    assert report.verdict is Verdict.NOT_PROVEN
    assert report.reason
    return bool(set(report.failed) & set(names)) if names else bool(report.failed)


# --- what is good -------------------------------------------------------------------------


def test_bundle_of_either_stage_is_proven() -> None:
    """Every check that is not optional passes, by nothing but bundle and key."""
    for bundle in (story().early, story().forgotten, story().scrubbed):
        report = verify(bundle, story().key)
        assert (report.verdict, report.reason, report.failed) == (Verdict.ERASED, "", ())
        assert all(each.sentence for each in report.checks)
        assert all(each.optional for each in report.checks if each.outcome is Outcome.NOT_CHECKED)
    names = {each.name for each in verify(story().forgotten, story().key).checks}
    assert {"envelope", "leaf", "inclusion", "checkpoint", "births", "epochs", "times"} <= names
    assert {"inventory", "verified", "media", "grade", "deadlines", "tenant"} <= names


def test_bundle_laid_out_anew_is_the_same_bundle() -> None:
    """The wrapper is not signed, so its layout means nothing; what it holds does."""
    known = json.loads(story().scrubbed)
    turned = json.dumps(dict(reversed(known.items())), indent=7, ensure_ascii=True)
    assert verify(turned.encode(), story().key).verdict is Verdict.ERASED


def test_payload_laid_out_anew_is_a_forgery() -> None:
    """Bytes are signed, not meanings."""
    known = json.loads(story().forgotten)
    same = json.dumps(payload_of(known), indent=1).encode()
    assert is_refused(verify(packed(with_payload(known, same)), story().key), "envelope")


def test_entry_laid_out_anew_is_a_forgery() -> None:
    """Bytes are hashed, not meanings."""
    known = json.loads(story().forgotten)
    entry = json.dumps(json.loads(known["leaf"]["entry"]))
    forged = put(known, ("leaf", "entry"), entry)
    assert is_refused(verify(packed(forged), story().key), "inclusion")


def test_envelope_in_the_other_alphabet_of_base64_is_read() -> None:
    """DSSE demands that verifiers accept both."""
    known = json.loads(story().forgotten)
    envelope = known["envelope"]
    safe = str.maketrans("+/", "-_")
    envelope["payload"] = envelope["payload"].translate(safe)
    envelope["signatures"][0]["sig"] = envelope["signatures"][0]["sig"].translate(safe)
    assert verify(packed(known), story().key).verdict is Verdict.ERASED


def test_signatures_of_strangers_beside_the_logs_are_ignored() -> None:
    """On the envelope and on the checkpoint: carried through, believed by nobody."""
    known = json.loads(story().forgotten)
    known["envelope"]["signatures"].insert(0, {"keyid": "other+00000000", "sig": "AAAA"})
    known["checkpoint"] += str(signer(4, "other").sign_note("x\n").signatures[0])
    assert verify(packed(known), story().key).verdict is Verdict.ERASED


def test_grade_that_is_conditional_gives_a_verdict_of_its_own() -> None:
    """The reason is the grade's."""
    world = World()
    made = world.forget(facts(world.bear([1]), sink("CONDITIONAL")))
    report = verify(world.bundle(made), world.key)
    assert report.verdict is Verdict.CONDITIONAL
    assert "ext4 on sda" in report.reason


def test_closing_of_a_tenant_is_one_certificate_over_all() -> None:
    """Up to 256 volumes; their births have one blinded tenant."""
    world = World()
    subjects = world.bear(range(1, 257))
    made = world.forget(replace(facts(subjects), scope="tenant"))
    bundle = world.bundle(made)
    report = verify(bundle, world.key)
    assert report.verdict is Verdict.ERASED
    assert report.check("tenant").sentence.startswith("All 256 volumes")
    assert len(bundle) < 1 << 20


# --- what was changed ---------------------------------------------------------------------


def test_bundle_with_any_field_changed_is_not_proven() -> None:
    """Each place of the file, each with several other values: a check fails by name."""
    known = json.loads(story().scrubbed)
    places = list(walk(known))
    assert len(places) > 30
    for path, value in places:
        for new in others(value):
            report = verify(packed(put(known, path, new)), story().key)
            assert is_refused(report), (path, new)


def test_bundle_with_any_field_left_out_or_added_is_refused() -> None:
    """Strict records: nothing missing, nothing beside."""
    known = json.loads(story().scrubbed)
    objects = {path[:n] for path, _ in walk(known) for n in range(len(path))}
    for path in objects:
        at = known
        for name in path:
            at = at[name]
        if isinstance(at, dict):
            changes = [{k: v for k, v in at.items() if k != gone} for gone in at]
            changes.append({**at, "more": 1})
        else:
            twice = [] if path[-1] == "signatures" else [[*at, at[-1]]]  # which says nothing new
            changes = [at[:-1], *twice]
        for changed in changes:
            forged = put(known, path, changed) if path else changed
            report = verify(packed(forged), story().key)
            assert report.verdict is Verdict.NOT_PROVEN, (path, changed)
            assert report.failed


def test_statement_with_any_field_changed_fails_by_its_signature() -> None:
    """Each place of the payload, under the old signature."""
    known = json.loads(story().forgotten)
    statement = payload_of(known)
    places = list(walk(statement))
    assert len(places) > 100
    for path, value in places:
        forged = with_payload(known, packed(put(statement, path, others(value)[0])))
        assert is_refused(verify(packed(forged), story().key), "envelope"), path


def test_entries_with_any_field_changed_fail_by_their_proofs() -> None:
    """Each place of the leaf and of each birth leaf, under the old proofs."""
    known = json.loads(story().forgotten)
    for leaf, name in (
        (("leaf",), "inclusion"),
        (("births", 0), "births"),
        (("births", 2), "births"),
    ):
        text = known[leaf[0]]["entry"] if len(leaf) == 1 else known["births"][leaf[1]]["entry"]
        for path, value in walk(json.loads(text)):
            entry = json.dumps(put(json.loads(text), path, others(value)[0]))
            forged = put(known, (*leaf, "entry"), entry)
            assert is_refused(verify(packed(forged), story().key), name), (leaf, path)


def test_checkpoint_with_any_character_changed_is_not_proven() -> None:
    """Origin, size, root, name, signature, and what parts them."""
    known = json.loads(story().forgotten)
    text = known["checkpoint"]
    for at, character in enumerate(text):
        forged = put(known, ("checkpoint",), text[:at] + chr(ord(character) ^ 1) + text[at + 1 :])
        assert is_refused(verify(packed(forged), story().key), "checkpoint"), at


@given(st.data())
def test_bundle_cut_or_damaged_anywhere_never_raises_nor_convinces(data: st.DataObject) -> None:
    """Truncated at any byte, or with any byte replaced."""
    known = story().scrubbed
    at = data.draw(st.integers(0, len(known) - 1))
    assert is_refused(verify(known[: min(at, len(known) - 2)], story().key), "bundle")
    new = data.draw(st.integers(0, 255))
    bent = known[:at] + bytes((new,)) + known[at + 1 :]
    report = verify(bent, story().key)
    if report.verdict is not Verdict.NOT_PROVEN:
        assert json.loads(bent) == json.loads(known)


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_bundle_of_any_bytes_never_raises(data: bytes) -> None:
    """Rubbish is not proven, and says so."""
    assert is_refused(verify(data, story().key), "bundle")


HOSTILE = {
    "large": b" " * (4 << 20) + b"{}",
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 50_000,
    "open strings": b'"\\"' * 500_000,
    "number": b'{"format":' + b"9" * 5000 + b"}",
    "infinity": b'{"format":Infinity}',
    "fraction": b'{"format":1e400}',
    "surrogate": b'{"format":"\\ud800"}',
    "not utf-8": b'{"format":"\xff"}',
    "list": b"[]",
    "null": b"null",
    "nothing": b"",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_bundle_of_an_enemy_is_refused(data: bytes) -> None:
    """Limits come before parsing, and parsing before belief."""
    report = verify(data, story().key)
    assert is_refused(report, "bundle")
    assert report.statement is None


@pytest.mark.parametrize("name", ["envelope", "checkpoint", "payload", "index", "\\u0069ndex"])
def test_bundle_with_a_name_twice_is_refused(name: str) -> None:
    """Two readers would see two values, also where one name is spelled otherwise."""
    plain = name.replace("\\u0069", "i")
    text = story().forgotten.decode()
    forged = text.replace(f'"{plain}":', f'"{name}": 0, "{plain}":', 1)
    assert forged != text
    report = verify(forged.encode(), story().key)
    assert is_refused(report, "bundle")
    assert "twice" in report.check("bundle").sentence


@pytest.mark.parametrize("key", ["", "rubbish", "name+00000000+AAAA", "\ud800"])
def test_key_that_is_none_proves_nothing(key: str) -> None:
    """Without a key, all that would rest on it is not checked."""
    report = verify(story().forgotten, key)
    assert is_refused(report, "log key")
    assert report.check("inclusion").outcome is Outcome.NOT_CHECKED


def test_key_of_another_log_or_a_witness_proves_nothing() -> None:
    """Another key under the same name, the same key under another, and a witness's."""
    strangers = [str(signer(2).key), str(signer(1, "other.example/log").key)]
    for key in strangers:
        assert is_refused(verify(story().forgotten, key), "envelope")
        assert is_refused(verify(story().forgotten, key), "checkpoint")
    witness = str(cosigned("", seed=1, name="w", time=1)[1])
    assert is_refused(verify(story().forgotten, witness), "log key")


# --- what was swapped ---------------------------------------------------------------------


def _swapped(base: bytes, *places: Path, source: bytes) -> Json:
    forged, other = json.loads(base), json.loads(source)
    for path in places:
        value = other
        for name in path:
            value = value[name]
        forged = put(forged, path, value)
    return forged


SWAPS: list[tuple[str, Callable[[Story], Json], tuple[str, ...]]] = [
    (
        "proof",
        lambda s: _swapped(s.forgotten, ("leaf", "proof"), source=s.other_forgotten),
        ("inclusion",),
    ),
    (
        "proof and index",
        lambda s: _swapped(
            s.forgotten, ("leaf", "proof"), ("leaf", "index"), source=s.other_forgotten
        ),
        ("inclusion",),
    ),
    (
        "leaf of another certificate",
        lambda s: _swapped(s.forgotten, ("leaf",), source=s.other_forgotten),
        ("leaf",),
    ),
    (
        "leaf of the other stage",
        lambda s: _swapped(s.forgotten, ("leaf",), source=s.scrubbed),
        ("leaf",),
    ),
    (
        "envelope",
        lambda s: _swapped(s.forgotten, ("envelope",), source=s.other_forgotten),
        ("leaf",),
    ),
    (
        "births",
        lambda s: put(
            json.loads(s.other_forgotten), ("births",), json.loads(s.forgotten)["births"][:2]
        ),
        ("births",),
    ),
    (
        "order of births",
        lambda s: put(
            json.loads(s.forgotten), ("births",), json.loads(s.forgotten)["births"][::-1]
        ),
        ("births",),
    ),
    (
        "older checkpoint",
        lambda s: _swapped(s.scrubbed, ("checkpoint",), source=s.early),
        ("inclusion",),
    ),
    (
        "first stage",
        lambda s: _swapped(s.scrubbed, ("forgotten",), source=s.other_scrubbed),
        ("scrubbing",),
    ),
    (
        "first stage and births",
        lambda s: _swapped(s.scrubbed, ("forgotten",), ("births",), source=s.other_scrubbed),
        ("scrubbing",),
    ),
    (
        "second stage",
        lambda s: _swapped(s.scrubbed, ("envelope",), ("leaf",), source=s.other_scrubbed),
        ("scrubbing",),
    ),
    ("no first stage", lambda s: put(json.loads(s.scrubbed), ("forgotten",), None), ("scrubbing",)),
    (
        "a first stage twice",
        lambda s: put(json.loads(s.forgotten), ("forgotten",), json.loads(s.scrubbed)["forgotten"]),
        ("scrubbing",),
    ),
]


@pytest.mark.parametrize(
    ("forge", "names"), [each[1:] for each in SWAPS], ids=[n for n, *_ in SWAPS]
)
def test_bundle_of_parts_that_do_not_belong_together_is_not_proven(
    forge: Callable[[Story], Json], names: tuple[str, ...]
) -> None:
    """Each part is genuine; the check that binds them fails."""
    assert is_refused(verify(packed(forge(story())), story().key), *names)


def test_certificate_that_was_never_logged_is_not_proven() -> None:
    """Signed by the log's key, and not in the log."""
    world = World()
    certified = world.forget(facts(world.bear([1])))
    known = json.loads(world.bundle(certified))
    elsewhere = World()
    unlogged = elsewhere.forget(facts(elsewhere.bear([1, 2])))[0]
    forged = put(known, ("envelope",), json.loads(msgspec.json.encode(unlogged.envelope)))
    assert is_refused(verify(packed(forged), world.key), "leaf")
    forged = put(forged, ("leaf", "entry"), unlogged.entry.decode())
    assert is_refused(verify(packed(forged), world.key), "inclusion")


def test_bundle_before_its_entry_is_published_is_not_found() -> None:
    """A bundle waits for the log."""
    world = World()
    made, index = world.forget(facts(world.bear([1])))
    with pytest.raises(NotFound, match="not in the log of 2 entries yet"):
        make_bundle(world.log, made.envelope, index + 1)
    with pytest.raises(NotFound, match="no checkpoint yet"):
        make_bundle(World().log, made.envelope, 0)


def test_bundle_of_a_second_stage_alone_is_refused() -> None:
    """It proves nothing without the first one."""
    known = story()
    (second, at), first = known.second, known.first
    with pytest.raises(Invalid, match="beside a second one or alone"):
        make_bundle(known.world.log, second.envelope, at)
    with pytest.raises(Invalid, match="beside a second one or alone"):
        make_bundle(
            known.world.log, first[0].envelope, first[1], first=(first[0].envelope, first[1])
        )


# --- what the holder of the key would sign ------------------------------------------------


DESTRUCTION = ("predicate", "destruction")
SUBJECT = ("predicate", "subjects", 0)
NEVER = "2031-01-01T00:00:00Z"
LIES: list[tuple[Path, Json, str]] = [
    ((*DESTRUCTION, "epoch_after"), 5, "epochs"),
    ((*DESTRUCTION, "epoch_before"), 6, "epochs"),
    ((*SUBJECT, "birth", "epoch"), 6, "epochs"),
    ((*SUBJECT, "birth", "epoch"), 1, "births"),
    ((*SUBJECT, "birth", "born_at"), "2026-02-01T00:00:00Z", "births"),
    ((*SUBJECT, "birth", "born_at"), NEVER, "times"),
    ((*SUBJECT, "birth", "record"), "0" * 64, "statement"),
    ((*SUBJECT, "birth", "log_index"), 1, "births"),
    ((*SUBJECT, "id"), "0" * 64, "statement"),
    ((*SUBJECT, "tenant"), "0" * 64, "births"),
    ((*SUBJECT, "end", "decided_at"), NEVER, "times"),
    ((*SUBJECT, "end", "withheld_at"), NEVER, "times"),
    ((*SUBJECT, "end", "exporter"), "killed", "times"),
    ((*DESTRUCTION, "forgotten_at"), NEVER, "times"),
    (("predicate", "issued_at"), "2026-03-01T09:00:00Z", "times"),
    (("predicate", "pool"), "00000000-0000-0000-0000-000000000000", "births"),
    ((*DESTRUCTION, "sinks", 0, "worth"), "Purge", "grade"),
    ((*DESTRUCTION, "sinks", 0, "worth"), "CONDITIONAL", "grade"),
    ((*DESTRUCTION, "sinks", 0, "id"), "00000000-0000-0000-0000-000000000000", "inventory"),
    ((*DESTRUCTION, "media", 0, "method"), "Purge", "media"),
    ((*DESTRUCTION, "media", 0, "id"), "another", "inventory"),
    (("predicate", "grade", "value"), "Purge", "grade"),
    (("predicate", "grade", "value"), "CONDITIONAL", "grade"),
    (("predicate", "verified", 0, "result"), "failed", "verified"),
    (("predicate", "verified", 0, "mismatches"), 1, "verified"),
    (("predicate", "verified", 0, "examined"), 0, "verified"),
    (("predicate", "verified", 0, "total"), 2, "verified"),
    (("predicate", "verified", 0, "id"), "another", "inventory"),
    (("predicate", "verified", 0, "kind"), "backup", "inventory"),
    (("predicate", "verified", 0, "at"), "2026-03-01T09:00:00Z", "times"),
    (("predicate", "verified", 0, "at"), NEVER, "times"),
    (("predicate", "inventory", 0, "id"), "another", "inventory"),
    (("predicate", "inventory", 0, "kind"), "backup", "inventory"),
    (("predicate", "inventory", 0, "holds"), "traces", "inventory"),
    (("predicate", "inventory", 0, "state"), "kept", "inventory"),
    (("predicate", "inventory", 0, "because"), "for fun", "inventory"),
    (("predicate", "inventory", 1, "state"), "erased", "inventory"),
    (("predicate", "inventory", 1, "until"), NEVER, "inventory"),
    (("predicate", "inventory", 1, "until"), None, "inventory"),
    (("predicate", "inventory", 1, "because"), None, "inventory"),
    (("predicate", "deadlines", 0, "state"), "met", "deadlines"),
    (("predicate", "deadlines", 0, "met_at"), "2026-03-02T00:41:00Z", "deadlines"),
    (("predicate", "deadlines", 0, "from_at"), "2026-03-02T00:41:00Z", "deadlines"),
    (("predicate", "deadlines", 0, "name"), "purge_within", "deadlines"),
    (("predicate", "deadlines", 1, "state"), "missed", "deadlines"),
    (("predicate", "deadlines", 1, "met_at"), NEVER, "deadlines"),
    (("subject", 0, "name"), "0" * 64, "statement"),
    (("subject", 0, "digest", "sha256"), "0" * 64, "statement"),
]


@pytest.mark.parametrize(
    ("path", "value", "name"), LIES, ids=[f"{'.'.join(map(str, p))}={v}" for p, v, _ in LIES]
)
def test_lie_that_the_log_signed_is_found_by_its_rule(path: Path, value: Json, name: str) -> None:
    """Signed and logged like any other: only the rules are left to find it."""
    world = World()
    truth = world.forget(facts(world.bear([1, 2])))
    assert verify(world.bundle(truth), world.key).verdict is Verdict.ERASED
    lie = parse_statement(packed(put(json.loads(truth[0].payload), path, value)))
    bundle = _bundle_of_a_lie(world, world.sign(lie), json.loads(world.bundle(truth)))
    assert is_refused(verify(bundle, world.key), name)


def _bundle_of_a_lie(world: World, lie: tuple[Certificate, int], known: Json) -> bytes:
    """Return a bundle, whose births stay those of the truth wherever the lie says they are."""
    made, index = lie
    return packed(
        {
            **known,
            "envelope": json.loads(msgspec.json.encode(made.envelope)),
            "leaf": {
                "entry": made.entry.decode(),
                "index": index,
                "proof": _proof(world, index),
            },
            "births": [{**each, "proof": _proof(world, each["index"])} for each in known["births"]],
            "checkpoint": world.files.files["checkpoint"].decode(),
        }
    )


def _proof(world: World, index: int) -> list[str]:
    proof = world.log.prove_inclusion(index, world.newest())
    return [base64.b64encode(each).decode() for each in proof]


SECOND_LIES: list[tuple[Path, Json, str]] = [
    (("predicate", "forgotten"), "0" * 64, "scrubbing"),
    (("predicate", "forgotten_at"), "2026-03-02T00:40:00Z", "scrubbing"),
    (("predicate", "pool"), "00000000-0000-0000-0000-000000000000", "scrubbing"),
    (("predicate", "grade", "value"), "Purge", "scrubbing"),
    (("predicate", "issued_at"), "2026-03-01T09:00:00Z", "times"),
    (("predicate", "media", 0, "id"), "another", "inventory"),
    (("predicate", "media", 0, "place"), "elsewhere", "scrubbing"),
    (("predicate", "media", 0, "technique"), "discard", "media"),
    (("predicate", "media", 0, "method"), "Purge", "media"),
    (("predicate", "verified", 0, "mismatches"), 1, "verified"),
    (("predicate", "verified", 0, "at"), "2026-03-02T00:40:00Z", "times"),
    (("predicate", "inventory", 0, "id"), "another", "inventory"),
    (("predicate", "inventory", 1, "id"), "another", "scrubbing"),
    (("predicate", "deadlines", 0, "within_s"), 90_000, "scrubbing"),
    (("predicate", "deadlines", 0, "met_at"), "2026-03-02T00:41:00Z", "deadlines"),
    (("predicate", "deadlines", 0, "state"), "missed", "deadlines"),
    (("subject", 0, "name"), "0" * 64, "scrubbing"),
]


@pytest.mark.parametrize(
    ("path", "value", "name"),
    SECOND_LIES,
    ids=[f"{'.'.join(map(str, p))}={v}" for p, v, _ in SECOND_LIES],
)
def test_lie_about_scrubbing_that_the_log_signed_is_found(
    path: Path, value: Json, name: str
) -> None:
    """The second stage has to fit the first."""
    world = World()
    first = world.forget(facts(world.bear([1, 2])))
    truth = world.scrub(scrub_facts(), first[0])
    assert verify(world.bundle(truth, first), world.key).verdict is Verdict.ERASED
    lie = parse_statement(packed(put(json.loads(truth[0].payload), path, value)))
    made = world.sign(lie)
    assert is_refused(verify(world.bundle(made, first), world.key), name)


def test_scrubbing_logged_before_its_forgetting_is_found() -> None:
    """The log's order is part of the evidence."""
    world, draft = World(), World()
    subjects = world.bear([1])
    draft.bear([1])
    first = draft.forget(facts(subjects))[0]
    second = world.scrub(scrub_facts(), first)
    later = world.enter(first.entry)
    bundle = world.bundle(second, (first, later))
    assert is_refused(verify(bundle, world.key), "scrubbing")


# --- what is asked beside -----------------------------------------------------------------


def test_newer_checkpoint_that_continues_the_log_passes() -> None:
    """One from elsewhere, with a proof; another history, an older or a foreign one fails."""
    known, world = story(), World()
    before = verify(known.early, known.key)
    assert before.check("newer checkpoint").outcome is Outcome.NOT_CHECKED
    log = known.world.log
    proof = tuple(log.prove_consistency(_checkpoint(known.early), known.world.newest()))
    text = known.world.files.files["checkpoint"]
    report = verify(known.early, known.key, newer=Newer(text, proof))
    assert report.check("newer checkpoint").outcome is Outcome.PASSED
    assert report.verdict is Verdict.ERASED
    world.bear(range(20, 40))
    for bad in (
        Newer(text, proof[:-1]),
        Newer(world.files.files["checkpoint"], proof),
        Newer(text.replace(b"\n", b"\r\n"), proof),
        Newer(b"", ()),
    ):
        assert is_refused(verify(known.early, known.key, newer=bad), "newer checkpoint")
    older = Newer(json.loads(known.early)["checkpoint"].encode(), proof)
    assert is_refused(verify(known.forgotten, known.key, newer=older), "newer checkpoint")


def _checkpoint(bundle: bytes) -> Checkpoint:
    return parse_checkpoint(json.loads(bundle)["checkpoint"].rpartition("\n\n")[0] + "\n")


def test_witness_that_cosigned_is_named_and_one_that_did_not_fails() -> None:
    """With a witness's key the remark about other logs goes."""
    world = World()
    made = world.forget(facts(world.bear([1])))
    line, key = cosigned(world.newest().text, seed=9, name="w.example", time=1_800_000_000)
    world.log.cosign([line], [key])
    bundle = world.bundle(made)
    assert any("No witness" in each for each in verify(bundle, world.key).remarks)
    report = verify(bundle, world.key, witnesses=[str(key)])
    assert report.check("witnesses").outcome is Outcome.PASSED
    assert not any("No witness" in each for each in report.remarks)
    other = str(cosigned("", seed=8, name="v.example", time=1)[1])
    for witnesses in ([other], [str(key), other], [world.key], ["rubbish"]):
        assert is_refused(verify(bundle, world.key, witnesses=witnesses), "witnesses")


def test_volume_that_was_named_is_found_by_who_knows_its_blinding() -> None:
    """Without the random value, an id finds nothing."""
    known = story()
    asked = Asked(volume(2), BLINDING)
    report = verify(known.scrubbed, known.key, volume=asked)
    assert report.check("volume").outcome is Outcome.PASSED
    for bad in (Asked(volume(4), BLINDING), Asked(volume(2), bytes(16)), Asked(volume(2), b"")):
        assert is_refused(verify(known.scrubbed, known.key, volume=bad), "volume")


def test_clock_tells_of_tomorrow_and_of_deadlines_that_passed() -> None:
    """A certificate of tomorrow fails; a deadline of yesterday is remarked."""
    known = story()
    assert is_refused(verify(known.forgotten, known.key, now=moment(1001)), "clock")
    soon = verify(known.forgotten, known.key, now=moment(1100))
    assert any("is pending" in each for each in soon.remarks)
    late = verify(known.forgotten, known.key, now=moment(1000) + dt.timedelta(days=3))
    assert late.verdict is Verdict.ERASED
    assert any("has passed; ask for the next stage" in each for each in late.remarks)


def test_remarks_tell_what_is_kept_missed_or_was_logged_late() -> None:
    """What is no failure is not hidden."""
    world = World()
    late = world.bear([1], late_min=300)
    escrow = Held("escrow", "kit", "a safe", "keys", Kept(moment(9000), "the kit is in use"))
    known = facts(late)
    first = world.forget(replace(known, held=(*known.held, escrow), scrub_within_s=60))
    remarks = " ".join(verify(world.bundle(first), world.key).remarks)
    assert "escrow on a safe (keys) is kept until 2026-03-07 14:00:00 UTC" in remarks
    assert "logged only at" in remarks
    assert "is missed" in remarks


def test_times_at_the_ends_of_the_calendar_do_not_raise() -> None:
    """A lying log may write the years 1 and 9999."""
    world = World()
    truth = world.forget(facts(world.bear([1])))
    for value in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"):
        for path in (
            ("predicate", "issued_at"),
            ("predicate", "deadlines", 0, "from_at"),
            (*DESTRUCTION, "forgotten_at"),
        ):
            lie = parse_statement(packed(put(json.loads(truth[0].payload), path, value)))
            assert is_refused(verify(world.bundle(world.sign(lie)), world.key))


def test_entry_kinds_of_the_log_are_told_apart() -> None:
    """A birth leaf is no certificate's leaf, and the reverse."""
    known = json.loads(story().forgotten)
    assert isinstance(parse_entry(known["births"][0]["entry"].encode()), BirthEntry)
    forged = put(known, ("leaf",), known["births"][0])
    assert is_refused(verify(packed(forged), story().key), "leaf")
    forged = put(known, ("births", 0), known["leaf"])
    assert is_refused(verify(packed(forged), story().key), "births")
