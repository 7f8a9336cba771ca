"""The storage that an audit looks at: a daemon, through its API and NBD like every client."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import msgspec

from scrubjay.audit.storage import Scan
from scrubjay.base.errors import NotFound, ScrubjayError
from scrubjay.client.connection import Connection, error_of
from scrubjay.client.nbd import NbdClient
from scrubjay.client.replies import Attachment, Operation, Pool, Tenant, Volume

__all__ = ["DaemonStorage"]

_POLL_FIRST_S, _POLL_MAX_S = 0.005, 0.5


class _Found(msgspec.Struct, frozen=True):
    bytes_scanned: int
    matches: int
    offsets: tuple[int, ...]


class _Routes(msgspec.Struct, frozen=True):
    """Of OpenAPI: which methods each path takes."""

    paths: dict[str, dict[str, msgspec.Raw]]


class DaemonStorage:
    """`Storage` over one connection; `new_key` draws an Idempotency-Key for each POST.

    What it made is known by the id that the daemon gave: it touches nothing else.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        new_key: Callable[[], str],
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._daemon = connection
        self._new_key = new_key
        self._wait = wait
        self._ids: dict[str, str] = {}

    def make_tenant(self, name: str) -> None:
        """Make a tenant."""
        self._daemon.send("POST", "tenants", Tenant, body={"name": name}, key=self._new_key())

    def make_volume(self, name: str, *, tenant: str, size_bytes: int) -> None:
        """Make a volume."""
        body = {"name": name, "tenant": tenant, "size": size_bytes}
        made = self._daemon.send("POST", "volumes", Volume, body=body, key=self._new_key())
        self._ids[name] = made.id

    def attach(self, name: str) -> NbdClient:
        """Attach a volume, and connect to it."""
        body = {"volume": self._id(name)}
        served = self._daemon.send(
            "POST", "attachments", Attachment, body=body, key=self._new_key()
        )
        return NbdClient(Path(served.socket), served.name)

    def detach(self, name: str) -> None:
        """End serving a volume."""
        self._daemon.delete(f"attachments/{self._id(name)}")

    def grow(self, name: str, *, size_bytes: int) -> None:
        """Let a volume grow."""
        body = {"size": size_bytes}
        self._daemon.send("PATCH", f"volumes/{self._id(name)}", Volume, body=body)

    def destroy(self, name: str) -> None:
        """Destroy a volume and wait until its key is forgotten; fine if it is not there.

        Also one of which the daemon's answer never came.
        """
        try:
            operation = self._daemon.send(
                "DELETE", f"volumes/{self._ids.get(name) or quote(name, safe='')}", Operation
            )
        except NotFound:
            return
        self._ended(operation)
        self._ids.pop(name, None)

    def scan(self, mark: bytes) -> Scan:
        """Search the media of every pool."""
        scanned, matches = 0, 0
        offsets: tuple[int, ...] = ()
        for pool in self._daemon.all("pools", Pool):
            asked = self._daemon.send(
                "POST",
                f"pools/{pool.id}/scans",
                Operation,
                body={"hex": mark.hex()},
                key=self._new_key(),
            )
            found = msgspec.json.decode(self._ended(asked).result, type=_Found)
            scanned += found.bytes_scanned
            matches += found.matches
            offsets += found.offsets
        return Scan(scanned, matches, offsets)

    def close_tenant(self, name: str) -> bool:
        """Close a tenant, where this daemon's API has a way to."""
        path = quote(name, safe="")
        routes = self._daemon.get("openapi.json", _Routes).paths
        if "delete" not in routes.get("/v1/tenants/{tenant}", {}):
            return False
        try:
            self._ended(self._daemon.send("DELETE", f"tenants/{path}", Operation))
        except NotFound:
            return True
        return True

    def _id(self, name: str) -> str:
        if name not in self._ids:
            raise NotFound(f"volume {name}: not made by this audit")
        return self._ids[name]

    def _ended(self, operation: Operation) -> Operation:
        """Wait for an operation; raise what made it fail."""
        pause_s = _POLL_FIRST_S
        while operation.state == "running":
            self._wait(pause_s)
            pause_s = min(pause_s * 1.5, _POLL_MAX_S)
            operation = self._daemon.get(f"operations/{operation.id}", Operation)
        if operation.problem is not None:
            failure: ScrubjayError = error_of(operation.problem)
            raise failure
        return operation
