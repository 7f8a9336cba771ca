"""The exporters of a home, as the daemon handles them: start, detach, kill, resize, survey.

Implements `control.attachments.Exporters`. Nothing is remembered about an exporter: who
serves a volume is what holds its lock, so a daemon that has just started handles those
of the one before.
"""

from __future__ import annotations

import grp
import os
import stat
import threading
import uuid
from pathlib import Path
from typing import TypeVar

import structlog

from scrubjay.base.errors import Invalid, ScrubjayError, Unavailable
from scrubjay.base.ids import VolumeId
from scrubjay.base.ports import Entropy
from scrubjay.control.attachments import Start
from scrubjay.control.liveness import Liveness
from scrubjay.export import lockfile
from scrubjay.export.channel import Lost
from scrubjay.export.launcher import Launcher
from scrubjay.export.messages import (
    TOKEN_BYTES,
    Detach,
    Done,
    Fork,
    Message,
    PurgeWithin,
    Reset,
    Resize,
    Statistics,
    Stop,
    Survey,
)
from scrubjay.export.sessions import Leases, Sessions

__all__ = ["Exporters"]

_START_TIMEOUT_S = 50
"""Less than others wait for an attach that is under way (control/attachments.py)."""
_SESSION_TIMEOUT_S = 5
"""An exporter comes back within its longest backoff after the daemon has started."""
_DETACH_TIMEOUT_S = 45
_CALL_TIMEOUT_S = 10
_EXIT_TIMEOUT_S = 10
_STOP_TIMEOUT_S = 1
_log = structlog.get_logger(__name__)
_ReplyT = TypeVar("_ReplyT", bound=Message)


class Exporters:
    """Starts the channel at once; `close` ends it, and no exporter with it."""

    def __init__(
        self,
        launcher: Launcher,
        leases: Leases,
        liveness: Liveness,
        entropy: Entropy,
        *,
        channel: Path,
        pool: Path,
        pool_id: uuid.UUID | None = None,
    ) -> None:
        self._launcher = launcher
        self._liveness = liveness
        self._entropy = entropy
        self._channel = channel
        self._pool = pool
        self._pool_id = pool_id
        self._failed = threading.Event()
        self._sessions = Sessions(
            channel, leases, liveness.lock_path, on_poisoned=self._medium_failed
        )

    def start(self, start: Start) -> None:
        """Start an exporter; return when it listens, raise what kept it from that."""
        if self._failed.is_set():
            raise Unavailable(
                f"pool {self._pool}: a sync failed, its volumes are being stopped",
                hint="look at the disk, then attach again",
            )
        order = Fork(
            volume=start.volume,
            epoch=start.epoch,
            token=self._entropy.token(TOKEN_BYTES),
            pool=str(self._pool),
            channel=str(self._channel),
            lock=str(start.lock),
            socket=str(start.socket),
            gid=_gid(start.group),
            pool_id=self._pool_id,
            ephemeral=start.ephemeral,
        )
        if order.gid is not None:
            run = self._channel.parent
            for folder in (run.parent, run, start.socket.parent):
                _let_pass(folder)
        self._launcher.fork(order, timeout_s=_START_TIMEOUT_S)

    def detach(self, volume: VolumeId) -> None:
        """Have an exporter checkpoint and end; Unavailable if it does not in time."""
        lock = self._liveness.lock_path(volume)
        with lockfile.watched(lock) as process:
            if process is None:
                return
            self._call(volume, Detach(), Done, timeout_s=_DETACH_TIMEOUT_S)
            if not process.ends(timeout_s=_EXIT_TIMEOUT_S):
                raise Unavailable(f"volume {volume}: its exporter goes on, expected its end")

    def kill(self, volume: VolumeId) -> bool:
        """End an exporter, its keys with it; return when it is gone, however it was.

        It is asked to overwrite its keys first; one that does not answer at once is killed.
        True where it said that it has.
        """
        acknowledged = False
        session = self._sessions.wait_for(volume, timeout_s=0)
        with lockfile.watched(self._liveness.lock_path(volume)) as process:
            if process is None:
                return acknowledged
            if session is not None:
                session.leaving = True
                try:
                    session.channel.call(Stop(), Done, timeout_s=_STOP_TIMEOUT_S)
                    acknowledged = True
                    process.ends(timeout_s=_STOP_TIMEOUT_S)
                except ScrubjayError as error:
                    gone = process.ends(timeout_s=0)
                    say = _log.info if gone else _log.warning
                    say("exporter.silent", volume=str(volume), gone=gone, reason=error.message)
            process.kill()
            if not process.ends(timeout_s=_EXIT_TIMEOUT_S):
                raise Unavailable(
                    f"volume {volume}: its exporter was killed and stays, expected its end",
                    hint="a process that hangs in the kernel ends with the disk's request",
                )
        return acknowledged

    def connected(self) -> set[VolumeId]:
        """Return the volumes whose exporters the daemon speaks with."""
        return {session.volume for session in self._sessions.all()}

    def resize(self, volume: VolumeId, *, size_bytes: int) -> None:
        """Tell an exporter that its volume has grown."""
        self._call(volume, Resize(size_bytes=size_bytes), Done, timeout_s=_CALL_TIMEOUT_S)

    def purge_within(self, volume: VolumeId, *, within_s: int) -> None:
        """Tell an exporter by when to purge what is overwritten from now on, or was before."""
        self._call(volume, PurgeWithin(within_s=within_s), Done, timeout_s=_CALL_TIMEOUT_S)

    def reset(self, volume: VolumeId) -> None:
        """Have the exporter of an ephemeral volume drop every key, and go on with zeros."""
        self._call(volume, Reset(), Done, timeout_s=_CALL_TIMEOUT_S)

    def survey(self, volume: VolumeId) -> Statistics:
        """Return what an exporter has done so far."""
        return self._call(volume, Survey(), Statistics, timeout_s=_CALL_TIMEOUT_S)

    def close(self) -> None:
        """End the channel; exporters go on, and come back to the next daemon."""
        self._sessions.close()

    def _call(
        self, volume: VolumeId, message: Message, reply: type[_ReplyT], *, timeout_s: float
    ) -> _ReplyT:
        """Call the exporter of a volume; once more where its connection was just replaced."""
        for last in (False, True):
            served = lockfile.holder(self._liveness.lock_path(volume)) is not None
            patience_s = _SESSION_TIMEOUT_S if served else 0
            session = self._sessions.wait_for(volume, timeout_s=patience_s)
            if session is None:
                break
            try:
                return session.channel.call(message, reply, timeout_s=timeout_s)
            except Lost:
                if last:
                    raise
        raise Unavailable(
            f"volume {volume}: its exporter is not connected",
            hint="wait a moment, then retry; else detach the volume",
        )

    def _medium_failed(self, volume: VolumeId, reason: str) -> None:
        """Stop every volume on the medium: none of them knows what is durable (I4)."""
        if self._failed.is_set():
            return  # another volume said so first
        self._failed.set()
        threading.Thread(
            target=self._stop_all, args=(volume, reason), name="poisoned", daemon=True
        ).start()

    def _stop_all(self, volume: VolumeId, reason: str) -> None:
        for session in self._sessions.all():
            _log.error("volume.stopped", volume=str(session.volume), by=str(volume), reason=reason)
            try:
                self.kill(session.volume)
            except ScrubjayError as error:
                _log.error("volume.goes_on", volume=str(session.volume), reason=error.message)
        _drop_cache(self._pool)
        self._failed.clear()


def _drop_cache(pool: Path) -> None:
    """Have the system read the pool from the disk: what it caches may never have arrived."""
    descriptor = os.open(pool, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _let_pass(folder: Path) -> None:
    """Let others through a folder, to what they may open there; they still cannot list it."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    if not mode & stat.S_IXOTH:
        folder.chmod(mode | stat.S_IXOTH)


def _gid(group: str | None) -> int | None:
    """Return the number of a group; Invalid where there is none of this name."""
    if group is None:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise Invalid(
            f"socket group {group}: unknown", hint="name a group of this machine"
        ) from None
