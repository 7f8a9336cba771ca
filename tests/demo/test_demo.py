"""`python -m demo`, as one runs it."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT_S = 400


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short path, as sockets want it, that must be empty in the end."""
    with tempfile.TemporaryDirectory(prefix="sj-", dir="/var/tmp") as name:
        yield Path(name)
        assert list(Path(name).iterdir()) == []
        assert not [each for each in Path("/proc").glob("[0-9]*/cmdline") if _mentions(each, name)]


def _mentions(cmdline: Path, name: str) -> bool:
    try:
        return os.fsencode(name) in cmdline.read_bytes()
    except OSError:
        return False


def demo(*words: str | Path) -> subprocess.Popen[str]:
    """Start it."""
    return subprocess.Popen(
        [sys.executable, "-m", "demo", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.real("cp")
@pytest.mark.timeout(LIMIT_S)
def test_demo_on_small_tree_proves_all_of_it(place: Path) -> None:
    """I1, I2, I3, I4: written, killed, read back, destroyed, reused, searched, rebuilt."""
    with demo("--dir", place, "--source", ROOT / "src") as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said
    assert "opens" in said
    assert "nothing but zeros" in said
    assert "are back by name" in said


@pytest.mark.slow
@pytest.mark.real("cp")
@pytest.mark.timeout(LIMIT_S)
def test_demo_interrupted_leaves_nothing_behind(place: Path) -> None:
    """Ctrl-C, twice, while a daemon and an exporter run: they end, the folder goes, status 130."""
    with demo("--dir", place, "--source", ROOT / "src") as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "write it to" in line:
                process.send_signal(signal.SIGINT)
        process.wait()
    assert process.returncode == 130, "".join(said)


def test_demo_without_files_says_what_is_not_proven(place: Path) -> None:
    """A failure is told in a sentence, with status 1, and cleaned up."""
    with tempfile.TemporaryDirectory() as empty, demo("--dir", place, "--source", empty) as process:
        said, _ = process.communicate()
    assert process.returncode == 1
    assert "not proven:" in said
    assert "Traceback" not in said
