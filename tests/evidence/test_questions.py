"""What an auditor asks beside, and what a report remarks."""

import datetime as dt
import json
from dataclasses import replace

from scrubjay.evidence.checkpoint import Checkpoint, parse_checkpoint
from scrubjay.evidence.entries import BirthEntry, parse_entry
from scrubjay.evidence.facts import Held, Kept
from scrubjay.evidence.questions import Asked, Newer
from scrubjay.evidence.report import Outcome, Verdict
from scrubjay.evidence.stages import parse_statement
from scrubjay.evidence.verify import verify
from tests.evidence.forging import is_refused, packed, put, story
from tests.evidence.world import BLINDING, World, cosigned, facts, moment, volume


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
            ("predicate", "destruction", "forgotten_at"),
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
