"""Fuzzing of the protocol: ``fuzz_one`` for any engine (atheris too), ``mutants`` for the suite.

An input's first byte picks the end of the wire that it is thrown at, the second how it is
cut; the rest are the bytes. Whatever they are: no exception but the documented one, a
bounded amount held, output that is well-formed, and the same result for every cut.
"""

from collections.abc import Iterator
from random import Random
from struct import pack, unpack

from scrubjay.base.errors import ScrubjayError, Unavailable
from scrubjay.nbd import wire
from scrubjay.nbd.client import REPLY_BYTES_MAX, Opening, Session
from scrubjay.nbd.exports import SERVED
from scrubjay.nbd.handshake import OPTION_BYTES_MAX, Closed, Handshake, Transmission
from scrubjay.nbd.replies import CHUNK_BYTES_MAX, Replies
from scrubjay.nbd.requests import Broken, Disconnected, Payload, Refused, Request, Requests
from scrubjay.nbd.transmission import (
    Rules,
    block_status,
    data_chunk,
    done_chunk,
    error_reply,
    hole_chunk,
    simple_reply,
)
from scrubjay.nbd.wire import Cookie
from tests.nbd.memory import MemoryServer, OneExport, cut, greet, option, request

__all__ = ["fuzz_one", "mutants"]

SIZE = 1 << 16
RULES = Rules.negotiated(SERVED, structured=True, allocation=True)
NAME = pack(">I", 3) + b"db0"
CONTEXT = NAME + pack(">II", 1, 15) + b"base:allocation"
GO = option(wire.OPT_GO, NAME + pack(">HH", 1, 3))
PRELUDE = (
    greet() + option(wire.OPT_STRUCTURED_REPLY) + option(wire.OPT_SET_META_CONTEXT, CONTEXT) + GO
)
SESSION = Session(SIZE, 0, structured=True, allocation_id=1, payload_bytes_max=SIZE)


def fuzz_one(data: bytes) -> None:
    """Throw one input at one end; raises what should never be raised."""
    if len(data) < 2:
        return
    target = TARGETS[data[0] % len(TARGETS)]
    cuts = Random(data[1])
    sizes = [cuts.choice((1, 3, 28, 200, 5000)) for _ in range(8)]
    target(data[2:], sizes)


def _handshake(data: bytes, sizes: list[int]) -> None:
    whole, split = Handshake(OneExport()), Handshake(OneExport())
    expected = whole.receive(data)
    reply = b""
    for piece in cut(data, sizes):
        reply += split.receive(piece)
        assert len(split._inbox) <= OPTION_BYTES_MAX + 16  # noqa: SLF001 - memory has no port
        if split.outcome is not None:
            break
    assert reply == expected
    _check_option_replies(reply, whole.outcome)


def _check_option_replies(stream: bytes, outcome: Transmission | Closed | None) -> None:
    """Well-formed replies, and nothing behind them but EXPORT_NAME's answer."""
    final = 0
    while stream[:8] == pack(">Q", wire.OPTION_REPLY_MAGIC):
        _, _, final, length = unpack(">QIII", stream[:20])
        if final & wire.REP_IS_ERROR:
            stream[20 : 20 + length].decode()
        assert len(stream) >= 20 + length
        stream = stream[20 + length :]
    if isinstance(outcome, Transmission) and stream:
        assert len(stream) in (10, 134)
    else:
        assert not stream
        assert not isinstance(outcome, Transmission) or final == wire.REP_ACK


def _requests(data: bytes, sizes: list[int]) -> None:
    expected = list(_reference(data))
    requests = Requests(RULES, size_bytes=SIZE)
    found: list[object] = []
    payload = b""
    for piece in cut(data, sizes):
        for event in requests.feed(piece):
            match event:
                case Payload(_, _, part, last):
                    assert part.nbytes
                    payload += part
                    if last:
                        found.append(payload)
                        payload = b""
                case Request(command, flags, cookie, offset, length):
                    assert offset + length <= SIZE
                    found.append((command, flags, cookie, offset, length))
                case Refused(command, cookie):
                    found.append((command, cookie))
                case Disconnected() | Broken():
                    found.append(type(event))
        assert len(requests._header) < wire.REQUEST.size  # noqa: SLF001 - memory has no port
    assert found == expected


def _reference(data: bytes) -> Iterator[object]:
    """The same stream read by slicing, with no state but a position."""
    while len(data) >= 28:
        magic, flags, command, cookie, offset, length = unpack(">IHHQQI", data[:28])
        data = data[28:]
        if magic != 0x25609513:
            yield Broken
            return
        if command == 2:
            yield Disconnected
            return
        bad = RULES.check(flags, command, offset, length, SIZE) != 0
        if not bad:
            yield (command, flags, cookie, offset, length)
        if command == 1:
            if length > 64 << 20:
                yield Broken
                return
            if len(data) < length:
                return
            if not bad:
                yield data[:length]
            data = data[length:]
        if bad:
            yield (command, cookie)


def _server(data: bytes, sizes: list[int]) -> None:
    server = MemoryServer(OneExport(size_bytes=SIZE))
    server.receive(PRELUDE)
    reply = b"".join(server.receive(piece) for piece in cut(data, sizes))
    assert len(server.disk) == SIZE
    while reply:
        if reply[:4] == pack(">I", wire.SIMPLE_REPLY_MAGIC):
            reply = reply[16:]
            continue
        magic, _, kind, _, length = unpack(">IHHQI", reply[:20])
        assert magic == wire.CHUNK_MAGIC
        assert kind in (1, 5, 0x8001)
        assert len(reply) >= 20 + length
        reply = reply[20 + length :]


def _opening(data: bytes, sizes: list[int]) -> None:
    opening = Opening("db0")
    try:
        for piece in cut(data, sizes):
            opening.receive(piece)
            assert len(opening._inbox) <= REPLY_BYTES_MAX  # noqa: SLF001 - memory has no port
            if opening.session is not None:
                break
    except ScrubjayError:
        pass  # what its docstring promises


def _replies(data: bytes, sizes: list[int]) -> None:
    replies = Replies(SESSION)
    for command in (wire.CMD_READ, wire.CMD_BLOCK_STATUS, wire.CMD_WRITE, wire.CMD_READ):
        replies.request(command, offset=4096, length=8192)
    try:
        for piece in cut(data, sizes):
            replies.receive(piece)
            held = replies._head  # noqa: SLF001 - memory has no port
            assert len(held) <= CHUNK_BYTES_MAX + wire.CHUNK.size
    except Unavailable:
        pass  # what its docstring promises


TARGETS = (_handshake, _requests, _server, _opening, _replies)

_COMMANDS = b"".join(
    (
        request(wire.CMD_READ, length=4096, cookie=1),
        request(wire.CMD_WRITE, offset=5, length=40, flags=wire.CMD_FLAG_FUA) + b"w" * 40,
        request(wire.CMD_FLUSH),
        request(wire.CMD_TRIM, offset=4096, length=4096),
        request(wire.CMD_WRITE, offset=SIZE, length=3) + b"end",
        request(wire.CMD_BLOCK_STATUS, length=SIZE, flags=wire.CMD_FLAG_REQ_ONE),
        request(wire.CMD_WRITE_ZEROES, offset=1, length=9, flags=wire.CMD_FLAG_NO_HOLE),
        request(wire.CMD_CACHE, length=SIZE),
        request(99, length=5),
        request(wire.CMD_DISC),
    )
)
_ANSWERS = b"".join(
    (
        hole_chunk(Cookie(1), offset=8192, length=4096, last=False),
        data_chunk(Cookie(1), offset=4096, length=4096, last=False) + b"d" * 4096,
        done_chunk(Cookie(1)),
        block_status(Cookie(2), [(4096, 0), (4096, 3)], length=8192, flags=0),
        simple_reply(Cookie(3)),
        error_reply(Cookie(4), wire.EIO, message="no", structured=True),
    )
)


def _option_reply(number: int, kind: int, data: bytes = b"") -> bytes:
    return pack(">QIII", wire.OPTION_REPLY_MAGIC, number, kind, len(data)) + data


_SERVER_OPENS = b"".join(
    (
        pack(">QQH", wire.INIT_MAGIC, wire.OPTION_MAGIC, 3),
        _option_reply(wire.OPT_STRUCTURED_REPLY, wire.REP_ACK),
        _option_reply(
            wire.OPT_SET_META_CONTEXT, wire.REP_META_CONTEXT, pack(">I", 1) + b"base:allocation"
        ),
        _option_reply(wire.OPT_SET_META_CONTEXT, wire.REP_ACK),
        _option_reply(wire.OPT_GO, wire.REP_INFO, pack(">HQH", 0, SIZE, 1)),
        _option_reply(wire.OPT_GO, wire.REP_INFO, pack(">HIII", 3, 1, 4096, 1 << 25)),
        _option_reply(wire.OPT_GO, wire.REP_ACK),
    )
)
_CLIENT_OPENS = (
    greet()
    + option(wire.OPT_LIST)
    + option(wire.OPT_STARTTLS)
    + option(wire.OPT_STRUCTURED_REPLY)
    + option(wire.OPT_LIST_META_CONTEXT, CONTEXT)
    + option(wire.OPT_SET_META_CONTEXT, CONTEXT)
    + option(wire.OPT_INFO, NAME + pack(">4H", 3, 0, 2, 3))
)
_TRANSCRIPTS = (
    (0, _CLIENT_OPENS + GO + b"next"),
    (0, _CLIENT_OPENS + option(wire.OPT_EXPORT_NAME, b"db0")),
    (0, _CLIENT_OPENS + option(wire.OPT_ABORT)),
    (1, _COMMANDS),
    (2, _COMMANDS),
    (3, _SERVER_OPENS),
    (4, _ANSWERS),
)
_TELLING = (0, 1, 7, 8, 28, 4096, SIZE, (1 << 16) - 1, 1 << 20, 1 << 25, (1 << 26) + 1, 0xFFFFFFFF)


def mutants(random: Random, *, count: int) -> Iterator[bytes]:
    """Inputs for ``fuzz_one``: valid transcripts with a few things wrong, and some noise."""
    for _ in range(count):
        target, transcript = random.choice(_TRANSCRIPTS)
        stream = bytearray(transcript)
        if random.random() < 0.05:
            stream = bytearray(random.randbytes(random.randrange(300)))
        for _ in range(random.choice((0, 1, 1, 2, 5))):
            _mutate(stream, random)
        yield bytes((target, random.randrange(256))) + stream


def _mutate(stream: bytearray, random: Random) -> None:
    at = random.randrange(len(stream) + 1)
    match random.randrange(6):
        case 0:
            stream[at : at + 1] = random.randbytes(1)
        case 1:
            del stream[at : at + random.choice((1, 4, 28, len(stream)))]
        case 2:
            stream[at:at] = random.randbytes(random.choice((1, 4, 28)))
        case 3:
            stream[at : at + 4] = pack(">I", random.choice(_TELLING))
        case 4:
            stream[at:at] = stream[: random.randrange(len(stream) + 1)]
        case _:
            stream[at : at + 8] = pack(">Q", random.choice(_TELLING) << random.choice((0, 32)))
