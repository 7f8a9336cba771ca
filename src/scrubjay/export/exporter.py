"""The process that serves one volume: a fork of the parent, from its first line to its exit.

Holds the volume's lock for its life, its own handle on the pool file, and the keys of
segments, nothing above them. Serves on while the daemon is away. Whatever way it ends,
what was flushed is on the medium (I4) and replayed at the next attach.

It ends: in order, when the daemon detaches it or SIGTERM arrives; at once and with its
keys overwritten, when the daemon stops it or another attachment has taken its place.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

import msgspec

from scrubjay.base.errors import ScrubjayError, Unavailable
from scrubjay.base.ids import VolumeId
from scrubjay.base.ports import Medium
from scrubjay.engine.disk import Disk
from scrubjay.engine.ephemeral import EphemeralDisk, OwnKeys
from scrubjay.engine.lessor import Lessor
from scrubjay.export import lockfile
from scrubjay.export.arena import Arena
from scrubjay.export.channel import Channel, Lost
from scrubjay.export.clients import Clients, listen
from scrubjay.export.flushing import Flusher
from scrubjay.export.hardening import name_process
from scrubjay.export.journal import Journal
from scrubjay.export.lessor import Identity, RemoteLessor
from scrubjay.export.messages import (
    Detach,
    Done,
    Fork,
    FromDaemon,
    Message,
    PurgeWithin,
    Reset,
    Resize,
    Statistics,
    Stop,
    Survey,
    failure,
)
from scrubjay.export.steward import Steward
from scrubjay.media.file import PoolFile
from scrubjay.media.finding import expect_pool
from scrubjay.nbd import wire

__all__ = ["Exporter", "main", "own_handle"]

_ATTACH_TIMEOUT_S = 20
_LEAVE_TIMEOUT_S = 10
_STEWARD_TIMEOUT_S = 20
_LAST_COMMIT_TIMEOUT_S = 30
"""For a daemon that is away when SIGTERM arrives: then the log is replayed instead."""
_STACK_BYTES = 512 << 10
_EX_SOFTWARE = 70
_EX_TEMPFAIL = 75


def own_handle(pool: Path) -> Medium:
    """Open the pool file for this process alone: an error of its writes is told to it."""
    return PoolFile.open(pool, hold=False)


def main(order: Fork, report: int, open_medium: Callable[[Path], Medium] = own_handle) -> int:
    """Serve a volume until told to end; say on `report` how the start went."""
    journal = Journal(process=f"exporter {order.volume}")
    name_process(f"jay {order.volume}")
    gc.enable()
    threading.stack_size(_STACK_BYTES)
    exporter = Exporter(order, journal, open_medium)
    try:
        exporter.start()
    except (ScrubjayError, OSError) as error:
        refusal = (
            error
            if isinstance(error, ScrubjayError)
            else Unavailable(f"volume {order.volume}: {error.strerror or error}")
        )
        journal.say("exporter.refused", reason=str(refusal))
        _report(report, failure(refusal))
        return refusal.exit_status
    _report(report, Done())
    return exporter.run()


class Exporter:
    """One volume being served."""

    def __init__(
        self, order: Fork, journal: Journal, open_medium: Callable[[Path], Medium]
    ) -> None:
        self._order = order
        self._journal = journal
        self._open_medium = open_medium
        self._lock = -1
        self._arena = Arena()
        self._lessor = RemoteLessor(
            Path(order.channel),
            Identity(VolumeId(order.volume), order.epoch, order.token),
            on_call=self._obey,
            on_end=self._replaced,
        )
        self._disk: Disk | None = None
        self._clients: Clients | None = None
        self._serving = False
        self._size_bytes = 0
        self._purge_within_s = 0
        """What the daemon said since we attached; 0: nothing."""
        self._inode = -1
        """Of our socket, once there is one."""
        self._why = ""
        """Why it is to end, once it is."""
        self._asked: tuple[Channel[FromDaemon], Detach] | None = None
        """The call to answer once everything is committed."""
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def start(self) -> None:
        """Take the lock, attach, recover, listen."""
        order = self._order
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._terminated)
        self._lock = lockfile.take(Path(order.lock), epoch=order.epoch, token=order.token)
        attachment = self._lessor.attach(timeout_s=_ATTACH_TIMEOUT_S)
        medium = self._open_medium(Path(order.pool))
        if order.pool_id is not None:
            expect_pool(medium, order.pool_id, Path(order.pool))
        lessor: Lessor = self._lessor
        if order.ephemeral:
            lessor = OwnKeys(lessor, _Kernel())
        disk = (EphemeralDisk if order.ephemeral else Disk)(medium, lessor, self._arena, attachment)
        disk.tick(_now_s())
        disk.attach()
        self._disk = disk
        disk.resize(max(disk.size_bytes, self._size_bytes))
        disk.purger.within_s = self._purge_within_s or disk.purger.within_s
        self._flusher = Flusher(disk.sync, self._poison)
        self._steward = Steward(
            disk,
            lessor,
            poison=self._poison,
            end=self._replaced,
            complain=self._complain,
            first=disk.give_back if isinstance(disk, EphemeralDisk) else None,
            now_s=_now_s,
        )
        self._listener = listen(Path(order.socket), gid=order.gid)
        self._inode = Path(order.socket).stat().st_ino
        self._clients = Clients(self._listener, disk, self._flusher, self._steward, self._complain)
        if not self._arena.locked:
            self._complain("memory of keys: not locked, expected a larger RLIMIT_MEMLOCK")
        self._serving = True

    def run(self) -> int:
        """Serve until told to end; return the exit status."""
        assert self._clients is not None, "started"
        threads = [
            threading.Thread(target=self._vital, args=(each.run,), name=name, daemon=True)
            for each, name in ((self._flusher, "flusher"), (self._steward, "steward"))
        ]
        for each in threads:
            each.start()
        self._clients.accept_until(self._wake)
        return self._end(*threads)

    def _vital(self, run: Callable[[], None]) -> None:
        """Run what the volume cannot do without: rather end, and be replayed, than hang."""
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - a thread has nobody else to tell
            self._journal.say("exporter.broken", reason=_where(error))
            self._vanish(_EX_SOFTWARE)

    # --- The end ---------------------------------------------------------------------

    def _end(self, flushing: threading.Thread, stewarding: threading.Thread) -> int:
        """Let clients go, commit a last checkpoint, answer whoever asked for it."""
        assert self._clients is not None, "started"
        self._unlink()
        watchdog = threading.Timer(_LAST_COMMIT_TIMEOUT_S, self._lessor.close, ["no daemon"])
        watchdog.daemon = True
        watchdog.start()
        try:
            self._settle(self._clients, flushing, stewarding)
        except (ScrubjayError, OSError) as error:
            self._complain(f"end: {error}")
            self._answer(failure(_as_error(error)))
            status = _EX_TEMPFAIL
        else:
            self._answer(Done())
            status = 0
        watchdog.cancel()
        self._lessor.close(self._why)
        self._arena.drop_all()
        self._journal.say("exporter.ending", reason=self._why, status=status)
        return status

    def _settle(
        self, clients: Clients, flushing: threading.Thread, stewarding: threading.Thread
    ) -> None:
        disk = self._disk
        assert disk is not None, "started"
        gone = clients.leave(timeout_s=_LEAVE_TIMEOUT_S / 2)
        poisoned = disk.poisoned
        disk.poisoned = poisoned or wire.ESHUTDOWN
        self._steward.close()
        if not gone and not clients.leave(timeout_s=_LEAVE_TIMEOUT_S / 2):
            raise Unavailable(f"connections: {len(clients)} go on, expected none")
        self._flusher.close()
        flushing.join(_LEAVE_TIMEOUT_S)
        stewarding.join(_STEWARD_TIMEOUT_S)
        if poisoned:
            raise Unavailable("medium: a sync failed, expected none")
        if flushing.is_alive() or stewarding.is_alive():
            raise Unavailable("upkeep: goes on, expected its end")
        if not isinstance(disk, EphemeralDisk):  # of which nothing is left but zeros
            self._steward.finish()
            disk.detach()

    def _answer(self, message: Message) -> None:
        if self._asked is not None:
            channel, call = self._asked
            with contextlib.suppress(Lost):  # the daemon looks at the lock instead
                channel.send(msgspec.structs.replace(message, id=call.id))

    def _vanish(self, status: int) -> NoReturn:
        """End at once, without a key left in memory."""
        self._arena.drop_all()
        self._unlink()
        os._exit(status)  # threads that wait must not be waited for

    def _unlink(self) -> None:
        """Take the socket away, if it is still ours."""
        with contextlib.suppress(OSError):
            path = Path(self._order.socket)
            if path.stat().st_ino == self._inode:
                path.unlink()

    # --- Called from other threads ---------------------------------------------------

    def _obey(self, channel: Channel[FromDaemon], call: FromDaemon) -> None:
        """Do what the daemon asks; in the channel's thread, so without waiting for it."""
        match call:
            case Stop():
                self._arena.drop_all()
                with contextlib.suppress(Lost):
                    channel.send(Done(id=call.id))
                self._journal.say("exporter.stopped")
                self._vanish(0)
            case Detach():
                self._asked = channel, call
                self._finish("detached")
            case Resize():
                channel.send(self._resized(call))
            case PurgeWithin():
                channel.send(self._purged_within(call))
            case Reset():
                channel.send(self._reset(call))
            case Survey():
                channel.send(self._surveyed(call))
            case _:
                channel.close()  # a reply that nobody asked for

    def _resized(self, call: Resize) -> Message:
        self._size_bytes = max(self._size_bytes, call.size_bytes)
        if self._disk is not None:
            try:
                self._disk.resize(call.size_bytes)
            except ScrubjayError as error:
                return failure(error, to=call.id)
        return Done(id=call.id)

    def _purged_within(self, call: PurgeWithin) -> Message:
        """Purge by another deadline from the next look on, which takes a minute at most."""
        self._purge_within_s = call.within_s
        if self._disk is not None:
            self._disk.purger.within_s = call.within_s
        return Done(id=call.id)

    def _reset(self, call: Reset) -> Message:
        """Return the volume to zeros; nobody holds its lock and waits for the daemon meanwhile."""
        if not isinstance(self._disk, EphemeralDisk):
            refusal = Unavailable("exporter: not serving an ephemeral volume, expected to")
            return failure(refusal, to=call.id)
        self._disk.reset()
        self._steward.kick()
        self._journal.say("volume.reset")
        return Done(id=call.id)

    def _surveyed(self, call: Survey) -> Message:
        disk, clients = self._disk, self._clients
        if disk is None or clients is None:
            return failure(Unavailable("exporter: recovering, expected to serve"), to=call.id)
        counters = disk.counters
        return Statistics(
            id=call.id,
            written_bytes=counters.written_bytes,
            appended_bytes=counters.appended_bytes,
            moved_bytes=counters.moved_bytes,
            live_sectors=counters.live_sectors,
            held_segments=counters.held_segments,
            spare_segments=counters.spare_segments,
            checkpoints=counters.checkpoints,
            map_pages=counters.map_pages,
            connections=len(clients),
            memory_bytes=_proportional_bytes(),
            purge_within_s=disk.purger.within_s,
        )

    def _replaced(self, error: ScrubjayError) -> None:
        """End because the daemon will not have this exporter any more."""
        if self._serving:
            self._journal.say("exporter.replaced", reason=str(error))
            self._vanish(_EX_TEMPFAIL)

    def _poison(self, reason: str) -> None:
        """Refuse everything from here on, and have the daemon stop the others (I4)."""
        assert self._disk is not None, "somebody synced"
        self._disk.poisoned = errno.EIO
        self._journal.say("volume.poisoned", reason=reason)
        self._steward.kick()
        self._lessor.poisoned(reason)

    def _complain(self, reason: str) -> None:
        self._journal.say("volume.trouble", reason=reason)

    def _terminated(self, _signal: int, _frame: FrameType | None) -> None:
        self._finish("terminated")

    def _finish(self, why: str) -> None:
        self._why = self._why or why
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, b"\0")


class _Kernel:
    """Randomness for the keys of an ephemeral volume, drawn in this process (an Entropy)."""

    def token(self, size_bytes: int) -> bytes:
        """Return `size_bytes` unpredictable bytes."""
        return os.urandom(size_bytes)  # noqa: TID251 - nobody above may draw or hold them


def _now_s() -> int:
    return int(time.time())  # noqa: TID251 - this process has no other Clock


def _report(descriptor: int, message: Message) -> None:
    """Tell who had us forked how the start went, if it still listens."""
    with contextlib.suppress(OSError):
        os.write(descriptor, msgspec.msgpack.encode(message))
    os.close(descriptor)


def _as_error(error: Exception) -> ScrubjayError:
    return error if isinstance(error, ScrubjayError) else Unavailable(str(error))


def _where(error: BaseException) -> str:
    """Say what was raised and where, and nothing that it was about."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    place = f"{Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}" if at else "nowhere"
    return f"{type(error).__name__} at {place}"


def _proportional_bytes() -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0
