"""scripts/setup, played on a machine made of fakes: what it installs, asks and says.

The script runs as it is, in a copy of the tree's top, with a PATH that holds the usual
tools, a fake `id`, a fake `apt-get` that writes down its orders, and a fake `python3`.
"""

import os
import pty
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.project.rules import ROOT

TOOLS = ["sh", "env", "cat", "grep", "sed", "head", "sha256sum", "dirname", "rm", "mkdir", "printf"]
# What the script looks for, as installed by the fake apt-get.
PROGRAMS = {
    "qemu-utils": "qemu-io",
    "libnbd-bin": "nbdcopy",
    "e2fsprogs": "e2fsck",
    "nbdkit": "nbdkit",
    "fio": "fio",
    "swtpm": "swtpm",
    "fdisk": "sfdisk",
    "xfsprogs": "mkfs.xfs",
    "btrfs-progs": "mkfs.btrfs",
}
PYTHON = """#!/bin/sh
case $* in
--version) echo Python {version} ;;
*-venv*) echo python3.11-venv ;;
*version_info*) exit {too_old} ;;
*ensurepip*) command -v ensurepip >/dev/null ;;
*"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo venv >>"$JOURNAL" ;;
*"pip install"*"-r "*) echo lock >>"$JOURNAL" ;;
*"pip install"*) echo project >>"$JOURNAL" ;;
esac
"""
APT = """#!/bin/sh
order=
for word; do
    case $word in update | install) order=$word ;; esac
done
echo "apt $order" >>"$JOURNAL"
[ -f "$BROKEN" ] && exit 100
[ $order = update ] && touch "$LISTS" && exit
[ -f "$LISTS" ] || exit 100
for word; do
    case $word in
{installs}
    esac
done
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine of fakes around the real script."""

    tree: Path
    bin: Path

    def write(self, name: str, text: str) -> None:
        """Put a program on the PATH."""
        program = self.bin / name
        program.write_text(text)
        program.chmod(0o755)

    def become(self, uid: int) -> None:
        """Run the next set-ups as this user."""
        self.write("id", f"#!/bin/sh\necho {uid}\n")

    def break_apt(self) -> None:
        """Let every apt-get fail from now on."""
        (self.tree / "broken").touch()

    def environment(self) -> dict[str, str]:
        """What the script sees; a PATH of the fakes alone."""
        return {
            "PATH": str(self.bin),
            "SYSTEM_PYTHON": "python3",
            "JOURNAL": str(self.tree / "journal"),
            "BROKEN": str(self.tree / "broken"),
            "LISTS": str(self.tree / "lists"),
        }

    def command(self, target: str) -> list[str]:
        """The script's command line, cut off from the machine's own folders of programs."""
        return [str(self.bin / "sh"), str(self.tree / "scripts" / "setup"), target]

    def setup(self, target: str) -> subprocess.CompletedProcess[str]:
        """Run the script without a terminal."""
        return subprocess.run(
            self.command(target),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    def setup_on_terminal(self, target: str, answer: str) -> str:
        """Run the script on a terminal with a person who gives one answer; return what he saw."""
        ours, theirs = pty.openpty()
        os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(
            self.command(target), env=self.environment(), stdin=theirs, stderr=theirs, check=False
        )
        os.close(theirs)
        seen = b""
        while chunk := _read(ours):
            seen += chunk
        os.close(ours)
        assert done.returncode == 0, seen
        return seen.decode()

    def journal(self) -> list[str]:
        """What the fakes were told to do, in order."""
        path = self.tree / "journal"
        return path.read_text().splitlines() if path.exists() else []


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other side is closed
        return b""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A fresh machine, with no package lists yet; the next set-up runs as root."""
    tree, programs = tmp_path / "tree", tmp_path / "bin"
    (tree / "scripts").mkdir(parents=True)
    programs.mkdir()
    script = (ROOT / "scripts" / "setup").read_text()
    # The machine's own e2fsck must not be found behind the fakes.
    cut = script.replace("PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin", "PATH=$PATH")
    assert cut != script
    (tree / "scripts" / "setup").write_text(cut)
    for name in ("requirements-dev.lock", "pyproject.toml"):
        (tree / name).write_text(f"{name}\n")
    for name in (*TOOLS, "cp", "touch", "chmod"):
        found = shutil.which(name)
        assert found
        (programs / name).symlink_to(found)
    machine = Machine(tree, programs)
    machine.become(0)
    machine.write("python3", PYTHON.format(version="3.11.2", too_old=0))
    machine.write("ensurepip", "#!/bin/sh\n")
    installs = "\n".join(
        f"    {package}) echo '#!/bin/sh' >{programs}/{program}; chmod +x {programs}/{program} ;;"
        for package, program in (*PROGRAMS.items(), ("python3.11-venv", "ensurepip"))
    )
    machine.write("apt-get", APT.format(installs=installs))
    return machine


def test_setup_as_root_without_terminal_installs_what_is_missing(machine: Machine) -> None:
    """With empty package lists and nobody to ask, root gets the lists and every package."""
    done = machine.setup("test")
    assert done.returncode == 0, done.stderr
    assert machine.journal() == [
        "venv",
        "lock",
        "project",
        "apt install",
        "apt update",
        "apt install",
    ]
    assert all((machine.bin / program).exists() for program in PROGRAMS.values())
    assert "without" not in done.stderr


def test_setup_when_nothing_changed_does_nothing(machine: Machine) -> None:
    """The environment is made once, and packages that are there are left alone."""
    machine.setup("test")
    before = machine.journal()
    done = machine.setup("test")
    assert machine.journal() == before
    assert done.stderr == ""


def test_setup_when_the_lock_changed_makes_the_environment_anew(machine: Machine) -> None:
    """The environment is what the lock says, and nothing from an older one stays."""
    machine.setup("env")
    (machine.tree / ".venv" / "leftover").touch()
    (machine.tree / "requirements-dev.lock").write_text("newer\n")
    machine.setup("env")
    assert machine.journal() == ["venv", "lock", "project"] * 2
    assert not (machine.tree / ".venv" / "leftover").exists()


def test_setup_when_metadata_changed_installs_the_project_alone(machine: Machine) -> None:
    """A new entry point costs seconds, not a new environment."""
    machine.setup("env")
    (machine.tree / "pyproject.toml").write_text("newer\n")
    machine.setup("env")
    assert machine.journal() == ["venv", "lock", "project", "project"]


def test_setup_when_apt_fails_says_what_is_missing_and_goes_on(machine: Machine) -> None:
    """A machine without network still gets what can run without the packages."""
    machine.break_apt()
    done = machine.setup("demo")
    assert done.returncode == 0
    assert "make demo goes on without qemu-utils libnbd-bin e2fsprogs" in done.stderr


def test_setup_as_nobody_without_terminal_installs_nothing(machine: Machine) -> None:
    """Who is not root and cannot be asked is told what he goes without."""
    machine.become(1000)
    done = machine.setup("bench")
    assert done.returncode == 0
    assert not [line for line in machine.journal() if line.startswith("apt")]
    assert "make bench goes on without qemu-utils libnbd-bin nbdkit fio" in done.stderr


def test_setup_without_venv_module_installs_its_package(machine: Machine) -> None:
    """Debian's python3 alone is enough for root: the missing half is fetched."""
    (machine.bin / "ensurepip").unlink()
    done = machine.setup("env")
    assert done.returncode == 0, done.stderr
    assert machine.journal()[-3:] == ["venv", "lock", "project"]


def test_setup_without_venv_module_and_apt_says_what_to_install(machine: Machine) -> None:
    """Where the venv module cannot be had, the error names its package."""
    (machine.bin / "ensurepip").unlink()
    machine.break_apt()
    done = machine.setup("env")
    assert done.returncode == 1
    assert "please run: apt-get install python3.11-venv" in done.stderr
    assert not (machine.tree / ".venv").exists()


def test_setup_on_terminal_asks_once_and_remembers_no(machine: Machine) -> None:
    """A person is asked before anything is installed, and not again after a no."""
    first = machine.setup_on_terminal("test", "n")
    second = machine.setup_on_terminal("test", "y")
    assert first.count("[Y/n]") == 1
    assert "[Y/n]" not in second
    assert "goes on without" in second
    assert not [line for line in machine.journal() if line.startswith("apt")]


def test_setup_on_terminal_after_yes_installs(machine: Machine) -> None:
    """A yes installs what was listed."""
    seen = machine.setup_on_terminal("demo", "y")
    assert "wants these Debian packages" in seen
    assert (machine.bin / "nbdcopy").exists()


def test_setup_with_an_old_python_looks_for_a_newer_one(machine: Machine) -> None:
    """A distribution's old python3 is passed over for a python3.12 beside it."""
    machine.write("python3", PYTHON.format(version="3.9.2", too_old=1))
    machine.write("python3.12", PYTHON.format(version="3.12.1", too_old=0))
    done = machine.setup("env")
    assert done.returncode == 0
    assert "with Python 3.12.1" in done.stderr


def test_setup_with_only_an_old_python_says_what_is_needed(machine: Machine) -> None:
    """Without Python 3.11 nothing is made, and the message says what to do."""
    machine.write("python3", PYTHON.format(version="3.9.2", too_old=1))
    done = machine.setup("env")
    assert done.returncode == 1
    assert "needs Python 3.11 or newer; found Python 3.9.2" in done.stderr
    assert machine.journal() == []


def test_setup_of_an_unknown_target_changes_nothing(machine: Machine) -> None:
    """A misspelt target is an error."""
    done = machine.setup("tests")
    assert done.returncode == 1
    assert "expected env, demo, test, bench or serve" in done.stderr
    assert machine.journal() == []
