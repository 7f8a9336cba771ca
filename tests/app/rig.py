"""A real home with real processes: `scrubjay` as its owner starts and kills it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.disk import Disk
from scrubjay.client.connection import Connection
from scrubjay.client.places import api_socket
from scrubjay.client.replies import Attachment, Pool, Tenant, Volume

POOL_SIZE = "384MiB"
PATIENCE_S = 60


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition of other processes; fail when it does not come."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("waited in vain")
        time.sleep(0.01)


class Home:
    """A home in a folder with a short path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path.with_name("serve.log")
        self.daemon: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run one command to its end; its status must be the one expected."""
        done = subprocess.run(
            [sys.executable, "-m", "scrubjay.app.main", *arguments],
            env=self.environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == status, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    def init(self) -> None:
        """Make it."""
        self.run("init", "--pool-size", POOL_SIZE)

    def copy(self, template: Home) -> None:
        """Make it as another was made, which is quicker."""
        subprocess.run(
            ["cp", "--archive", "--sparse=always", str(template.path), str(self.path)], check=True
        )

    def begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the daemon."""
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                [sys.executable, "-m", "scrubjay.app.main", *arguments],
                env=self.environ(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.daemon

    def serve(self, *arguments: str) -> None:
        """Start the daemon, and return when it answers."""
        daemon = self.begin("serve", *arguments)

        def answers() -> bool:
            assert daemon.poll() is None, self.log.read_text()
            try:
                with self.client() as client:
                    return bool(client.get("pools", object))
            except Exception:  # noqa: BLE001 - whatever it is, it does not answer yet
                return False

        until(answers)

    def end(self, how: signal.Signals) -> int:
        """End the daemon by a signal; return its status."""
        assert self.daemon is not None
        self.daemon.send_signal(how)
        status = self.daemon.wait(PATIENCE_S)
        self.daemon = None
        return status

    def client(self) -> Connection:
        """Return a client of the daemon."""
        return Connection(api_socket(self.path))

    def volume(self, name: str, *, tenant: str = "acme") -> Volume:
        """Make a volume of 64 MiB, and its tenant if need be."""
        with self.client() as client:
            if tenant not in [each.name for each in client.all("tenants", Tenant)]:
                client.send("POST", "tenants", Tenant, body={"name": tenant})
            body = {"name": name, "tenant": tenant, "size": "64MiB"}
            return client.send("POST", "volumes", Volume, body=body)

    def attach(self, name: str) -> Attachment:
        """Attach a volume."""
        with self.client() as client:
            return client.send("POST", "attachments", Attachment, body={"volume": name})

    def attached(self, name: str) -> bool:
        """Whether the daemon says that a volume is attached."""
        with self.client() as client:
            return client.get(f"volumes/{name}", Volume).attached

    def pool(self) -> Pool:
        """Return the pool's state."""
        with self.client() as client:
            return next(client.all("pools", Pool))

    def exporter(self, volume: str) -> int:
        """Return the process that serves a volume, as its lock's file says."""
        text = (self.path / "run" / "volumes" / f"{volume}.lock").read_text()
        return int(json.loads(text)["pid"])

    def processes(self) -> list[int]:
        """Return every living process of this home: daemon, parent, exporters."""
        found = [] if self.daemon is None else [self.daemon.pid]
        for folder in Path("/proc").iterdir():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if b"scrubjay.export.parent" in words and os.fsencode(self.path) in words:
                found += [int(folder.name)] if state != "Z" else []
        return found

    def environ(self) -> dict[str, str]:
        """Return the environment of its commands."""
        return {**os.environ, "SCRUBJAY_HOME": str(self.path), "PYTHONUNBUFFERED": "1"}


@contextmanager
def home() -> Iterator[Home]:
    """Yield a place for a home; whatever still runs there is killed at the end."""
    with tempfile.TemporaryDirectory(prefix="sj-") as folder:
        made = Home(Path(folder) / "home")
        try:
            yield made
        finally:
            if made.daemon is not None:
                made.end(signal.SIGKILL)
            for pid in made.processes():
                os.kill(pid, signal.SIGKILL)
            until(lambda: not made.processes())


def write(attachment: Attachment, data: bytes, *, offset: int = 0) -> None:
    """Write and flush through NBD."""
    with Disk(attachment.uri) as disk:
        disk.write(offset, data)
        disk.flush()


def read(attachment: Attachment, size_bytes: int, *, offset: int = 0) -> bytes:
    """Read through NBD."""
    out = bytearray()
    with Disk(attachment.uri) as disk:
        disk.read(lambda _at, piece: out.extend(piece), start=offset, end=offset + size_bytes)
    return bytes(out)
