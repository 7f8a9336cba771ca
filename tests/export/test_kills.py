"""Kill -9 of exporter, parent and daemon, in any order, under load: the real ones, all of them.

A process that is killed loses nothing that the system took from it, so that here every
acknowledged write must be found again, flushed or not; power losses are played on the
simulated medium.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from scrubjay.base.errors import Unavailable
from scrubjay.base.ids import VolumeId
from scrubjay.client.connection import Connection
from scrubjay.client.nbd import NbdClient
from scrubjay.client.replies import Attachment, Tenant, Volume
from scrubjay.control.liveness import Liveness
from scrubjay.export import lockfile
from scrubjay.export.launcher import Launcher
from tests.export.rig import until

pytestmark = [pytest.mark.real, pytest.mark.slow]

_ROUNDS = 6
_SECTORS = 512
_SCRUBJAY = [sys.executable, "-c", "from scrubjay.app.main import main; main()"]


class _Cloud:
    """A home with its daemon, and one volume."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.run = home / "run"
        self.environ = os.environ | {"SCRUBJAY_HOME": str(home)}
        subprocess.run([*_SCRUBJAY, "init", "--pool-size", "512MiB"], env=self.environ, check=True)
        self.serve()
        with self.api as api:
            api.send("POST", "tenants", Tenant, body={"name": "acme"})
            body = {"name": "db", "tenant": "acme", "size": "64MiB"}
            self.volume = api.send("POST", "volumes", Volume, body=body).id

    @property
    def api(self) -> Connection:
        """A connection to the daemon."""
        return Connection(self.run / "api.sock")

    def serve(self) -> None:
        """Start the daemon, and wait until it answers."""
        log = (self.home / "daemon.log").open("ab")
        with log:
            self.daemon = subprocess.Popen(
                [*_SCRUBJAY, "serve"], env=self.environ, stdout=log, stderr=log
            )

        def answers() -> bool:
            assert self.daemon.poll() is None, (self.home / "daemon.log").read_text()
            with socket.socket(socket.AF_UNIX) as probe:
                return not probe.connect_ex(str(self.run / "api.sock"))

        until(answers)

    def attach(self) -> NbdClient:
        """Attach the volume, and connect to it."""
        with self.api as api:
            attached = api.send("POST", "attachments", Attachment, body={"volume": "db"})
        return NbdClient(Path(attached.socket), timeout_s=60)

    def kill_exporter(self) -> None:
        """Kill whoever serves the volume."""
        volume = VolumeId(uuid.UUID(self.volume))
        with lockfile.watched(Liveness(self.run / "volumes").lock_path(volume)) as process:
            assert process is not None, "attached"
            process.kill()
            assert process.ends(timeout_s=30)

    def kill_parent(self) -> None:
        """Kill the parent of the exporters."""
        descriptor = os.pidfd_open(Launcher(self.home).ensure().pid)
        process = lockfile.Process(descriptor)
        process.kill()
        assert process.ends(timeout_s=30)
        os.close(descriptor)

    def kill_daemon(self) -> None:
        """Kill the daemon."""
        self.daemon.kill()
        self.daemon.wait()

    def close(self) -> None:
        """End everything in order."""
        self.daemon.terminate()
        self.daemon.wait(timeout=60)


class _Load:
    """Writes versions into sectors, one after the other, and knows which are acknowledged."""

    def __init__(self, client: NbdClient, chance: random.Random, versions: list[int]) -> None:
        self.acknowledged = versions
        self.under_way = list(versions)
        self.failure: Exception | None = None
        self._client = client
        self._chance = chance
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        """Stop writing, if the server has not ended it, and close the connection."""
        self._stop.set()
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()
        self._client.close()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._write(self._chance.randrange(_SECTORS), self._chance.randrange(1, 9))
        except (Unavailable, OSError) as error:
            self.failure = error

    def _write(self, first: int, count: int) -> None:
        sectors = range(first, min(first + count, _SECTORS))
        for each in sectors:
            self.under_way[each] += 1
        data = b"".join(_content(each, self.under_way[each]) for each in sectors)
        self._client.write(first * 4096, data, fua=self._chance.random() < 0.1)
        for each in sectors:
            self.acknowledged[each] = self.under_way[each]


def _content(sector: int, version: int) -> bytes:
    """Return what a sector holds in a version; zeros before the first."""
    if not version:
        return bytes(4096)
    return random.Random(sector << 32 | version).randbytes(64) * 64


def _check(cloud: _Cloud, load: _Load) -> list[int]:
    """Compare the volume with what was written; return the versions that are there now."""
    with cloud.attach() as client:
        found = client.read(0, _SECTORS * 4096)
    now = []
    for sector in range(_SECTORS):
        data = found[sector * 4096 : sector * 4096 + 4096]
        allowed = {load.acknowledged[sector], load.under_way[sector]}
        versions = [each for each in allowed if data == _content(sector, each)]
        assert versions, f"sector {sector}: none of the versions {allowed}"
        now.append(versions[0])
    return now


@pytest.fixture
def cloud() -> Iterator[_Cloud]:
    """A cloud in a folder whose path is short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="jay-"))
    try:
        made = _Cloud(folder)
        yield made
        made.close()
    finally:
        shutil.rmtree(folder)


def test_processes_killed_under_load_lose_no_acknowledged_write(cloud: _Cloud, seed: int) -> None:
    """I1, I4, I5: whoever is killed, each sector is its last acknowledged version or the next.

    Killing parent or daemon interrupts no client; killing the exporter needs an attach.
    """
    chance = random.Random(seed)
    versions = [0] * _SECTORS
    for turn in range(_ROUNDS):
        load = _Load(cloud.attach(), chance, versions)
        target = sum(versions) + chance.randrange(50, 2000)
        until(lambda load=load, target=target: sum(load.acknowledged) >= target)  # type: ignore[misc] # a lambda's default
        victims = chance.sample(["exporter", "parent", "daemon"], chance.randrange(1, 4))
        for victim in victims:
            match victim:
                case "exporter":
                    cloud.kill_exporter()
                case "parent":
                    cloud.kill_parent()
                case _:
                    cloud.kill_daemon()
        if "daemon" in victims:
            cloud.serve()
        load.end()
        assert (load.failure is not None) == ("exporter" in victims), (turn, load.failure)
        if "exporter" not in victims:
            cloud.kill_exporter()
        versions = _check(cloud, load)
        with cloud.api as api:
            api.delete("attachments/db")
