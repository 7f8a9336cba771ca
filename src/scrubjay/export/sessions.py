"""The daemon's side of the channel: exporters say hello, lease and commit; a thread each.

Who may speak: a process of the daemon's own user (SO_PEERCRED) that holds the lock of
its volume, as that lock's file says, and knows the token whose digest stands there
(lockfile.py). So exporters are recognised by a daemon that did not start them, and
nothing secret is stored for it. A connection that says anything else is closed, and
nothing but that connection is lost.

Of one volume at most one connection counts, the last to say hello: a call that came over
an earlier one and was not begun yet is dropped, so that no commit that was sent again can
arrive behind the one that followed it.
"""

from __future__ import annotations

import hmac
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from scrubjay.base.errors import Conflict, Denied, ScrubjayError, Unavailable
from scrubjay.base.ids import Entry, SegmentId, VolumeId
from scrubjay.engine.lessor import Attachment, Checkpoint, Grant, Purged
from scrubjay.export import lockfile
from scrubjay.export.channel import Channel, Lost, peer_of, receive
from scrubjay.export.messages import (
    CHANNEL_VERSION,
    Attached,
    Commit,
    Committed,
    FromExporter,
    Goodbye,
    Granted,
    Group,
    Hello,
    Lease,
    Message,
    Poisoned,
    Segment,
    Statistics,
    failure,
)

__all__ = ["Leases", "Session", "Sessions"]

_HELLO_TIMEOUT_S = 10
_BACKLOG = 256
_CONNECTIONS_MAX = 4096
_ACCEPT_PAUSE_S = 0.1
_DECODER = msgspec.msgpack.Decoder(FromExporter)
_log = structlog.get_logger(__name__)


class Leases(Protocol):
    """What a volume asks of the pool, as the daemon answers it (control/leases.py).

    Called from one thread per exporter; of one volume, one call at a time. Every method
    raises Conflict unless `epoch` is the volume's attach epoch, NotFound or Denied where
    the volume is no more or is withheld: all of these end the exporter. Unavailable makes
    it try again later.

    The exporter sends a call again when the reply was lost, so:

    * `lease` first grants what the volume's branch has been leased with ids above
      `above`, the highest id that the exporter was granted; only where there is nothing
      it leases anew;
    * `commit` of the checkpoint that the volume already has changes nothing, and segments
      in `freed` that have no slot any more are passed over.

    No method may need a lock that its daemon holds while it calls `Exporters.detach` or
    `kill`: a detaching exporter commits before it answers.
    """

    def attachment(self, volume: VolumeId, epoch: int) -> Attachment:
        """Return what the exporter is told of its volume; again at each reconnection."""
        ...

    def lease(
        self, volume: VolumeId, epoch: int, *, count: int, above: SegmentId
    ) -> Sequence[Grant]:
        """Lease up to `count` segments, at least one; NoSpace where there is none."""
        ...

    def group(self, volume: VolumeId, epoch: int, group: int) -> Sequence[Grant]:
        """Return the grants of a group of the directory; empty where it has none."""
        ...

    def commit(
        self, volume: VolumeId, epoch: int, checkpoint: Checkpoint, *, freed: Sequence[SegmentId]
    ) -> int:
        """Name a checkpoint and free segments, in one durable commit; percent free then."""
        ...


class Session:
    """An exporter that said hello, for as long as its connection lasts."""

    def __init__(self, hello: Hello, *, pid: int, channel: Channel[FromExporter]) -> None:
        self.volume = VolumeId(hello.volume)
        self.epoch = hello.epoch
        self.pid = pid
        self.channel = channel
        self.leaving = False
        """Its end is no surprise."""


class Sessions:
    """Listens for exporters, and knows those that are connected."""

    def __init__(
        self,
        path: Path,
        leases: Leases,
        lock_path: Callable[[VolumeId], Path],
        *,
        on_poisoned: Callable[[VolumeId, str], None],
    ) -> None:
        self._path = path
        self._leases = leases
        self._lock_path = lock_path
        self._on_poisoned = on_poisoned
        self._changed = threading.Condition()
        self._sessions: dict[VolumeId, Session] = {}
        self._orders: dict[VolumeId, threading.Lock] = {}
        self._connections: set[socket.socket] = set()
        self._closed = False
        self._listener = _listener(path)
        self._thread = threading.Thread(target=self._accept, name="exporters", daemon=True)
        self._thread.start()

    def wait_for(self, volume: VolumeId, *, timeout_s: float) -> Session | None:
        """Return the session of a volume, once there is one; None when time is up."""
        with self._changed:
            return self._changed.wait_for(lambda: self._sessions.get(volume), timeout_s)

    def all(self) -> list[Session]:
        """Return the sessions that there are now."""
        with self._changed:
            return list(self._sessions.values())

    def close(self) -> None:
        """Stop listening and end every connection; exporters go on, and come again."""
        with self._changed:
            self._closed = True
            connections = list(self._connections)
        for each in (self._listener, *connections):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it has ended already
        self._thread.join()
        self._listener.close()
        self._path.unlink(missing_ok=True)

    # --- Connections -----------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if self._closed:
                    return
                _log.error("exporter.refused", reason=error.strerror)
                time.sleep(_ACCEPT_PAUSE_S)  # no descriptors: those that are there go on
                continue
            with self._changed:
                if self._closed or len(self._connections) >= _CONNECTIONS_MAX:
                    connection.close()
                    continue
                self._connections.add(connection)
            threading.Thread(
                target=self._serve, args=(connection,), name="exporter", daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        """Serve one connection to its end; the body of a thread."""
        session = None
        why = "refused"
        try:
            session = self._greet(connection)
            if session is not None:
                why = session.channel.run()
        except (Denied, OSError) as error:
            why = str(error)
            _log.warning("exporter.refused", reason=why)
        finally:
            connection.close()
            with self._changed:
                self._connections.discard(connection)
                if session is not None and self._sessions.get(session.volume) is session:
                    del self._sessions[session.volume]
                self._changed.notify_all()
        if session is not None and not session.leaving and not self._closed:
            _log.warning("exporter.lost", volume=str(session.volume), pid=session.pid, reason=why)

    def _greet(self, connection: socket.socket) -> Session | None:
        """Return a session for who says hello rightly; None where it was told why not."""
        pid = peer_of(connection)
        connection.settimeout(_HELLO_TIMEOUT_S)
        hello = receive(connection, _DECODER)
        connection.settimeout(None)
        if not isinstance(hello, Hello):
            raise Denied(f"process {pid}: said no hello, expected one")
        channel = Channel(connection, _DECODER, self._obey, replies=(Statistics,))
        session = Session(hello, pid=pid, channel=channel)
        try:
            self._admit(hello, session)
        except Lost:
            return None
        except ScrubjayError as error:
            _log.warning("exporter.refused", volume=str(hello.volume), pid=pid, reason=str(error))
            channel.send(failure(error, to=hello.id))
            return None
        return session

    def _admit(self, hello: Hello, session: Session) -> None:
        """Believe a hello, answer it, and let it be the volume's one session."""
        volume = session.volume
        if hello.version != CHANNEL_VERSION:
            raise Unavailable(
                f"volume {volume}: exporter speaks version {hello.version}, expected"
                f" {CHANNEL_VERSION}",
                hint="detach and attach the volume, so that both are of one version",
            )
        holder = lockfile.holder(self._lock_path(volume))
        known = holder is not None and (
            hmac.compare_digest(holder.token_digest, lockfile.digest(hello.token))
            and (holder.pid, holder.epoch) == (session.pid, hello.epoch)
        )
        if not known:
            raise Denied(f"volume {volume}: process {session.pid} is not the holder of its lock")
        with self._order(volume):
            attachment = self._leases.attachment(volume, hello.epoch)
            session.channel.send(_attached(attachment, to=hello.id))  # before any call of ours
            with self._changed:
                earlier = self._sessions.get(volume)
                self._sessions[volume] = session
                self._changed.notify_all()
        if earlier is not None:
            earlier.channel.close()

    # --- Calls -----------------------------------------------------------------------

    def _obey(self, channel: Channel[FromExporter], call: FromExporter) -> None:
        """Answer one call of an exporter."""
        session = next((each for each in self.all() if each.channel is channel), None)
        if session is None:
            raise Lost("channel: replaced by a later one")
        with self._order(session.volume):
            if self._sessions.get(session.volume) is not session:
                raise Lost("channel: replaced by a later one")
            try:
                answer = self._answer(session, call)
            except ScrubjayError as error:
                answer = failure(error, to=call.id)
        if answer is not None:
            channel.send(answer)

    def _answer(self, session: Session, call: FromExporter) -> Message | None:
        volume, epoch, leases = session.volume, session.epoch, self._leases
        match call:
            case Lease():
                grants = leases.lease(volume, epoch, count=call.count, above=SegmentId(call.above))
                return _granted(grants, to=call.id)
            case Group():
                return _granted(leases.group(volume, epoch, call.group), to=call.id)
            case Commit():
                filled = tuple(SegmentId(segment) for segment in call.filled)
                checkpoint = Checkpoint(
                    Entry(call.root),
                    call.flushed,
                    call.clean,
                    call.live_sectors,
                    filled,
                    _purged(call),
                )
                freed = [SegmentId(segment) for segment in call.freed]
                free_percent = leases.commit(volume, epoch, checkpoint, freed=freed)
                return Committed(id=call.id, free_percent=free_percent)
            case Poisoned():
                _log.error("volume.poisoned", volume=str(volume), reason=call.reason)
                self._on_poisoned(volume, call.reason)
                return None
            case Goodbye():
                session.leaving = True
                _log.info("exporter.ended", volume=str(volume), reason=call.reason)
                return None
            case _:
                raise Conflict(f"exporter of {volume}: said hello twice, expected once")

    def _order(self, volume: VolumeId) -> threading.Lock:
        """Return the lock that puts the calls of one volume in a row."""
        with self._changed:
            return self._orders.setdefault(volume, threading.Lock())


def _listener(path: Path) -> socket.socket:
    """Listen at `path`, in the place of a socket that an earlier daemon left there."""
    path.unlink(missing_ok=True)  # the home's lock is ours, so nobody listens there
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _purged(call: Commit) -> Purged | None:
    if call.purged is None:
        return None
    return Purged(
        tuple((SegmentId(segment), stripes) for segment, stripes in call.purged),
        call.dead_since_s,
        call.waiting_since_s,
        call.purge_moved_bytes,
    )


def _granted(grants: Sequence[Grant], *, to: int) -> Granted:
    return Granted(
        id=to,
        segments=tuple(
            Segment(
                segment=each.segment,
                slot=each.slot,
                key=each.key,
                stripes=each.stripes,
                clean=each.clean,
            )
            for each in grants
        ),
    )


def _attached(attachment: Attachment, *, to: int) -> Attached:
    checkpoint = attachment.checkpoint
    return Attached(
        id=to,
        volume=attachment.volume,
        name=attachment.name,
        lineage=attachment.lineage,
        branch=attachment.branch,
        epoch=attachment.epoch,
        size_bytes=attachment.size_bytes,
        root=checkpoint.root,
        flushed=checkpoint.flushed,
        clean=checkpoint.clean,
        live_sectors=checkpoint.live_sectors,
        next_segment=attachment.next_segment,
        purge_within_s=attachment.purge_within_s,
        waiting_since_s=attachment.waiting_since_s,
        created_s=attachment.created_s,
    )
