"""What the daemon does beside what it is asked.

It remembers the pool's progress, opens a pool anew that has stopped, prunes, and puts
announced defaults into force on their day.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from scrubjay.base.errors import ScrubjayError
from scrubjay.base.ports import Clock
from scrubjay.catalog.idempotency import Answers
from scrubjay.control.certificates import Certificates
from scrubjay.control.defaults import Defaults
from scrubjay.control.forgetting import Forgetting
from scrubjay.control.keeper import Keeper
from scrubjay.control.log import Log
from scrubjay.control.operations import Operations
from scrubjay.control.records import at

__all__ = ["Upkeep"]

_EVERY_S = 1.0
_REVIVE_EVERY_S = 5.0
_PRUNE_EVERY_NS = 3600 * 1_000_000_000
_log = structlog.get_logger(__name__)


class Upkeep:
    """A thread that has a look once a second."""

    def __init__(
        self,
        keeper: Keeper,
        forgetting: Forgetting,
        operations: Operations,
        answers: Answers,
        defaults: Defaults,
        *,
        log: Log,
        certificates: Certificates,
        clock: Clock,
    ) -> None:
        self._keeper = keeper
        self._forgetting = forgetting
        self._evidence_log = log
        self._certificates = certificates
        self._operations = operations
        self._answers = answers
        self._defaults = defaults
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep")
        self._pruned_ns = clock.monotonic_ns() - _PRUNE_EVERY_NS
        self._remembered = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, having remembered how far the pool has come."""
        self._stopping.set()
        self._thread.join()
        self._attempt(self._remember)

    def _run(self) -> None:
        pause_s = _EVERY_S
        while not self._stopping.wait(pause_s):
            pause_s = _EVERY_S
            if not self._attempt(self._revive):
                pause_s = _REVIVE_EVERY_S
                continue
            self._attempt(self._remember)
            self._attempt(self._certificates.go_on)
            self._attempt(self._evidence_log.publish)
            self._attempt(self._defaults.take_effect)
            self._attempt(self._prune)

    def _revive(self) -> None:
        if self._keeper.revive():
            _log.warning("pool.opened_anew", generation=self._keeper.pool.generation)
            self._forgetting.recover()

    def _remember(self) -> None:
        """Write down how far the pool has come: an older copy of it is refused (I6)."""
        generation = self._keeper.pool.generation
        if generation != self._remembered:
            self._keeper.remember()
            self._remembered = generation

    def _prune(self) -> None:
        if self._clock.monotonic_ns() - self._pruned_ns < _PRUNE_EVERY_NS:
            return
        self._pruned_ns = self._clock.monotonic_ns()
        self._operations.prune(self._defaults.span("api.operations_kept"))
        kept = self._defaults.span("api.answers_kept")
        self._answers.prune(before=at(self._clock.now_ns()) - kept)

    def _attempt(self, work: Callable[[], object]) -> bool:
        try:
            work()
        except ScrubjayError as error:
            _log.warning("upkeep.failed", error=error.message, hint=error.hint)
            return False
        return True
