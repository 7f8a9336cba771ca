"""Frames and calls: nothing but a message of the peer's kind gets through, and no call hangs."""

from __future__ import annotations

import os
import socket
import struct
import threading
import uuid
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.errors import Conflict, Denied, NoSpace, Unavailable
from scrubjay.export.channel import FRAME_BYTES_MAX, Channel, Lost, peer_of, receive, send
from scrubjay.export.messages import (
    Done,
    Failed,
    Fork,
    FromDaemon,
    FromExporter,
    Granted,
    Hello,
    Lease,
    Message,
    Segment,
    Statistics,
    Stop,
    error_of,
    failure,
)
from tests.export.rig import until

_DAEMON = msgspec.msgpack.Decoder(FromDaemon)
_EXPORTER = msgspec.msgpack.Decoder(FromExporter)

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two ends of a connection."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    theirs.settimeout(10)
    with ours, theirs:
        yield ours, theirs


@given(st.binary(max_size=200))
def test_frame_of_random_bytes_is_refused(garbage: bytes) -> None:
    """Whatever bytes a frame holds, they are a message or Denied, and nothing else happens."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(struct.pack("<I", len(garbage)) + garbage)
        theirs.shutdown(socket.SHUT_WR)
        try:
            message = receive(ours, _EXPORTER)
        except Denied:
            return
        assert message is not None


@pytest.mark.parametrize(
    "raw",
    [
        b"\x01",
        struct.pack("<I", 0),
        struct.pack("<I", FRAME_BYTES_MAX + 1),
        struct.pack("<I", 0xFFFFFFFF) + bytes(100),
        struct.pack("<I", 10) + b"short",
        struct.pack("<I", 3) + msgspec.msgpack.encode([0]) + b"\xc1",
        struct.pack("<I", 9) + b"\x91" * 9,
    ],
    ids=["half a length", "empty", "too long", "huge", "ends early", "trailing bytes", "nested"],
)
def test_frame_malformed_is_denied(pair: Pair, raw: bytes) -> None:
    """A frame that is no frame is Denied before its length is believed."""
    ours, theirs = pair
    theirs.sendall(raw)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(Denied):
        receive(ours, _EXPORTER)


def test_frame_of_the_other_direction_is_denied(pair: Pair) -> None:
    """An exporter cannot say what only the daemon says."""
    ours, theirs = pair
    send(theirs, Stop(id=1))
    with pytest.raises(Denied):
        receive(ours, _EXPORTER)


def test_frame_end_between_frames_is_no_error(pair: Pair) -> None:
    """A peer that leaves between two frames has left, and that is all."""
    ours, theirs = pair
    send(theirs, Done(id=1))
    theirs.close()
    assert receive(ours, _DAEMON) == Done(id=1)
    assert receive(ours, _DAEMON) is None


def test_message_printed_shows_no_secret() -> None:
    """I2: a token or a key is in no message's text, so that no log can hold it."""
    secret = b"secret-secret-secret-secret-1234"
    hello = Hello(version=1, volume=uuid.UUID(int=1), epoch=1, token=secret)
    segment = Segment(segment=1, slot=2, key=secret, stripes=((3, secret),))
    fork = Fork(
        volume=uuid.UUID(int=1), epoch=1, token=secret,
        pool="/p", channel="/c", lock="/l", socket="/s", gid=None,
    )  # fmt: skip
    for each in (hello, segment, Granted(segments=(segment,)), fork):
        assert "secret" not in f"{each!r} {each}"


def test_peer_of_own_user_is_known(pair: Pair) -> None:
    """A peer of our own user is told by its process id."""
    assert peer_of(pair[0]) == os.getpid()


class _Ends:
    """A channel of the daemon's side and one of the exporter's, both running."""

    def __init__(self, pair: Pair) -> None:
        for end in pair:
            end.settimeout(None)
        self.seen: list[object] = []
        self.answer = True
        self.daemon = Channel(pair[0], _EXPORTER, self._on_call, replies=(Statistics,))
        self.exporter = Channel(pair[1], _DAEMON, self._on_call, replies=(Granted,))
        self.threads = [threading.Thread(target=each.run) for each in (self.daemon, self.exporter)]
        for each in self.threads:
            each.start()

    def _on_call(self, channel: Channel[FromExporter] | Channel[FromDaemon], call: Message) -> None:
        self.seen.append(call)
        if not self.answer:
            return
        if isinstance(call, Lease):
            segment = Segment(segment=call.above + 1, slot=0, key=bytes(32))
            channel.send(Granted(id=call.id, segments=(segment,)))
        else:
            channel.send(Done(id=call.id))

    def end(self) -> None:
        self.daemon.close()
        for each in self.threads:
            each.join()


@pytest.fixture
def ends(pair: Pair) -> Iterator[_Ends]:
    """Both ends at work."""
    made = _Ends(pair)
    yield made
    made.end()


def test_channel_calls_both_ways_find_their_replies(ends: _Ends) -> None:
    """Calls from many threads in both directions each get the reply to their own id."""
    wrong: list[int] = []

    def lease(first: int) -> None:
        for above in range(first, first + 50):
            got = ends.exporter.call(Lease(count=1, above=above), Granted, timeout_s=10)
            if got.segments[0].segment != above + 1:
                wrong.append(above)
            ends.daemon.call(Stop(), Done, timeout_s=10)

    threads = [threading.Thread(target=lease, args=(1000 * n,)) for n in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong
    assert len(ends.seen) == 400


def test_channel_end_while_waiting_is_lost(ends: _Ends) -> None:
    """Who waits for a reply when the connection ends hears Lost, and so does who calls later."""
    ends.answer = False
    heard: list[Exception] = []

    def wait() -> None:
        try:
            ends.exporter.call(Lease(count=1, above=0), Granted, timeout_s=None)
        except Lost as error:
            heard.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: bool(ends.seen))
    ends.daemon.close()
    thread.join()
    assert len(heard) == 1
    ends.threads[1].join()
    with pytest.raises(Lost):
        ends.exporter.call(Lease(count=1, above=0), Granted, timeout_s=None)


def test_channel_silent_peer_is_unavailable(ends: _Ends) -> None:
    """A call with a limit does not outlast it, and a late reply disturbs nobody."""
    ends.answer = False
    with pytest.raises(Unavailable, match="no answer to stop"):
        ends.daemon.call(Stop(), Done, timeout_s=0.01)
    ends.answer = True
    ends.exporter.send(Done(id=1))
    assert ends.daemon.call(Stop(), Done, timeout_s=10).id == 2


def test_channel_unread_peer_does_not_hold_us_forever(pair: Pair) -> None:
    """Sending to a peer that reads nothing ends with Lost, not with a thread that hangs."""
    for each in pair:
        each.settimeout(None)
    channel = Channel(pair[0], _EXPORTER, lambda _channel, _call: None, replies=(Statistics,))
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 10_000))
    with pytest.raises(Lost):
        _send_forever(channel)


def _send_forever(channel: Channel[FromExporter]) -> None:
    while True:
        channel.send(failure(Conflict("x" * 4000)))


@pytest.mark.parametrize("error", [NoSpace("full", hint="free"), Conflict("other"), Denied("no")])
def test_failure_over_the_channel_is_the_same_error(error: NoSpace | Conflict | Denied) -> None:
    """An error keeps its class, its message and its hint on the way."""
    back = error_of(failure(error, to=3))
    assert (type(back), back.message, back.hint) == (type(error), error.message, error.hint)


def test_failure_of_an_unknown_code_is_unavailable() -> None:
    """An error class that only a newer peer knows is still an error."""
    assert type(error_of(Failed(code="novel", message="m", hint=""))) is Unavailable
