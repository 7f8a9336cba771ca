"""What the daemon does beside what it is asked: remembering the pool's progress, pruning."""

from __future__ import annotations

import threading

import structlog

from scrubjay.api.repeats import KEPT
from scrubjay.base.errors import ScrubjayError
from scrubjay.base.ports import Clock
from scrubjay.catalog.idempotency import Answers
from scrubjay.control.keeper import Keeper
from scrubjay.control.operations import Operations
from scrubjay.control.records import at

__all__ = ["Upkeep"]

_EVERY_S = 1.0
_PRUNE_EVERY_NS = 3600 * 1_000_000_000
_log = structlog.get_logger(__name__)


class Upkeep:
    """A thread that has a look once a second."""

    def __init__(
        self, keeper: Keeper, operations: Operations, answers: Answers, *, clock: Clock
    ) -> None:
        self._keeper = keeper
        self._operations = operations
        self._answers = answers
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep")
        self._pruned_ns = clock.monotonic_ns() - _PRUNE_EVERY_NS

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, having remembered how far the pool has come."""
        self._stopping.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY_S):
            self._look()

    def _look(self) -> None:
        try:
            # A pool that was put back from before this is refused (I6).
            self._keeper.remember()
            if self._clock.monotonic_ns() - self._pruned_ns >= _PRUNE_EVERY_NS:
                self._pruned_ns = self._clock.monotonic_ns()
                self._operations.prune()
                self._answers.prune(before=at(self._clock.now_ns()) - KEPT)
        except ScrubjayError as error:
            _log.warning("upkeep.failed", error=error.message, hint=error.hint)
