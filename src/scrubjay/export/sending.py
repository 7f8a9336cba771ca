"""What leaves a connection, from two threads: its own replies, and the flusher's answers.

Nothing comes between the pieces of one reply (I1): an answer that falls due while a long
read is being sent in one chunk waits for the end of it. The flusher, which answers every
client of the volume, waits for none of them: what a client does not take at once is sent
by another thread. And nobody touches the socket any more once `settle` has returned.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Protocol

from scrubjay.base.ports import Buffer
from scrubjay.engine.disk import Disk
from scrubjay.nbd import transmission, wire
from scrubjay.nbd.wire import Cookie

__all__ = ["Sender", "Stream"]

_UNSENT_MAX = 1 << 16
"""Answers that one client may have coming from the flusher before it is heard again."""


class Stream(Protocol):
    """What a connection needs of a socket."""

    def recv_into(self, buffer: memoryview, size_bytes: int, flags: int, /) -> int:
        """Wait for bytes, with MSG_DONTWAIT for none; 0 when the client sends no more."""
        ...

    def send(self, data: Buffer, flags: int, /) -> int:
        """Send, with MSG_DONTWAIT, what is taken at once; return how much that is."""
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
        self._changed = threading.Condition()
        self._asked = self._answered = 0
        """Requests that the flusher was given, and those of them that came back."""
        self._late = b""
        """Answers for whoever is sending to take along, or for the end of a read."""
        self._sending = False
        """Some thread is at the socket, and no other may be."""
        self._midway = False
        """A reply has been sent in part."""
        self._broken = False
        """It may have been left in part: nothing can follow it."""

    def send(self, replies: Buffer) -> None:
        """Send replies, or the end of one, and what had to wait for it."""
        self._send(replies, part=False)

    def send_part(self, replies: Buffer) -> None:
        """Send replies of which the last goes on."""
        self._send(replies, part=True)

    def add(self, replies: bytes) -> None:
        """Send replies as soon as may be."""
        if late := self._claim(replies):
            self._push(late)

    def expect(self, count: int) -> None:
        """Note that the flusher is being given so many requests, once it is not too many."""
        with self._changed:
            self._changed.wait_for(lambda: self._midway or self._unsent() < _UNSENT_MAX)
            self._asked += count

    def answer(self, cookies: list[Cookie], error: int) -> None:
        """Send simple replies; a sync that the volume was poisoned behind is no success."""
        error = error or self._disk.poisoned
        replies = b"".join([transmission.simple_reply(cookie, error) for cookie in cookies])
        late = self._claim(replies, answered=len(cookies))
        if not late:
            return
        try:
            with suppress(BlockingIOError):
                late = late[self._stream.send(late, socket.MSG_DONTWAIT) :]
            if late:
                threading.Thread(target=self._push_alone, args=(late,), daemon=True).start()
            else:
                self._push(b"")
        except (OSError, RuntimeError):  # gone, or no thread to be had
            self._cut_off()

    def settle(self) -> None:
        """Wait until all that the flusher was given has come back, and nobody sends."""
        with self._changed:
            self._changed.wait_for(lambda: self._asked == self._answered and not self._sending)

    # --- private ------------------------------------------------------------------

    def _unsent(self) -> int:
        return self._asked - self._answered + len(self._late) // wire.SIMPLE_REPLY.size

    def _send(self, replies: Buffer, *, part: bool) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._sending)
            self._sending = True
        self._push(replies, part=part)

    def _claim(self, replies: bytes, *, answered: int = 0) -> bytes:
        """Leave replies to whoever is sending, b"", or be the one who sends them."""
        with self._changed:
            self._answered += answered
            self._changed.notify_all()
            if self._broken:
                return b""
            self._late += replies
            if self._sending or self._midway:
                return b""
            self._sending = True
            late, self._late = self._late, b""
            return late

    def _push(self, replies: Buffer, *, part: bool = False) -> None:
        """Send, with what comes in meanwhile, and let go of the socket."""
        try:
            while True:
                if len(replies):
                    self._stream.sendall(replies)
                with self._changed:
                    self._midway = part
                    if part or not self._late:
                        self._let_go()
                        return
                    replies, self._late = self._late, b""
        except BaseException:
            self._cut_off()
            raise

    def _push_alone(self, replies: bytes) -> None:
        """Send for the flusher; the body of a thread."""
        with suppress(OSError):  # its own thread hears of it as well
            self._push(replies)

    def _cut_off(self) -> None:
        """End it: a reply may be out in part."""
        with suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)
        with self._changed:
            self._broken, self._late = True, b""
            self._let_go()

    def _let_go(self) -> None:
        self._sending = False
        self._changed.notify_all()
