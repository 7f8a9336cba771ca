"""What a TPM signed for an erasure: shown in words, and every forgery of it refused (I8)."""

import base64
import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.errors import Invalid
from scrubjay.base.ids import Epoch
from scrubjay.control.attesting import attestation_of, attests
from scrubjay.evidence.attesting import challenge_of
from scrubjay.evidence.certificate import Certificate, certify_forgotten
from scrubjay.evidence.facts import Facts
from scrubjay.evidence.page import render
from scrubjay.evidence.report import Outcome, Report, Verdict, words_of
from scrubjay.evidence.stages import parse_statement
from scrubjay.evidence.statement import SinkDropped, Subject
from scrubjay.evidence.verify import verify
from scrubjay.sinks.attestation import attestation_name
from scrubjay.sinks.tpm.public import nv_indices_for
from scrubjay.sinks.tpm.slot import Owners, dropping, empty, head_of_held
from tests.evidence.forging import Json, Path, is_refused, packed, put, with_payload
from tests.evidence.world import POOL, SINK, World, facts, moment, scrub_facts, sink
from tests.sinks.signing import (
    EMPTIED,
    FIRMWARE,
    HELD,
    KEY,
    OTHER_KEY,
    evidence,
    index,
    public_of,
)

OWNERS = Owners(SINK, POOL)
FORGOTTEN_AT = moment(1000.5)


def challenge_for(subjects: Sequence[Subject], **changes: object) -> bytes:
    """Return the challenge of the world's erasure of these subjects, but for the changes."""
    told = {
        "pool": POOL,
        "sink": SINK,
        "epoch_after": 6,
        "forgotten_at": FORGOTTEN_AT,
        "subjects": subjects,
    }
    return challenge_of(**{**told, **changes})  # type: ignore[arg-type] # by their names


def tpm(
    subjects: Sequence[Subject],
    *,
    epoch: int = 6,
    dropped: int = 5,
    emptied: bytes = b"",
    challenge: bytes = b"",
    key: ec.EllipticCurvePrivateKey = KEY,
    owners: Owners = OWNERS,
    indices: tuple[int, int] = nv_indices_for(SINK),
) -> SinkDropped:
    """Return a tpm2 sink whose TPM signed what it is told to."""
    public, bound = public_of(key), challenge or challenge_for(subjects)
    one, other = (
        replace(each, challenge=bound, key=key, public=public, index=index(number))
        for each, number in zip((HELD, EMPTIED), indices, strict=True)
    )
    word = evidence(
        replace(one, contents=head_of_held(owners, Epoch(epoch))),
        replace(other, contents=emptied or empty(owners, Epoch(dropped))),
        sink_id=owners.sink_id,
        pool_id=owners.pool_id,
        epoch=epoch,
        attestation_public=public,
    )
    return msgspec.structs.replace(
        sink("Purge", "tpm2"),
        key=attestation_name(word).hex(),
        attestation=attestation_of(word),
    )


def checked(world: World, made: tuple[Certificate, int], *keys: str) -> Report:
    """Verify as a stranger would, with the keys of sinks that he was given."""
    return verify(world.bundle(made), world.key, attests=attests, sink_keys=keys)


def story() -> tuple[World, tuple[Subject, ...], tuple[Certificate, int]]:
    """Return a world in which a TPM attested, its subjects, and their certificate."""
    world = World()
    subjects = tuple(world.bear([1, 2]))
    return world, subjects, world.forget(facts(subjects, tpm(subjects)))


def lied(
    world: World, truth: tuple[Certificate, int], path: Path, value: Json
) -> tuple[Certificate, int]:
    """Sign what differs in one place, as a lying holder of the log's key could."""
    return world.sign(parse_statement(packed(put(json.loads(truth[0].payload), path, value))))


# --- what is shown ------------------------------------------------------------------------


def test_word_of_a_tpm_is_told_and_what_it_does_not_show_as_well() -> None:
    """Key, epochs, firmware and clock; and that nobody saw that the TPM is one."""
    world, _, made = story()
    report = checked(world, made)
    assert report.verdict is Verdict.ERASED
    check = report.check("sink")
    name = tpm_key(made)
    assert check.outcome is Outcome.PASSED
    for words in (
        name,
        "one index holds epoch 6",
        "epoch 5 was dropped from it last",
        "firmware 7.2.5.1",
        "1 s since it was cleared",
        "genuine TPM is not shown",
    ):
        assert words in check.sentence
    assert any(name in each and "compare" in each for each in report.remarks)
    assumed = words_of(report.stages, "assumed")
    assert any("endorsement certificate" in each and name in each for each in assumed)
    assert report.check("sink key").outcome is Outcome.NOT_CHECKED
    page = render(report, digest="ab" * 32)
    assert page.count(name) >= 3
    assert "signed for this erasure" in page


def tpm_key(made: tuple[Certificate, int]) -> str:
    """Return the name of the key in a certificate."""
    return str(json.loads(made[0].payload)["predicate"]["destruction"]["sinks"][0]["key"])


def test_key_that_the_auditor_was_given_is_compared() -> None:
    """The one thing that ties a certificate to a TPM that somebody has seen."""
    world, _, made = story()
    report = checked(world, made, tpm_key(made).upper())
    assert report.check("sink key").outcome is Outcome.PASSED
    assert not any("compare" in each for each in report.remarks)
    assert is_refused(checked(world, made, "000b" + "0" * 64), "sink key")


def test_key_that_the_auditor_was_given_and_that_signed_nothing_is_missed() -> None:
    """Who leaves the TPM's word out does not get by with a certificate of a file."""
    world = World()
    made = world.forget(facts(world.bear([1])))
    assert checked(world, made).verdict is Verdict.ERASED
    assert is_refused(checked(world, made, "000b" + "0" * 64), "sink key")


@pytest.mark.parametrize("key", [None, "000b" + "1" * 64])
def test_tpm_that_signed_nothing_is_said_so(key: str | None) -> None:
    """Nothing pretends: neither the check, nor the assumed, nor the remarks."""
    world = World()
    silent = msgspec.structs.replace(sink("Purge", "tpm2"), key=key)
    report = checked(world, world.forget(facts(world.bear([1]), silent)))
    assert report.verdict is Verdict.ERASED
    assert "no sink signed anything" in report.check("sink").sentence
    for told in (report.remarks, words_of(report.stages, "assumed")):
        assert any("signed nothing for this erasure" in each for each in told)


def test_certificate_of_a_file_sink_has_the_bytes_that_it_always_had() -> None:
    """What signs nothing has no fields for it: earlier versions read its certificates."""
    world = World()
    made = world.forget(facts(world.bear([1])))
    told = json.loads(made[0].payload)["predicate"]["destruction"]["sinks"][0]
    assert sorted(told) == ["id", "kind", "place", "reason", "worth"]
    report = verify(world.bundle(made), world.key)
    assert report.check("sink").outcome is Outcome.NOT_CHECKED
    assert report.check("sink").optional


def test_second_stage_shows_the_word_of_the_first() -> None:
    """Scrubbing asks no TPM."""
    world, _, first = story()
    second = world.scrub(scrub_facts(), first[0])
    bundle = world.bundle(second, first)
    report = verify(bundle, world.key, attests=attests)
    assert report.check("forgetting: sink").outcome is Outcome.PASSED
    assert is_refused(verify(bundle, world.key, sink_keys=["000b"], attests=attests), "sink key")


def test_without_a_reader_of_tpms_nothing_is_proven() -> None:
    """A word that nobody read is not believed."""
    world, _, made = story()
    report = verify(world.bundle(made), world.key)
    assert report.verdict is Verdict.NOT_PROVEN
    assert report.check("sink").outcome is Outcome.NOT_CHECKED


def test_each_member_of_a_mirror_is_told_by_itself() -> None:
    """A file signs nothing beside a TPM that does."""
    world = World()
    subjects = tuple(world.bear([1]))
    silent = sink("Purge", "tpm2", 2)
    made = world.forget(facts(subjects, sink(number=1), tpm(subjects), silent))
    report = checked(world, made, tpm_key_of_second(made))
    assert report.verdict is Verdict.ERASED
    assert report.check("sink").sentence.count("signed with the key") == 1
    assert any(str(silent.id) in each and "signed nothing" in each for each in report.remarks)


def tpm_key_of_second(made: tuple[Certificate, int]) -> str:
    """Return the name of the second sink's key."""
    return str(json.loads(made[0].payload)["predicate"]["destruction"]["sinks"][1]["key"])


def test_tpm_asked_later_may_hold_a_later_epoch() -> None:
    """A certificate can be issued after another rotation: the old key is as gone as before."""
    world = World()
    subjects = tuple(world.bear([1]))
    made = world.forget(facts(subjects, tpm(subjects, epoch=9, dropped=8)))
    assert "holds epoch 9" in checked(world, made).check("sink").sentence


# --- forgeries ----------------------------------------------------------------------------

WORD = ("predicate", "destruction", "sinks", 0, "attestation")
SINK_PATH = ("predicate", "destruction", "sinks", 0)


def flipped(value: Json) -> Json:
    """Return base64 of bytes that differ in their last bit."""
    data = base64.b64decode(value)
    return base64.b64encode(data[:-1] + bytes((data[-1] ^ 1,))).decode()


def cut(value: Json) -> Json:
    """Return base64 of bytes that end too early."""
    return base64.b64encode(base64.b64decode(value)[:-5]).decode()


PARTS: list[Path] = [
    ("public",),
    *(
        (index, part)
        for index in ("held", "emptied")
        for part in ("nv_public", "attest", "signature")
    ),
]


@pytest.mark.parametrize("forge", [flipped, cut])
@pytest.mark.parametrize("part", PARTS, ids=lambda each: ".".join(map(str, each)))
def test_part_of_a_word_that_is_changed_is_refused(
    part: Path, forge: Callable[[Json], Json]
) -> None:
    """No byte of what the TPM signed is idle, whatever the log signs around it."""
    world, _, made = story()
    value = json.loads(made[0].payload)
    for name in (*WORD, *part):
        value = value[name]
    lie = lied(world, made, (*WORD, *part), forge(value))
    assert is_refused(checked(world, lie), "sink")


LIES: list[tuple[Path, Json]] = [
    ((*WORD, "epoch"), 7),
    ((*WORD, "epoch"), 5),
    ((*WORD, "firmware"), f"{FIRMWARE + 1:016x}"),
    ((*SINK_PATH, "key"), "000b" + "0" * 64),
    ((*SINK_PATH, "kind"), "file"),
    ((*SINK_PATH, "kind"), "pkcs11"),
    ((*SINK_PATH, "id"), "00000000-0000-0000-0000-000000000000"),
    (("predicate", "pool"), "00000000-0000-0000-0000-000000000000"),
    (("predicate", "destruction", "epoch_after"), 7),
    (("predicate", "destruction", "forgotten_at"), "2026-03-02T00:40:31Z"),
]


@pytest.mark.parametrize(
    ("path", "value"), LIES, ids=[f"{'.'.join(map(str, p))}={v}" for p, v in LIES]
)
def test_lie_around_a_word_that_the_log_signed_is_found(path: Path, value: Json) -> None:
    """The TPM signed for one sink of one pool in one erasure."""
    world, _, made = story()
    assert is_refused(checked(world, lied(world, made, path, value)), "sink")


def test_word_without_the_name_of_its_key_is_refused() -> None:
    """Then any key would do."""
    world, _, made = story()
    assert is_refused(checked(world, lied(world, made, (*SINK_PATH, "key"), None)), "sink")


def test_word_for_other_subjects_is_refused() -> None:
    """One volume's evidence is not another's."""
    world, subjects, _ = story()
    for others in (subjects[:1], subjects[::-1], ()):
        word = tpm(subjects, challenge=challenge_for(others))
        with pytest.raises(Invalid, match="made for something else"):
            world.forget(facts(subjects, word))


def test_word_replayed_from_another_erasure_is_refused() -> None:
    """Each erasure has a challenge of its own."""
    world, _, made = story()
    other = World()
    word = tpm(tuple(other.bear([3])))
    assert word.attestation is not None
    told = json.loads(msgspec.json.encode(word.attestation))
    assert is_refused(checked(world, lied(world, made, WORD, told)), "sink")


Word = Callable[[Sequence[Subject]], SinkDropped]
WORDS: dict[str, tuple[Word, str]] = {
    "the old epoch held": (lambda all_: tpm(all_, epoch=5, dropped=4), "holds epoch 5"),
    "another sink's": (
        lambda all_: tpm(all_, owners=Owners(uuid.UUID(int=9), POOL)),
        "holds something else",
    ),
    "another pool's": (
        lambda all_: tpm(all_, owners=Owners(SINK, uuid.UUID(int=9))),
        "holds something else",
    ),
    "only overwritten once": (
        lambda all_: tpm(all_, emptied=dropping(OWNERS, Epoch(5))),
        "not empty",
    ),
    "of indices that root made": (
        lambda all_: tpm(all_, indices=(0x01800000, 0x01800001)),
        "of other indices",
    ),
    "nothing to bind it": (lambda all_: tpm(all_, challenge=b"anything"), "something else"),
    "another epoch's": (
        lambda all_: tpm(all_, challenge=challenge_for(all_, epoch_after=5)),
        "something else",
    ),
    "another moment's": (
        lambda all_: tpm(all_, challenge=challenge_for(all_, forgotten_at=moment(1000.6))),
        "something else",
    ),
    "another key's, under the pinned name": (
        lambda all_: msgspec.structs.replace(tpm(all_, key=OTHER_KEY), key=tpm(all_).key),
        "expected the one that was pinned",
    ),
}


@pytest.mark.parametrize("name", WORDS, ids=lambda each: each.replace(" ", "-"))
def test_word_that_says_something_else_makes_no_certificate(name: str) -> None:
    """It is not built, and where it was signed all the same, it is refused."""
    world = World()
    subjects = tuple(world.bear([1]))
    made, said = WORDS[name]
    forged = facts(subjects, made(subjects))
    with pytest.raises(Invalid, match=said):
        certify_forgotten(forged, world.signer, attests=attests)
    report = checked(world, world.sign(statement_of(world, forged)))
    assert is_refused(report, "sink")
    assert said in report.check("sink").sentence


def statement_of(world: World, forged: Facts) -> Json:
    """Return a statement that no honest builder makes: it looks at no TPM's word."""
    (word,) = forged.sinks
    bare = msgspec.structs.replace(word, key=None, attestation=None)
    made = certify_forgotten(replace(forged, sinks=(bare,)), world.signer)
    payload = json.loads(made.payload)
    told = json.loads(msgspec.json.encode(word))
    return parse_statement(packed(put(payload, SINK_PATH, told)))


def test_key_that_somebody_made_passes_for_who_has_no_name_to_compare() -> None:
    """The limit that the page states: only the name given before tells a TPM's key from his."""
    world, subjects, honest = story()
    made = world.forget(facts(subjects, tpm(subjects, key=OTHER_KEY)))
    report = checked(world, made)
    assert report.verdict is Verdict.ERASED
    assert any("anybody can make a key" in each for each in report.remarks)
    assert is_refused(checked(world, made, tpm_key(honest)), "sink key")


OVERSIZED: list[tuple[Path, Json]] = [
    *(((*WORD, *part), base64.b64encode(bytes(1025)).decode()) for part in PARTS),
    *(((*WORD, *part), "") for part in PARTS),
    *(((*WORD, *part), "no base64!") for part in PARTS),
    ((*WORD, "firmware"), "0" * 17),
    ((*WORD, "firmware"), "0x07000200050001"),
    ((*WORD, "epoch"), -1),
    ((*WORD, "surplus"), 1),
    ((*SINK_PATH, "key"), "000b" + "0" * 65),
    ((*SINK_PATH, "key"), "000c" + "0" * 64),
    (WORD, {}),
    (WORD, "AAAA"),
]


@pytest.mark.parametrize(
    ("path", "value"),
    OVERSIZED,
    ids=[f"{'.'.join(map(str, p[4:]))}={str(v)[:20]}" for p, v in OVERSIZED],
)
def test_word_of_another_shape_is_no_statement(path: Path, value: Json) -> None:
    """Every field has its bound."""
    _, _, made = story()
    with pytest.raises(Invalid):
        parse_statement(packed(put(json.loads(made[0].payload), path, value)))


def test_word_changed_under_the_old_signature_is_not_read() -> None:
    """Who has not the log's key gets no further than the envelope."""
    world, _, made = story()
    payload = json.loads(made[0].payload)
    changed = packed(put(payload, (*WORD, "firmware"), "0" * 16))
    bundle = packed(with_payload(json.loads(world.bundle(made)), changed))
    assert is_refused(verify(bundle, world.key, attests=attests), "envelope")


@given(st.binary(min_size=1, max_size=256), st.sampled_from(PARTS))
def test_word_of_arbitrary_bytes_is_refused_and_stumbles_over_nothing(
    noise: bytes, part: Path
) -> None:
    """The verifier says no, whatever lies there: an Invalid, and nothing else."""
    word = tpm(()).attestation
    assert word is not None
    told = put(json.loads(msgspec.json.encode(word)), part, base64.b64encode(noise).decode())
    forged = msgspec.json.decode(packed(told), type=type(word))
    with pytest.raises(Invalid):
        attests(
            forged,
            pool=POOL,
            sink=SINK,
            key=str(tpm(()).key),
            challenge=challenge_for(()),
        )


# --- the challenge ------------------------------------------------------------------------


def test_challenge_is_the_one_that_the_format_states() -> None:
    """It never changes: certificates that were issued are checked with it."""
    world = World()
    subjects = world.bear([1])
    (each,) = subjects
    told = b"scrubjay erasure attested 1" + POOL.bytes + SINK.bytes + (6).to_bytes(8)
    told += int(FORGOTTEN_AT.timestamp() * 1_000_000).to_bytes(8, signed=True) + (1).to_bytes(4)
    told += bytes.fromhex(each.id + each.birth.record)
    assert challenge_for(subjects) == hashlib.sha256(told).digest()


def test_challenge_differs_with_everything_that_it_binds() -> None:
    """No field of it is idle."""
    world = World()
    subjects = world.bear([1, 2])
    other = msgspec.structs.replace(
        subjects[0], birth=msgspec.structs.replace(subjects[0].birth, record="0" * 64)
    )
    made = [
        challenge_for(subjects),
        challenge_for(subjects, pool=uuid.UUID(int=1)),
        challenge_for(subjects, sink=uuid.UUID(int=1)),
        challenge_for(subjects, epoch_after=7),
        challenge_for(subjects, forgotten_at=FORGOTTEN_AT.replace(microsecond=1)),
        challenge_for(subjects[:1]),
        challenge_for(subjects[::-1]),
        challenge_for([other, subjects[1]]),
        challenge_for([]),
    ]
    assert len(set(made)) == len(made)
