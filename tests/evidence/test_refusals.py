"""What is no certificate is told what it seems to be, and one reason stands in one row (I8)."""

from __future__ import annotations

import json

import msgspec
import pytest

from scrubjay.evidence.report import Check, Outcome, Verdict, rows_of
from scrubjay.evidence.verify import verify
from tests.evidence.forging import story
from tests.evidence.world import World, signer

HTML = b'\n<!doctype html>\n<html lang="en">'


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"", "it is empty"),
        (b" \n\r\n", "it is empty"),
        (HTML, "it looks like an HTML page"),
        (b"\xef\xbb\xbf" + HTML, "it looks like an HTML page"),
        (b"%PDF-1.7\xff", "it looks like a page in PDF"),
        (b"PK\x03\x04", "it is not JSON"),
        (b"scrubjay.main+00000000+AAAA\n", "it is not JSON"),
    ],
)
def test_file_that_is_no_bundle_is_told_what_it_looks_like(given: bytes, said: str) -> None:
    """Not where a parser stumbled."""
    report = verify(given, story().key)
    assert report.verdict is Verdict.NOT_PROVEN
    assert said in report.reason
    assert "give the JSON that `certificate show` prints" in report.reason
    assert "Expecting value" not in report.reason


def test_envelope_and_checkpoint_are_told_from_a_bundle() -> None:
    """They lie beside each other in the folder of evidence."""
    world = World()
    world.bear([1])
    report = verify(world.files.files["checkpoint"], world.key)
    assert "it looks like a checkpoint of a log" in report.reason
    envelope = json.loads(story().forgotten)["envelope"]
    report = verify(msgspec.json.encode(envelope), story().key)
    assert "it is an envelope, as in the folder evidence/certificates" in report.reason
    assert "without its place in the log" in report.reason


def test_bundle_that_was_damaged_keeps_the_words_about_where() -> None:
    """It begins like one, so it may be one; a name stands once before its reason."""
    report = verify(story().forgotten[:-20], story().key)
    assert "no certificate bundle" not in report.reason
    assert report.reason.startswith("bundle: ")
    assert not report.reason.startswith("bundle: bundle: ")


def test_key_of_another_pool_names_both_keys() -> None:
    """Whoever mixed up two files sees which two."""
    other = signer(2).key
    report = verify(story().forgotten, str(other))
    for name in ("checkpoint", "envelope"):
        sentence = report.check(name).sentence
        assert other.label in sentence
        assert story().key.rpartition("+")[0] in sentence


def test_damaged_key_is_called_damaged() -> None:
    """A letter that was changed, and one that is gone."""
    key = story().key
    for bent in (key[:-6] + "AAAAA=", key[:-1], key.replace("+", "+0", 1)):
        report = verify(story().forgotten, bent)
        assert "damaged" in report.check("log key").sentence, bent


def test_what_was_skipped_for_one_reason_is_one_row() -> None:
    """With a broken bundle: the row that failed, and one for all that rests on it."""
    report = verify(HTML, story().key)
    rows = rows_of(report.checks)
    assert [row[0] for row in rows] == ["log key", "bundle", f"{len(report.checks) - 2} checks"]
    assert rows[-1][2].startswith("not looked at: there is no bundle to check (checkpoint, ")
    rows = rows_of(verify(story().forgotten, "rubbish").checks)
    assert "no key to check it with" in rows[-1][2]


def test_row_of_its_own_keeps_its_place_and_what_failed_alike_is_not_joined() -> None:
    """Only what was not checked is taken together."""
    checks = (
        Check("a", Outcome.NOT_CHECKED, "x"),
        Check("b", Outcome.FAILED, "x"),
        Check("c", Outcome.NOT_CHECKED, "y", optional=True),
        Check("d", Outcome.FAILED, "x"),
        Check("e", Outcome.NOT_CHECKED, "x"),
    )
    assert rows_of(checks) == (
        ("2 checks", Outcome.NOT_CHECKED, "x (a, e)"),
        ("b", Outcome.FAILED, "x"),
        ("c (optional)", Outcome.NOT_CHECKED, "y"),
        ("d", Outcome.FAILED, "x"),
    )
