"""The offline verifier: good bundles, and every forgery that we could think of."""

import json
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.errors import Invalid, NotFound
from scrubjay.evidence.bundle import make_bundle
from scrubjay.evidence.entries import SUBJECTS_MAX
from scrubjay.evidence.report import Outcome, Verdict
from scrubjay.evidence.strict import BYTES_MAX
from scrubjay.evidence.verify import verify
from tests.evidence.forging import (
    Json,
    Path,
    Story,
    is_refused,
    others,
    packed,
    payload_of,
    put,
    story,
    walk,
    with_payload,
)
from tests.evidence.world import World, cosigned, facts, signer, sink

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
    """Up to 900 volumes; their births have one blinded tenant."""
    world = World()
    subjects = world.bear(range(1, SUBJECTS_MAX + 1))
    made = world.forget(replace(facts(subjects), scope="tenant"))
    bundle = world.bundle(made)
    report = verify(bundle, world.key)
    assert report.verdict is Verdict.ERASED
    assert report.check("tenant").sentence.startswith(f"{SUBJECTS_MAX} volumes, all of the tenant")
    assert len(bundle) < BYTES_MAX // 2


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
        changes: list[Json]
        if isinstance(at, dict):
            changes = [{k: v for k, v in at.items() if k != gone} for gone in at]
            changes.append({**at, "more": 1})
        else:
            changes = [at[:-1]]
            if path[-1] != "signatures":  # one that stands there twice says nothing new
                changes.append([*at, at[-1]])
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
