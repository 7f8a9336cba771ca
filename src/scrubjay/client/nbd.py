"""A blocking NBD client on a unix socket, for the demo, for tests, and for who has no other.

The protocol is `scrubjay.nbd`'s; here are the socket and the waiting. One request at a
time, except in `write_all` and `read_all`, which keep several under way.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from scrubjay.base.errors import Denied, Invalid, NotFound, Unavailable
from scrubjay.nbd import wire
from scrubjay.nbd.client import ABORT, Opening, Session
from scrubjay.nbd.replies import DISCONNECT, Data, Done, Event, Hole, Replies, Status
from scrubjay.nbd.wire import Cookie

__all__ = ["NbdClient"]

_RECEIVE_BYTES = 1 << 20
_DEPTH = 16
"""Requests under way at once, where several are."""


class NbdClient:
    """One connection to one export; not for several threads.

    A request that the server refuses raises OSError with the server's errno, a connection
    that breaks Unavailable.
    """

    def __init__(self, path: Path, export: str = "", *, timeout_s: float = 60) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        self._inbox = memoryview(bytearray(_RECEIVE_BYTES))
        try:
            self._socket.connect(str(path))
            self._session = self._open(export)
        except OSError as error:
            self._socket.close()
            raise Unavailable(f"nbd server at {path}: {error.strerror or error}") from None
        except BaseException:
            self._socket.close()
            raise
        self._replies = Replies(self._session)
        self._outs: dict[Cookie, tuple[int, memoryview]] = {}
        self._done: dict[Cookie, Done] = {}
        self._extents: tuple[tuple[int, int], ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def size_bytes(self) -> int:
        """The export's size when the connection was made."""
        return self._session.size_bytes

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return a range."""
        out = bytearray(size_bytes)
        self._finish(self._ask_read(offset_bytes, memoryview(out)))
        return bytes(out)

    def write(self, offset_bytes: int, data: bytes | memoryview, *, fua: bool = False) -> None:
        """Write a range; durable when it returns, with `fua`."""
        self._finish(self._ask_write(offset_bytes, memoryview(data), fua=fua))

    def flush(self) -> None:
        """Make durable what was written before."""
        self._finish(self._ask(wire.CMD_FLUSH))

    def trim(self, offset_bytes: int, size_bytes: int) -> None:
        """Let go of a range."""
        self._finish(self._ask(wire.CMD_TRIM, offset=offset_bytes, length=size_bytes))

    def zero(self, offset_bytes: int, size_bytes: int) -> None:
        """Make a range read as zeros."""
        self._finish(self._ask(wire.CMD_WRITE_ZEROES, offset=offset_bytes, length=size_bytes))

    def extents(self, offset_bytes: int, size_bytes: int) -> list[tuple[int, int]]:
        """Return (bytes, STATE flags) from `offset_bytes` on; it may end early."""
        if self._session.allocation_id is None:
            raise Invalid("nbd server: offers no block status, expected base:allocation")
        self._finish(self._ask(wire.CMD_BLOCK_STATUS, offset=offset_bytes, length=size_bytes))
        return list(self._extents)

    def write_all(self, pieces: Iterable[tuple[int, bytes | memoryview]]) -> int:
        """Write (offset, data) pieces, several at once; return how many bytes that was."""
        under_way: deque[Cookie] = deque()
        written = 0
        for offset_bytes, data in pieces:
            if len(under_way) == _DEPTH:
                self._finish(under_way.popleft())
            under_way.append(self._ask_write(offset_bytes, memoryview(data), fua=False))
            written += len(data)
        for cookie in under_way:
            self._finish(cookie)
        return written

    def read_all(self, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, data) of (offset, size) ranges in their order, reading ahead."""
        under_way: deque[tuple[Cookie, int, bytearray]] = deque()
        for offset_bytes, size_bytes in ranges:
            out = bytearray(size_bytes)
            under_way.append((self._ask_read(offset_bytes, memoryview(out)), offset_bytes, out))
            if len(under_way) == _DEPTH:
                cookie, at, data = under_way.popleft()
                self._finish(cookie)
                yield at, bytes(data)
        for cookie, at, data in under_way:
            self._finish(cookie)
            yield at, bytes(data)

    def close(self) -> None:
        """Say goodbye, and close."""
        with suppress(OSError):  # the server may have gone first
            self._socket.sendall(DISCONNECT)
        self._socket.close()

    # --- Requests and replies --------------------------------------------------------

    def _open(self, export: str) -> Session:
        opening = Opening(export)
        try:
            while opening.session is None:
                self._socket.sendall(opening.receive(self._received()))
        except (NotFound, Denied, Invalid):
            self._socket.sendall(ABORT)
            raise
        return opening.session

    def _received(self) -> memoryview:
        size = self._socket.recv_into(self._inbox)
        if not size:
            raise Unavailable("nbd server: closed the connection, expected a reply")
        return self._inbox[:size]

    def _ask(self, command: int, *, offset: int = 0, length: int = 0, flags: int = 0) -> Cookie:
        cookie, head = self._replies.request(command, offset=offset, length=length, flags=flags)
        self._send(head)
        return cookie

    def _ask_read(self, offset_bytes: int, out: memoryview) -> Cookie:
        cookie, head = self._replies.request(wire.CMD_READ, offset=offset_bytes, length=len(out))
        self._outs[cookie] = offset_bytes, out
        self._send(head)
        return cookie

    def _ask_write(self, offset_bytes: int, data: memoryview, *, fua: bool) -> Cookie:
        flags = wire.CMD_FLAG_FUA if fua else 0
        cookie, head = self._replies.request(
            wire.CMD_WRITE, offset=offset_bytes, length=len(data), flags=flags
        )
        self._send(head, data)
        return cookie

    def _send(self, head: bytes, data: memoryview | None = None) -> None:
        try:
            self._socket.sendall(head)
            if data is not None:
                self._socket.sendall(data)
        except OSError as error:
            raise Unavailable(f"nbd server: {error.strerror or error}") from None

    def _finish(self, cookie: Cookie) -> None:
        """Receive until a request is done; raise the error with which it ended."""
        while cookie not in self._done:
            try:
                events = self._replies.receive(self._received())
            except OSError as error:
                raise Unavailable(f"nbd server: {error.strerror or error}") from None
            for event in events:
                self._note(event)
        done = self._done.pop(cookie)
        if done.error:
            name = errno.errorcode.get(done.error, str(done.error))
            raise OSError(done.error, done.message or f"nbd server: {name}")

    def _note(self, event: Event) -> None:
        match event:
            case Data():
                start, out = self._outs[event.cookie]
                at = event.offset - start
                out[at : at + len(event.data)] = event.data
            case Hole():
                start, out = self._outs[event.cookie]
                at = event.offset - start
                out[at : at + event.length] = bytes(event.length)
            case Status():
                self._extents = event.extents
            case Done():
                self._outs.pop(event.cookie, None)
                self._done[event.cookie] = event
