"""The pool's keeper as an exporter reaches it: over the channel, across the daemon's restarts.

A daemon that is gone is waited for: `lease`, `group` and `commit` return once some daemon
has answered, and are sent again where the answer was lost. That is safe, because each
says what it knows already: a lease names the highest id that was granted, a commit its
checkpoint, and one of each is under way at a time. So a repeated lease grants what the
lost reply granted, and a repeated commit changes nothing.

A daemon that answers the hello with anything but Unavailable is final: another attachment
has replaced this one, or the volume is no more. Then `on_end` is told, and every call
raises that error from there on.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from scrubjay.base.errors import Denied, ScrubjayError, Unavailable
from scrubjay.base.ids import BranchNo, Entry, LineageNo, SegmentId, Slot, VolumeId
from scrubjay.engine.lessor import Attachment, Checkpoint, Grant, Purged
from scrubjay.export.channel import Channel, Lost, peer_of, receive, send
from scrubjay.export.messages import (
    CHANNEL_VERSION,
    Attached,
    Commit,
    Committed,
    Failed,
    FromDaemon,
    Goodbye,
    Granted,
    Group,
    Hello,
    Lease,
    Message,
    Poisoned,
    error_of,
)

__all__ = ["Identity", "RemoteLessor"]

_HELLO_TIMEOUT_S = 20
"""A daemon that starts may take a while to open its pool."""
_BACKOFF_MIN_S = 0.05
_BACKOFF_MAX_S = 2.0
_DECODER = msgspec.msgpack.Decoder(FromDaemon)

_ReplyT = TypeVar("_ReplyT", bound=Message)


@dataclass(frozen=True, slots=True)
class Identity:
    """What an exporter says of itself; the token is what the daemon believes it for."""

    volume: VolumeId
    epoch: int
    token: bytes

    def __repr__(self) -> str:
        return f"Identity(volume={self.volume}, epoch={self.epoch})"


class RemoteLessor:
    """Implements `Lessor`; every method may be called from any thread but the channel's.

    `on_call` gets what the daemon asks of this exporter, in the channel's thread.
    """

    def __init__(
        self,
        path: Path,
        identity: Identity,
        *,
        on_call: Callable[[Channel[FromDaemon], FromDaemon], None],
        on_end: Callable[[ScrubjayError], None],
    ) -> None:
        self._path = path
        self._identity = identity
        self._on_call = on_call
        self._on_end = on_end
        self._changed = threading.Condition()
        self._channel: Channel[FromDaemon] | None = None
        self._attachment: Attachment | None = None
        self._end: ScrubjayError | None = None
        self._poison = ""
        self._highest = 0
        self._ordered = threading.Lock()
        """Around each lease and each commit: one at a time, so that repeating it is safe."""
        self._pause = threading.Event()
        """Set to end what waits between two attempts to connect."""
        self._thread = threading.Thread(target=self._live, name="channel", daemon=True)

    def attach(self, *, timeout_s: float) -> Attachment:
        """Find the daemon, and return what it says of the volume."""
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._attachment or self._end, timeout_s)
            if self._end:
                raise self._end
            if self._attachment is None:
                raise Unavailable(f"daemon at {self._path}: no answer, expected an attachment")
            self._highest = self._attachment.next_segment - 1
            return self._attachment

    def lease(self, count: int) -> Sequence[Grant]:
        """Lease up to `count` new segments; see Lessor."""
        with self._ordered:
            grants = self._grants(Lease(count=count, above=self._highest))
            self._highest = max([self._highest, *(grant.segment for grant in grants)])
            return grants

    def group(self, group: int) -> Sequence[Grant]:
        """Return the grants of one group of the directory; see Lessor."""
        return self._grants(Group(group=group))

    def commit(self, checkpoint: Checkpoint, *, freed: Sequence[SegmentId]) -> int:
        """Name a new checkpoint and free segments; see Lessor."""
        said = checkpoint.purged
        purged = said or Purged()
        call = Commit(
            root=checkpoint.root,
            flushed=checkpoint.flushed,
            clean=checkpoint.clean,
            live_sectors=checkpoint.live_sectors,
            freed=tuple(freed),
            filled=checkpoint.filled,
            purged=None if said is None else said.stripes,
            dead_since_s=purged.dead_since_s,
            waiting_since_s=purged.waiting_since_s,
            purge_moved_bytes=purged.moved_bytes,
        )
        with self._ordered:
            return self._call(call, Committed).free_percent

    def poisoned(self, reason: str) -> None:
        """Tell the daemon that the medium failed, now and after each of its restarts."""
        with self._changed:
            self._poison = reason[:4096]
            channel = self._channel
        if channel is not None:
            self._report_poison(channel)

    def close(self, reason: str) -> None:
        """Say goodbye if somebody listens; every call raises from here on."""
        with self._changed:
            self._end = self._end or Unavailable(f"channel: closed, {reason}")
            channel = self._channel
            self._changed.notify_all()
        self._pause.set()
        if channel is not None:
            try:
                channel.send(Goodbye(reason=reason))
            except Lost:
                return
            channel.close()

    # --- Calls -----------------------------------------------------------------------

    def _grants(self, call: Message) -> list[Grant]:
        return [
            Grant(
                SegmentId(each.segment),
                None if each.slot is None else Slot(each.slot),
                each.key,
                each.stripes,
                clean=each.clean,
            )
            for each in self._call(call, Granted).segments
        ]

    def _call(self, call: Message, reply: type[_ReplyT]) -> _ReplyT:
        """Call some daemon until one has answered."""
        while True:
            channel = self._connected()
            try:
                return channel.call(call, reply, timeout_s=None)
            except Lost:
                with self._changed:
                    if self._channel is channel:  # its thread is about to find out
                        self._channel = None

    def _connected(self) -> Channel[FromDaemon]:
        with self._changed:
            self._changed.wait_for(lambda: self._channel or self._end)
            if self._end:
                raise self._end
            assert self._channel is not None, "what was waited for"
            return self._channel

    def _report_poison(self, channel: Channel[FromDaemon]) -> None:
        try:
            channel.send(Poisoned(reason=self._poison))
        except Lost:
            return  # the next hello repeats it

    # --- The channel's thread --------------------------------------------------------

    def _live(self) -> None:
        """Run, and let nobody wait for a channel that has no thread any more."""
        try:
            self._run()
        finally:
            if not self._end:
                self._finish(Unavailable("channel: its thread broke, expected it to go on"))

    def _run(self) -> None:
        backoff_s = _BACKOFF_MIN_S
        while not self._end:
            since_s = time.monotonic()
            try:
                channel = self._connect()
            except (OSError, Unavailable):
                pass
            except ScrubjayError as error:
                self._finish(error)
                return
            else:
                channel.run()
                with self._changed:
                    if self._channel is channel:
                        self._channel = None
            if time.monotonic() - since_s > _BACKOFF_MAX_S:  # it was there, for a while
                backoff_s = _BACKOFF_MIN_S
            self._pause.wait(backoff_s)
            backoff_s = min(2 * backoff_s, _BACKOFF_MAX_S)

    def _connect(self) -> Channel[FromDaemon]:
        """Return a channel on which the daemon has accepted the hello."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(_HELLO_TIMEOUT_S)
            connection.connect(str(self._path))
            peer_of(connection)
            attachment = self._hello(connection)
            connection.settimeout(None)
        except BaseException:
            connection.close()
            raise
        channel = Channel(connection, _DECODER, self._on_call, replies=(Granted, Committed))
        with self._changed:
            self._channel = channel
            self._attachment = self._attachment or attachment
            poisoned = bool(self._poison)
            self._changed.notify_all()
        if poisoned:
            self._report_poison(channel)
        return channel

    def _hello(self, connection: socket.socket) -> Attachment:
        who = self._identity
        send(
            connection,
            Hello(version=CHANNEL_VERSION, volume=who.volume, epoch=who.epoch, token=who.token),
        )
        try:
            answer = receive(connection, _DECODER)
        except Denied as error:
            raise Unavailable(error.message) from None
        if isinstance(answer, Failed):
            raise error_of(answer)
        if not isinstance(answer, Attached):
            raise Unavailable("hello: answered by nothing, or by something else")
        return _attachment(answer)

    def _finish(self, error: ScrubjayError) -> None:
        with self._changed:
            self._end = error
            self._changed.notify_all()
        self._on_end(error)


def _attachment(said: Attached) -> Attachment:
    return Attachment(
        volume=VolumeId(said.volume),
        name=said.name,
        lineage=LineageNo(said.lineage),
        branch=BranchNo(said.branch),
        epoch=said.epoch,
        size_bytes=said.size_bytes,
        checkpoint=Checkpoint(
            root=Entry(said.root),
            flushed=said.flushed,
            clean=said.clean,
            live_sectors=said.live_sectors,
        ),
        next_segment=SegmentId(said.next_segment),
        purge_within_s=said.purge_within_s,
        waiting_since_s=said.waiting_since_s,
        created_s=said.created_s,
    )
