"""Real exporters of a real parent: what they keep, whom they serve, and how they end."""

from __future__ import annotations

import grp
import os
import signal
import stat
import threading
import time
from pathlib import Path

import pytest

from scrubjay.base.errors import Conflict, Corrupt, Invalid, NotFound, Unavailable
from scrubjay.base.ids import Entry
from scrubjay.base.units import MIB
from scrubjay.client.nbd import NbdClient
from scrubjay.control.attachments import Start
from scrubjay.engine.lessor import Checkpoint
from scrubjay.export import lockfile
from tests.export.rig import Connect, Home, descriptors, ended, until

pytestmark = pytest.mark.real()

_SAMPLE = bytes(range(256)) * 64


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


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_exporter_socket_of_a_group_can_be_reached_by_it_alone(here: Home) -> None:
    """A hypervisor's user in the group connects; one outside does not, nor lists a folder."""
    group = grp.getgrgid(65534)
    volume = here.volume()
    start = here.start(volume)
    here.exporters.start(Start(volume, start.epoch, start.socket, start.lock, group.gr_name))
    assert _as_user(start.socket, gid=65534) == "read"
    assert _as_user(start.socket, gid=65533) == "denied"


def _as_user(path: Path, *, gid: int) -> str:
    """Try to read a volume, and to list its folder, as a user with one group."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(65532, 65532, 65532)
            with NbdClient(path) as client:
                client.read(0, 1)
            os.write(writer, b"read")
            list(path.parent.iterdir())
            os.write(writer, b" and listed")
        except Unavailable:
            os.write(writer, b"denied")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader, "r") as said:
        return said.read()


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
        kinds = descriptors(here.pid(volume))
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
    until(lambda: ended(pid))
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
    until(lambda: ended(pid))
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
    until(lambda: ended(pid))
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
    until(lambda: ended(pid))
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


def test_reset_of_a_volume_that_lasts_is_refused_and_changes_nothing(here: Home) -> None:
    """I8: dropping a copy of a key forgets nothing that the key tree opens."""
    volume = here.volume()
    with NbdClient(here.attach(volume)) as client:
        client.write(0, _SAMPLE)
        with pytest.raises(Unavailable, match="ephemeral"):
            here.exporters.reset(volume)
        assert client.read(0, len(_SAMPLE)) == _SAMPLE
