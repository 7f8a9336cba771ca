"""A home on a TPM, from `init` to an auditor who has neither the home nor the TPM."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.rig import PATIENCE_S, POOL_SIZE, Home
from tests.sinks.emulator import MISSING, PROGRAM, Emulator

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which(PROGRAM) is None, reason=MISSING),
]


def audited(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Verify a certificate where there is a file, a key, and nothing else."""
    return subprocess.run(
        [sys.executable, "-m", "scrubjay.app.main", "certificate", "verify", "c.json",
         "--key", "log.pub", *words],
        cwd=folder,
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "SCRUBJAY_HOME": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )  # fmt: skip


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """A TPM."""
    emulator = Emulator()
    yield emulator
    emulator.close()


def test_auditor_checks_what_a_tpm_signed_without_home_and_tpm(
    place: Home, folder: Path, emulator: Emulator
) -> None:
    """`sink show` gives the key's name beforehand; `verify --sink-key` compares it (I8)."""
    place.run("init", "--pool-size", POOL_SIZE, "--sink", f"tpm2:{emulator.socket}", "--yes")
    offline = json.loads(place.run("sink", "show", "--json").stdout)["key"]
    place.serve()
    shown = place.run("sink", "show").stdout
    assert f"signs with the key {offline}" in shown
    place.volume("db0")
    place.run("volume", "destroy", "db0", "--yes", "--wait")
    (listed,) = json.loads(place.run("certificate", "list", "--json").stdout)
    for name, words in (
        ("c.json", ("certificate", "show", listed["id"])),
        ("c.txt", ("certificate", "show", listed["id"], "--format", "text")),
        ("c.html", ("certificate", "show", listed["id"], "--format", "html")),
        ("log.pub", ("certificate", "key")),
    ):
        (folder / name).write_text(place.run(*words).stdout)
    place.end(signal.SIGTERM)
    emulator.clear()
    for name in ("c.txt", "c.html"):
        assert offline in (folder / name).read_text()
    done = audited(folder, "--sink-key", offline)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ERASED, CONDITIONAL" in done.stdout
    assert offline in done.stdout.replace("\n", "").replace(" ", "")
    other = audited(folder, "--sink-key", "000b" + "0" * 64)
    assert other.returncode == 1
    assert "sink key" in other.stdout
