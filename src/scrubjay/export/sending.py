"""What leaves a connection, from two threads: its own replies, and the flusher's answers.

Nothing comes between the pieces of one reply (I1): an answer that falls due while a long
read is being sent in one chunk waits for the end of it. And nobody touches the socket
any more once `settle` has returned.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Protocol

from scrubjay.base.ports import Buffer
from scrubjay.engine.disk import Disk
from scrubjay.nbd import transmission
from scrubjay.nbd.wire import Cookie

__all__ = ["Sender", "Stream"]


class Stream(Protocol):
    """What a connection needs of a socket."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """Wait for bytes; 0 when the client sends no more."""
        ...

    def sendall(self, data: Buffer, /) -> None:
        """Send everything."""
        ...

    def shutdown(self, how: int, /) -> None:
        """Wake whoever waits for the client, and have nothing more sent to it."""
        ...


class Sender:
    """Sends for one connection; `answer` is called by the flusher, the rest by its own thread."""

    def __init__(self, stream: Stream, disk: Disk) -> None:
        self._stream = stream
        self._disk = disk
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        self._asked = self._answered = 0
        """Requests that the flusher was given, and those of them that came back."""
        self._late = b""
        """Answers that wait for the end of a read."""
        self._midway = False
        """A reply has been sent in part."""

    def send(self, replies: Buffer) -> None:
        """Send replies, or the end of one, and what had to wait for it."""
        with self._lock:
            self._stream.sendall(replies)
            self._midway = False
            if self._late:
                self._send_late(b"")

    def send_part(self, replies: Buffer) -> None:
        """Send replies of which the last goes on."""
        with self._lock:
            self._stream.sendall(replies)
            self._midway = True

    def add(self, replies: bytes) -> None:
        """Send replies as soon as may be."""
        with self._lock:
            self._send_late(replies)

    def expect(self, count: int) -> None:
        """Note that the flusher is being given so many requests."""
        self._asked += count

    def answer(self, cookies: list[Cookie], error: int) -> None:
        """Send simple replies; a sync that the volume was poisoned behind is no success."""
        error = error or self._disk.poisoned
        replies = b"".join([transmission.simple_reply(cookie, error) for cookie in cookies])
        with self._settled:
            try:
                self._send_late(replies)
            except OSError:  # a reply may be out in part: nothing can follow it
                with suppress(OSError):
                    self._stream.shutdown(socket.SHUT_RDWR)
            self._answered += len(cookies)
            self._settled.notify()

    def settle(self) -> None:
        """Wait until all that the flusher was given has come back."""
        with self._settled:
            self._settled.wait_for(lambda: self._asked == self._answered)

    def _send_late(self, replies: bytes) -> None:
        self._late += replies
        if not self._midway:
            late, self._late = self._late, b""
            self._stream.sendall(late)
