"""Certificates that earlier versions issued: every later one has to verify them."""

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from scrubjay.evidence.page import render
from scrubjay.evidence.questions import Newer
from scrubjay.evidence.report import Outcome, Verdict
from scrubjay.evidence.verify import verify
from tests.vectors.certificates.make import main, media

HERE = Path(__file__).parent
GOLDEN = sorted(HERE.glob("v*/expected.json"))
CASES = [(each.parent, name) for each in GOLDEN for name in sorted(json.loads(each.read_text()))]


@pytest.mark.parametrize(("folder", "name"), CASES, ids=[f"{f.name}-{n}" for f, n in CASES])
def test_certificate_of_an_earlier_version_is_verified_still(folder: Path, name: str) -> None:
    """Its bytes are those that were issued; its verdict stays, with a witness and a newer log."""
    expected = json.loads((folder / "expected.json").read_text())[name]
    bundle = (folder / f"{name}.json").read_bytes()
    proof = [base64.b64decode(each) for each in (folder / "newer.proof").read_text().split()]
    assert hashlib.sha256(bundle).hexdigest() == expected["sha256"]
    report = verify(
        bundle,
        (folder / "log.pub").read_text(),
        newer=Newer((folder / "newer").read_bytes(), tuple(proof)),
        witnesses=[(folder / "witness.pub").read_text()],
    )
    assert report.verdict.value == expected["verdict"], report.reason
    assert {each.outcome for each in report.checks if not each.optional} == {Outcome.PASSED}
    assert report.verdict.value in render(report, digest=expected["sha256"])


@pytest.mark.parametrize("folder", [each.parent for each in GOLDEN], ids=lambda each: each.name)
def test_certificate_of_an_earlier_version_damaged_is_not_proven(folder: Path) -> None:
    """The golden files are no dead weight: one flipped digit in each, and its verdict goes."""
    key = (folder / "log.pub").read_text()
    for path in sorted(folder.glob("*.json")):
        if path.name != "expected.json":
            bundle = json.loads(path.read_bytes())
            bundle["leaf"]["entry"] = bundle["leaf"]["entry"].replace("0", "1", 1)
            report = verify(json.dumps(bundle).encode(), key)
            assert report.verdict is Verdict.NOT_PROVEN


@pytest.mark.parametrize(("make", "version"), [(main, "v1"), (media, "v1-media")])
def test_certificates_made_anew_have_the_verdicts_of_the_golden_ones(
    make: Callable[[Path], None], version: str, tmp_path: Path
) -> None:
    """What makes them still can; a later format may differ in bytes, not in verdicts."""
    make(tmp_path)
    made = json.loads((tmp_path / "expected.json").read_text())
    golden = json.loads((HERE / version / "expected.json").read_text())
    assert {name: each["verdict"] for name, each in made.items()} == {
        name: each["verdict"] for name, each in golden.items()
    }
