"""Upkeep of an attached volume: segments ahead of the writes, checkpoints behind them.

One thread, and another while a checkpoint is synced, so that the volume is fed meanwhile.
It talks to the daemon without holding the volume's lock, so that requests go on while the
daemon is slow or away; writes wait only once the leased segments are used up. When the
pool has none left, it first gives back what a checkpoint and cleaning can free; only then
is the disk declared full, and looked at again now and then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from scrubjay.base.errors import Conflict, Denied, NoSpace, NotFound, ScrubjayError
from scrubjay.base.units import MIB
from scrubjay.engine.disk import Disk
from scrubjay.engine.lessor import Lessor
from scrubjay.engine.log import RESERVE_SEGMENTS

__all__ = ["Pace", "Steward"]

_PAUSE_S = 0.0005
"""Between two slices: a lock that is taken again at once lets nobody else in."""
_PAUSE_BUSY_S = 0.015
"""Between two slices of cleaning at rest, where clients turn out to be there after all."""
_QUIET_BYTES = 4 * MIB
"""Appended between two looks at most, a volume is at rest: a file system that is mounted
writes a little all the time, and its garbage is missed by others all the same."""
_RESTING_SPARES = RESERVE_SEGMENTS + 2


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to wait for what."""

    retry_s: float = 1.0
    """Between two attempts at what the daemon, or the full pool, refused."""
    idle_s: float = 5.0
    """Without an append for so long, a volume is checkpointed, which frees what it can."""
    asleep_s: float = 60.0
    """Between two looks at a volume with nothing to be done."""


_PACE = Pace()


class Steward:
    """Keeps one disk supplied and its log short; `run` is the body of its thread.

    `poison` is told of a failed sync, `end` of an error after which this exporter must
    not go on (another attachment took its place). `now_s` are seconds since 1970, by which
    what was overwritten is purged in time.
    """

    def __init__(
        self,
        disk: Disk,
        lessor: Lessor,
        *,
        poison: Callable[[str], None],
        end: Callable[[ScrubjayError], None],
        complain: Callable[[str], None],
        now_s: Callable[[], int] = lambda: 0,
        pace: Pace = _PACE,
        first: Callable[[], None] | None = None,
    ) -> None:
        self._disk = disk
        self._lessor = lessor
        self._poison = poison
        self._end = end
        self._complain = complain
        self._now_s = now_s
        self._pace = pace
        self._first = first
        """What each look does first, once no checkpoint waits to be named."""
        self._changed = threading.Condition()
        self._kicks = 0
        self._looked = 0
        """How many kicks there had been at the last look."""
        self._asked = 0
        """And how many when a lease was last asked for in the middle of something long."""
        self._closing = False
        self._uncommitted = False
        """A checkpoint is in the log and synced, and the pool does not name it yet."""
        self._seen_bytes = 0
        self._settled_bytes = 0
        """How much was appended when the last checkpoint was through."""

    # --- From the connections' threads -----------------------------------------------

    def kick(self) -> None:
        """Have a look soon."""
        with self._changed:
            self._kicks += 1
            self._changed.notify_all()

    def wait_for_space(self) -> None:
        """Return when the disk has segments to write into, or is known to be full."""
        disk = self._disk
        with self._changed:
            disk.starving = True
            self._kicks += 1
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: (
                    self._closing
                    or disk.full
                    or disk.poisoned
                    or not (disk.starving or disk.clogged)
                )
            )

    def close(self) -> None:
        """End the thread, and let go of whoever waits."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    # --- The steward's own thread ----------------------------------------------------

    def run(self) -> None:
        """Look after the disk until closed."""
        ahead = iter(self._disk.unasked_groups())
        while not (self._closing or self._disk.poisoned):
            if not self._attempt(self._look):
                return
            if not self._learn(ahead):
                self._wait()

    def _attempt(self, step: Callable[[], None]) -> bool:
        """Do something, and complain where it fails; False where that is the end."""
        try:
            step()
        except (Conflict, Denied, NotFound) as error:
            self._end(error)
            return False
        except ScrubjayError as error:
            self._complain(error.message)
        except OSError as error:  # an append that failed: its segment is closed by now
            self._complain(f"upkeep: {error.strerror or error}")
        return True

    def _learn(self, ahead: Iterator[int]) -> bool:
        """Ask where segments lie before somebody reads them, who would wait for the answer.

        Returns whether somebody kicked meanwhile; what is left is learnt behind the next look.
        """
        for group in ahead:
            if not self._attempt(partial(self._disk.learn, group)):
                return True
            if self._closing or self._kicks != self._looked:
                return True
        return bool(self._disk.poisoned)

    def finish(self) -> None:
        """After the thread has ended: have the pool name a checkpoint that was left over."""
        if self._uncommitted:
            self._commit()

    def _wait(self) -> None:
        """Sleep until kicked, or until it is time for another look."""
        disk = self._disk
        with self._changed:
            busy = disk.counters.appended_bytes != self._settled_bytes or disk.wants_cleaning()
            pause_s = self._pace.idle_s if busy else self._pace.asleep_s
            if disk.full or disk.starving or self._uncommitted:  # it was refused just now
                pause_s = self._pace.retry_s
            self._changed.wait_for(lambda: self._kicks != self._looked or self._closing, pause_s)

    def _look(self) -> None:
        """Do what is to be done now."""
        disk = self._disk
        with disk.lock:
            disk.tick(self._now_s())
        with self._changed:
            kicked, self._looked = self._kicks != self._looked, self._kicks
        if self._uncommitted:
            self._commit()
        if self._first is not None:
            self._first()
        if disk.starving or disk.full or disk.wants_grants():
            self._supply()
        appended = disk.counters.appended_bytes
        since = appended - self._seen_bytes
        if disk.wants_checkpoint():
            self._checkpoint()
        elif not kicked and since <= _QUIET_BYTES and disk.wants_cleaning():
            self._clean()
            self._checkpoint(keep_spares=_RESTING_SPARES)
        elif not kicked and not since and (appended != self._settled_bytes or disk.unpadded):
            self._checkpoint(keep_spares=_RESTING_SPARES)
        self._purge()
        self._seen_bytes = disk.counters.appended_bytes

    def _supply(self) -> None:
        """Lease what the disk wants; declare it full where nothing can be had."""
        while True:
            try:
                self._lease()
            except NoSpace:
                if self._closing or not self._make_space():
                    self._fed(full=self._disk.starving or self._disk.full)
                    return
                continue
            return

    def _lease(self) -> None:
        """Lease what the disk wants; raises NoSpace where nothing can be had."""
        disk = self._disk
        with disk.lock:
            count = disk.wants_grants()
        if count:
            grants = self._lessor.lease(count)
            with disk.lock:
                disk.add_grants(grants)
        self._fed(full=False)

    def _fed(self, *, full: bool) -> None:
        with self._changed:
            self._disk.full = full
            self._disk.starving = False
            self._changed.notify_all()

    def _make_space(self) -> bool:
        """Give something back to the pool; False where this volume has nothing to give."""
        disk = self._disk
        before = disk.counters.held_segments
        with suppress(NoSpace):
            self._clean()
            with disk.lock:
                full, disk.full = disk.full, True
                worth = disk.wants_checkpoint()
                disk.full = full
            if worth:
                self._checkpoint(keep_spares=_RESTING_SPARES)
        return disk.counters.held_segments < before

    def _clean(self) -> None:
        """Clean, slice by slice, for as long as it is worth it and no writer asks.

        Beside clients that only read it goes on, a hundredth of the time.
        """
        disk = self._disk
        while not self._closing and (disk.starving or self._kicks == self._looked):
            batches = disk.batches
            with disk.lock:
                if not disk.wants_cleaning() or not disk.clean():
                    return
            self._breathe()
            if disk.batches != batches and not disk.starving:
                self._breathe(_PAUSE_BUSY_S)

    def _purge(self) -> None:
        """Purge what is due, a slice now and then where clients are busy, and commit it."""
        disk, asked = self._disk, False
        while not (self._closing or disk.wants_checkpoint()):
            batches = disk.batches
            with disk.lock:
                done = disk.purger.wants and disk.purge()
            if not done and disk.purger.short and not asked:
                asked = True  # a volume that nobody writes has no segment ahead
                with suppress(NoSpace):
                    self._lease()
                continue
            if not done:
                break
            self._feed()
            self._breathe()
            if disk.batches != batches:
                self._breathe(_PAUSE_BUSY_S)
        with disk.lock:
            over = disk.purger.wants_checkpoint
        if over and not self._closing:
            self._checkpoint()

    def _checkpoint(self, *, keep_spares: int | None = None) -> None:
        """Write a checkpoint, slice by slice, sync, and have the pool name it."""
        disk = self._disk
        slices = disk.checkpoint(keep_spares=keep_spares)
        while True:
            with disk.lock:
                if next(slices, self) is self:
                    self._settled_bytes = disk.counters.appended_bytes
                    break
            self._feed()
            self._breathe()
        with self._changed:  # the map takes writes again
            self._changed.notify_all()
        self._sync()
        self._uncommitted = True
        self._commit()

    def _sync(self) -> None:
        """Sync in a thread of its own: that may take longer than the segments ahead last.

        It poisons the volume itself where that fails: this one may be waiting for the daemon.
        """
        results: list[BaseException | None] = []

        def sync() -> None:
            result: BaseException | None = None
            try:
                self._disk.sync()
            except OSError as error:
                self._poison(f"sync failed: {error.strerror or error}")
                result = error
            except BaseException as error:  # noqa: BLE001 - it is the waiting thread's
                result = error
            with self._changed:
                results.append(result)
                self._changed.notify_all()

        try:
            threading.Thread(target=sync, name="sync", daemon=True).start()
        except RuntimeError:  # the system has no thread to give
            sync()
        while not results:
            self._feed()
            with self._changed:
                self._changed.wait_for(lambda: results or self._kicks != self._asked)
        if results[0] is not None:
            raise results[0]

    def _feed(self) -> None:
        """In the middle of something long, lease ahead if somebody kicked since the last time."""
        if self._kicks != self._asked:
            self._asked = self._kicks
            with suppress(ScrubjayError):  # the next look hears it again
                self._lease()

    def _commit(self) -> None:
        self._disk.commit_checkpoint()
        self._uncommitted = False

    def _breathe(self, pause_s: float = _PAUSE_S) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing, pause_s)
