"""A whole NBD server on a bytearray, without a socket: bytes in, bytes out.

It is the least that export/ has to do around ``scrubjay.nbd``, so that clients, ours and
others', can be played against the protocol alone.
"""

from collections.abc import Iterable, Iterator, Sequence

from scrubjay.nbd import wire
from scrubjay.nbd.client import Opening, Session
from scrubjay.nbd.exports import SERVED, ExportInfo
from scrubjay.nbd.handshake import GREETING, Closed, Handshake, Transmission
from scrubjay.nbd.replies import Event as ReplyEvent
from scrubjay.nbd.replies import Replies
from scrubjay.nbd.requests import Broken, Disconnected, Event, Payload, Refused, Request, Requests
from scrubjay.nbd.transmission import block_status, error_reply, read_header, simple_reply

__all__ = [
    "SIZE_BYTES",
    "MemoryServer",
    "OneExport",
    "ask",
    "cut",
    "greet",
    "option",
    "replies_to",
    "request",
    "talk",
]

SIZE_BYTES = 1 << 20


class OneExport:
    """Knows ``db0``, by that name and as the default."""

    def __init__(self, *, size_bytes: int = SIZE_BYTES, flags: int = SERVED) -> None:
        self.export = ExportInfo("db0", size_bytes, flags, "the first of them")

    def listed(self) -> Iterable[ExportInfo]:
        """It."""
        return [self.export]

    def find(self, name: str) -> ExportInfo | None:
        """It, if meant."""
        return self.export if name in ("", "db0") else None


class MemoryServer:
    """One connection to one export."""

    def __init__(self, exports: OneExport) -> None:
        self.disk = bytearray(exports.export.size_bytes)
        self.closed = False
        self.refused: list[Refused] = []
        self._handshake = Handshake(exports)
        self._requests: Requests | None = None
        self._structured = False

    greeting = GREETING

    def receive(self, data: bytes) -> bytes:
        """Serve these bytes."""
        if self._requests is not None:
            return self._serve(self._requests, data)
        reply = self._handshake.receive(data)
        match self._handshake.outcome:
            case Closed():
                self.closed = True
            case Transmission(export, rules, rest):
                self._structured = rules.structured
                self._requests = Requests(rules, size_bytes=export.size_bytes)
                reply += self._serve(self._requests, rest)
            case None:
                pass
        return reply

    def _serve(self, requests: Requests, data: bytes) -> bytes:
        return b"".join(self._execute(event) for event in requests.feed(data))

    def _execute(self, event: Event) -> bytes:
        match event:
            case Disconnected() | Broken():
                self.closed = True
                return b""
            case Refused(cookie=cookie, error=error):
                self.refused.append(event)
                return error_reply(
                    cookie, error, message="not like this", structured=self._structured
                )
            case Payload(cookie, offset, data, last):
                self.disk[offset : offset + len(data)] = data
                return simple_reply(cookie) if last else b""
            case Request():
                return self._fulfil(event)

    def _fulfil(self, request: Request) -> bytes:
        cookie, offset, length = request.cookie, request.offset, request.length
        match request.command:
            case wire.CMD_READ:
                head = read_header(
                    cookie, offset=offset, length=length, structured=self._structured
                )
                return head + self.disk[offset : offset + length]
            case wire.CMD_WRITE:
                return b""
            case wire.CMD_BLOCK_STATUS:
                return block_status(
                    cookie, self._extents(offset, length), length=length, flags=request.flags
                )
            case wire.CMD_TRIM | wire.CMD_WRITE_ZEROES:
                self.disk[offset : offset + length] = bytes(length)
                return simple_reply(cookie)
            case _:
                return simple_reply(cookie)

    def _extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        while length > 0:
            step = 4096 - offset % 4096
            blank = not any(self.disk[offset : offset + step])
            yield step, wire.STATE_HOLE | wire.STATE_ZERO if blank else 0
            offset, length = offset + step, length - step


def cut(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """The same bytes in pieces of these sizes, over and over; a size below 1 counts as 1."""
    at = turn = 0
    while at < len(data):
        size = max(1, sizes[turn % len(sizes)]) if sizes else len(data)
        yield data[at : at + size]
        at, turn = at + size, turn + 1


def talk(opening: Opening, server: MemoryServer) -> Session:
    """Let a client and a server open a session."""
    to_client = server.greeting
    while opening.session is None:
        to_server = opening.receive(to_client)
        to_client = server.receive(to_server) if to_server else b""
        assert to_client or opening.session is not None, "both sides wait"
    return opening.session


def ask(
    replies: Replies,
    server: MemoryServer,
    command: int,
    *,
    offset: int = 0,
    length: int = 0,
    flags: int = 0,
    payload: bytes = b"",
) -> list[ReplyEvent]:
    """One request, through the server and back."""
    _, head = replies.request(command, offset=offset, length=length, flags=flags)
    return replies.receive(server.receive(head + payload))


def greet(flags: int = wire.FLAG_FIXED_NEWSTYLE | wire.FLAG_NO_ZEROES) -> bytes:
    """A client's first bytes."""
    return wire.CLIENT_FLAGS.pack(flags)


def option(number: int, data: bytes = b"") -> bytes:
    """An option as a client sends it."""
    return wire.OPTION.pack(wire.OPTION_MAGIC, number, len(data)) + data


def replies_to(number: int, stream: bytes) -> list[tuple[int, bytes]]:
    """A server's option replies taken apart; each is checked to be one to this option."""
    found = []
    while stream:
        magic, answered, kind, length = wire.OPTION_REPLY.unpack_from(stream)
        assert magic == wire.OPTION_REPLY_MAGIC
        assert answered == number
        end = wire.OPTION_REPLY.size + length
        assert len(stream) >= end
        found.append((kind, stream[wire.OPTION_REPLY.size : end]))
        stream = stream[end:]
    return found


def request(
    command: int, *, offset: int = 0, length: int = 0, flags: int = 0, cookie: int = 7
) -> bytes:
    """A request's header as a client sends it."""
    return wire.REQUEST.pack(wire.REQUEST_MAGIC, flags, command, cookie, offset, length)
