"""Client and server of this room, back to back in memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.errors import NotFound
from scrubjay.nbd import wire
from scrubjay.nbd.client import ABORT, Opening
from scrubjay.nbd.exports import SERVED
from scrubjay.nbd.replies import DISCONNECT, Data, Done, Replies, Status
from scrubjay.nbd.replies import Event as ReplyEvent
from tests.nbd.memory import SIZE_BYTES, MemoryServer, OneExport, ask, cut, talk


def connected(*, structured: bool = True, flags: int = SERVED) -> tuple[Replies, MemoryServer]:
    """A client in session with a server."""
    server = MemoryServer(OneExport(flags=flags))
    session = talk(Opening("db0", structured=structured), server)
    assert session.size_bytes == SIZE_BYTES
    assert session.structured is structured
    assert (session.allocation_id is not None) is structured
    return Replies(session), server


def outcome(events: list[ReplyEvent]) -> Done:
    """How the one request ended."""
    assert isinstance(events[-1], Done)
    return events[-1]


@pytest.mark.parametrize("structured", [True, False])
def test_written_bytes_read_back_the_same(structured: bool) -> None:
    """I1: what a WRITE carried is what a READ brings, in either style of reply."""
    replies, server = connected(structured=structured)
    data = bytes(range(256)) * 20
    written = ask(replies, server, wire.CMD_WRITE, offset=777, length=len(data), payload=data)
    assert outcome(written).error == 0
    events = ask(replies, server, wire.CMD_READ, offset=777, length=len(data))
    assert b"".join(bytes(event.data) for event in events if isinstance(event, Data)) == data
    assert outcome(events).error == 0
    for command in (wire.CMD_FLUSH, wire.CMD_TRIM, wire.CMD_CACHE, wire.CMD_WRITE_ZEROES):
        length = 0 if command == wire.CMD_FLUSH else 4096
        assert outcome(ask(replies, server, command, length=length)).error == 0
    assert replies.pending == 0


def test_block_status_of_data_and_holes_tells_them_apart() -> None:
    """base:allocation shows what was written and what never was; REQ_ONE shows the first."""
    replies, server = connected()
    ask(replies, server, wire.CMD_WRITE, offset=8192, length=4096, payload=b"x" * 4096)
    blank = wire.STATE_HOLE | wire.STATE_ZERO
    events = ask(replies, server, wire.CMD_BLOCK_STATUS, length=20480)
    assert events[0] == Status(events[-1].cookie, ((8192, blank), (4096, 0), (8192, blank)))
    events = ask(replies, server, wire.CMD_BLOCK_STATUS, length=20480, flags=wire.CMD_FLAG_REQ_ONE)
    assert events[0] == Status(events[-1].cookie, ((8192, blank),))


@pytest.mark.parametrize("structured", [True, False])
def test_refused_requests_leave_the_session_usable(structured: bool) -> None:
    """Each bad request gets its errno, its payload is not stored, and the session goes on."""
    replies, server = connected(structured=structured)
    huge = wire.PAYLOAD_BYTES_MAX + 1
    for command, offset, payload, error in (
        (wire.CMD_READ, SIZE_BYTES, b"", wire.EINVAL),
        (wire.CMD_WRITE, SIZE_BYTES - 1, b"xx", wire.ENOSPC),
        (wire.CMD_WRITE, 0, b"x" * huge, wire.ENOSPC),
        (99, 0, b"", wire.EINVAL),
    ):
        length = len(payload) or 1
        events = ask(replies, server, command, offset=offset, length=length, payload=payload)
        assert outcome(events).error == error
        assert outcome(events).message == ("not like this" if structured else "")
    assert outcome(ask(replies, server, wire.CMD_FLUSH)).error == 0
    assert not any(server.disk)


def test_read_only_export_refuses_every_change() -> None:
    """Nothing reaches a read-only export's bytes."""
    replies, server = connected(flags=SERVED | wire.FLAG_READ_ONLY)
    for command, payload in (
        (wire.CMD_WRITE, b"x" * 512),
        (wire.CMD_TRIM, b""),
        (wire.CMD_WRITE_ZEROES, b""),
    ):
        events = ask(replies, server, command, length=512, payload=payload)
        assert outcome(events).error == wire.EPERM
    assert not any(server.disk)


def test_disconnect_of_client_closes_the_server() -> None:
    """DISC ends the connection without a reply."""
    _, server = connected()
    assert server.receive(DISCONNECT) == b""
    assert server.closed


def test_unknown_export_is_not_found() -> None:
    """A name that is not there is NotFound, and ABORT ends the connection in good order."""
    server = MemoryServer(OneExport())
    with pytest.raises(NotFound, match="db1"):
        talk(Opening("db1"), server)
    server.receive(ABORT)
    assert server.closed


@given(
    st.lists(
        st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=3000)),
        min_size=1,
        max_size=6,
    ),
    st.lists(st.integers(1, 2000), min_size=1),
    st.booleans(),
)
def test_round_trip_in_any_split_reads_what_was_written(
    writes: list[tuple[int, bytes]], sizes: list[int], structured: bool
) -> None:
    """I1: pipelined requests, cut anywhere on both ways, read the last bytes written."""
    replies, server = connected(structured=structured)
    expected = bytearray(8192)
    stream = b""
    for offset, data in writes:
        expected[offset : offset + len(data)] = data
        stream += replies.request(wire.CMD_WRITE, offset=offset, length=len(data))[1] + data
    cookie, head = replies.request(wire.CMD_READ, length=len(expected))
    answer = b"".join(server.receive(piece) for piece in cut(stream + head, sizes))
    found = bytearray(len(expected))
    for piece in cut(answer, sizes[::-1]):
        for event in replies.receive(piece):
            if isinstance(event, Data):
                assert event.cookie == cookie
                found[event.offset : event.offset + len(event.data)] = event.data
            elif isinstance(event, Done):
                assert event.error == 0
    assert found == expected
    assert replies.pending == 0
