"""The client against servers that are old, unwilling, or lie."""

from struct import pack

import pytest

from scrubjay.base.errors import Denied, Invalid, NotFound, ScrubjayError, Unavailable
from scrubjay.nbd import wire
from scrubjay.nbd.client import REPLIES_MAX, REPLY_BYTES_MAX, Opening, Session
from scrubjay.nbd.replies import CHUNK_BYTES_MAX, Data, Done, Hole, Replies, Status
from scrubjay.nbd.transmission import (
    block_status,
    data_chunk,
    done_chunk,
    error_reply,
    hole_chunk,
    simple_reply,
)
from scrubjay.nbd.wire import Cookie
from tests.nbd.memory import cut

ONE = Cookie(1)
FIXED = pack(">QQH", wire.INIT_MAGIC, wire.OPTION_MAGIC, 1)
STRUCTURED = Session(1 << 20, 0, structured=True, allocation_id=9, payload_bytes_max=1 << 25)
PLAIN = Session(1 << 20, 0, structured=False, allocation_id=None, payload_bytes_max=1 << 25)


def reply(number: int, kind: int, data: bytes = b"") -> bytes:
    """An option reply."""
    return pack(">QIII", wire.OPTION_REPLY_MAGIC, number, kind, len(data)) + data


def info(kind: int, body: bytes) -> bytes:
    """An INFO reply to GO."""
    return reply(wire.OPT_GO, wire.REP_INFO, pack(">H", kind) + body)


def ack(number: int) -> bytes:
    """The end of an option."""
    return reply(number, wire.REP_ACK)


EXPORT = info(wire.INFO_EXPORT, pack(">QH", 12345, 3))


def opened(*answers: bytes, structured: bool = False) -> Session:
    """The session that these answers of a server lead to, one byte at a time."""
    opening = Opening("db0", structured=structured)
    for piece in cut(FIXED + b"".join(answers), [1]):
        opening.receive(piece)
    assert opening.session is not None
    return opening.session


def test_opening_of_modest_server_does_with_less() -> None:
    """Without structured replies there is no block status; unknown information is ignored."""
    session = opened(
        reply(wire.OPT_STRUCTURED_REPLY, wire.REP_ERR_UNSUP),
        info(99, b"whatever"),
        info(wire.INFO_BLOCK_SIZE, pack(">III", 1, 4096, 65536)),
        EXPORT,
        ack(wire.OPT_GO),
        structured=True,
    )
    assert session == Session(
        12345, 3, structured=False, allocation_id=None, payload_bytes_max=65536
    )


def test_opening_of_server_without_go_falls_back() -> None:
    """Where GO is unknown EXPORT_NAME opens the session, its 124 zeroes included."""
    session = opened(
        ack(wire.OPT_STRUCTURED_REPLY),
        reply(
            wire.OPT_SET_META_CONTEXT, wire.REP_META_CONTEXT, pack(">I", 77) + b"base:allocation"
        ),
        ack(wire.OPT_SET_META_CONTEXT),
        reply(wire.OPT_GO, wire.REP_ERR_UNSUP),
        pack(">QH", 12345, 3) + bytes(124),
        structured=True,
    )
    assert session == Session(
        12345, 3, structured=True, allocation_id=77, payload_bytes_max=wire.PAYLOAD_BYTES_MAX
    )


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (wire.REP_ERR_UNKNOWN, NotFound),
        (wire.REP_ERR_POLICY, Denied),
        (wire.REP_ERR_TLS_REQD, Denied),
        (wire.REP_ERR_SHUTDOWN, Unavailable),
        (wire.REP_ERR_INVALID, Invalid),
    ],
)
def test_opening_refused_raises_by_reason(refusal: int, kind: type[ScrubjayError]) -> None:
    """A refusal is raised as what the caller can do about it, in the server's words."""
    with pytest.raises(kind, match="because"):
        opened(EXPORT, reply(wire.OPT_GO, refusal, b"because"))


@pytest.mark.parametrize(
    "stream",
    [
        b"NBDMAGIC" + bytes(10),
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        pack(">QQH", wire.INIT_MAGIC, wire.OPTION_MAGIC, 0),
        FIXED + bytes(20),
        FIXED + ack(wire.OPT_LIST),
        FIXED + ack(wire.OPT_GO),
        FIXED + info(wire.INFO_EXPORT, b"short") + ack(wire.OPT_GO),
        FIXED + EXPORT + info(wire.INFO_BLOCK_SIZE, b"") + ack(wire.OPT_GO),
        FIXED + EXPORT * (REPLIES_MAX + 1),
        FIXED + pack(">QIII", wire.OPTION_REPLY_MAGIC, wire.OPT_GO, 3, REPLY_BYTES_MAX + 1),
        FIXED + EXPORT + ack(wire.OPT_GO) + b"x",
    ],
)
def test_opening_of_nonsense_raises_unavailable(stream: bytes) -> None:
    """A server that does not speak NBD is given up, not waited for."""
    with pytest.raises(Unavailable, match="nbd server"):
        Opening("db0", structured=False).receive(stream)


def pending(session: Session, command: int = wire.CMD_READ) -> Replies:
    """One request, for 8192 bytes at 4096, with cookie 1."""
    replies = Replies(session)
    replies.request(command, offset=4096, length=8192)
    return replies


def test_read_in_chunks_of_any_order_is_complete() -> None:
    """Data and holes come in any order and add up to what was read."""
    replies = pending(STRUCTURED)
    data = b"x" * 4096
    events = replies.receive(
        hole_chunk(ONE, offset=8192, length=4096, last=False)
        + data_chunk(ONE, offset=4096, length=4096, last=False)
        + data
        + done_chunk(ONE)
    )
    assert events == [
        Hole(ONE, 8192, 4096),
        Data(ONE, 4096, memoryview(data)),
        Done(ONE, 0, ""),
    ]
    assert replies.pending == 0


def test_read_of_plain_session_streams_after_the_head() -> None:
    """A simple reply's data is passed on as it comes."""
    replies = pending(PLAIN)
    assert replies.receive(simple_reply(ONE) + b"abc") == [Data(ONE, 4096, memoryview(b"abc"))]
    events = replies.receive(bytes(8189) + b"")
    assert events == [Data(ONE, 4099, memoryview(bytes(8189))), Done(ONE, 0, "")]


@pytest.mark.parametrize("command", [wire.CMD_READ, wire.CMD_WRITE, wire.CMD_BLOCK_STATUS])
def test_error_of_server_ends_the_request(command: int) -> None:
    """An error chunk's errno and message reach the caller, with an offset or without."""
    for failure in (
        error_reply(ONE, wire.EIO, message="unit 7", structured=True),
        pack(">IHHQIIH", 0x668E33EF, 1, 0x8002, 1, 20, wire.EIO, 6) + b"unit 7" + bytes(8),
        pack(">IHHQIIH", 0x668E33EF, 0, 0x8777, 1, 12, wire.EIO, 6) + b"unit 7" + done_chunk(ONE),
    ):
        assert pending(STRUCTURED, command).receive(failure) == [Done(ONE, wire.EIO, "unit 7")]
    assert pending(PLAIN, command).receive(simple_reply(ONE, 5)) == [Done(ONE, wire.EIO, "")]


def test_block_status_of_context_is_delivered() -> None:
    """Extents arrive as sent, under the id that the server gave the context."""
    raw = bytearray(block_status(ONE, [(4096, 0), (4096, 3)], length=8192, flags=0))
    raw[20:24] = pack(">I", 9)
    events = pending(STRUCTURED, wire.CMD_BLOCK_STATUS).receive(bytes(raw))
    assert events == [Status(ONE, ((4096, 0), (4096, 3))), Done(ONE, 0, "")]


CHUNK = b"\x66\x8e\x33\xef"


@pytest.mark.parametrize(
    ("session", "command", "stream"),
    [
        (STRUCTURED, wire.CMD_READ, bytes(16)),
        (PLAIN, wire.CMD_READ, done_chunk(ONE)),
        (PLAIN, wire.CMD_READ, simple_reply(Cookie(2))),
        (STRUCTURED, wire.CMD_READ, simple_reply(ONE)),
        (STRUCTURED, wire.CMD_READ, simple_reply(ONE, wire.EINVAL)),
        (STRUCTURED, wire.CMD_READ, done_chunk(ONE)),
        (STRUCTURED, wire.CMD_READ, done_chunk(Cookie(2))),
        (STRUCTURED, wire.CMD_READ, hole_chunk(ONE, offset=4096, length=4096, last=True)),
        (STRUCTURED, wire.CMD_READ, hole_chunk(ONE, offset=0, length=8192, last=True)),
        (STRUCTURED, wire.CMD_READ, hole_chunk(ONE, offset=4096, length=0, last=False)),
        (STRUCTURED, wire.CMD_READ, data_chunk(ONE, offset=4096, length=8193, last=True)),
        (STRUCTURED, wire.CMD_READ, data_chunk(ONE, offset=4096, length=0, last=True)),
        (
            STRUCTURED,
            wire.CMD_READ,
            hole_chunk(ONE, offset=4096, length=8192, last=False)
            + hole_chunk(ONE, offset=8192, length=4096, last=True),
        ),
        (
            STRUCTURED,
            wire.CMD_READ,
            hole_chunk(ONE, offset=4096, length=512, last=False)
            + hole_chunk(ONE, offset=8192, length=4096, last=True),
        ),
        (STRUCTURED, wire.CMD_WRITE, data_chunk(ONE, offset=4096, length=1, last=True)),
        (STRUCTURED, wire.CMD_WRITE, hole_chunk(ONE, offset=4096, length=1, last=True)),
        (STRUCTURED, wire.CMD_WRITE, CHUNK + pack(">HHQI", 0, 0, 1, 0)),
        (STRUCTURED, wire.CMD_WRITE, CHUNK + pack(">HHQI", 1, 3, 1, 0)),
        (STRUCTURED, wire.CMD_WRITE, CHUNK + pack(">HHQI", 1, 0, 1, CHUNK_BYTES_MAX + 1)),
        (STRUCTURED, wire.CMD_WRITE, CHUNK + pack(">HHQI", 1, 0x8001, 1, 2) + b"xx"),
        (STRUCTURED, wire.CMD_WRITE, CHUNK + pack(">HHQIIH", 1, 0x8001, 1, 6, 0, 0)),
        (STRUCTURED, wire.CMD_WRITE, CHUNK + pack(">HHQIIH", 1, 0x8001, 1, 6, 5, 1)),
        (STRUCTURED, wire.CMD_BLOCK_STATUS, done_chunk(ONE)),
        (STRUCTURED, wire.CMD_BLOCK_STATUS, CHUNK + pack(">HHQII", 1, 5, 1, 4, 9)),
        (STRUCTURED, wire.CMD_BLOCK_STATUS, CHUNK + pack(">HHQIIII", 1, 5, 1, 12, 8, 1, 0)),
        (STRUCTURED, wire.CMD_BLOCK_STATUS, CHUNK + pack(">HHQIIII", 1, 5, 1, 12, 9, 0, 0)),
        (STRUCTURED, wire.CMD_READ, CHUNK + pack(">HHQIIII", 1, 5, 1, 12, 9, 1, 0)),
        (STRUCTURED, wire.CMD_BLOCK_STATUS, 2 * (CHUNK + pack(">HHQIIII", 0, 5, 1, 12, 9, 1, 0))),
    ],
)
def test_reply_of_lying_server_raises_unavailable(
    session: Session, command: int, stream: bytes
) -> None:
    """I1 seen from the client: no gap, no overlap, no stranger's reply passes as success."""
    replies = pending(session, command)
    with pytest.raises(Unavailable, match="nbd server"):
        replies.receive(stream)
