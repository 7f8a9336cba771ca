"""A volume being served without a daemon: its disk, its flusher, and clients of two kinds.

A `Script` says what it has to say in receives that the test chose, so that a batch is
exactly what the test means by it. A `Client` sits at the other end of a socket, beside a
connection that runs in a thread of its own.
"""

from __future__ import annotations

import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from random import Random

from scrubjay.base.ports import Buffer, Medium
from scrubjay.base.units import KIB, MIB
from scrubjay.engine.disk import Disk
from scrubjay.export.flushing import Flusher
from scrubjay.export.serving import Connection
from scrubjay.media.simulated import SimulatedMedium
from scrubjay.nbd import wire
from scrubjay.nbd.client import Session
from scrubjay.nbd.exports import SERVED
from scrubjay.nbd.replies import DISCONNECT, Data, Done, Hole, Replies, Status
from scrubjay.nbd.transmission import Rules
from scrubjay.nbd.wire import Cookie
from tests.engine.rig import Keeper, feed, open_disk

__all__ = [
    "PATIENCE_S",
    "Answer",
    "Client",
    "Script",
    "Talk",
    "Upkeep",
    "Volume",
    "Watched",
    "joined",
    "patience",
    "serving",
    "some",
    "status",
    "write_of",
]

PATIENCE_S = 30
"""So long may anything take on a busy machine before a test calls it hung."""


@dataclass(slots=True)
class Answer:
    """How a request ended, and what its replies brought."""

    error: int = -1
    data: bytes = b""
    extents: tuple[tuple[int, int], ...] = ()
    message: str = ""


class Talk:
    """Encodes requests, and matches what the server says to them."""

    def __init__(self, *, size_bytes: int, structured: bool = True, flags: int = SERVED) -> None:
        self.rules = Rules.negotiated(flags, structured=structured, allocation=structured)
        self.size_bytes = size_bytes
        self.answers: dict[Cookie, Answer] = {}
        self.order: list[Cookie] = []
        """In which the requests were done."""
        allocation = wire.ALLOCATION_ID if structured else None
        self._replies = Replies(
            Session(size_bytes, flags, structured, allocation, wire.PAYLOAD_BYTES_MAX)
        )
        self._reads: dict[Cookie, tuple[int, bytearray]] = {}
        self._extents: dict[Cookie, tuple[tuple[int, int], ...]] = {}

    @property
    def pending(self) -> int:
        """Requests without an answer."""
        return self._replies.pending

    def ask(
        self, command: int, *, offset: int = 0, length: int = 0, flags: int = 0
    ) -> tuple[Cookie, bytes]:
        """A request's cookie and header."""
        cookie, head = self._replies.request(command, offset=offset, length=length, flags=flags)
        if command == wire.CMD_READ and length <= self.size_bytes:
            self._reads[cookie] = offset, bytearray(length)
        return cookie, head

    def hear(self, data: Buffer) -> None:
        """Take what the server said."""
        for event in self._replies.receive(data):
            match event:
                case Data(cookie, at, piece):
                    offset, content = self._reads[cookie]
                    content[at - offset : at - offset + len(piece)] = piece
                case Status(cookie, extents):
                    self._extents[cookie] = extents
                case Done(cookie, error, message):
                    content = self._reads.pop(cookie, (0, bytearray()))[1]
                    self.answers[cookie] = Answer(
                        error,
                        b"" if error else bytes(content),
                        self._extents.pop(cookie, ()),
                        message,
                    )
                    self.order.append(cookie)
                case Hole():
                    raise AssertionError("this server sends no holes")


class Script:
    """The socket of a client whose every receive is laid down, and who keeps what it is told."""

    def __init__(self, receives: Iterable[bytes]) -> None:
        self.told = bytearray()
        self.sends: list[bytes] = []
        self.shut = False
        self._receives = deque(memoryview(each) for each in receives)

    @property
    def unheard(self) -> int:
        """Receives that nobody asked for."""
        return len(self._receives)

    def recv_into(self, buffer: memoryview, size_bytes: int = 0, flags: int = 0, /) -> int:
        """Fill the buffer with the next receive, or as much of it as fits; 0 at the end."""
        assert len(buffer), "a receive into nothing would look like a client that has left"
        if not self._receives:
            return 0
        piece = self._receives.popleft()
        size = min(len(buffer), len(piece))
        buffer[:size] = piece[:size]
        if size < len(piece):
            self._receives.appendleft(piece[size:])
        return size

    def sendall(self, data: Buffer, /) -> None:
        """Keep it."""
        assert not self.shut, "nothing is sent to a client that was cut off"
        self.sends.append(bytes(data))
        self.told += data

    def send(self, data: Buffer, flags: int, /) -> int:
        """Keep it, at once."""
        del flags
        self.sendall(data)
        return len(data)

    def shutdown(self, how: int, /) -> None:
        """Take no more."""
        self.shut = True


class Watched(SimulatedMedium):
    """A medium that tells what it is about to do, and counts writes."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.on_read: Callable[[], object] = _nothing
        self.on_sync: Callable[[], object] = _nothing
        self.on_write: Callable[[], object] = _nothing
        self.writes = 0

    def read_into(self, offset_bytes: int, out: memoryview) -> int:
        """Tell, then read."""
        self.on_read()
        return super().read_into(offset_bytes, out)

    def write(self, offset_bytes: int, data: Buffer) -> int:
        """Tell and count, then write."""
        self.on_write()
        self.writes += 1
        return super().write(offset_bytes, data)

    def sync(self, extents: Sequence[tuple[int, int]] | None = None) -> None:
        """Tell, then sync."""
        self.on_sync()
        super().sync(extents)


def _nothing() -> None:
    return


class Upkeep:
    """A steward that leases when it is asked to, in the thread that asks."""

    def __init__(self, disk: Disk, keeper: Keeper) -> None:
        self.waits = 0
        self.leases = True
        """Whether it also leases ahead."""
        self.on_wait: Callable[[], None] = self.feed
        """What it does for a connection that waits."""
        self._disk = disk
        self._keeper = keeper

    def wait_for_space(self) -> None:
        """Lease, or find out that the pool is full."""
        self.waits += 1
        self.on_wait()

    def kick(self) -> None:
        """Lease ahead."""
        if self.leases:
            self.feed()

    def feed(self) -> None:
        """Lease what the disk wants."""
        with self._disk.lock:
            feed(self._disk, self._keeper)


class Volume:
    """One attached volume, and what its exporter puts around it."""

    def __init__(
        self,
        *,
        size_bytes: int = 8 * MIB,
        slots: int = 64,
        medium: Medium | None = None,
        fed: bool = True,
    ) -> None:
        self.keeper = Keeper(slots=slots, size_bytes=size_bytes)
        self.simulated = Watched(self.keeper.medium_bytes)
        self.medium = medium or self.simulated
        self.disk = open_disk(self.medium, self.keeper)
        self.upkeep = Upkeep(self.disk, self.keeper)
        self.complaints: list[str] = []
        self.poisoned: list[str] = []
        self.flusher = Flusher(self.disk.sync, self._poison)
        self._flushing = threading.Thread(target=self.flusher.run, daemon=True)
        self._flushing.start()
        self._clients: list[Client] = []
        if fed:
            self.upkeep.kick()

    def connection(
        self, sock: Script | socket.socket, talk: Talk, *, flusher: Flusher | None = None
    ) -> Connection:
        """The server's end for a client."""
        return Connection(
            sock,
            self.disk,
            talk.rules,
            flusher=flusher or self.flusher,
            upkeep=self.upkeep,
            complain=self.complaints.append,
        )

    def talk(self, *, structured: bool = True, flags: int = SERVED) -> Talk:
        """A client's half of the protocol."""
        return Talk(size_bytes=self.disk.size_bytes, structured=structured, flags=flags)

    def play(self, talk: Talk, *receives: bytes, rest: bytes = b"") -> Script:
        """Serve a script to its end, and let the talk hear the replies."""
        script = Script(receives)
        self.connection(script, talk).run(rest)
        talk.hear(script.told)
        return script

    def client(self, *, structured: bool = True, flags: int = SERVED) -> Client:
        """A client on a socket, being served."""
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE_S)
        client = Client(ours, self.talk(structured=structured, flags=flags))
        client.serve(self.connection(theirs, client.talk), theirs)
        self._clients.append(client)
        return client

    def request(
        self, talk: Talk, command: int, *, offset: int = 0, length: int = 0, flags: int = 0
    ) -> Answer:
        """One request that carries nothing, served by itself."""
        cookie, head = talk.ask(command, offset=offset, length=length, flags=flags)
        self.play(talk, head)
        return talk.answers[cookie]

    def write(self, talk: Talk, offset: int, data: bytes, *, flags: int = 0) -> Answer:
        """One write, served by itself."""
        cookie, head = talk.ask(wire.CMD_WRITE, offset=offset, length=len(data), flags=flags)
        self.play(talk, head + data)
        return talk.answers[cookie]

    def read(self, offset: int, length: int) -> bytes:
        """What the disk says, past all protocol."""
        out = memoryview(bytearray(length))
        with self.disk.lock:
            self.disk.read_bytes(offset, out)
        return bytes(out)

    def close(self) -> None:
        """End every connection and the flusher; nothing may be left running."""
        for client in self._clients:
            client.close()
        self.flusher.close()
        self._flushing.join(PATIENCE_S)
        assert not self._flushing.is_alive(), "the flusher ends once it is closed"

    def _poison(self, reason: str) -> None:
        self.poisoned.append(reason)
        self.disk.poisoned = wire.EIO


@contextmanager
def serving(
    *,
    size_bytes: int = 8 * MIB,
    slots: int = 64,
    medium: Medium | None = None,
    fed: bool = True,
) -> Iterator[Volume]:
    """A volume, closed at the end."""
    volume = Volume(size_bytes=size_bytes, slots=slots, medium=medium, fed=fed)
    try:
        yield volume
    finally:
        volume.close()


class Client:
    """The client's end of a socket."""

    def __init__(self, sock: socket.socket, talk: Talk) -> None:
        self.sock = sock
        self.talk = talk
        self._thread: threading.Thread | None = None

    def serve(self, connection: Connection, theirs: socket.socket) -> None:
        """Run the other end."""

        def run() -> None:
            with theirs:
                try:
                    connection.run()
                except OSError:
                    return  # this client has gone, as some tests have it

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def say(
        self, command: int, *, offset: int = 0, length: int = 0, flags: int = 0, data: bytes = b""
    ) -> Cookie:
        """Send a request; a WRITE is as long as its data."""
        cookie, head = self.talk.ask(
            command, offset=offset, length=length or len(data), flags=flags
        )
        self.send(head + data)
        return cookie

    def send(self, stream: bytes) -> None:
        """Send, and listen meanwhile: a server may stop receiving until its replies are taken."""
        left = memoryview(stream)
        while left:
            readable, writable, _ = select.select([self.sock], [self.sock], [], PATIENCE_S)
            assert readable or writable, "the server neither takes nor says anything"
            if readable:
                self._listen()
            if writable:
                with suppress(BlockingIOError):
                    left = left[self.sock.send(left[: 64 * KIB], socket.MSG_DONTWAIT) :]

    def hear(self, cookie: Cookie) -> Answer:
        """Wait for the answer to a request."""
        while cookie not in self.talk.answers:
            self._listen()
        return self.talk.answers[cookie]

    def _listen(self) -> None:
        data = self.sock.recv(MIB)
        assert data, "the server hung up"
        self.talk.hear(data)

    def ask(
        self, command: int, *, offset: int = 0, length: int = 0, flags: int = 0, data: bytes = b""
    ) -> Answer:
        """Send a request and wait for its answer."""
        return self.hear(self.say(command, offset=offset, length=length, flags=flags, data=data))

    def left_alone(self) -> bytes:
        """What the server still says before it hangs up."""
        said = bytearray()
        while data := self.sock.recv(MIB):
            said += data
        return bytes(said)

    def ends_within(self, timeout_s: float) -> bool:
        """Whether the server is through with this client."""
        assert self._thread is not None, "it is served"
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Leave, and see the server's thread end."""
        if self._thread is not None and self._thread.is_alive():
            with suppress(OSError):  # the server may have hung up already
                self.sock.sendall(DISCONNECT)
        self.sock.close()
        if self._thread is not None:
            self._thread.join(PATIENCE_S)
            assert not self._thread.is_alive(), "a connection ends with its client"


def patience(event: threading.Event) -> None:
    """Wait for what must come."""
    assert event.wait(PATIENCE_S), "it never came"


@cache
def some(length: int, seed: int = 1) -> bytes:
    """Bytes that do not repeat."""
    return Random(seed).randbytes(length)


def write_of(talk: Talk, offset: int, data: bytes, flags: int = 0) -> tuple[Cookie, bytes]:
    """A write with its payload."""
    cookie, head = talk.ask(wire.CMD_WRITE, offset=offset, length=len(data), flags=flags)
    return cookie, head + data


def joined(batch: Sequence[tuple[Cookie, bytes]]) -> bytes:
    """One receive of them all."""
    return b"".join(each for _, each in batch)


def status(script: Sequence[tuple[Cookie, bytes]], talk: Talk) -> list[int]:
    """The errnos of these requests."""
    return [talk.answers[cookie].error for cookie, _ in script]
