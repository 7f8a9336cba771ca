"""FLUSH and FUA: one thread syncs, and answers all who wait with one sync.

A sync that fails poisons the volume (I4): nothing is known about any write since the
last success, and no later sync says anything about them. Every request from then on is
refused, until the volume is attached anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from scrubjay.nbd import wire
from scrubjay.nbd.wire import Cookie

__all__ = ["Flusher", "Waiter"]


class Waiter(Protocol):
    """A connection that waits for a sync."""

    def answer(self, cookies: list[Cookie], error: int) -> None:
        """Send the replies to these requests."""
        ...


class Flusher:
    """Syncs for all connections of a volume; `sync` raises OSError when it fails."""

    def __init__(self, sync: Callable[[], None], poison: Callable[[str], None]) -> None:
        self._sync_all = sync
        self._poison = poison
        self._condition = threading.Condition()
        self._waiting: list[tuple[Waiter, Cookie]] = []
        self._closed = False
        self._error = 0

    def enqueue(self, waiter: Waiter, cookies: list[Cookie]) -> None:
        """Have these answered by the next sync that begins from now on."""
        with self._condition:
            self._waiting += [(waiter, cookie) for cookie in cookies]
            self._condition.notify()

    def close(self) -> None:
        """End the thread once everybody who waits has been answered."""
        with self._condition:
            self._closed = True
            self._condition.notify()

    def run(self) -> None:
        """Sync and answer until closed; the body of the thread."""
        while True:
            with self._condition:
                while not (self._waiting or self._closed):
                    self._condition.wait()
                waiting, self._waiting = self._waiting, []
            if not waiting:
                return
            error = self._sync()
            by_waiter: dict[int, tuple[Waiter, list[Cookie]]] = {}
            for waiter, cookie in waiting:
                by_waiter.setdefault(id(waiter), (waiter, []))[1].append(cookie)
            for waiter, cookies in by_waiter.values():
                waiter.answer(cookies, error)

    def _sync(self) -> int:
        """Sync; after a failure never again, for what another one says means nothing."""
        if not self._error:
            try:
                self._sync_all()
            except OSError as failure:
                self._error = wire.EIO
                self._poison(f"sync failed: {failure.strerror or failure}")
        return self._error
