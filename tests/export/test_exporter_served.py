"""Real exporters at work: their clients, the daemon's questions, a full pool, a failing disk."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from scrubjay.base.errors import Invalid, Unavailable
from scrubjay.base.units import MIB, SLOTS_OFFSET_BYTES
from scrubjay.client.nbd import NbdClient
from scrubjay.export.clients import CONNECTIONS_MAX
from scrubjay.export.launcher import Launcher
from scrubjay.export.messages import Done, Failed, Fork
from tests.export.rig import Connect, Home, descriptors, home, until

pytestmark = pytest.mark.real()

ROOT = Path(__file__).parents[2]
_SAMPLE = bytes(range(256)) * 64


# --- Clients ---------------------------------------------------------------------------


def test_client_hostile_harms_no_other(here: Home) -> None:
    """Garbage, silence and half requests on some connections leave the others served."""
    path = here.attach(here.volume())
    with NbdClient(path) as client:
        client.write(0, _SAMPLE)
        hostile = []
        for garbage in (b"", b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\1IHAVEOPT\0"):
            each = socket.socket(socket.AF_UNIX)
            each.connect(str(path))
            each.sendall(garbage)
            hostile.append(each)
        assert client.read(0, len(_SAMPLE)) == _SAMPLE
        with NbdClient(path) as other:
            assert other.read(0, len(_SAMPLE)) == _SAMPLE
        for each in hostile:
            each.close()


def test_connections_past_the_limit_are_closed(here: Home) -> None:
    """There is a limit on connections; those that are there go on, and leave room."""
    volume = here.volume()
    path = here.attach(volume)
    clients = [NbdClient(path) for _ in range(CONNECTIONS_MAX)]
    with pytest.raises(Unavailable):
        NbdClient(path)
    clients[0].write(0, _SAMPLE)
    assert clients[-1].read(0, len(_SAMPLE)) == _SAMPLE
    before = here.exporters.survey(volume).connections
    for each in clients:
        each.close()
    until(lambda: here.exporters.survey(volume).connections == 0)
    assert before == CONNECTIONS_MAX
    with NbdClient(path) as again:
        assert again.read(0, len(_SAMPLE)) == _SAMPLE


def test_connections_ended_leave_no_descriptor(here: Home) -> None:
    """A hundred clients that came and went leave nothing open."""
    volume = here.volume()
    path = here.attach(volume)
    pid = here.pid(volume)
    before = len(descriptors(pid))
    for _ in range(100):
        NbdClient(path).close()
    until(lambda: len(descriptors(pid)) == before)


# --- What the daemon asks --------------------------------------------------------------


def test_resize_reaches_clients_that_connect_afterwards(here: Home) -> None:
    """A volume that has grown is larger for the next connection, and not one byte shorter."""
    volume = here.volume()
    path = here.attach(volume)
    here.exporters.resize(volume, size_bytes=128 * MIB)
    with NbdClient(path) as client:
        assert client.size_bytes == 128 * MIB
        client.write(128 * MIB - 4096, _SAMPLE[:4096])
    with pytest.raises(Invalid):
        here.exporters.resize(volume, size_bytes=64 * MIB)


def test_deadline_of_purging_reaches_an_exporter_that_serves(here: Home) -> None:
    """It is another than when it attached, and the daemon that says so may be another one."""
    volume = here.volume()
    here.attach(volume)
    assert here.exporters.survey(volume).purge_within_s == 24 * 3600
    here.exporters.purge_within(volume, within_s=3600)
    assert here.exporters.survey(volume).purge_within_s == 3600
    here.stop_daemon()
    here.start_daemon()
    here.exporters.purge_within(volume, within_s=7200)
    assert here.exporters.survey(volume).purge_within_s == 7200


def test_resize_of_what_is_not_served_is_unavailable(here: Home) -> None:
    """Who is not connected cannot be told anything."""
    here.stop_daemon()
    here.start_daemon()
    with pytest.raises(Unavailable, match="not connected"):
        here.exporters.resize(here.volume(), size_bytes=MIB)


def test_survey_counts_what_clients_wrote(here: Home) -> None:
    """The counters of an exporter are its own, and its memory is what it alone costs."""
    volume = here.volume()
    with NbdClient(here.attach(volume)) as client:
        client.write(0, bytes(MIB))
        told = here.exporters.survey(volume)
        assert told.written_bytes == MIB
        assert told.appended_bytes > MIB
        assert told.live_sectors == 256
        assert told.connections == 1
        assert 1 * MIB < told.memory_bytes < 64 * MIB


def test_pool_full_writes_get_enospc_and_reads_go_on() -> None:
    """Nothing acknowledged is lost when the pool is full, and writing goes on when it is not."""
    with home(slots=8) as small:
        volume = small.volume(size_bytes=512 * MIB)
        piece = os.urandom(MIB)
        with NbdClient(small.attach(volume)) as client:
            last = next(n for n in range(512) if not _accepts(client, (n + 1) * MIB, piece))
            assert last > 0
            client.flush()
            assert client.read(last * MIB, MIB) == piece
            client.trim(0, (last + 1) * MIB)
            until(lambda: _accepts(client, 0, piece))
            assert client.read(0, MIB) == piece


def _accepts(client: NbdClient, offset_bytes: int, piece: bytes) -> bool:
    """Write; False where the pool has no space."""
    try:
        client.write(offset_bytes, piece)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


def test_pool_holds_no_plaintext(here: Home) -> None:
    """I2: nothing that a client wrote stands readable in the pool file."""
    marker = os.urandom(512) * 8
    volume = here.volume()
    with NbdClient(here.attach(volume)) as client:
        client.write(0, marker * 8)
        client.flush()
    here.exporters.detach(volume)
    raw = here.pool.open("rb")
    with raw:
        raw.seek(SLOTS_OFFSET_BYTES)
        assert marker[:512] not in raw.read(64 * MIB)


# --- A disk that fails ------------------------------------------------------------------


class _BadDiskLauncher(Launcher):
    """Starts exporters on a disk that fails once the file `fails` is there."""

    fails: Path

    def fork(self, order: Fork, *, timeout_s: float) -> None:
        mine, theirs = os.pipe()
        arguments = [sys.executable, "-m", "tests.export.bad_disk", str(self.fails), str(theirs)]
        process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, pass_fds=[theirs], cwd=ROOT, env={}
        )
        os.close(theirs)
        assert process.stdin is not None
        with process.stdin:
            process.stdin.write(msgspec.msgpack.encode(order))
        threading.Thread(target=process.wait, daemon=True).start()
        assert msgspec.msgpack.decode(os.read(mine, 1 << 16), type=Done | Failed) == Done()
        os.close(mine)


def test_sync_failed_stops_every_volume_on_the_medium(here: Home, connect: Connect) -> None:
    """I4: after a failed sync nothing is acknowledged, on any volume, until attached anew."""
    bad, neighbour = here.volume(), here.volume()
    other = connect(here.attach(neighbour))
    other.write(0, _SAMPLE)
    other.flush()
    launcher = _BadDiskLauncher(here.folder)
    launcher.fails = here.folder / "fails"
    here.exporters._launcher = launcher  # noqa: SLF001 - one exporter of another kind
    client = connect(here.attach(bad))
    client.write(0, _SAMPLE)
    client.flush()
    launcher.fails.touch()
    client.write(4096, _SAMPLE)
    with pytest.raises((OSError, Unavailable)):
        client.flush()
    with pytest.raises((OSError, Unavailable)):
        client.flush()
    until(lambda: not here.liveness.attached(bad))
    until(lambda: not here.liveness.attached(neighbour))
    with pytest.raises(Unavailable):
        other.read(0, 1)
    launcher.fails.unlink()
    here.exporters._launcher = here.launcher  # noqa: SLF001 - as it was
    until(lambda: not here.exporters._failed.is_set())  # noqa: SLF001 - it is being ended
    for volume in (bad, neighbour):
        with NbdClient(here.attach(volume)) as again:
            assert again.read(0, 4096) == _SAMPLE[:4096]


def test_sync_failed_without_a_daemon_refuses_everything(here: Home, connect: Connect) -> None:
    """I4: with nobody to stop it, a poisoned volume answers every request with an error."""
    launcher = _BadDiskLauncher(here.folder)
    launcher.fails = here.folder / "fails"
    here.exporters._launcher = launcher  # noqa: SLF001 - an exporter of another kind
    volume = here.volume()
    path = here.attach(volume)
    client = connect(path)
    client.write(0, _SAMPLE)
    here.stop_daemon()
    launcher.fails.touch()
    requests: list[Callable[[], object]] = [
        client.flush,
        client.flush,
        lambda: client.read(0, 4096),
        lambda: client.write(0, _SAMPLE),
        lambda: client.trim(0, 4096),
        lambda: connect(path).read(0, 4096),
    ]
    for request in requests:
        with pytest.raises(OSError, match=r"EIO|sync failed|Input/output") as caught:
            request()
        assert caught.value.errno == errno.EIO
    launcher.fails.unlink()
    with pytest.raises(OSError, match=r"EIO"):  # no later sync makes up for it
        client.flush()
    here.start_daemon()  # it hears of it
    until(lambda: not here.liveness.attached(volume))


def test_exporter_thread_broken_by_a_bug_ends_it(here: Home, connect: Connect) -> None:
    """I4: without the thread that syncs, an exporter ends and is replayed; it does not hang."""
    launcher = _BadDiskLauncher(here.folder)
    launcher.fails = here.folder / "fails"
    here.exporters._launcher = launcher  # noqa: SLF001 - an exporter of another kind
    volume = here.volume()
    client = connect(here.attach(volume))
    client.write(0, _SAMPLE)
    client.flush()
    launcher.fails.write_text("bug")
    with pytest.raises(Unavailable):
        client.flush()
    until(lambda: not here.liveness.attached(volume))
    here.exporters._launcher = here.launcher  # noqa: SLF001 - as it was
    with NbdClient(here.attach(volume)) as again:
        assert again.read(0, len(_SAMPLE)) == _SAMPLE
