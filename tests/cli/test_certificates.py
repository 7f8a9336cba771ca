"""`scrubjay certificate verify` on what strangers hand in: it ends, and harms no terminal."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from scrubjay.cli.main import make_commands, run
from scrubjay.evidence.dsse import seal_envelope
from scrubjay.evidence.note import Note, Signature
from tests.evidence.forging import packed, payload_of, put, walk
from tests.evidence.world import ORIGIN, World, facts, scrub_facts

EVIL = ("\x1b[2J", "\x9b31m", "\x1b]0;title\x07", "\u202e", "\u2066", "\x08")
_HARMFUL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f]")
LIMIT_S = 60


def printed(*words: str | Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run `scrubjay certificate verify`."""
    return subprocess.run(
        [sys.executable, "-m", "scrubjay.app.main", "certificate", "verify", *words],
        input=given,
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )


@pytest.fixture(scope="module")
def known() -> tuple[World, bytes]:
    """A log, and a certificate of both stages in it."""
    world = World()
    first = world.forget(replace(facts(world.bear([1])), purge_within_s=1))
    return world, world.bundle(world.scrub(scrub_facts(), first[0]), first)


@pytest.mark.parametrize("which", ["file", "key"])
def test_pipe_in_the_place_of_a_file_is_refused_at_once(
    which: str, known: tuple[World, bytes], tmp_path: Path
) -> None:
    """Nobody writes to it: reading would never end."""
    world, bundle = known
    (tmp_path / "c.json").write_bytes(bundle)
    os.mkfifo(tmp_path / "fifo")
    words: dict[str, tuple[str | Path, ...]] = {
        "file": (tmp_path / "fifo", "--key", world.key),
        "key": (tmp_path / "c.json", "--key", tmp_path / "fifo"),
    }
    done = printed(*words[which])
    assert done.returncode == 2
    assert b"fifo: no regular file" in done.stderr
    done = printed(tmp_path, "--key", world.key)
    assert (done.returncode, b"no regular file" in done.stderr) == (2, True)


def test_standard_input_is_read_still(known: tuple[World, bytes]) -> None:
    """`-` says so by itself."""
    world, bundle = known
    done = printed("-", "--key", world.key, given=bundle)
    assert done.returncode == 0, done.stderr


def test_key_file_that_is_none_is_refused_and_not_echoed(
    known: tuple[World, bytes], tmp_path: Path
) -> None:
    """4 KiB hold every key; whatever else it is, perhaps a secret, is not for the screen."""
    (tmp_path / "c.json").write_bytes(known[1])
    (tmp_path / "key").write_bytes(b"secret+" * 1000)
    done = printed(tmp_path / "c.json", "--key", tmp_path / "key")
    assert done.returncode == 2
    assert b"longer than 4096 bytes" in done.stderr
    assert b"secret" not in done.stdout + done.stderr


def test_both_stages_are_printed_with_what_they_rest_on(known: tuple[World, bytes]) -> None:
    """As text and for programs: the first stage's words, marked, and what it missed."""
    world, bundle = known
    text = printed("-", "--key", world.key, given=bundle).stdout.decode()
    for line in (
        "  - forgotten: volume.forgotten, epoch 6",
        "  - forgotten: The operator keeps no image of this disk.",
        "  - forgotten and scrubbed: The machine's clock told these times.",
    ):
        assert line in text
    assert "forgotten: purge_within, due" in text
    report = json.loads(printed("-", "--key", world.key, "--json", given=bundle).stdout)
    assert report["logged"] == ["forgotten: volume.forgotten, epoch 6"]
    assert any(each.startswith("forgotten and scrubbed") for each in report["assumed"])


def test_text_of_a_bundle_that_escapes_reaches_no_terminal(
    known: tuple[World, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every text of the file, and every text that the log's own key signed (I8)."""
    world, bundle = known
    outer, evil = json.loads(bundle), "".join(EVIL)
    hostile = [put(outer, path, evil) for path, each in walk(outer) if isinstance(each, str)]
    hostile += [
        put(outer, path, each + evil) for path, each in walk(outer) if isinstance(each, str)
    ]
    hostile.append({**outer, evil: 1})
    statement = payload_of(outer)
    for path, each in walk(statement):
        if isinstance(each, str):
            envelope = seal_envelope(packed(put(statement, path, evil)), world.signer)
            hostile.append({**outer, "envelope": json.loads(msgspec.json.encode(envelope))})
    for text in (f"{ORIGIN}\n1\n{evil}\n", f"{evil}\n1\n{'A' * 43}=\n", f"{ORIGIN}\n{evil}\nA\n"):
        note = Note(text, (_signed(world, text),))
        hostile.append({**outer, "checkpoint": str(note)})
    assert len(hostile) > 80
    for each in hostile:
        (tmp_path / "c.json").write_bytes(packed(each))
        for words in ((), ("--json",)):
            _verify(monkeypatch, tmp_path / "c.json", "--key", world.key, *words)
            out, err = capsys.readouterr()
            assert "NOT PROVEN" in out
            assert not _HARMFUL.search(out + err), repr(out + err)


def test_key_that_escapes_reaches_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether it is a text, a file, or the name of none."""
    (tmp_path / "c.json").write_bytes(b"{}")
    for evil in EVIL:
        key = f"log{evil}+b246f70a+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c"
        (tmp_path / "key").write_text(key)
        for given in (key, str(tmp_path / "key"), f"nowhere{evil}", "x+" * 5000):
            _verify(monkeypatch, tmp_path / "c.json", "--key", given)
            out, err = capsys.readouterr()
            assert not _HARMFUL.search(out + err), repr(out + err)
            assert len(out + err) < 8000


def _signed(world: World, text: str) -> Signature:
    """Return the log's signature over any text, as its holder could make one."""
    key = world.signer.key
    return Signature(key.name, key.key_id, world.signer.sign(text.encode()))


def _verify(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> None:
    """Run `scrubjay certificate verify` in this process."""
    monkeypatch.setattr(sys, "argv", ["scrubjay", "certificate", "verify", *map(str, words)])
    with pytest.raises(SystemExit):
        run(make_commands())


def test_proof_made_offline_satisfies_verify(known: tuple[World, bytes], tmp_path: Path) -> None:
    """From the folder of the published log alone; what is no proof says what one is."""
    world, bundle = known
    (tmp_path / "c.json").write_bytes(bundle)
    world.bear(range(60, 64))
    for path, data in world.files.files.items():
        place = tmp_path / "log" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    program = [sys.executable, "-m", "scrubjay.app.main", "certificate", "proof"]
    made = subprocess.run(
        [*program, "--from", tmp_path / "c.json", "--log", tmp_path / "log"],
        capture_output=True,
        timeout=LIMIT_S,
        check=True,
    )
    (tmp_path / "proof").write_bytes(made.stdout)
    words = (tmp_path / "c.json", "--key", world.key, "--newer", tmp_path / "log" / "checkpoint")
    done = printed(*words, "--proof", tmp_path / "proof")
    assert done.returncode == 0, done.stdout
    assert b"give --proof" in printed(*words).stdout
    done = printed(*words, "--proof", tmp_path / "c.json")
    assert (done.returncode, b"--proof: base64" in done.stderr) == (2, True)


def test_verdict_stands_before_all_that_the_certificate_says(known: tuple[World, bytes]) -> None:
    """A second stage that is forged is NOT PROVEN before a word of the first one (I8)."""
    world, bundle = known
    forged = json.loads(bundle)
    forged["leaf"]["index"] -= 1
    text = printed("-", "--key", world.key, given=packed(forged)).stdout.decode()
    assert text.startswith("NOT PROVEN\n")
    assert text.index("what the certificate says, no more") < text.index("Logged by the machine")
    assert "NOT PROVEN" in text[text.rindex("\n\n") :]


def test_page_in_the_place_of_a_bundle_is_refused_in_few_lines(known: tuple[World, bytes]) -> None:
    """One reason, not a row for each check that it keeps from being made."""
    world, _ = known
    done = printed("-", "--key", world.key, given=b"<!doctype html>")
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 1
    assert lines[0] == "NOT PROVEN"
    assert len(lines) < 14, lines


def test_empty_key_says_so(known: tuple[World, bytes], tmp_path: Path) -> None:
    """As a text, and as a file."""
    (tmp_path / "key").write_text("\n")
    for given in ("", " ", tmp_path / "key"):
        done = printed("-", "--key", given, given=known[1])
        assert done.returncode == 2
        assert b"empty, expected the log's key" in done.stderr


def test_bundle_made_of_a_folder_is_proven(known: tuple[World, bytes], tmp_path: Path) -> None:
    """The whole of it, offline: folder, bundle, verdict."""
    world, bundle = known
    outer = json.loads(bundle)
    envelopes: dict[str, bytes] = {}
    digest = ""
    for envelope in (outer["envelope"], outer["forgotten"]["envelope"]):
        digest = hashlib.sha256(base64.b64decode(envelope["payload"])).hexdigest()
        envelopes[f"certificates/{digest}.json"] = packed(envelope)
    log = {f"log/{path}": data for path, data in world.files.files.items()}
    for path, data in (log | envelopes).items():
        place = tmp_path / "evidence" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    (tmp_path / "evidence" / "log.pub").write_text(f"{world.key}\n")
    program = [sys.executable, "-m", "scrubjay.app.main", "certificate", "bundle"]
    made = subprocess.run(
        [*program, digest[:10], "--from", tmp_path / "evidence"],
        capture_output=True,
        timeout=LIMIT_S,
        check=True,
    ).stdout
    done = printed("-", "--key", tmp_path / "evidence" / "log.pub", given=made)
    assert (done.returncode, done.stdout.startswith(b"ERASED")) == (0, True)
    envelope_alone = packed(outer["envelope"])
    assert b"it is an envelope" in printed("-", "--key", world.key, given=envelope_alone).stdout
