"""Scrubbing: overwriting the slots that were freed, one after the other, beside tenants.

    claimed     nobody leases it meanwhile; only in memory: a crash takes the claim back
    erased      overwritten past the page cache, synced, pages of it read back (media/erase.py)
    committed   it holds nothing any more, and counts as done
    given back  whoever needs a slot may have it again

What waits is in the pool, with a date for each slot, so that nothing is lost with the
daemon. Everything is written through the pool's fence: a claim ends with the pool that gave
it (media/fence.py). A slot that does not read back as it should stays waiting and is
withheld from everybody: tried again after an hour, or when the pool was opened anew.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal
from uuid import UUID

import msgspec
import structlog

from scrubjay.base.errors import NotFound, ScrubjayError
from scrubjay.base.ids import Slot
from scrubjay.base.ports import Clock, Medium
from scrubjay.base.units import SEGMENT_BYTES
from scrubjay.control.deadlines import OnMissed, needed_rates, note_missed, tell_nobody
from scrubjay.control.grounds import Ground, ScrubbedMedium
from scrubjay.control.keeper import Keeper
from scrubjay.control.records import SCRUB_KEY, PolicyRecord, ScrubRecord, encode
from scrubjay.media.erase import Erasure, erase
from scrubjay.media.fence import Fenced
from scrubjay.media.pace import Busy, Pace, Rates
from scrubjay.media.pool import Pool
from scrubjay.media.slots import Backlog

__all__ = ["Left", "Progress", "Scrubbing"]

_COMMIT_SLOTS = 8
"""Slots in one commit: 128 MiB, between half a second and a quarter of a minute."""
_CLAIM_SLOTS_MAX = 64
_CLAIM_PART = 16
"""Of what is free, never more than a sixteenth is withheld from those who need a slot."""
_IDLE_S = 1.0
_RETRY_S = 5.0
NS_PER_S = 1_000_000_000
_RETRY_SLOT_NS = 3600 * NS_PER_S
_LOOK_EVERY_NS = 5 * NS_PER_S
"""At least so far apart: what waits is counted, rates are set, deadlines checked."""
_OWNED_PART = 2
"""Within areas that are owned slots are left to the owner for half of the time."""
_RATE_SAMPLES = 32
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Left:
    """What still holds bytes of a use that had ended by a certain moment."""

    waiting: int
    """Slots that are to be scrubbed."""
    leased: int
    """Slots in use again, in which older bytes are left until they are written to the end."""
    uncleared: int
    """Volumes that were forgotten, and whose slots are not freed yet."""
    since_s: int | None
    """The oldest of all that, in seconds since 1970; None where there is nothing."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far scrubbing has come since nothing waited."""

    done_slots: int
    rate_bytes_per_s: int
    """Of slots' bytes, as lately seen; 0 where nothing was seen yet."""
    withheld_slots: int
    """Slots that did not read back as they should."""


@dataclass(slots=True)
class _Tally:
    """What was done and is not committed yet."""

    clean: list[tuple[Slot, Erasure]] = field(default_factory=list)
    failures: int = 0


class Scrubbing:
    """The thread that scrubs, and what it can tell. `turn` is what the thread does."""

    def __init__(
        self,
        keeper: Keeper,
        open_media: Callable[[], Sequence[Medium]],
        *,
        clock: Clock,
        busy: Busy,
        grounds: Callable[[], Sequence[Ground]],
        on_missed: OnMissed = tell_nobody,
    ) -> None:
        """`open_media` opens further handles of the pool's media, `grounds` assesses them.

        Both in the pool's order.
        """
        self._keeper = keeper
        self._open_media = open_media
        self._grounds = grounds
        self._clock = clock
        self._on_missed = on_missed
        self._stopping = threading.Event()
        self._pace = Pace(clock, rates=Rates(), busy=busy, wait=self._stopping.wait)
        self._thread = threading.Thread(target=self._run, name="scrubbing")
        self._media: Sequence[Medium] = ()
        self._pool = keeper.pool
        """Whose claims `_withheld` are."""
        self._withheld: dict[Slot, int] = {}
        """Claimed slots that failed, and the monotonic ns at which each is tried again."""
        self._tally = _Tally()
        self._looked_ns = clock.monotonic_ns() - _LOOK_EVERY_NS
        self._done_slots = 0
        self._samples: deque[tuple[int, int]] = deque(maxlen=_RATE_SAMPLES)
        """(monotonic ns, slots done by then) of the latest commits."""

    # --- the thread -------------------------------------------------------------------

    def start(self) -> None:
        """Begin to scrub what waits."""
        self._thread.start()

    def stop(self) -> None:
        """End within a write of 1 MiB; what is left waits for the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._close_media()

    def _run(self) -> None:
        while not self._stopping.wait(self._attempt()):
            pass

    def _attempt(self) -> float:
        """Take a turn; return for how many seconds to pause."""
        try:
            return 0 if self.turn() else _IDLE_S
        except (ScrubjayError, OSError) as error:
            self._close_media()
            if not self._stopping.is_set():
                hint = error.hint if isinstance(error, ScrubjayError) else ""
                _log.warning("scrub.interrupted", error=str(error), hint=hint)
            return _RETRY_S

    def turn(self) -> bool:
        """Scrub some of what waits, durably; return whether there was anything to scrub.

        Raises ScrubjayError or OSError where it was interrupted: what was erased until then
        is committed as far as that can be, and the rest waits on.
        """
        pool = self._claims_of(self._keeper.pool)
        policy = self._look(pool)
        slots = [*self._to_retry(), *self._claimed(pool, policy)]
        try:
            for group in _groups(slots):
                self._look(pool)
                try:
                    self._erase(pool, group)
                finally:
                    self._commit()
                pool.give_back([slot for slot in group if slot not in self._withheld])
                if self._stopping.is_set():
                    break
        finally:
            pool.give_back([slot for slot in slots if slot not in self._withheld])
        return bool(slots)

    # --- what it can tell -------------------------------------------------------------

    def left(self, at: dt.datetime) -> Left:
        """Say what still holds bytes of a use that had ended by `at`.

        For a volume: nothing is left of it once this says so for the moment in which it was
        forgotten. Dates are whole seconds, so a use that ended later within that second
        counts too.
        """
        second, now_s = int(at.timestamp()), self._now_s()

        def counts(since_s: int) -> bool:
            return since_s <= second or since_s > now_s  # later than now: the clock was set back

        with self._keeper.reading() as view:
            # These before the slots: what is cleared away in between is counted there.
            uncleared = [int(each.forgotten_at.timestamp()) for _, each in view.remains()]
        uncleared = [each for each in uncleared if counts(each)]
        old = [each for each in self._keeper.pool.backlog() if counts(each.since_s)]
        return Left(
            waiting=sum(each.slots for each in old if not each.leased),
            leased=sum(each.slots for each in old if each.leased),
            uncleared=len(uncleared),
            since_s=min(
                [min(each, second) for each in (*uncleared, *(one.since_s for one in old))],
                default=None,
            ),
        )

    def waits_since(self, at: dt.datetime) -> int | None:
        """Return since which second bytes of a use that had ended by `at` are left; None: none."""
        return self.left(at).since_s

    def media(self) -> list[ScrubbedMedium]:
        """Describe each medium for evidence: what it is, and what overwriting there is worth."""
        reads: Literal["device", "cache"] = "cache" if self.record().cached_slots else "device"
        return [
            ScrubbedMedium(entry.medium_id, ground, "overwrite", reads)
            for entry, ground in zip(self._keeper.pool.media, self._grounds(), strict=True)
        ]

    def ground(self, medium: UUID) -> Ground:
        """Say what overwriting a medium of the pool is worth; NotFound for another one."""
        for each in self.media():
            if each.id == medium:
                return each.ground
        raise NotFound(f"medium {medium}: unknown, expected one of the pool's")

    def record(self) -> ScrubRecord:
        """Return what was scrubbed since the pool was made."""
        with self._keeper.reading() as view:
            return view.scrubbed()

    def policy(self) -> PolicyRecord:
        """Return the deadlines and rates in force."""
        with self._keeper.reading() as view:
            return view.policy()

    def backlog(self) -> list[Backlog]:
        """Return what waits, by date, the oldest first."""
        return self._keeper.pool.backlog()

    def progress(self) -> Progress:
        """Return how far it has come."""
        samples = list(self._samples) or [(0, 0)]
        (first_ns, before), (last_ns, after) = samples[0], samples[-1]
        moved_bytes = (after - before) * SEGMENT_BYTES
        rate = moved_bytes * NS_PER_S // (last_ns - first_ns) if last_ns > first_ns else 0
        return Progress(self._done_slots, rate, len(self._withheld))

    # --- one turn -----------------------------------------------------------------------

    def _claims_of(self, pool: Pool) -> Pool:
        """Let go of what was claimed of a pool that was opened anew since."""
        if pool is not self._pool:
            self._pool = pool
            self._withheld.clear()
            self._close_media()
        return pool

    def _look(self, pool: Pool) -> PolicyRecord:
        """See what waits: set the rates so that it is done in time, tell what is late."""
        policy = self.policy()
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._looked_ns >= _LOOK_EVERY_NS:
            self._looked_ns = now_ns
            backlog = pool.backlog()
            if all(each.leased for each in backlog):
                self._done_slots = 0
                self._samples.clear()
            self._pace.rates = needed_rates(backlog, policy, now_s=self._now_s())
            note_missed(self._keeper, backlog, self._on_missed)
        return policy

    def _to_retry(self) -> list[Slot]:
        now_ns = self._clock.monotonic_ns()
        return [slot for slot, again_ns in self._withheld.items() if again_ns <= now_ns]

    def _claimed(self, pool: Pool, policy: PolicyRecord) -> list[Slot]:
        count = min(_CLAIM_SLOTS_MAX, max(1, pool.counts.available // _CLAIM_PART))
        owned_before_s = self._now_s() - policy.scrub_within_s // _OWNED_PART
        return [each.slot for each in pool.claim(count, owned_before_s=owned_before_s)]

    def _erase(self, pool: Pool, slots: Sequence[Slot]) -> None:
        """Erase claimed slots; note in the tally what came of it."""
        self._media = self._media or self._open_media()
        media = [
            Fenced(medium, pool.fence, pool.geometry, index)
            for index, medium in enumerate(self._media)
        ]
        for slot in slots:
            if self._stopping.is_set():
                break
            index, offset_bytes = pool.geometry.place(slot)
            try:
                erasure = erase(
                    media[index],
                    [(offset_bytes, SEGMENT_BYTES)],
                    entropy=self._keeper.entropy,
                    pay=self._pace,
                )
            except OSError as error:
                self._withhold(pool, slot, error=str(error))
                self._close_media()
                raise
            if erasure.clean:
                self._withheld.pop(slot, None)
                self._tally.clean.append((slot, erasure))
            else:
                self._withhold(
                    pool,
                    slot,
                    error="does not read back as it was written",
                    wrong=erasure.mismatches,
                    unreadable=erasure.unreadable,
                    offsets=[*erasure.mismatch_offsets, *erasure.unreadable_offsets],
                )

    def _withhold(self, pool: Pool, slot: Slot, **found: object) -> None:
        """Leave a slot that failed waiting, and keep its claim: no tenant's data belongs there."""
        self._withheld[slot] = self._clock.monotonic_ns() + _RETRY_SLOT_NS
        self._tally.failures += 1
        index, offset_bytes = pool.geometry.place(slot)
        _log.error(
            "scrub.slot_failed",
            slot=slot,
            medium=str(pool.media[index].medium_id),
            offset_bytes=offset_bytes,
            **found,
            hint="the medium may be failing: look at its own log, and move the pool",
        )

    def _commit(self) -> None:
        """Write down what the tally says; Conflict where the claims have ended.

        Where it cannot, slots that were erased count as not erased: their claims may end.
        """
        tally, self._tally = self._tally, _Tally()
        if not tally.clean and not tally.failures:
            return
        try:
            with self._keeper.changing(frees=True) as change:
                record = change.scrubbed()
                if tally.clean:
                    change.scrubbed_slots([slot for slot, _ in tally.clean])
                change.put(SCRUB_KEY, encode(_added(record, tally)))
        except ScrubjayError:
            self._tally.failures += tally.failures
            raise
        if tally.clean:
            self._done_slots += len(tally.clean)
            self._samples.append((self._clock.monotonic_ns(), self._done_slots))

    def _now_s(self) -> int:
        return self._clock.now_ns() // NS_PER_S

    def _close_media(self) -> None:
        """Let go of the handles; one whose sync failed serves nobody any more."""
        for medium in self._media:
            with suppress(OSError):
                medium.close()
        self._media = ()


def _added(record: ScrubRecord, tally: _Tally) -> ScrubRecord:
    """Return the record with a tally added."""
    erasures = [erasure for _, erasure in tally.clean]
    return msgspec.structs.replace(
        record,
        slots=record.slots + len(erasures),
        pages=record.pages + sum(each.pages for each in erasures),
        pages_read=record.pages_read + sum(each.pages_read for each in erasures),
        cached_slots=record.cached_slots + sum(not each.reads_device for each in erasures),
        failures=record.failures + tally.failures,
    )


def _groups(slots: Sequence[Slot]) -> Iterator[list[Slot]]:
    rest = iter(slots)
    while group := list(islice(rest, _COMMIT_SLOTS)):
        yield group
