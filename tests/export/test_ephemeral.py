"""Ephemeral volumes with real processes and real bytes: kill -9, restarts, resets under load.

The thief has every byte of the home, the sink included. What he lacks is a key that was never
anywhere but in the memory of an exporter.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from scrubjay.base.errors import ScrubjayError
from scrubjay.base.ids import VolumeId
from scrubjay.base.units import MIB
from scrubjay.client.nbd import NbdClient
from scrubjay.client.replies import Attachment, Tenant, Volume
from scrubjay.control.liveness import Liveness
from scrubjay.export import lockfile
from tests.app.rig import Home, home, until

pytestmark = [pytest.mark.real, pytest.mark.slow]

_MARK = b"\xa5scratch"
_ROUNDS = 12


@pytest.fixture
def cloud() -> Iterator[Home]:
    """A home with an ephemeral volume, `scratch`, and one that lasts, `db`."""
    with home() as made:
        made.init()
        made.serve("--leave-attached")
        with made.client() as client:
            client.send("POST", "tenants", Tenant, body={"name": "acme"})
            for name, ephemeral in (("scratch", True), ("db", False)):
                body = {"name": name, "tenant": "acme", "size": "64MiB", "ephemeral": ephemeral}
                client.send("POST", "volumes", Volume, body=body)
        yield made


def connected(made: Home, name: str = "scratch") -> NbdClient:
    """Attach a volume, and connect."""
    return NbdClient(Path(made.attach(name).socket), timeout_s=60)


def volume_of(made: Home, name: str = "scratch") -> Volume:
    """Return how a volume is."""
    with made.client() as client:
        return client.get(f"volumes/{name}", Volume)


def kill_exporter(made: Home, name: str = "scratch") -> None:
    """Kill -9 whoever serves a volume."""
    lock = Liveness(made.path / "run" / "volumes").lock_path(
        VolumeId(uuid.UUID(volume_of(made, name).id))
    )
    with lockfile.watched(lock) as process:
        assert process is not None
        process.kill()
        assert process.ends(timeout_s=30)


def reset(made: Home) -> Volume:
    """Reset the volume."""
    with made.client() as client:
        return client.send("POST", "volumes/scratch/reset", Volume)


def zeros(client: NbdClient, size: int) -> bool:
    """Whether the front of a volume reads as zeros."""
    return not any(any(client.read(at, min(size, 16 * MIB))) for at in range(0, size, 16 * MIB))


def leased(made: Home) -> int:
    """Return how many slots somebody holds."""
    return made.pool().slots_leased


def test_ephemeral_volume_serves_like_any_other_and_says_what_it_is(cloud: Home) -> None:
    """I1: what is written is read, and it grows; list and show name it."""
    data = os.urandom(MIB)
    with connected(cloud) as client:
        client.write(0, data, fua=True)
        assert client.read(0, MIB) == data
        with cloud.client() as api:
            grown = api.send("PATCH", "volumes/scratch", Volume, body={"size": "80MiB"})
        assert (grown.ephemeral, grown.size_bytes) == (True, 80 * MIB)
        assert client.read(0, MIB) == data
    assert "ephemeral" in cloud.run("volume", "list").stdout
    assert "in memory alone" in cloud.run("volume", "show", "scratch").stdout
    cloud.run("volume", "detach", "scratch", status=2)
    assert volume_of(cloud).attached


@pytest.mark.parametrize("how", ["detached", "exporter killed", "both killed"])
def test_ephemeral_volume_that_ended_is_blank_and_gives_its_slots_back(
    cloud: Home, how: str
) -> None:
    """I3, I6: however its exporter ends, the next attachment reads zeros."""
    with connected(cloud) as client:
        client.write(0, os.urandom(20 * MIB), fua=True)
        assert leased(cloud) >= 2
    match how:
        case "detached":
            cloud.run("volume", "detach", "scratch", "--yes")
        case "exporter killed":
            kill_exporter(cloud)
        case _:
            assert cloud.daemon is not None
            cloud.daemon.kill()
            cloud.daemon.wait()
            pid = cloud.exporter(_only_lock(cloud))
            os.kill(pid, 9)
            until(lambda: not Path(f"/proc/{pid}").exists())
            cloud.serve("--leave-attached")
    if how != "exporter killed":  # which nobody looks at before the next attachment
        until(lambda: leased(cloud) == 0)
    with connected(cloud) as client:
        assert zeros(client, 64 * MIB)
        client.write(0, b"x" * 4096)
    until(lambda: leased(cloud) <= 6)


def _only_lock(made: Home) -> str:
    """Return the id of the one volume that is served."""
    (lock,) = [
        each
        for each in (made.path / "run" / "volumes").glob("*.lock")
        if each.stat().st_size and Path(f"/proc/{made.exporter(each.stem)}").exists()
    ]
    return lock.stem


def test_daemon_killed_interrupts_no_client_of_an_ephemeral_volume(cloud: Home) -> None:
    """The exporter goes on, with its keys, and finds the next daemon."""
    first, second = os.urandom(MIB), os.urandom(30 * MIB)
    with connected(cloud) as client:
        client.write(0, first)
        assert cloud.daemon is not None
        cloud.daemon.kill()
        cloud.daemon.wait()
        assert client.read(0, MIB) == first
        cloud.serve("--leave-attached")
        client.write(MIB * 10, second, fua=True)  # needs segments from the new daemon
        assert client.read(0, MIB) == first
        assert client.read(MIB * 10, 30 * MIB) == second


def test_reset_of_a_detached_or_lasting_volume(cloud: Home) -> None:
    """Detached it is blank anyway; one that keeps its data is refused."""
    assert not reset(cloud).attached
    refused = cloud.run("volume", "reset", "db", "--yes", status=5)
    assert "expected an ephemeral volume" in refused.stderr
    assert "zeros" in cloud.run("volume", "reset", "scratch", "--yes").stdout


def test_reset_under_load_gives_zeros_to_both_clients_and_never_other_bytes(cloud: Home) -> None:
    """I1: old, zeros or new while it happens; from its answer on nothing from before it."""
    served = cloud.attach("scratch")
    kept = cloud.attach("db")
    with NbdClient(Path(kept.socket)) as client:
        client.write(0, b"\x77" * MIB, fua=True)
    loads = [Load(served, base) for base in (0, 24 * MIB)]
    for turn in range(_ROUNDS):
        for load in loads:
            load.begin(turn)
        until(lambda: all(load.written > 40 for load in loads))
        for load in loads:
            load.end()
        reset(cloud)
        for load in loads:
            load.check_blank()
        for load in loads:
            load.begin(turn + 1000, checks=True)
        until(lambda: all(load.written > 20 for load in loads))
        reset(cloud)  # in the middle of it all
        for load in loads:
            load.end()
            assert not load.wrong, load.wrong[:3]
            load.fresh = {}
    for load in loads:
        load.client.close()
    with NbdClient(Path(kept.socket)) as client:
        assert client.read(0, MIB) == b"\x77" * MIB
    kill_exporter(cloud, "db")  # which the resets did not touch
    cloud.run("volume", "detach", "scratch", "--yes")
    until(lambda: leased(cloud) <= 6)
    with connected(cloud, "db") as client:
        assert client.read(0, MIB) == b"\x77" * MIB


class Load:
    """A client that writes and reads its own half, and knows each byte that may be there."""

    def __init__(self, served: Attachment, base: int) -> None:
        self.client = NbdClient(Path(served.socket), timeout_s=60)
        self.base = base
        self.written = 0
        self.wrong: list[str] = []
        self.fresh: dict[int, set[bytes]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, turn: int, *, checks: bool = False) -> None:
        """Write blocks of 64 KiB, until told to end; and read others, if asked to."""
        self._stop.clear()
        self.written = 0
        self._thread = threading.Thread(target=self._run, args=(turn, checks))
        self._thread.start()

    def end(self) -> None:
        """Stop."""
        self._stop.set()
        assert self._thread is not None
        self._thread.join(60)
        assert not self._thread.is_alive()

    def check_blank(self) -> None:
        """Read all of it: zeros."""
        assert not any(self.client.read(self.base, 16 * MIB))
        self.fresh = {}

    def _run(self, turn: int, checks: bool) -> None:
        number = 0
        while not self._stop.is_set():
            block = number * 7 % 256
            at = self.base + block * 65536
            data = (_MARK + turn.to_bytes(4) + number.to_bytes(4)) * 4096
            self.fresh.setdefault(block, {bytes(65536)}).add(data)
            try:
                self.client.write(at, data)
                if checks:
                    other = number * 3 % 256
                    found = self.client.read(self.base + other * 65536, 65536)
                    if found not in self.fresh.get(other, {bytes(65536)}):
                        self.wrong.append(f"block {other} of turn {turn}: {found[:16]!r}")
            except ScrubjayError as error:
                self.wrong.append(str(error))
                return
            number += 1
            self.written = number


def test_thief_with_every_byte_of_the_home_opens_nothing_ephemeral(cloud: Home) -> None:
    """I2, I3: neither plaintext nor key of it is anywhere; the tree knows none of its segments.

    He can read the volume that lasts: with the sink, its plaintext comes out of his copy.
    """
    secret, lasting = os.urandom(16) * 4096, os.urandom(16) * 4096
    with connected(cloud) as client, connected(cloud, "db") as other:
        client.write(0, secret, fua=True)
        other.write(0, lasting, fua=True)
        assert client.read(0, len(secret)) == secret
    kill_exporter(cloud)
    kill_exporter(cloud, "db")
    assert cloud.daemon is not None
    cloud.daemon.kill()
    cloud.daemon.wait()
    everything = b"".join(each.read_bytes() for each in cloud.path.rglob("*") if each.is_file())
    assert secret[:16] not in everything
    assert lasting[:16] not in everything
    cloud.serve("--leave-attached")
    with connected(cloud, "db") as other:
        assert other.read(0, len(lasting)) == lasting
    with connected(cloud) as client:
        assert zeros(client, len(secret))
