"""The client's transmission phase: requests out, replies in.

Invariant: a server can make this end raise ``Unavailable`` (close the connection then), but
not hold more than ``CHUNK_BYTES_MAX`` of it, nor pass one request's reply off as another's.
A READ that ends without an error has delivered each of its bytes exactly once.

Source: "Structured reply types" and "Request types" of NBD's ``doc/proto.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from scrubjay.nbd import wire
from scrubjay.nbd.client import Session, broken
from scrubjay.nbd.wire import Cookie

__all__ = [
    "CHUNK_BYTES_MAX",
    "DISCONNECT",
    "RANGES_MAX",
    "Data",
    "Done",
    "Event",
    "Hole",
    "Replies",
    "Status",
]

CHUNK_BYTES_MAX: Final = 4 + 8 * wire.EXTENTS_MAX
"""Payload of a chunk that is held whole: the longest block status."""

RANGES_MAX: Final = 1 << 16
"""Separate ranges in which one READ's data may arrive."""

DISCONNECT: Final = wire.REQUEST.pack(wire.REQUEST_MAGIC, 0, wire.CMD_DISC, 0, 0, 0)
"""The last thing that a client sends. There is no reply."""


_STRUCTURED_ONLY: Final = (wire.CMD_READ, wire.CMD_BLOCK_STATUS)
_HOLE: Final = Struct(">QI")
"""Offset, size: a hole chunk's body."""
_FAILURE: Final = Struct(">IH")
"""Errno, length of the message: how every error chunk's body begins."""


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of what was read. ``data`` lies in the buffer that was received."""

    cookie: Cookie
    offset: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class Hole:
    """So many zeros of what was read."""

    cookie: Cookie
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Status:
    """``extents`` are (length in bytes, STATE flags), from the requested offset on."""

    cookie: Cookie
    extents: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Done:
    """The request has ended, well where ``error`` is 0; its cookie is free again."""

    cookie: Cookie
    error: int
    message: str


Event = Data | Hole | Status | Done


@dataclass(slots=True)
class _Pending:
    """A request without its final reply."""

    command: int
    offset: int
    length: int
    error: int = 0
    message: str = ""
    answered: bool = False
    ranges: list[tuple[int, int]] = field(default_factory=list)

    def cover(self, start: int, end: int) -> None:
        """Note content for [start, end)."""
        if not self.offset <= start < end <= self.offset + self.length:
            raise broken(f"content {start}..{end}, expected it within the request")
        if self.ranges and self.ranges[-1][1] == start:
            self.ranges[-1] = (self.ranges[-1][0], end)
        elif len(self.ranges) < RANGES_MAX:
            self.ranges.append((start, end))
        else:
            raise broken(f"content in pieces, expected at most {RANGES_MAX}")

    def complete(self) -> bool:
        """Whether a success may be believed."""
        if self.command == wire.CMD_BLOCK_STATUS:
            return self.answered
        if self.command != wire.CMD_READ:
            return True
        at = self.offset
        for start, end in sorted(self.ranges):
            if start != at:
                return False
            at = end
        return at == self.offset + self.length


class Replies:
    """Numbers and encodes a session's requests, and matches replies to them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pending: dict[Cookie, _Pending] = {}
        self._cookie = 0
        self._head = bytearray()
        self._streaming: tuple[Cookie, int] = (Cookie(0), 0)
        self._left = 0
        self._ends = False

    @property
    def pending(self) -> int:
        """Requests that are not done."""
        return len(self._pending)

    def request(
        self, command: int, *, offset: int = 0, length: int = 0, flags: int = 0
    ) -> tuple[Cookie, bytes]:
        """A new request's cookie, and its header to send; a WRITE's data goes after it."""
        self._cookie = self._cookie + 1 & 0xFFFFFFFFFFFFFFFF
        cookie = Cookie(self._cookie)
        self._pending[cookie] = _Pending(command, offset, length)
        head = wire.REQUEST.pack(wire.REQUEST_MAGIC, flags, command, cookie, offset, length)
        return cookie, head

    def receive(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take bytes from the server, in pieces of any size; return what they say."""
        events: list[Event] = []
        view = memoryview(data)
        while view.nbytes:
            if self._left:
                taken = min(self._left, view.nbytes)
                self._stream(view[:taken], events)
            else:
                taken = min(self._wanted() - len(self._head), view.nbytes)
                self._head += view[:taken]
                if len(self._head) == self._wanted():
                    head = bytes(self._head)
                    self._head.clear()
                    self._begin(head, events)
            view = view[taken:]
        return events

    def _wanted(self) -> int:
        """How long the head must grow before it says more, or is to be acted upon."""
        head = self._head
        if len(head) < wire.U32.size:
            return wire.U32.size
        (magic,) = wire.U32.unpack_from(head)
        if magic == wire.SIMPLE_REPLY_MAGIC:
            return wire.SIMPLE_REPLY.size
        if magic != wire.CHUNK_MAGIC or not self._session.structured:
            raise broken(f"reply magic {magic:#x}, expected one that was negotiated")
        if len(head) < wire.CHUNK.size:
            return wire.CHUNK.size
        _, _, kind, _, length = wire.CHUNK.unpack_from(head)
        if kind == wire.CHUNK_OFFSET_DATA:
            if length <= wire.U64.size:
                raise broken(f"data chunk of {length} bytes, expected more than its offset")
            return wire.DATA_CHUNK.size
        if length > CHUNK_BYTES_MAX:
            raise broken(f"chunk of {length} bytes, expected at most {CHUNK_BYTES_MAX}")
        return wire.CHUNK.size + int(length)

    def _begin(self, head: bytes, events: list[Event]) -> None:
        """Act on a simple reply, on a chunk, or on the head of a data chunk."""
        if head[:4] == wire.U32.pack(wire.SIMPLE_REPLY_MAGIC):
            self._begin_simple(head, events)
            return
        _, flags, kind, cookie, length = wire.CHUNK.unpack_from(head)
        pending = self._find(cookie)
        self._ends = bool(flags & wire.CHUNK_DONE)
        body = head[wire.CHUNK.size :]
        if kind == wire.CHUNK_OFFSET_DATA:
            self._expect(cookie, pending, int.from_bytes(body), length - wire.U64.size)
            return
        if kind & wire.CHUNK_IS_ERROR:
            self._fail(pending, body)
        elif kind == wire.CHUNK_OFFSET_HOLE and length == _HOLE.size:
            offset, size = _HOLE.unpack(body)
            self._cover(pending, offset, size)
            events.append(Hole(cookie, offset, size))
        elif kind == wire.CHUNK_BLOCK_STATUS:
            events.append(Status(cookie, self._extents(pending, body)))
        elif kind != wire.CHUNK_NONE or length or not self._ends:
            raise broken(f"chunk type {kind} of {length} bytes, expected none like it")
        if self._ends:
            self._finish(cookie, pending, events)

    def _begin_simple(self, head: bytes, events: list[Event]) -> None:
        """Act on a simple reply: data follows it, or the request is done."""
        _, error, cookie = wire.SIMPLE_REPLY.unpack(head)
        pending = self._find(cookie)
        if pending.command in _STRUCTURED_ONLY and self._session.structured:
            raise broken(f"simple reply to command {pending.command}, expected chunks")
        if pending.command == wire.CMD_READ and not error:
            self._expect(cookie, pending, pending.offset, pending.length)
            self._ends = True
        else:
            self._finish(cookie, pending, events, error=error)

    def _stream(self, piece: memoryview, events: list[Event]) -> None:
        cookie, offset = self._streaming
        events.append(Data(cookie, offset, piece))
        self._streaming = (cookie, offset + piece.nbytes)
        self._left -= piece.nbytes
        if not self._left and self._ends:
            self._finish(cookie, self._pending[cookie], events)

    def _expect(self, cookie: Cookie, pending: _Pending, offset: int, length: int) -> None:
        """``length`` bytes of data for ``offset`` follow."""
        self._cover(pending, offset, length)
        self._streaming, self._left = (cookie, offset), length

    def _cover(self, pending: _Pending, offset: int, length: int) -> None:
        if pending.command != wire.CMD_READ:
            raise broken(f"content for command {pending.command}, expected none")
        pending.cover(offset, offset + length)

    def _fail(self, pending: _Pending, body: bytes) -> None:
        """Note the first error of a reply, whichever type of error chunk it is."""
        if len(body) < _FAILURE.size:
            raise broken(f"error chunk of {len(body)} bytes, expected at least {_FAILURE.size}")
        error, length = _FAILURE.unpack_from(body)
        text = body[_FAILURE.size : _FAILURE.size + length]
        if not error or len(text) != length:
            raise broken(f"error {error} with {length} bytes of message, expected both to fit")
        if not pending.error:
            pending.error, pending.message = error, text.decode("utf-8", "replace")

    def _extents(self, pending: _Pending, body: bytes) -> tuple[tuple[int, int], ...]:
        if pending.command != wire.CMD_BLOCK_STATUS or pending.answered:
            raise broken(f"block status for command {pending.command}, expected none")
        count, odd = divmod(len(body) - wire.U32.size, wire.EXTENT.size)
        if count < 1 or odd or int.from_bytes(body[:4]) != self._session.allocation_id:
            raise broken(f"block status of {len(body)} bytes, expected the context asked for")
        pending.answered = True
        extents = tuple(wire.EXTENT.iter_unpack(body[wire.U32.size :]))
        if not all(length for length, _ in extents):
            raise broken("block status with an empty extent, expected progress")
        return extents

    def _find(self, cookie: Cookie) -> _Pending:
        pending = self._pending.get(cookie)
        if pending is None:
            raise broken(f"reply to cookie {cookie:#x}, expected one of a pending request")
        return pending

    def _finish(
        self, cookie: Cookie, pending: _Pending, events: list[Event], *, error: int = 0
    ) -> None:
        error = error or pending.error
        if not error and not pending.complete():
            raise broken(f"success of command {pending.command}, expected all of its content")
        del self._pending[cookie]
        events.append(Done(cookie, error, pending.message))
