"""The demo's auditor: a refusal counts only for its reason."""

import stat
import sys
from pathlib import Path

import pytest

from demo.audit import Auditor
from demo.report import Unproven
from tests.evidence.world import BLINDING, World, facts, volume

MAIN = "from scrubjay.app.main import main; main()"
TRACEBACK = "raise SystemExit(1)"
LIAR = (
    'print(\'{"verdict": "NOT PROVEN", "reason": "", "checks": '
    '[{"name": "bundle", "outcome": "failed"}]}\'); raise SystemExit(1)'
)


def auditor(folder: Path, *, of: int = 1, program: str = MAIN) -> Auditor:
    """Return an auditor who was handed a certificate about volume 1, and told a volume."""
    world = World()
    made = world.forget(facts(world.bear([1])))
    (folder / "c.json").write_bytes(world.bundle(made))
    (folder / "log.pub").write_text(world.key)
    (folder / "volume").write_text(f"{volume(of)}:{BLINDING.hex()}")
    command = folder / "scrubjay"
    command.write_text(f"#!{sys.executable}\n{program}\n")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return Auditor(folder, command=command)


def test_auditor_believes_a_certificate_about_his_volume(tmp_path: Path) -> None:
    """Verdict, count and refusal come from the real verifier."""
    known = auditor(tmp_path)
    verdict, passed = known.verify()
    assert (verdict, passed > 10) == ("ERASED", True)
    known.refuse_forged()
    assert "is among its subjects" in known.shown()


def test_auditor_with_another_volume_is_not_convinced(tmp_path: Path) -> None:
    """A certificate about somebody else's volume proves nothing to Alice."""
    with pytest.raises(Unproven):
        auditor(tmp_path, of=2).verify()


@pytest.mark.parametrize("program", [TRACEBACK, LIAR])
def test_verifier_that_merely_fails_has_refused_nothing(tmp_path: Path, program: str) -> None:
    """Status 1 alone, or another check than the signature's, is no refusal of a forgery."""
    with pytest.raises(Unproven):
        auditor(tmp_path, program=program).refuse_forged()
