"""A throw-away home: used through its command and its API, as by its owner; and its violent end."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from demo.disk import socket_of
from demo.programs import Failed, run
from demo.report import Unproven, prove
from scrubjay.base.errors import Denied, Unavailable
from scrubjay.client.connection import Connection
from scrubjay.client.replies import (
    Attachment,
    Certificate,
    CertificateShown,
    EvidenceLog,
    Operation,
    Policy,
    Pool,
    Tenant,
    Volume,
)

__all__ = ["Home"]

WAIT_LIMIT_S = 30
POLL_S = 0.02
SCRUBJAY = Path(sys.executable).with_name("scrubjay")
CREDENTIALS = struct.Struct("iII")
"""Linux' `struct ucred`: pid, uid, gid."""
LOG_SHOWN = 1500

_T = TypeVar("_T")


class _End(msgspec.Struct, frozen=True):
    certificate: str


class Home:
    """One home, and the daemon that serves it."""

    def __init__(self, path: Path, *, log: Path) -> None:
        self.path = path
        self.pool = path / "pool"
        self.catalog = path / "catalog.db"
        self.log = log
        self._api = Connection(path / "run" / "api.sock")
        self._daemon: subprocess.Popen[bytes] | None = None

    # --- what its owner does ----------------------------------------------------------

    def init(self, *, pool_bytes: int) -> None:
        """Make it."""
        self._run("init", "--pool-size", str(pool_bytes))

    def hurry(self) -> None:
        """Let scrubbing take what the disk gives: whoever watches does not want to wait."""
        policy = f"pools/{self.status().id}/policy"
        rates = {"scrub_bandwidth": "1GiB", "scrub_bandwidth_busy": "1GiB"}
        self._api.send("PATCH", policy, Policy, body=rates)

    def create_tenant(self, name: str) -> None:
        """Make a tenant."""
        self._api.send("POST", "tenants", Tenant, body={"name": name})

    def create_volume(self, name: str, *, tenant: str, size_bytes: int) -> str:
        """Make a volume, and return its id."""
        wanted = {"name": name, "tenant": tenant, "size": size_bytes}
        return self._api.send("POST", "volumes", Volume, body=wanted).id

    def attach(self, name: str) -> str:
        """Serve a volume, and return its URI."""
        return self._api.send("POST", "attachments", Attachment, body={"volume": name}).uri

    def detach(self, name: str) -> None:
        """End serving a volume."""
        self._api.delete(f"attachments/{name}")

    def destroy(self, name: str) -> str:
        """Destroy a volume; when its key is forgotten, return its certificate's id."""
        operation = self._api.send("DELETE", f"volumes/{name}", Operation)

        def ended() -> Operation | None:
            now = self._api.get(f"operations/{operation.id}", Operation)
            return None if now.state == "running" else now

        done = _wait_for(ended)
        prove(done.state == "done", f"destroying {name} {done.state}: {done.problem}")
        return msgspec.json.decode(done.result, type=_End).certificate

    def wait_until_scrubbed(self, certificate: str) -> None:
        """Return when a certificate says that the slots were overwritten too."""

        def ended() -> bool:
            return self._api.get(f"certificates/{certificate}", Certificate).stage == "scrubbed"

        _wait_for(ended)

    def hand_over(self, certificate: str, folder: Path, *, volume: str) -> None:
        """Write what an auditor gets: the certificate, and apart from it the log's key.

        With the blinding value of his volume he can see that the certificate is about it.
        """
        shown = self._api.get(f"certificates/{certificate}", CertificateShown)
        blindings = {each.id: each.blinding for each in shown.volumes}
        prove(volume in blindings, f"the certificate is not about volume {volume}")
        (folder / "volume").write_text(f"{volume}:{blindings[volume]}", encoding="utf-8")
        (folder / "c.json").write_bytes(self._api.read(f"certificates/{certificate}/bundle"))
        (folder / "log.pub").write_text(self._api.get("log", EvidenceLog).key, encoding="utf-8")

    def tenants(self) -> list[str]:
        """Return the tenants' names."""
        return [each.name for each in self._api.all("tenants", Tenant)]

    def volumes(self) -> list[tuple[str, str]]:
        """Return (name, tenant) of every volume."""
        return [(each.name, each.tenant) for each in self._api.all("volumes", Volume)]

    def status(self) -> Pool:
        """Return how the pool is."""
        return next(self._api.all("pools", Pool))

    def rebuild(self) -> None:
        """Make the catalog anew, from pool and sink."""
        self._run("home", "rebuild")

    def refuse_rebuild(self) -> None:
        """Try to make the catalog anew; Unproven unless the sink does not open the pool."""
        for path in self.path.glob(f"{self.catalog.name}*"):
            path.unlink()
        try:
            self.rebuild()
        except Failed as error:
            if error.status != Denied.exit_status:
                raise
        else:
            raise Unproven(f"{self.pool} opens, expected the sink to have forgotten its key")

    # --- the daemon's life ------------------------------------------------------------

    def serve(self) -> None:
        """Start the daemon, and return when it answers."""
        with self.log.open("ab") as log:
            self._daemon = subprocess.Popen(
                [SCRUBJAY, "serve"],
                env=self._env(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends it in order
            )
        daemon = self._daemon
        _wait_for(lambda: self._answers() or daemon.poll() is not None)
        prove(daemon.poll() is None, f"scrubjay serve ended at once:\n{self.log_tail()}")

    def stop(self) -> None:
        """End the daemon in order, its exporters with it."""
        if self._daemon is None:
            return
        self._daemon.terminate()
        try:
            status = self._daemon.wait(WAIT_LIMIT_S)
        except subprocess.TimeoutExpired as error:
            raise Unproven("scrubjay serve did not end when asked to") from error
        self._daemon = None
        if status:
            raise Unproven(f"scrubjay serve ended with status {status}:\n{self.log_tail()}")

    def kill(self, uri: str) -> int:
        """Kill the daemon, the volume's exporter and the exporters' parent; return how many."""
        daemon = self._daemon
        if daemon is None:
            raise Unproven("scrubjay serve does not run")
        exporter = _listener(socket_of(uri))
        doomed = {daemon.pid, exporter, *self._family()}
        for pid in doomed:
            os.kill(pid, signal.SIGKILL)
        daemon.wait()
        self._daemon = None
        _wait_for(lambda: not any(map(_lives, doomed)))
        return len(doomed)

    def clear(self) -> None:
        """End whatever still runs here, whatever state it is in."""
        if self._daemon is not None:
            self._daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._daemon.wait(WAIT_LIMIT_S)
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None
        for pid in self._family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def log_tail(self) -> str:
        """Return the last of what the daemon logged."""
        try:
            return self.log.read_text(errors="replace")[-LOG_SHOWN:]
        except FileNotFoundError:
            return ""

    # --- private ------------------------------------------------------------------

    def _env(self) -> dict[str, str]:
        return os.environ | {"SCRUBJAY_HOME": str(self.path)}

    def _run(self, *words: str) -> None:
        run(SCRUBJAY, *words, env=self._env())

    def _answers(self) -> bool:
        try:
            self.status()
        except Unavailable:
            return False
        return True

    def _family(self) -> set[int]:
        """Return the exporters and their parent: nobody else's command line has this path."""
        mark = os.fsencode(self.path)
        found = set()
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and int(folder.name) != os.getpid():
                with contextlib.suppress(OSError):
                    words = (folder / "cmdline").read_bytes().split(b"\0")
                    if mark in words and b"scrubjay.export.parent" in words:
                        found.add(int(folder.name))
        return found


def _wait_for(look: Callable[[], _T | None]) -> _T:
    """Look again and again until there is something to see, and return that."""
    until = time.monotonic() + WAIT_LIMIT_S
    while not (seen := look()):
        prove(time.monotonic() < until, f"nothing happened for {WAIT_LIMIT_S} s")
        time.sleep(POLL_S)
    return seen


def _listener(path: str) -> int:
    """Return the process that listens on a unix socket (unix(7), SO_PEERCRED)."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(path)
        raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    pid: int = CREDENTIALS.unpack(raw)[0]
    return pid


def _lives(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in "ZX"
