"""The rotation of the sink: the one in which destroys, closings and purges are forgotten (I3).

    cut         purges only: out of the tree of keys, in slices, each a commit under the old epoch
    prepared    the sink holds the next epoch beside the old one
    committed   one commit: the pool without what is due, sealed under the new epoch
    dropped     the sink has destroyed the old epoch: only now all of it is forgotten

What is cut is readable still, to who has the old epoch and an old superblock: one rotation
forgets any number of slices. A destroy waits for a few of them at most.

A sink that wears out rations its rotations (sinks/budget.py), and a tenth of those ahead is kept
for destroys. There every rotation takes along what waits to be purged; what is due is staged once
before anything is prepared, and undone, so that what does not fit wears nothing; a key that
was prepared in vain counts as a rotation, and the next one waits for seconds, then minutes, up
to an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import structlog

from scrubjay.base.errors import ScrubjayError
from scrubjay.base.ids import Epoch
from scrubjay.base.ports import Clock
from scrubjay.control.keeper import Change, Keeper
from scrubjay.keys import path
from scrubjay.keys.aead import KEY_BYTES
from scrubjay.sinks.keeper import EpochKeeper
from scrubjay.sinks.sink import Sink

__all__ = ["Due", "Passenger", "Rotating"]

_RETRY_S = 5.0
_RETRY_MAX_S = 3600.0
_AWAY_MAX_S = 60.0
"""Where nothing was prepared: a member that comes back is not kept waiting for an hour."""
_HELD_UP_SLICES = 16
"""For which a destroy waits where rotations are rationed: some 3 s (docs/performance.md)."""
_log = structlog.get_logger(__name__)


class Due(Protocol):
    """What a rotation is due for at once."""

    def stage(self, change: Change, *, before: Epoch, after: Epoch) -> list[path.Path]:
        """Stage what becomes of it; return what is to be forgotten.

        It may be undone, and be called again.
        """
        ...

    def committed(self) -> None:
        """Hear that what was staged last is durable."""
        ...


class Passenger(Protocol):
    """What waits for a rotation, and asks for one where it has waited for long."""

    @property
    def is_cut(self) -> bool:
        """Whether something is out of the tree of keys that is not forgotten yet."""
        ...

    def cut(self) -> bool:
        """Take a slice out of the tree of keys, durably; return whether there may be more."""
        ...

    def dropped(self, epoch: Epoch) -> None:
        """Hear that the sink holds this epoch alone, which the pool names."""
        ...


class Rotating:
    """Rotates one pool's sink; its callers hold `Keeper.rotating`, but for what says otherwise."""

    def __init__(self, keeper: Keeper, sink: Sink, *, clock: Clock) -> None:
        self._keeper = keeper
        self._sink = sink
        self._clock = clock
        self._epochs = EpochKeeper(
            sink,
            sink_id=keeper.pool.sink_id,
            pool_id=keeper.pool.pool_id,
            entropy=keeper.entropy,
        )
        self.on_asked: Callable[[], None] = lambda: None
        """Called when somebody has asked for a rotation."""
        self.on_dropped: list[Callable[[Epoch], None]] = []
        """Called with the epoch that the sink holds alone, as often as that was seen."""
        self.asked = False
        """Whether the passenger wants a rotation that nothing else is due for."""
        self.trouble = ""
        """Why the last rotation failed; "" where it did not."""
        self._passenger: Passenger | None = None
        self._tries = 0
        self._rests_until_ns = 0

    @property
    def interval_s(self) -> float:
        """How far apart the sink bears rotations on average; 0.0 where it does not wear out."""
        return self._sink.budget().interval_min_s

    def join(self, passenger: Passenger) -> None:
        """Have rotations take along what waits there."""
        self._passenger = passenger

    def ask(self) -> None:
        """Have somebody rotate for the passenger's sake, if the sink affords it. For any thread."""
        self.asked = True
        self.on_asked()

    def wait_s(self, *, for_passenger: bool = False) -> float:
        """Return for how long there is to be no rotation, at all or for the passenger alone.

        The epoch counts rotations. For any thread.
        """
        budget = self._sink.budget()
        with self._keeper.reading() as view:
            age = self._keeper.now() - view.pool().created_at
        wait_s = budget.wait_s(
            rotations=self._epochs.newest(self._keeper.epoch) - 1,
            age_s=max(0.0, age.total_seconds()),  # the clock may have been set back
            kept=budget.reserve if for_passenger else 0,
        )
        rests_s = (self._rests_until_ns - self._clock.monotonic_ns()) / 1e9
        return max(wait_s, rests_s, 0.0)

    def settle(self) -> None:
        """Have the sink hold the pool's epoch alone; only then is anything forgotten.

        It also undoes a rotation that raised before its commit. One whose commit nobody
        knows of has stopped the pool, and then this is not reached.
        """
        epoch = self._keeper.epoch
        self._epochs.settle(epoch)
        for hear in self.on_dropped:
            hear(epoch)
        if self._passenger is not None:
            with _apart():
                self._passenger.dropped(epoch)

    def carry_out(self, due: Due | None, *, is_urgent: Callable[[], bool]) -> bool:
        """Forget what is due, and what waits with it, in one rotation or none; whether in one.

        What is due, or urgent meanwhile, waits for few slices to be cut. Raises what keeps the
        sink from dropping an epoch, before and afterwards; what is committed is forgotten later.
        """
        self.settle()
        asked, self.asked = self.asked, False
        if due is None and not asked:
            return False
        if wait_s := self.wait_s(for_passenger=due is None):
            _log.info("rotation.waits", wait_s=round(wait_s), epoch=self._keeper.epoch)
            return False
        cut = False
        if asked or self.interval_s:
            cut = self._cut(lambda: due is not None or is_urgent())
        if due is None and not cut:
            return False
        try:
            self._rotate(due)
        except ScrubjayError as error:
            self.trouble = error.message
            raise
        self.trouble = ""
        self.settle()
        return True

    def _cut(self, is_urgent: Callable[[], bool]) -> bool:
        """Cut slices; return whether any was, now or in a rotation that failed."""
        if self._passenger is None:
            return False
        slices, enough = 0, _HELD_UP_SLICES if self.interval_s else 1
        with _apart():
            while self._passenger.cut():
                slices += 1
                if slices >= enough and is_urgent():
                    break
        return self._passenger.is_cut

    def _rotate(self, due: Due | None) -> None:
        """Commit a pool without what is due, under a new epoch."""
        before = self._keeper.epoch
        if due is not None and self.interval_s:
            following, nobodys = self._epochs.following(before), bytes(KEY_BYTES)
            self._keeper.rehearse(
                lambda change: _stage(change, due, before=before, after=following, key=nobodys)
            )
        after = self._prepare(before)
        with self._keeper.naming(frees=True) as change:
            _stage(change, due, before=before, after=after, key=self._epochs.key(after))
        self._tries = self._rests_until_ns = 0
        if due is not None:
            due.committed()
        _log.info("sink.rotated", epoch=after)

    def _prepare(self, before: Epoch) -> Epoch:
        """Have the sink store the next epoch's key, and rest afterwards unless that is used."""
        try:
            after = self._epochs.prepare(before)
        except ScrubjayError:
            self._rest(_AWAY_MAX_S)
            raise
        self._rest(_RETRY_MAX_S)
        return after

    def _rest(self, limit_s: float) -> None:
        """Put the next try off, each time for twice as long, where the sink wears out."""
        if not self.interval_s:
            return
        pause_s = min(limit_s, _RETRY_S * 2.0 ** min(self._tries, 16))
        self._tries += 1
        self._rests_until_ns = self._clock.monotonic_ns() + int(pause_s * 1e9)


def _stage(change: Change, due: Due | None, *, before: Epoch, after: Epoch, key: bytes) -> None:
    paths = [] if due is None else due.stage(change, before=before, after=after)
    change.forget(paths, epoch=after, epoch_key=key)


@contextmanager
def _apart() -> Iterator[None]:
    """Have what goes wrong for the passenger keep nothing else from being forgotten."""
    try:
        yield
    except ScrubjayError as error:
        _log.error("purging.failed", error=error.message, hint=error.hint)
    except Exception:  # noqa: BLE001 - a bug in purging must not end destroys
        _log.exception("purging.broke")
