"""The request parser: bytes of a client in, events out."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.nbd import wire
from scrubjay.nbd.exports import SERVED
from scrubjay.nbd.requests import (
    Broken,
    Disconnected,
    Event,
    Payload,
    Refused,
    Request,
    Requests,
)
from scrubjay.nbd.transmission import DRAIN_BYTES_MAX, Rules
from scrubjay.nbd.wire import Cookie
from tests.nbd.memory import cut, request

SIZE = 1 << 20
RULES = Rules.negotiated(SERVED, structured=True, allocation=True)
COOKIE = Cookie(7)


def parsed(stream: bytes, sizes: list[int] | None = None, *, rules: Rules = RULES) -> list[Event]:
    """The events of a stream, with each WRITE's payload joined to one piece."""
    requests = Requests(rules, size_bytes=SIZE)
    events: list[Event] = []
    for piece in cut(stream, sizes or []):
        for event in requests.feed(piece):
            before = events[-1] if events else None
            if isinstance(event, Payload) and isinstance(before, Payload) and not before.last:
                assert event.offset == before.offset + len(before.data)
                joined = memoryview(bytes(before.data) + bytes(event.data))
                events[-1] = Payload(event.cookie, before.offset, joined, event.last)
            else:
                events.append(event)
    return events


@pytest.mark.parametrize(
    ("command", "length", "flags"),
    [
        (wire.CMD_READ, 4096, wire.CMD_FLAG_DF),
        (wire.CMD_FLUSH, 0, 0),
        (wire.CMD_TRIM, 4096, wire.CMD_FLAG_FUA),
        (wire.CMD_CACHE, 4096, 0),
        (wire.CMD_WRITE_ZEROES, 4096, wire.CMD_FLAG_NO_HOLE | wire.CMD_FLAG_FAST_ZERO),
        (wire.CMD_BLOCK_STATUS, 4096, wire.CMD_FLAG_REQ_ONE),
    ],
)
def test_request_without_payload_becomes_one_event(command: int, length: int, flags: int) -> None:
    """Fields arrive as sent."""
    stream = request(command, length=length, flags=flags, cookie=(1 << 64) - 1)
    assert parsed(stream) == [Request(command, flags, Cookie((1 << 64) - 1), 0, length)]


def test_write_in_pieces_streams_its_payload() -> None:
    """A WRITE is announced at its header and passed on as it comes, never collected."""
    requests = Requests(RULES, size_bytes=SIZE)
    steps = [
        (requests.feed(piece), requests.idle)
        for piece in (request(wire.CMD_WRITE, offset=512, length=10), b"abcd", b"efghij")
    ]
    assert steps == [
        ([Request(wire.CMD_WRITE, 0, COOKIE, 512, 10)], False),
        ([Payload(COOKIE, 512, memoryview(b"abcd"), last=False)], False),
        ([Payload(COOKIE, 516, memoryview(b"efghij"), last=True)], True),
    ]


def test_header_half_sent_is_kept() -> None:
    """Half a header is no event and not idle; nothing more than it is held."""
    requests = Requests(RULES, size_bytes=SIZE)
    stream = request(wire.CMD_FLUSH)
    steps = [(requests.feed(piece), requests.idle) for piece in (b"", stream[:27], stream[27:])]
    assert steps == [
        ([], True),
        ([], False),
        ([Request(wire.CMD_FLUSH, 0, COOKIE, 0, 0)], True),
    ]


@pytest.mark.parametrize("magic", [0, 0x25609514, 0x12560953, 0x21E41C71, 0x67446698])
def test_magic_unknown_breaks_the_stream(magic: int) -> None:
    """Bytes that are no request end the connection, and nothing behind them is believed."""
    stream = pack(">I", magic) + request(wire.CMD_FLUSH)[4:] + request(wire.CMD_FLUSH)
    (event,) = parsed(stream)
    assert isinstance(event, Broken)
    assert hex(magic) in event.reason


def test_disconnect_of_client_ends_the_stream() -> None:
    """DISC is an event without a reply, and what follows it is not looked at."""
    stream = request(wire.CMD_FLUSH) + request(wire.CMD_DISC) + request(wire.CMD_FLUSH)
    assert parsed(stream) == [Request(wire.CMD_FLUSH, 0, COOKIE, 0, 0), Disconnected()]


@pytest.mark.parametrize("length", [wire.PAYLOAD_BYTES_MAX + 1, DRAIN_BYTES_MAX])
def test_write_oversized_is_drained_then_refused(length: int) -> None:
    """A WRITE past the maximum is dropped unheld and refused, and the next request is served."""
    requests = Requests(RULES, size_bytes=1 << 40)
    assert requests.feed(request(wire.CMD_WRITE, length=length)) == []
    piece = bytes(1 << 20)
    left = length
    while left > len(piece):
        assert requests.feed(piece) == []
        left -= len(piece)
    assert requests.feed(piece[:left] + request(wire.CMD_FLUSH)) == [
        Refused(wire.CMD_WRITE, COOKIE, wire.EINVAL),
        Request(wire.CMD_FLUSH, 0, COOKIE, 0, 0),
    ]


@pytest.mark.parametrize("length", [DRAIN_BYTES_MAX + 1, 0xFFFFFFFF])
def test_write_hopelessly_long_breaks_the_stream(length: int) -> None:
    """A WRITE past what is worth draining ends the connection at its header."""
    (event,) = parsed(request(wire.CMD_WRITE, length=length))
    assert isinstance(event, Broken)
    assert str(length) in event.reason


@pytest.mark.parametrize(
    ("stream", "command", "error"),
    [
        (request(99, length=4096), 99, wire.EINVAL),
        (request(wire.CMD_READ, flags=1 << 15, length=1), wire.CMD_READ, wire.EINVAL),
        (request(wire.CMD_READ, offset=SIZE, length=1), wire.CMD_READ, wire.EINVAL),
        (request(wire.CMD_WRITE, offset=SIZE, length=5) + b"abcde", wire.CMD_WRITE, wire.ENOSPC),
        (request(wire.CMD_WRITE, flags=1 << 9, length=5) + b"abcde", wire.CMD_WRITE, wire.EINVAL),
        (request(wire.CMD_WRITE, length=0), wire.CMD_WRITE, wire.EINVAL),
    ],
)
def test_request_refused_leaves_the_stream_in_step(stream: bytes, command: int, error: int) -> None:
    """A bad request costs its client an errno; its payload is dropped, the next one served."""
    assert parsed(stream + request(wire.CMD_READ, length=1)) == [
        Refused(command, COOKIE, error),
        Request(wire.CMD_READ, 0, COOKIE, 0, 1),
    ]


def test_write_to_read_only_export_is_drained() -> None:
    """A WRITE to a read-only export is EPERM, and its payload is never taken for requests."""
    rules = Rules.negotiated(SERVED | wire.FLAG_READ_ONLY, structured=True, allocation=True)
    inner = request(wire.CMD_FLUSH)
    stream = request(wire.CMD_WRITE, length=len(inner)) + inner
    assert parsed(stream, rules=rules) == [Refused(wire.CMD_WRITE, COOKIE, wire.EPERM)]


WIRED = st.one_of(
    st.builds(
        request,
        st.sampled_from([0, 2, 3, 4, 5, 6, 7, 8, 99]),
        offset=st.integers(0, 2 * SIZE) | st.integers(0, (1 << 64) - 1),
        length=st.integers(0, 2 * SIZE),
        flags=st.integers(0, 31),
    ),
    st.builds(
        lambda offset, flags, data: (
            request(wire.CMD_WRITE, offset=offset, length=len(data), flags=flags) + data
        ),
        st.integers(0, 2 * SIZE),
        st.integers(0, 3),
        st.binary(max_size=200),
    ),
    st.binary(min_size=1, max_size=5),
)


@given(st.lists(WIRED, max_size=10), st.lists(st.integers(1, 100), min_size=1))
def test_requests_in_any_split_are_the_same(stream: list[bytes], sizes: list[int]) -> None:
    """How the network cuts a client's bytes does not change what they mean."""
    joined = b"".join(stream)
    assert parsed(joined, sizes) == parsed(joined)
