"""Requests out of a byte stream, one event each: the slow path, and the fast one's oracle.

Invariant: the same bytes give the same events however they are split (a payload's pieces
apart), no more than one request header is held back, and every ``Request`` has passed
``Rules.check``. The export loop parses ordinary requests itself and hands the rest here.

Source: "Transmission" of NBD's ``doc/proto.md``; docs/nbd.md for what it leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass

from scrubjay.nbd import wire
from scrubjay.nbd.transmission import DRAIN_BYTES_MAX, Rules
from scrubjay.nbd.wire import Cookie

__all__ = ["Broken", "Disconnected", "Event", "Payload", "Refused", "Request", "Requests"]


@dataclass(frozen=True, slots=True)
class Request:
    """A request to execute. After a WRITE its ``Payload`` follows, in pieces."""

    command: int
    flags: int
    cookie: Cookie
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Payload:
    """The next piece of a WRITE, for ``offset`` in the export; never empty.

    ``data`` lies in the buffer that was fed: use it before that buffer is used again.
    """

    cookie: Cookie
    offset: int
    data: memoryview
    last: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A request to answer with ``error`` and nothing else; its payload has been dropped."""

    command: int
    cookie: Cookie
    error: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    """DISC: finish what is under way, send no reply to this, close."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The client's stream cannot be followed any further: close."""

    reason: str


Event = Request | Payload | Refused | Disconnected | Broken


class Requests:
    """Parses one connection's requests; after ``Disconnected`` or ``Broken`` it is deaf."""

    def __init__(self, rules: Rules, *, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        """The export's size; whoever grows the export says so here."""
        self._rules = rules
        self._header = bytearray()
        self._write: Request | Refused | None = None
        self._offset = 0
        self._left = 0
        self._over = False

    @property
    def idle(self) -> bool:
        """Whether it stands between two requests, so that another parser may take over."""
        return not self._header and self._write is None

    def feed(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take the next bytes of the stream, return what they complete."""
        events: list[Event] = []
        view = memoryview(data)
        while view.nbytes and not self._over:
            if self._write is not None:
                taken = min(self._left, view.nbytes)
                event = self._carry(self._write, view[:taken])
            else:
                taken = min(wire.REQUEST.size - len(self._header), view.nbytes)
                self._header += view[:taken]
                event = self._begin() if len(self._header) == wire.REQUEST.size else None
            view = view[taken:]
            if event is not None:
                events.append(event)
        return events

    def _begin(self) -> Event | None:
        """The header is whole: judge it."""
        magic, flags, command, cookie, offset, length = wire.REQUEST.unpack(self._header)
        self._header.clear()
        if magic != wire.REQUEST_MAGIC:
            return self._break(f"request magic: {magic:#x}, expected {wire.REQUEST_MAGIC:#x}")
        if command == wire.CMD_DISC:
            self._over = True
            return Disconnected()
        error = self._rules.check(flags, command, offset, length, self.size_bytes)
        if error:
            refused = Refused(command, cookie, error)
            if command != wire.CMD_WRITE or not length:
                return refused
            if length > DRAIN_BYTES_MAX:
                return self._break(f"write: {length} bytes, expected at most {DRAIN_BYTES_MAX}")
            self._write, self._left = refused, length
            return None
        request = Request(command, flags, cookie, offset, length)
        if command == wire.CMD_WRITE:
            self._write, self._offset, self._left = request, offset, length
        return request

    def _carry(self, write: Request | Refused, piece: memoryview) -> Event | None:
        """Pass a piece of payload on, or drop it."""
        self._left -= piece.nbytes
        last = not self._left
        if last:
            self._write = None
        if isinstance(write, Refused):
            return write if last else None
        offset, self._offset = self._offset, self._offset + piece.nbytes
        return Payload(write.cookie, offset, piece, last)

    def _break(self, reason: str) -> Broken:
        self._over = True
        return Broken(reason)
