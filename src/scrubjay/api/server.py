"""HTTP on the daemon's unix socket, for its owner alone.

The socket's mode keeps others away; the peer's credentials (SO_PEERCRED, unix(7)) are
checked all the same, because a mode can be changed by mistake.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import threading
from pathlib import Path

import structlog
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from scrubjay.api.problems import answer
from scrubjay.base.errors import Denied, Invalid, Unavailable

__all__ = ["Server", "listen"]

_HEADER_BYTES_MAX = 16 * 1024
_CONNECTIONS_MAX = 128
_BACKLOG = 64
_START_TIMEOUT_S = 30.0
_PEER = struct.Struct("3i")  # pid, uid, gid
_ROOT = 0
_log = structlog.get_logger(__name__)


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at `path`, mode 0600, in place of what a dead daemon left.

    Whoever calls holds the home's lock, so nobody else listens there.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if "too long" in str(error):
            raise Invalid(
                f"socket {path}: path too long for a unix socket", hint="use a shorter home"
            ) from error
        raise Unavailable(f"socket {path}: {error.strerror or error}") from error
    return listener


class Server:
    """Serves an application on a socket, in a thread of its own."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            http=_OwnersProtocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS_MAX,
            h11_max_incomplete_event_size=_HEADER_BYTES_MAX,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=5,
        )
        self._server = uvicorn.Server(config)
        self._listener = listener
        self._thread = threading.Thread(target=self._run, name="api")

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Answer what is under way, and end."""
        self._server.should_exit = True
        self._thread.join(_START_TIMEOUT_S)
        self._listener.close()

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._server.serve(sockets=[self._listener]))


class _OwnersProtocol(H11Protocol):
    """HTTP/1.1 for the owner of the daemon; 403 for everybody else."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn narrows it too
        """Look who connects before anything is read."""
        super().connection_made(transport)
        peer = transport.get_extra_info("socket")
        uid = peer_uid(peer)
        if uid not in (_ROOT, os.geteuid()):
            _log.warning("api.stranger_refused", uid=uid)
            self.app = _refuse


def peer_uid(peer: socket.socket) -> int:
    """Return the user at the other end of a unix socket."""
    _, uid, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return int(uid)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(
        Denied(
            "connection: not from the owner of the daemon",
            hint="run scrubjay as the user that runs `scrubjay serve`",
        )
    )(scope, receive, send)
