"""The client's handshake: from the server's greeting to a session.

Invariant: a server can make this end raise an error that says what it did, but not crash it
or make it hold more than one bounded reply. ``Opening`` prefers GO with structured replies
and ``base:allocation``, and does with less where the server offers less. ``replies`` takes
over from there.

Source: "Fixed newstyle negotiation" and "Option types" of NBD's ``doc/proto.md``.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

from scrubjay.base.errors import Denied, Invalid, NotFound, ScrubjayError, Unavailable
from scrubjay.nbd import wire

__all__ = ["ABORT", "REPLIES_MAX", "REPLY_BYTES_MAX", "Opening", "Session", "broken"]

REPLY_BYTES_MAX: Final = 64 << 10
"""Data of one option reply, and"""
REPLIES_MAX: Final = 64
"""replies to one option: all that is asked for is a handful of short facts."""

ABORT: Final = wire.OPTION.pack(wire.OPTION_MAGIC, wire.OPT_ABORT, 0)
"""What a client sends before it closes, when the server refused it."""

_REFUSALS: Final[dict[int, type[ScrubjayError]]] = {
    wire.REP_ERR_UNKNOWN: NotFound,
    wire.REP_ERR_POLICY: Denied,
    wire.REP_ERR_TLS_REQD: Denied,
    wire.REP_ERR_SHUTDOWN: Unavailable,
}

_Reading = Generator[int, bytes, "_Answer"]


@dataclass(frozen=True, slots=True)
class Session:
    """What was agreed on. ``allocation_id`` is None where there is no block status."""

    size_bytes: int
    flags: int
    structured: bool
    allocation_id: int | None
    payload_bytes_max: int


class Opening:
    """The client's handshake: ``receive`` until there is a ``session``.

    Raises ``NotFound``, ``Denied``, ``Invalid`` or ``Unavailable`` as the server refuses;
    send ``ABORT`` then. A server that breaks the protocol is ``Unavailable`` too.
    """

    def __init__(self, export: str, *, structured: bool = True) -> None:
        self.session: Session | None = None
        self._export = export
        self._structured = structured
        self._inbox = bytearray()
        self._outbox = bytearray()
        self._talk = self._converse()
        self._wanted = next(self._talk)

    def receive(self, data: bytes | memoryview) -> bytes:
        """Take bytes from the server, in pieces of any size; return bytes to send to it."""
        assert self.session is None, "the handshake is over"
        self._inbox += data
        try:
            while len(self._inbox) >= self._wanted:
                message = bytes(self._inbox[: self._wanted])
                del self._inbox[: self._wanted]
                self._wanted = self._talk.send(message)
        except StopIteration as done:
            self.session = done.value
            if self._inbox:
                raise broken("bytes before any request") from None
        sent = bytes(self._outbox)
        self._outbox.clear()
        return sent

    def _converse(self) -> Generator[int, bytes, Session]:
        """The whole handshake; yields how many bytes it wants, is sent them."""
        init, magic, flags = wire.GREETING.unpack((yield wire.GREETING.size))
        if (init, magic) != (wire.INIT_MAGIC, wire.OPTION_MAGIC):
            raise broken(f"greeting {init:#x} {magic:#x}, expected a newstyle server's")
        if not flags & wire.FLAG_FIXED_NEWSTYLE:
            raise broken(f"handshake flags {flags:#x}, expected fixed newstyle")
        offered = flags & (wire.FLAG_FIXED_NEWSTYLE | wire.FLAG_NO_ZEROES)
        self._outbox += wire.CLIENT_FLAGS.pack(offered)
        structured, allocation_id = False, None
        if self._structured:
            structured = not (yield from self._ask(wire.OPT_STRUCTURED_REPLY)).error
        name = self._export.encode()
        named = wire.U32.pack(len(name)) + name
        if structured:
            query = wire.ALLOCATION.encode()
            wish = named + wire.EXTENT.pack(1, len(query)) + query
            answer = yield from self._ask(wire.OPT_SET_META_CONTEXT, wish)
            allocation_id = answer.context_id(query)
        wish = named + wire.U16.pack(1) + wire.U16.pack(wire.INFO_BLOCK_SIZE)
        answer = yield from self._ask(wire.OPT_GO, wish)
        if answer.error == wire.REP_ERR_UNSUP:
            self._send(wire.OPT_EXPORT_NAME, name)
            zeroes = 0 if offered & wire.FLAG_NO_ZEROES else wire.EXPORT_ZEROES
            body = yield wire.EXPORT.size + zeroes
            size_bytes, flags = wire.EXPORT.unpack_from(body)
            return Session(size_bytes, flags, structured, allocation_id, wire.PAYLOAD_BYTES_MAX)
        if answer.error:
            kind = _REFUSALS.get(answer.error, Invalid)
            raise kind(f"nbd export {self._export}: refused, {answer.message or 'no reason'}")
        size_bytes, flags = wire.EXPORT.unpack(answer.info(wire.INFO_EXPORT, wire.EXPORT.size))
        payload_bytes_max = wire.PAYLOAD_BYTES_MAX
        if sizes := answer.info(wire.INFO_BLOCK_SIZE, wire.BLOCK_SIZES.size):
            payload_bytes_max = wire.BLOCK_SIZES.unpack(sizes)[2]
        return Session(size_bytes, flags, structured, allocation_id, payload_bytes_max)

    def _ask(self, option: int, data: bytes = b"") -> _Reading:
        """Send an option, gather the replies to it up to the final one."""
        self._send(option, data)
        found: list[tuple[int, bytes]] = []
        while len(found) < REPLIES_MAX:
            head = wire.OPTION_REPLY.unpack((yield wire.OPTION_REPLY.size))
            magic, answered, reply, length = head
            if (magic, answered) != (wire.OPTION_REPLY_MAGIC, option):
                raise broken(f"option reply {magic:#x} to {answered}, expected one to {option}")
            if length > REPLY_BYTES_MAX:
                raise broken(f"option reply of {length} bytes, expected {REPLY_BYTES_MAX}")
            body = (yield length) if length else b""
            if reply == wire.REP_ACK:
                return _Answer(found, 0, "")
            if reply & wire.REP_IS_ERROR:
                return _Answer(found, reply, body.decode("utf-8", "replace"))
            found.append((reply, body))
        raise broken(f"{REPLIES_MAX} replies to option {option}, expected an end")

    def _send(self, option: int, data: bytes) -> None:
        self._outbox += wire.OPTION.pack(wire.OPTION_MAGIC, option, len(data)) + data


@dataclass(frozen=True, slots=True)
class _Answer:
    """The replies to one option: those with content, then an error or success (0)."""

    found: list[tuple[int, bytes]]
    error: int
    message: str

    def info(self, kind: int, length: int) -> bytes:
        """The body of one INFO; empty where the server left an optional one out."""
        head = wire.U16.pack(kind)
        for reply, body in self.found:
            if reply == wire.REP_INFO and body[:2] == head:
                if len(body) != 2 + length:
                    raise broken(f"info {kind} of {len(body)} bytes, expected {2 + length}")
                return body[2:]
        if kind == wire.INFO_EXPORT:
            raise broken("no information about the export, expected its size")
        return b""

    def context_id(self, name: bytes) -> int | None:
        """The id under which the server selected a metadata context, if it did."""
        for reply, body in self.found:
            if not self.error and reply == wire.REP_META_CONTEXT and body[4:] == name:
                return int.from_bytes(body[:4])
        return None


def broken(what: str) -> Unavailable:
    """The error for a server that does not speak NBD as specified."""
    return Unavailable(f"nbd server: {what}", hint="close the connection")
