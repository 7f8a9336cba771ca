"""The parent of all exporters: lean, alone, replaceable, and nobody's lifeline."""

from __future__ import annotations

import array
import os
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import msgspec
import pytest

from scrubjay import __version__
from scrubjay.base.errors import Unavailable
from scrubjay.base.units import MIB
from scrubjay.client.nbd import NbdClient
from scrubjay.export.launcher import Launcher
from scrubjay.export.messages import Fork, FromParent, ListFamily, Message, decoded
from tests.export.rig import Home, descriptors, ended, until

pytestmark = pytest.mark.real()

_HEAVY = (
    "asyncio", "fastapi", "httpx", "logging", "pydantic", "rich", "sqlalchemy", "structlog",
    "subprocess", "typer", "unittest", "uvicorn",
)  # fmt: skip
_DECODER = msgspec.msgpack.Decoder(FromParent)
_DESCRIPTORS = 3 + 4  # standard ones; lock, listener, both ends of the wake-up pipe


def _children(pid: int) -> list[int]:
    """Process ids of the children of a process, zombies included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found


def _connect(here: Home) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.settimeout(10)
    client.connect(str(here.run / "parent.sock"))
    return client


def _say(client: socket.socket, packet: bytes, *descriptors: int) -> Message | None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    client.sendmsg([packet], rights if descriptors else [])
    answer = client.recv(1 << 17)
    return decoded(_DECODER, answer) if answer else None


def test_parent_imports_nothing_heavy() -> None:
    """What an exporter costs is what its parent imported: no web, no database, no logging."""
    program = (
        "import sys, scrubjay.export.parent;"
        "print(' '.join(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not set(run.stdout.split()) & set(_HEAVY)


def test_parent_forked_exporters_share_their_memory(here: Home) -> None:
    """An idle attached volume costs less than 15 MiB, in proportion."""
    volumes = [here.volume() for _ in range(4)]
    for each in volumes:
        here.attach(each)
    for each in volumes:
        assert 0 < here.exporters.survey(each).memory_bytes < 15 * MIB


def test_parent_is_found_by_the_next_daemon(here: Home) -> None:
    """A daemon that starts uses the parent that is there, and knows its exporters."""
    volume = here.volume()
    here.attach(volume)
    family = Launcher(here.folder).ensure()
    assert (family.pid, family.version) == (here.parent, __version__)
    assert [(each.volume, each.pid) for each in family.children] == [(volume, here.pid(volume))]


def test_parent_second_one_of_a_home_is_refused(here: Home) -> None:
    """One home has one parent: a second says so, and the first serves on."""
    run = subprocess.run(
        [sys.executable, "-m", "scrubjay.export.parent", "--home", str(here.folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 5
    assert "held by another parent" in run.stdout
    assert Launcher(here.folder).ensure().pid == here.parent


def test_parent_without_a_home_says_how_it_is_called() -> None:
    """Unknown arguments are Invalid, with its exit status."""
    run = subprocess.run(
        [sys.executable, "-m", "scrubjay.export.parent", "nonsense"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert "expected --home HOME" in run.stdout


def test_parent_killed_interrupts_nobody(here: Home) -> None:
    """A killed parent leaves exporters serving; the next attach starts another one."""
    first, second = here.volume(), here.volume()
    with NbdClient(here.attach(first)) as client:
        client.write(0, b"x" * 4096)
        os.kill(here.parent, signal.SIGKILL)
        until(lambda: ended(here.parent))
        assert client.read(0, 4096) == b"x" * 4096
        here.attach(second)
        client.flush()
        assert Launcher(here.folder).ensure().pid != here.parent
        here.exporters.detach(first)
    assert here.leases.volumes[first].checkpoint.clean


def test_parent_told_to_end_leaves_its_exporters(here: Home) -> None:
    """`end` ends the parent alone, and its socket is gone."""
    volume = here.volume()
    with NbdClient(here.attach(volume)) as client:
        here.launcher.end()
        until(lambda: ended(here.parent))
        assert not (here.run / "parent.sock").exists()
        client.write(0, b"y" * 4096)
        here.exporters.detach(volume)
    here.launcher.end()  # none is fine


def test_parent_of_another_version_is_replaced(here: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an upgrade the daemon does not fork from the old code; exporters go on."""
    volume = here.volume()
    path = here.attach(volume)
    monkeypatch.setattr("scrubjay.export.launcher.__version__", "99")
    assert Launcher(here.folder).ensure().pid != here.parent
    with NbdClient(path) as client:
        assert client.read(0, 4096) == bytes(4096)


def test_parent_reaps_every_child(here: Home) -> None:
    """However exporters end, none stays as a zombie and no descriptor of theirs stays open."""
    volumes = [here.volume() for _ in range(3)]
    for each in volumes:
        here.attach(each)
    pids = [here.pid(each) for each in volumes]
    here.exporters.detach(volumes[0])
    here.exporters.kill(volumes[1])
    os.kill(pids[2], signal.SIGKILL)
    until(lambda: not _children(here.parent))
    exits = {each.pid: each.status for each in here.launcher.ensure().exits}
    assert [exits[each] for each in pids] == [0, 0, -9]
    until(lambda: len(descriptors(here.parent)) == _DESCRIPTORS)


def test_parent_lives_in_its_own_session(here: Home) -> None:
    """A terminal's interrupt for the daemon reaches neither parent nor exporters."""
    volume = here.volume()
    here.attach(volume)
    sessions = {os.getsid(0), os.getsid(here.parent), os.getsid(here.pid(volume))}
    assert len(sessions) == 3


@pytest.mark.parametrize(
    "packet",
    [b"\xff", b"{}", msgspec.msgpack.encode([50, 1]), os.urandom(100), bytes(100_000)],
    ids=["garbage", "json", "short fork", "random", "long"],
)
def test_parent_hostile_packet_closes_that_client_only(here: Home, packet: bytes) -> None:
    """Whatever one client sends, it is cut off, and the parent serves the next."""
    with _connect(here) as client:
        assert _say(client, packet) is None
    assert Launcher(here.folder).ensure().pid == here.parent


def test_parent_descriptors_sent_unasked_are_closed(here: Home) -> None:
    """Descriptors that come with other requests, or too many of them, do not stay open."""
    listing = msgspec.msgpack.encode(ListFamily(id=1))
    for count in (1, 3, 30):
        nowhere = [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]
        with _connect(here) as client:
            _say(client, listing, *nowhere)
        for each in nowhere:
            os.close(each)
    until(lambda: len(descriptors(here.parent)) == _DESCRIPTORS)


def test_fork_without_its_descriptor_is_refused(here: Home) -> None:
    """A fork that could not report is not made."""
    order = Fork(
        id=4, volume=uuid.UUID(int=1), epoch=1, token=bytes(32),
        pool="p", channel="c", lock="l", socket="s", gid=None,
    )  # fmt: skip
    with _connect(here) as client:
        answer = _say(client, msgspec.msgpack.encode(order))
    assert "0 descriptors" in getattr(answer, "message", "")
    assert not _children(here.parent)


def test_parent_silent_clients_hold_up_nobody(here: Home) -> None:
    """Clients that connect and say nothing do not keep the parent from others."""
    silent = [_connect(here) for _ in range(10)]
    assert Launcher(here.folder).ensure().pid == here.parent
    for each in silent:
        each.close()


def test_launcher_where_the_parent_cannot_start_says_why(tmp_path: Path) -> None:
    """What keeps the parent from its start is in the error."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "parent.sock").mkdir()
    with pytest.raises(Unavailable, match=r"parent of exporters: (no word|unavailable)"):
        Launcher(tmp_path).ensure()
