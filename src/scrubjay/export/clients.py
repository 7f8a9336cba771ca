"""The NBD clients of one volume: its socket, and a thread for each connection.

A connection that misbehaves, hangs in its handshake or takes no replies is closed; none of
that reaches the others. Counted and limited, because each one holds its own buffers.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from scrubjay.base.errors import Conflict, Unavailable
from scrubjay.engine.disk import Disk
from scrubjay.export.flushing import Flusher
from scrubjay.export.serving import Connection, Upkeep
from scrubjay.nbd.exports import ExportInfo
from scrubjay.nbd.handshake import GREETING, Handshake, Transmission

__all__ = ["CONNECTIONS_MAX", "Clients", "listen"]

CONNECTIONS_MAX = 64
_HANDSHAKE_TIMEOUT_S = 30
_SEND_TIMEOUT_S = 60
"""A client that takes no reply for so long is cut off: the flusher must not wait for it."""
_HANDSHAKE_BYTES = 64 << 10
_BACKLOG = 128


def listen(path: Path, *, gid: int | None) -> socket.socket:
    """Listen at `path`, for the owner alone, or for a group as well.

    The caller holds the volume's lock, so that a socket that is there is of an exporter
    that has ended. Raises Conflict where something else is there, Unavailable otherwise.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        listener.bind(str(path))  # the owner's alone, by this process's umask
        if gid is not None:
            os.chown(path, -1, gid)
        path.chmod(0o600 if gid is None else 0o660)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise Unavailable(f"socket {path}: {error.strerror or error}, expected to listen") from None
    except BaseException:
        listener.close()
        raise
    return listener


class Clients:
    """Accepts connections and serves them, until told to end."""

    def __init__(
        self,
        listener: socket.socket,
        disk: Disk,
        flusher: Flusher,
        upkeep: Upkeep,
        complain: Callable[[str], None],
    ) -> None:
        self._listener = listener
        self._disk = disk
        self._flusher = flusher
        self._upkeep = upkeep
        self._complain = complain
        self._changed = threading.Condition()
        self._connections: set[socket.socket] = set()

    def __len__(self) -> int:
        return len(self._connections)

    def accept_until(self, wake: int) -> None:
        """Serve whoever connects, until `wake` can be read."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(wake, select.POLLIN)
        self._listener.settimeout(0)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if wake in ready:
                return
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                continue  # it has gone again
            except OSError as error:  # no descriptors: those that are there go on
                self._complain(f"accept: {error.strerror}")
                time.sleep(0.1)
                continue
            self._begin(connection)

    def leave(self, *, timeout_s: float) -> bool:
        """Listen no more, let requests at hand end, then cut off; False: some still run."""
        self._listener.close()
        for how, wait_s in ((socket.SHUT_RD, timeout_s / 2), (socket.SHUT_RDWR, timeout_s / 2)):
            with self._changed:
                for connection in self._connections:
                    _shut(connection, how)
                if self._changed.wait_for(lambda: not self._connections, wait_s):
                    return True
        return False

    def _begin(self, connection: socket.socket) -> None:
        with self._changed:
            if len(self._connections) >= CONNECTIONS_MAX:
                self._complain(f"connections: {CONNECTIONS_MAX}, expected fewer")
                connection.close()
                return
            self._connections.add(connection)
        try:
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
        except RuntimeError as error:  # no thread to be had
            self._complain(f"connection: {error}")
            self._forget(connection)

    def _serve(self, connection: socket.socket) -> None:
        """Serve one connection to its end; the body of a thread."""
        try:
            chosen = self._shake_hands(connection)
            if chosen is not None:
                Connection(
                    connection,
                    self._disk,
                    chosen.rules,
                    flusher=self._flusher,
                    upkeep=self._upkeep,
                    complain=self._complain,
                ).run(chosen.rest)
        except OSError:
            return  # the client has gone, or takes nothing
        finally:
            self._forget(connection)

    def _shake_hands(self, connection: socket.socket) -> Transmission | None:
        handshake = Handshake(_OneExport(self._disk))
        deadline_s = time.monotonic() + _HANDSHAKE_TIMEOUT_S
        connection.settimeout(_HANDSHAKE_TIMEOUT_S)
        connection.sendall(GREETING)
        while handshake.outcome is None:
            data = connection.recv(_HANDSHAKE_BYTES)
            if not data or time.monotonic() > deadline_s:
                return None
            reply = handshake.receive(data)
            if reply:
                connection.sendall(reply)
        connection.settimeout(None)
        timeout = struct.pack("ll", _SEND_TIMEOUT_S, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        return handshake.outcome if isinstance(handshake.outcome, Transmission) else None

    def _forget(self, connection: socket.socket) -> None:
        with self._changed:
            self._connections.discard(connection)
            connection.close()
            self._changed.notify_all()


class _OneExport:
    """The volume, under its name and as the default export."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def listed(self) -> Iterable[ExportInfo]:
        return (self._info(),)

    def find(self, name: str) -> ExportInfo | None:
        return self._info() if name in ("", self._disk.attachment.name) else None

    def _info(self) -> ExportInfo:
        return ExportInfo(name=self._disk.attachment.name, size_bytes=self._disk.size_bytes)


def _clear(path: Path) -> None:
    """Remove the socket that an exporter left behind."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Conflict(f"socket {path}: something else is there, expected nothing")
    path.unlink()


def _shut(connection: socket.socket, how: int) -> None:
    try:
        connection.shutdown(how)
    except OSError:
        return  # it has ended already
