"""A volume through NBD, by the client of our own: for FLUSH, and for looking at every byte."""

import socket
from collections.abc import Callable
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

from demo.report import MIB
from scrubjay.base.errors import Unavailable
from scrubjay.nbd import wire
from scrubjay.nbd.client import Opening, Session
from scrubjay.nbd.replies import DISCONNECT, Data, Done, Hole, Replies

__all__ = ["Disk", "socket_of"]

PIECE_BYTES = MIB
AHEAD = 4
"""Requests under way at a time."""
TIMEOUT_S = 60


class Disk:
    """One connection to one volume."""

    def __init__(self, uri: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(TIMEOUT_S)
        self._inbox = bytearray(2 * PIECE_BYTES)
        try:
            self._socket.connect(socket_of(uri))
            self._session = self._open(unquote(urlsplit(uri).path).lstrip("/"))
        except BaseException:
            self._socket.close()
            raise
        self._replies = Replies(self._session)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._socket:
            if kind is None:
                self._socket.sendall(DISCONNECT)

    @property
    def size_bytes(self) -> int:
        """How large the volume is."""
        return self._session.size_bytes

    def read(self, take: Callable[[int, memoryview], object], *, start: int, end: int) -> None:
        """Read [start, end) and hand it to `take`, as (offset, bytes), in pieces in order."""
        buffer = bytearray(AHEAD * PIECE_BYTES)
        while start < end:
            length = min(len(buffer), end - start)
            for piece in range(start, start + length, PIECE_BYTES):
                self._ask(wire.CMD_READ, piece, min(PIECE_BYTES, start + length - piece))
            self._settle(buffer, start)
            take(start, memoryview(buffer)[:length])
            start += length

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write, and return when all of it is acknowledged."""
        view = memoryview(data)
        for start in range(0, len(view), PIECE_BYTES):
            piece = view[start : start + PIECE_BYTES]
            self._ask(wire.CMD_WRITE, offset + start, len(piece))
            self._socket.sendall(piece)
            self._settle()

    def flush(self) -> None:
        """Return when all that was acknowledged, on any connection, is durable."""
        self._ask(wire.CMD_FLUSH, 0, 0)
        self._settle()

    def _open(self, export: str) -> Session:
        opening = Opening(export)
        while opening.session is None:
            self._socket.sendall(opening.receive(self._receive()))
        return opening.session

    def _ask(self, command: int, offset: int, length: int) -> None:
        _, head = self._replies.request(command, offset=offset, length=length)
        self._socket.sendall(head)

    def _settle(self, buffer: bytearray | None = None, start: int = 0) -> None:
        """Take replies until none is missing; what was read goes into `buffer`."""
        while self._replies.pending:
            for event in self._replies.receive(self._receive()):
                match event:
                    case Data(_, offset, data) if buffer is not None:
                        buffer[offset - start : offset - start + len(data)] = data
                    case Hole(_, offset, length) if buffer is not None:
                        buffer[offset - start : offset - start + length] = bytes(length)
                    case Done(_, error, message) if error:
                        raise Unavailable(f"nbd request: errno {error}, {message or 'no reason'}")
                    case _:
                        pass

    def _receive(self) -> memoryview:
        got = self._socket.recv_into(self._inbox)
        if not got:
            raise Unavailable("nbd server: closed the connection, expected a reply")
        return memoryview(self._inbox)[:got]


def socket_of(uri: str) -> str:
    """Return the path of the unix socket in an NBD URI."""
    return parse_qs(urlsplit(uri).query)["socket"][0]
