"""Real exporters of a real parent: what they keep, whom they serve, and how they end."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from scrubjay.base.errors import Conflict, Corrupt, Invalid, NotFound, Unavailable
from scrubjay.base.ids import Entry
from scrubjay.base.units import MIB, SLOTS_OFFSET_BYTES
from scrubjay.client.nbd import NbdClient
from scrubjay.control.attachments import Start
from scrubjay.engine.lessor import Checkpoint
from scrubjay.export import lockfile
from scrubjay.export.clients import CONNECTIONS_MAX
from scrubjay.export.launcher import Launcher
from scrubjay.export.messages import Done, Failed, Fork
from tests.export.rig import Home, home, until

pytestmark = pytest.mark.real()

ROOT = Path(__file__).parents[2]
Connect = Callable[[Path], NbdClient]
_SAMPLE = bytes(range(256)) * 64


@pytest.fixture
def here() -> Iterator[Home]:
    """A home with a parent and a daemon's export room."""
    with home() as made:
        yield made


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes clients that are closed when the test is over, whatever became of their server."""
    with contextlib.ExitStack() as clients:
        yield lambda path: clients.enter_context(NbdClient(path))


def _descriptors(pid: int) -> list[str]:
    found = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(each.readlink()))
        except FileNotFoundError:
            continue
    return found


def _ended(pid: int) -> bool:
    """Whether a process is no more, not even as a zombie."""
    return not Path(f"/proc/{pid}").exists()


# --- Attaching -------------------------------------------------------------------------


def test_volume_attached_serves_reads_and_writes(here: Home) -> None:
    """I1: a new volume reads as zeros, and then as what was written, at any alignment."""
    socket_path = here.attach(here.volume())
    with NbdClient(socket_path, "db1") as client:
        assert client.size_bytes == 64 * MIB
        assert client.read(12345, 5000) == bytes(5000)
        client.write(12345, _SAMPLE)
        client.flush()
        assert client.read(12345, len(_SAMPLE)) == _SAMPLE
        assert client.read(12345 - 100, 100) == bytes(100)


def test_exporter_socket_is_the_owners_alone(here: Home) -> None:
    """The socket of a volume has mode 0600 unless a group was asked for."""
    path = here.attach(here.volume())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_exporter_socket_for_a_group_is_theirs_as_well(here: Home) -> None:
    """With a socket group, the mode is 0660 and the group is that one."""
    group = grp.getgrgid(os.getgid())
    volume = here.volume()
    start = here.start(volume)
    here.exporters.start(Start(volume, start.epoch, start.socket, start.lock, group.gr_name))
    found = start.socket.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, group.gr_gid)


def test_attach_for_an_unknown_group_is_refused(here: Home) -> None:
    """A group that is not there is Invalid, and no process is started."""
    start = here.start(volume := here.volume())
    with pytest.raises(Invalid, match="unknown"):
        here.exporters.start(Start(volume, start.epoch, start.socket, start.lock, "no-such-group"))
    assert here.launcher.ensure().children == ()


def test_attach_of_a_twin_is_refused_by_the_lock(here: Home) -> None:
    """Design 8.9: while an exporter lives, a second one for its volume does not come to be."""
    start = here.start(here.volume())
    here.exporters.start(start)
    with NbdClient(start.socket) as client:
        client.write(0, _SAMPLE)
        with pytest.raises(Conflict, match="held by another exporter"):
            here.exporters.start(start)
        assert client.read(0, len(_SAMPLE)) == _SAMPLE
        client.flush()


def test_attach_over_a_file_in_the_sockets_place_is_refused(here: Home) -> None:
    """What is no socket is not removed for one."""
    volume = here.volume()
    here.socket(volume).write_text("mine")
    with pytest.raises(Conflict, match="something else is there"):
        here.attach(volume)
    assert here.socket(volume).read_text() == "mine"


def test_attach_without_a_pool_file_says_so(here: Home) -> None:
    """What keeps an exporter from its start reaches who asked, as the same error."""
    here.pool.rename(here.folder / "elsewhere")
    with pytest.raises(NotFound, match="No such file"):
        here.attach(here.volume())


def test_attach_of_a_log_that_is_too_short_says_corrupt(here: Home) -> None:
    """I4: a medium without what was flushed is refused at the attach, in words."""
    volume = here.volume()
    path = here.attach(volume)
    with NbdClient(path) as client:
        client.write(0, _SAMPLE)
    here.exporters.kill(volume)
    here.leases.volumes[volume].checkpoint = Checkpoint(Entry(0), 99, clean=False, live_sectors=0)
    with pytest.raises(Corrupt, match="expected at least 99"):
        here.attach(volume)
    assert not here.liveness.attached(volume)


# --- What an exporter holds ------------------------------------------------------------


def test_exporter_holds_nothing_of_its_siblings(here: Home) -> None:
    """Design 8.6: a fork has its own pool handle, lock and sockets, and no other descriptor."""
    first, second = here.volume(), here.volume()
    here.attach(first)
    here.attach(second)
    for volume in (first, second):
        kinds = _descriptors(here.pid(volume))
        assert len([each for each in kinds if each == str(here.pool)]) == 1
        assert len([each for each in kinds if each.endswith(".lock")]) == 1
        assert len([each for each in kinds if each.startswith("socket:")]) == 2
        assert len([each for each in kinds if each.startswith("pipe:")]) == 2
        assert len(kinds) == 3 + 1 + 1 + 2 + 2


def test_exporter_secrets_are_not_in_argv_or_environment(here: Home) -> None:
    """I2: neither token nor key stands where other users of the machine can read it."""
    volume = here.volume()
    tokens: list[bytes] = []
    original = here.exporters._entropy.token  # noqa: SLF001 - to see what is drawn

    class Noted:
        def token(self, size_bytes: int) -> bytes:
            tokens.append(original(size_bytes))
            return tokens[-1]

    here.exporters._entropy = Noted()  # noqa: SLF001 - to see what is drawn
    with NbdClient(here.attach(volume)) as client:
        client.write(0, _SAMPLE)
    secrets = [*tokens, *here.leases.volumes[volume].keys.values()]
    assert len(secrets) > 1
    pid = here.pid(volume)
    for place in ("cmdline", "environ", "comm", "status"):
        text = Path(f"/proc/{pid}/{place}").read_bytes()
        for secret in secrets:
            assert secret not in text
            assert secret.hex().encode() not in text
    log = (here.run / "exporters.log").read_text()
    lock = here.liveness.lock_path(volume).read_text()
    assert all(secret.hex() not in log + lock for secret in secrets)


def test_exporter_memory_is_neither_dumped_nor_traced(here: Home) -> None:
    """I2: no core file, and its memory is not readable for other processes of its user."""
    volume = here.volume()
    here.attach(volume)
    for pid in (here.parent, here.pid(volume)):
        limits = Path(f"/proc/{pid}/limits").read_text()
        (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
        assert core.split()[4:6] == ["0", "0"]
        assert "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text()
    if not os.geteuid():  # /proc files of who is not dumpable belong to root: have it be nobody
        return
    with pytest.raises(PermissionError):
        Path(f"/proc/{here.pid(volume)}/mem").read_bytes()


# --- Detaching -------------------------------------------------------------------------


def test_detach_in_order_commits_a_clean_checkpoint(here: Home, connect: Connect) -> None:
    """I4: what was written is there after a detach, flushed or not, and nothing is replayed."""
    volume = here.volume()
    client = connect(here.attach(volume))
    client.write(0, _SAMPLE)
    pid = here.pid(volume)
    here.exporters.detach(volume)
    assert here.leases.volumes[volume].checkpoint.clean
    assert not here.liveness.attached(volume)
    assert not here.socket(volume).exists()
    until(lambda: _ended(pid))
    with pytest.raises(Unavailable):
        client.read(0, 1)
    with NbdClient(here.attach(volume)) as again:
        assert again.read(0, len(_SAMPLE)) == _SAMPLE


def test_detach_of_what_is_not_attached_is_fine(here: Home) -> None:
    """Detaching and killing a volume that nobody serves do nothing."""
    volume = here.volume()
    here.exporters.detach(volume)
    here.exporters.kill(volume)


def test_detach_under_load_loses_no_acknowledged_write(here: Home, connect: Connect) -> None:
    """I4, I5: of every sector the last acknowledged version, or the one under way, is there."""
    volume = here.volume()
    client = connect(here.attach(volume))
    acknowledged = [0]

    def write() -> None:
        try:
            for version in range(1, 1 << 30):
                client.write(version % 64 * 4096, version.to_bytes(8, "little") * 512)
                acknowledged[0] = version
        except (Unavailable, OSError):
            return

    thread = threading.Thread(target=write)
    thread.start()
    until(lambda: acknowledged[0] > 500)
    here.exporters.detach(volume)
    thread.join(timeout=30)
    last = acknowledged[0]
    with NbdClient(here.attach(volume)) as again:
        for version in range(last - 63, last + 1):
            found = again.read(version % 64 * 4096, 4096)
            allowed = (version, version + 64) if version + 64 == last + 1 else (version,)
            assert found in [each.to_bytes(8, "little") * 512 for each in allowed]


def test_exporter_terminated_by_signal_detaches_in_order(here: Home) -> None:
    """SIGTERM, as systemd sends it, is a clean detach."""
    volume = here.volume()
    with NbdClient(here.attach(volume)) as client:
        client.write(0, _SAMPLE)
    pid = here.pid(volume)
    os.kill(pid, signal.SIGTERM)
    until(lambda: _ended(pid))
    assert here.leases.volumes[volume].checkpoint.clean
    assert here.launcher.ensure().exits[-1].status == 0


# --- Killing, and what survives it -----------------------------------------------------


def test_exporter_killed_recovers_what_was_flushed(here: Home, connect: Connect) -> None:
    """I4: kill -9 costs nothing that a FLUSH covered, and the next attach needs no help."""
    volume = here.volume()
    client = connect(here.attach(volume))
    client.write(4096, _SAMPLE)
    client.flush()
    pid = here.pid(volume)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not here.liveness.attached(volume))
    assert here.socket(volume).exists(), "a dead exporter leaves its socket"
    with NbdClient(here.attach(volume)) as again:
        assert again.read(4096, len(_SAMPLE)) == _SAMPLE
        again.write(0, _SAMPLE)
        assert again.read(0, len(_SAMPLE)) == _SAMPLE
    until(lambda: _ended(pid))
    assert [(each.pid, each.status) for each in here.launcher.ensure().exits] == [(pid, -9)]


def test_exporter_stopped_drops_its_keys_and_is_gone(here: Home, connect: Connect) -> None:
    """I3: when `kill` returns no process of the volume is left, connected or not."""
    volume = here.volume()
    client = connect(here.attach(volume))
    client.write(0, _SAMPLE)
    pid = here.pid(volume)
    here.exporters.kill(volume)
    assert not here.liveness.attached(volume)
    with pytest.raises(Unavailable):
        client.read(0, 1)
    until(lambda: _ended(pid))
    assert here.launcher.ensure().exits[-1].status == 0


def test_exporter_that_hangs_is_killed(here: Home) -> None:
    """I3: one that does not answer is killed, and gone when `kill` returns."""
    volume = here.volume()
    here.attach(volume)
    os.kill(here.pid(volume), signal.SIGSTOP)
    here.exporters.kill(volume)
    assert not here.liveness.attached(volume)


def test_exporter_without_a_daemon_is_killed_by_its_lock(here: Home) -> None:
    """A daemon that has never spoken to an exporter can still end it."""
    volume = here.volume()
    here.attach(volume)
    here.stop_daemon()
    with lockfile.watched(here.liveness.lock_path(volume)) as process:
        assert process is not None
        process.kill()
        assert process.ends(timeout_s=10)
    here.start_daemon()
    assert not here.liveness.attached(volume)


def test_daemon_restarted_under_load_interrupts_nobody(here: Home, connect: Connect) -> None:
    """Serving goes on while the daemon is away, and so does everything once it is back."""
    volume = here.volume(size_bytes=256 * MIB)
    client = connect(here.attach(volume))
    client.write(0, _SAMPLE)
    here.stop_daemon()
    client.write(1 * MIB, _SAMPLE)
    client.flush()
    assert client.read(0, len(_SAMPLE)) == _SAMPLE
    here.start_daemon()
    piece = os.urandom(MIB)
    client.write_all((offset * MIB, piece) for offset in range(2, 200))  # needs leases
    assert client.read(199 * MIB, MIB) == piece
    here.exporters.detach(volume)
    with NbdClient(here.attach(volume)) as again:
        assert again.read(MIB, len(_SAMPLE)) == _SAMPLE


def test_daemon_away_while_segments_run_out_makes_writes_wait(here: Home, connect: Connect) -> None:
    """Writes wait for a daemon once the leased segments are used up; none of them fails."""
    volume = here.volume(size_bytes=512 * MIB)
    client = connect(here.attach(volume))
    client.write(0, _SAMPLE)
    here.stop_daemon()
    piece = os.urandom(MIB)
    written = [0]

    def write() -> None:
        for offset in range(1, 300):
            client.write(offset * MIB, piece)
            written[0] = offset

    thread = threading.Thread(target=write)
    thread.start()
    seen = -1
    while seen != written[0] or not seen:  # until it makes no progress
        seen = written[0]
        time.sleep(0.2)
    assert thread.is_alive()
    assert written[0] < 299
    here.start_daemon()
    thread.join(timeout=60)
    assert written[0] == 299
    assert client.read(299 * MIB, MIB) == piece


def test_exporter_replaced_in_the_pool_ends_by_itself(here: Home, connect: Connect) -> None:
    """Design 8.9: an exporter whose epoch is over serves nobody once it hears of it."""
    volume = here.volume()
    client = connect(here.attach(volume))
    client.write(0, _SAMPLE)
    here.leases.volumes[volume].epoch += 1
    here.restart_daemon()
    until(lambda: not here.liveness.attached(volume))
    with pytest.raises(Unavailable):
        client.read(0, 4096)


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
    before = len(_descriptors(pid))
    for _ in range(100):
        NbdClient(path).close()
    until(lambda: len(_descriptors(pid)) == before)


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
