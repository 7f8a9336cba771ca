"""The daemon among its processes: ended, killed, started again; what is served goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from scrubjay.client.replies import Operation, Volume
from tests.app.rig import Home, read, until, write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MARK = b"a tenant's plaintext, 32 bytes.."
DATA = MARK * (1 << 15)


def test_daemon_killed_interrupts_nobody_and_its_successor_takes_over(served: Home) -> None:
    """Restarting the daemon is nothing that a volume's user notices."""
    volume = served.volume("db0")
    at = served.attach("db0")
    exporter = served.exporter(volume.id)
    write(at, DATA)
    served.end(signal.SIGKILL)
    assert read(at, len(DATA)) == DATA
    write(at, DATA, offset=1 << 20)
    served.serve()
    assert served.attached("db0")
    assert served.exporter(volume.id) == exporter
    served.run("volume", "resize", "db0", "--size", "80MiB")
    until(lambda: read(at, 4096, offset=79 << 20) == bytes(4096))
    served.run("volume", "detach", "db0")
    assert not served.attached("db0")
    assert read(served.attach("db0"), 2 << 20) == DATA + DATA


def test_daemon_told_to_end_detaches_in_order_and_leaves_no_process(served: Home) -> None:
    """A foreground daemon ends its exporters cleanly, also while they are written to."""
    for name in ("a", "b", "c"):
        served.volume(name)
        write(served.attach(name), DATA)
    assert served.end(signal.SIGTERM) == 0
    until(lambda: not served.processes())
    assert '"volume.detach_forced"' not in served.log.read_text()
    served.serve()
    assert not served.attached("a")
    assert read(served.attach("b"), len(DATA)) == DATA


def test_daemon_told_to_end_while_it_starts_ends_in_order(home: Home) -> None:
    """At whatever moment it is told: no process and no socket is left."""
    for _ in range(2):
        home.begin("serve")
        until((home.path / "run" / "parent.sock").exists)
        assert home.end(signal.SIGTERM) == 0
        until(lambda: not home.processes())
        assert not list((home.path / "run").glob("*.sock"))


def test_daemon_told_to_leave_them_leaves_volumes_attached(home: Home) -> None:
    """A service manager restarts it, and nobody is interrupted."""
    home.serve("--leave-attached")
    home.volume("db0")
    at = home.attach("db0")
    write(at, DATA)
    assert home.end(signal.SIGTERM) == 0
    assert read(at, len(DATA)) == DATA
    home.serve()
    assert home.attached("db0")


def test_exporter_killed_leaves_a_volume_that_can_be_attached_again(served: Home) -> None:
    """What a flush covered is there, and the daemon knows that nobody serves it (I4)."""
    volume = served.volume("db0")
    write(served.attach("db0"), DATA)
    os.kill(served.exporter(volume.id), signal.SIGKILL)
    until(lambda: not served.attached("db0"))
    at = served.attach("db0")
    assert at.epoch == 2
    assert read(at, len(DATA)) == DATA


def test_parent_killed_is_replaced_and_what_it_forked_goes_on(served: Home) -> None:
    """The parent is nobody's single point of failure."""
    served.volume("a")
    served.volume("b")
    at = served.attach("a")
    write(at, DATA)
    parent = int(served.log.read_text().partition('"parent": ')[2].split(",")[0].rstrip("}"))
    os.kill(parent, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{parent}").exists())
    write(served.attach("b"), DATA)
    assert read(at, len(DATA)) == DATA


def test_destruction_of_an_attached_volume_ends_its_exporter_and_its_key(served: Home) -> None:
    """Withheld at once, forgotten within seconds; the pool never held the plaintext (I2, I3)."""
    volume = served.volume("db0")
    at = served.attach("db0")
    write(at, DATA)
    exporter = served.exporter(volume.id)
    served.run("volume", "destroy", "db0", "--yes", "--wait")
    assert not Path(f"/proc/{exporter}").exists()
    assert not Path(at.socket).exists()
    assert served.pool().sink.epoch == 2
    served.run("pool", "scan", "--hex", MARK.hex())
    served.run("volume", "show", "db0", status=4)
    served.end(signal.SIGTERM)
    assert MARK not in (served.path / "pool").read_bytes()


def test_space_of_one_tenant_reads_as_zeros_to_the_next(served: Home) -> None:
    """Over the same slots nobody reads what he did not write (I1)."""
    served.volume("a", tenant="acme")
    first = served.attach("a")
    for offset in range(0, 64 << 20, len(DATA)):
        write(first, DATA, offset=offset)
    served.run("volume", "destroy", "a", "--yes", "--wait")
    served.volume("b", tenant="zeta")
    second = served.attach("b")
    write(second, b"x" * 4096)
    assert read(second, 64 << 20) == b"x" * 4096 + bytes((64 << 20) - 4096)


def test_destruction_cut_by_a_kill_is_finished_by_the_next_daemon(served: Home) -> None:
    """Whenever the daemon dies, what was decided is carried out (I3, I6)."""
    for name in ("a", "b"):
        served.volume(name)
        write(served.attach(name), DATA)
        with served.client() as client:
            client.send("DELETE", f"volumes/{name}", Operation)
        served.end(signal.SIGKILL)
        served.serve()
        until(lambda: served.pool().forgettings == 0)
        with served.client() as client:
            assert list(client.all("volumes", Volume)) == []
            assert {each.state for each in client.all("operations", Operation)} == {"done"}
    assert len(served.processes()) == 2


def test_processes_dump_no_core_and_show_no_secret(served: Home) -> None:
    """No key and no plaintext in argv, the environment or a core dump (I2)."""
    volume = served.volume("db0")
    write(served.attach("db0"), DATA)
    for pid in [*served.processes(), served.exporter(volume.id)]:
        folder = Path(f"/proc/{pid}")
        limits = (folder / "limits").read_text()
        core = next(line for line in limits.splitlines() if line.startswith("Max core file"))
        assert core.split()[4:6] == ["0", "0"], pid
        words = (folder / "cmdline").read_bytes().split(b"\0")
        assert not [word for word in words if len(word) in (32, 64)], pid
    sink = (served.path / "sink").read_bytes()
    logged = served.log.read_bytes() + (served.path / "run" / "exporters.log").read_bytes()
    assert MARK not in logged
    assert not any(sink[at : at + 32] in logged for at in range(8192, 12288, 32))
