"""One connection between daemon and exporter: frames, and calls in both directions.

A frame is a u32le length and that many bytes of one message. Whatever arrives that is not
a message of the peer's kind ends this connection and nothing else. Frames may hold keys:
they are overwritten once they are sent, or decoded.
"""

from __future__ import annotations

import os
import queue
import socket
import struct
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from scrubjay.base.errors import Denied, Unavailable
from scrubjay.export.messages import Done, Failed, Message, decoded, error_of

__all__ = ["FRAME_BYTES_MAX", "Channel", "Lost", "peer_of", "receive", "send"]

FRAME_BYTES_MAX = 8 << 20
"""The longest message is a commit that frees every segment of a volume of 16 TiB."""
_SEND_TIMEOUT_S = 10
"""A peer that takes nothing for so long is as good as gone."""
_LENGTH = struct.Struct("<I")
_PEER = struct.Struct("iII")
_ENCODER = msgspec.msgpack.Encoder()

_IncomingT = TypeVar("_IncomingT", bound=Message)
_ReplyT = TypeVar("_ReplyT", bound=Message)


class Lost(Unavailable):
    """The connection ended before the reply: whether the call was obeyed is not known."""


def peer_of(connection: socket.socket) -> int:
    """Return the process id of the peer; Denied unless it runs as our own user."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    pid, uid, _ = _PEER.unpack(raw)
    if uid != os.geteuid():
        raise Denied(f"process {pid}: runs as user {uid}, expected {os.geteuid()}")
    return int(pid)


def send(connection: socket.socket, message: Message) -> None:
    """Send one message; OSError where the peer is gone, or takes nothing."""
    frame = bytearray()
    _ENCODER.encode_into(message, frame, _LENGTH.size)
    try:
        _LENGTH.pack_into(frame, 0, len(frame) - _LENGTH.size)
        connection.sendall(frame)
    finally:
        _overwrite(frame)


def receive(
    connection: socket.socket, decoder: msgspec.msgpack.Decoder[_IncomingT]
) -> _IncomingT | None:
    """Return the next message; None where the peer ended the connection between two.

    Raises Denied for what is no message of the peer's, OSError as the system does.
    """
    head = bytearray(_LENGTH.size)
    got = _fill(connection, head)
    if not got:
        return None
    (length,) = _LENGTH.unpack(head)
    if got < len(head) or not 0 < length <= FRAME_BYTES_MAX:
        raise Denied(f"frame: {length} bytes, expected 1 to {FRAME_BYTES_MAX}")
    frame = bytearray(length)
    try:
        if _fill(connection, frame) < length:
            raise Denied(f"frame: ended early, expected {length} bytes")
        return decoded(decoder, frame)
    finally:
        _overwrite(frame)


class Channel(Generic[_IncomingT]):
    """Calls out, from any thread; calls in, handed to `serve` in the thread that runs `run`.

    `serve` answers with `send`, at once or later and from another thread; while it works,
    no reply is read, so it must not `call`.
    """

    def __init__(
        self,
        connection: socket.socket,
        decoder: msgspec.msgpack.Decoder[_IncomingT],
        serve: Callable[[Channel[_IncomingT], _IncomingT], None],
        *,
        replies: tuple[type[Message], ...],
    ) -> None:
        self._connection = connection
        self._decoder = decoder
        self._serve = serve
        self._replies: tuple[type[Message], ...] = (Done, Failed, *replies)
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[Message | None]] = {}
        self._last_id = 0
        self._over = False
        timeout = struct.pack("ll", _SEND_TIMEOUT_S, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)

    def call(self, message: Message, reply: type[_ReplyT], *, timeout_s: float | None) -> _ReplyT:
        """Send a call and return its reply.

        Raises the error that the peer answered with, Lost where the connection ends first,
        Unavailable where `timeout_s` passes first, Denied for a reply of another kind.
        """
        box: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        with self._lock:
            if self._over:
                raise Lost("channel: ended, expected a peer")
            self._last_id += 1
            number = self._last_id
            self._waiting[number] = box
        try:
            self.send(msgspec.structs.replace(message, id=number))
            answer = box.get(timeout=timeout_s)
        except queue.Empty:
            what = type(message).__name__.lower()
            raise Unavailable(f"channel: no answer to {what}, expected one in time") from None
        finally:
            with self._lock:
                self._waiting.pop(number, None)
        if answer is None:
            raise Lost("channel: ended, expected a reply")
        if isinstance(answer, Failed):
            raise error_of(answer)
        if not isinstance(answer, reply):
            self.close()
            raise Denied(f"reply: {type(answer).__name__}, expected {reply.__name__}")
        return answer

    def send(self, message: Message) -> None:
        """Send a reply, or a call that nobody waits for; Lost where the peer is gone."""
        try:
            with self._sending:
                send(self._connection, message)
        except OSError as error:  # half a frame may be out: nothing can follow it
            self.close()
            raise Lost(f"channel: {error.strerror}, expected a peer that reads") from None

    def run(self) -> str:
        """Read until the connection ends; return why it did."""
        why = "the peer closed it"
        try:
            while (message := receive(self._connection, self._decoder)) is not None:
                if isinstance(message, self._replies):
                    self._deliver(message)
                else:
                    self._serve(self, message)
        except (Denied, Lost) as error:
            why = error.message
        except OSError as error:
            why = str(error.strerror)
        finally:
            self._end()
        return why

    def close(self) -> None:
        """End the connection; `run` returns, and who waits hears Lost."""
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has ended already

    def _deliver(self, message: Message) -> None:
        with self._lock:
            box = self._waiting.get(message.id)
        if box is not None:  # else its caller has stopped waiting
            box.put(message)

    def _end(self) -> None:
        with self._lock:
            self._over = True
            waiting = list(self._waiting.values())
        for box in waiting:
            box.put(None)
        self.close()  # first, so that a send that hangs lets go
        with self._sending:
            self._connection.close()


def _fill(connection: socket.socket, buffer: bytearray) -> int:
    """Receive until `buffer` is full or the peer ends; return how many bytes came."""
    got = 0
    with memoryview(buffer) as view:
        while got < len(buffer):
            size = connection.recv_into(view[got:])
            if not size:
                break
            got += size
    return got


def _overwrite(frame: bytearray) -> None:
    frame[:] = bytes(len(frame))
