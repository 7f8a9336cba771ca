"""Scrubjay as a peer: a home of its own, served by the product's daemon.

The one place that knows the product's interface: the command line for setting up, the
typed client of the REST API where time is taken, since starting an interpreter for each
command would hide what the daemon does.
"""

import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from bench import fio
from bench.peers import evict, greet, run_tool, stop, wait_for
from bench.rows import FILL, SCRUBJAY
from scrubjay.base.errors import Unavailable
from scrubjay.base.units import MIB
from scrubjay.client.connection import Connection
from scrubjay.client.replies import Attachment, Operation, Page, Pool, Scrubbing, Volume

__all__ = ["Home", "Scrubjay", "server_pid"]

TENANT = "bench"
POOL_PER_VOLUME = 4
"""Room enough that cleaning is not what the rows side by side measure; a study does."""
SCRUB_LOOK_S = 0.5
SCRUB_STILL_S = 40
"""Beside other users of the device 128 MiB, one commit, take 16 s."""
CREDENTIALS = struct.Struct("iII")
"""Linux' `struct ucred`: pid, uid, gid."""


class Home:
    """A throw-away home and its daemon."""

    def __init__(self, folder: Path, *, pool_bytes: int) -> None:
        self._folder = folder
        self._pool_bytes = pool_bytes
        self._server: subprocess.Popen[bytes] | None = None
        self._api = Connection(folder / "run" / "api.sock")

    def start(self) -> None:
        """Make the home, serve it, and make the tenant that owns all volumes."""
        env = os.environ | {"SCRUBJAY_HOME": str(self._folder)}
        command = Path(sys.executable).with_name("scrubjay")
        run_tool(command, "init", "--pool-size", str(self._pool_bytes), env=env)
        with self._folder.with_suffix(".log").open("wb") as log:
            self._server = subprocess.Popen([command, "serve"], env=env, stdout=log, stderr=log)
        wait_for(self._answers, of=self._server)
        run_tool(command, "tenant", "create", TENANT, env=env)

    def stop(self) -> None:
        """End the daemon and its exporters, and delete the home."""
        stop(self._server)
        shutil.rmtree(self._folder, ignore_errors=True)

    def create(self, name: str, *, size_bytes: int) -> None:
        """Make a volume."""
        wanted = {"name": name, "tenant": TENANT, "size": size_bytes}
        self._api.send("POST", "volumes", Volume, body=wanted)

    def attach(self, name: str) -> str:
        """Return the NBD URI of a volume that answers there."""
        return self._api.send("POST", "attachments", Attachment, body={"volume": name}).uri

    def detach(self, name: str) -> None:
        """Return once the volume is no longer served."""
        self._api.delete(f"attachments/{name}")

    def destroy(self, name: str) -> None:
        """Destroy a volume; return when its slots are free and wait to be scrubbed."""
        doomed = self._api.get(f"volumes/{name}", Volume)
        self._api.send("DELETE", f"volumes/{doomed.id}", Operation)
        assert self._server is not None, "the home is served"
        wait_for(lambda: self.scrubbing().waiting_slots > 0, of=self._server)

    def scrubbing(self) -> Scrubbing:
        """Return how scrubbing stands."""
        (pool,) = self._api.get("pools", Page[Pool]).items
        return pool.scrubbing

    def wait_for_scrubbing(self) -> None:
        """Return when nothing waits, or when all that waits is left to those who freed it."""
        still_s = 0.0
        scrubbing = self.scrubbing()
        while scrubbing.waiting_slots and still_s < SCRUB_STILL_S:
            time.sleep(SCRUB_LOOK_S)
            before, scrubbing = scrubbing, self.scrubbing()
            moves = before.scrubbed_slots != scrubbing.scrubbed_slots
            still_s = 0.0 if moves else still_s + SCRUB_LOOK_S

    def age(self) -> None:
        """Write nearly every slot of the pool once, and destroy the volume that did it.

        A pool is new once and used for years: a file system takes longer over a block's
        first write. The peers' working sets are written beforehand for the same reason.
        """
        size_bytes = self._pool_bytes * 7 // 8 // MIB * MIB
        self.create("past", size_bytes=size_bytes)
        job = replace(FILL, span_bytes=size_bytes, total_bytes=size_bytes)
        fio.run(job, [self.attach("past")], seed=0)
        self.detach("past")
        self.destroy("past")
        self.wait_for_scrubbing()

    def pids(self) -> list[int]:
        """Return the daemon."""
        return [self._server.pid] if self._server else []

    def drop_caches(self) -> None:
        """Put everything in the home out of the page cache."""
        evict(path for path in self._folder.rglob("*") if path.is_file())

    def _answers(self) -> bool:
        try:
            self._api.get("pools", Page[Pool])
        except Unavailable:
            return False
        return True


class Scrubjay:
    """The peer: one volume in a home of its own."""

    name = SCRUBJAY

    def __init__(self, folder: Path, *, size_bytes: int) -> None:
        self._home = Home(folder / "scrubjay", pool_bytes=POOL_PER_VOLUME * size_bytes)
        self._size_bytes = size_bytes
        self._pids: list[int] = []

    def start(self) -> str:
        """Make the home, serve it, and attach its volume."""
        self._home.start()
        self._home.age()
        self._home.create("disk", size_bytes=self._size_bytes)
        uri = self._home.attach("disk")
        self._pids = [*self._home.pids(), server_pid(uri)]
        return uri

    def pids(self) -> list[int]:
        """Return the daemon and the exporter."""
        return self._pids

    def drop_caches(self) -> None:
        """Put the home out of the page cache."""
        self._home.drop_caches()

    def stop(self) -> None:
        """End the daemon and delete the home."""
        self._home.stop()


def server_pid(uri: str) -> int:
    """Return the process that listens on the unix socket of an NBD URI (unix(7), SO_PEERCRED)."""
    path = parse_qs(urlsplit(uri).query)["socket"][0]
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(path)
        raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        greet(probe)
    pid: int = CREDENTIALS.unpack(raw)[0]
    return pid
