"""By when freed slots have to be overwritten, how fast that needs to go, and what came late.

Every slot with bytes of a former use has a second since which they wait; `scrub_within`
later they are due. A deadline that was missed is told once, in the commit that notes it:
a restart neither forgets it nor tells it again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec
import structlog

from scrubjay.base.ids import TenantNo, VolumeId
from scrubjay.base.units import PAGE_BYTES, SEGMENT_BYTES
from scrubjay.control.keeper import Change, Keeper
from scrubjay.control.records import SCRUB_KEY, PolicyRecord, encode
from scrubjay.control.view import View
from scrubjay.media.erase import SAMPLED_PAGES
from scrubjay.media.pace import Rates
from scrubjay.media.slots import Backlog

__all__ = [
    "Missed",
    "OnMissed",
    "OnPurgeMissed",
    "PurgeMissed",
    "needed_rates",
    "note_missed",
    "tell_nobody",
]

WORK_BYTES = SEGMENT_BYTES + SAMPLED_PAGES * PAGE_BYTES
"""What overwriting a slot and reading it back moves."""
SPARE_PART = 10
"""A tenth of the time is kept in hand."""
LATE_PART = 24
"""What is late already gets a 24th of the time, an hour of a day: tenants are there too."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Missed:
    """Deadlines of a pool's slots that were missed, told together."""

    pool: UUID
    due_at: dt.datetime
    """When the first of them was due."""
    waiting: int
    """Slots that nobody uses, and that were not overwritten in time."""
    leased: int
    """Slots that are in use again, and in which bytes of a former use are left."""

    @property
    def slots(self) -> int:
        """How many there are."""
        return self.waiting + self.leased

    @property
    def reason(self) -> str:
        """Why, in words."""
        parts = []
        if self.waiting:
            parts.append(f"{self.waiting} freed slots were not overwritten in time")
        if self.leased:
            parts.append(f"{self.leased} were leased again and not yet written to the end")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class PurgeMissed:
    """A volume of which something should have been forgotten by now (purge_deadlines.py)."""

    volume: VolumeId
    tenant: TenantNo
    subject: str
    """The id under which evidence speaks of the volume."""
    due_at: dt.datetime
    reason: str
    """What it waits for, in words."""


OnMissed = Callable[[Change, Missed], None]
"""Told within the change that notes it, so that what it stages is durable with that."""
OnPurgeMissed = Callable[[Change, PurgeMissed], None]
"""Likewise."""


def tell_nobody(_change: Change, _missed: Missed | PurgeMissed) -> None:
    """Do nothing: nobody wants to know."""


def needed_rates(backlog: Sequence[Backlog], policy: PolicyRecord, *, now_s: int) -> Rates:
    """Return the policy's rates, raised as far as slots would else be overwritten too late.

    Slots go in the order in which they are due; so up to each deadline there is a certain
    amount of work, and the most urgent of these counts.
    """
    rates = Rates(
        idle_bytes_per_s=policy.scrub_idle_bytes_per_s,
        busy_bytes_per_s=policy.scrub_busy_bytes_per_s,
    )
    within_s = policy.scrub_within_s
    work_bytes = 0
    for each in sorted(backlog):
        if not each.leased:
            work_bytes += each.slots * WORK_BYTES
            left_s = each.since_s + within_s - within_s / SPARE_PART - now_s
            rates = Rates.within(work_bytes, max(left_s, within_s / LATE_PART), wanted=rates)
    return rates


def note_missed(keeper: Keeper, backlog: Sequence[Backlog], on_missed: OnMissed) -> Missed | None:
    """Note deadlines that were missed since the last time, durably, and tell of them once.

    What waits since a forgetting that is not cleared away yet, or later, is told after that.
    """
    now_s = int(keeper.now().timestamp())
    with keeper.reading() as view:
        if not _untold(view, backlog, now_s=now_s):
            return None
    with keeper.changing(frees=True) as change:
        late = _untold(change, backlog, now_s=now_s)
        if not late:
            return None
        missed = Missed(
            pool=keeper.pool_id,
            due_at=_moment(late[0].since_s + change.policy().scrub_within_s),
            waiting=sum(each.slots for each in late if not each.leased),
            leased=sum(each.slots for each in late if each.leased),
        )
        record = change.scrubbed()
        noted = msgspec.structs.replace(
            record,
            missed_slots=record.missed_slots + missed.slots,
            missed_until_s=late[-1].since_s,
        )
        change.put(SCRUB_KEY, encode(noted))
        on_missed(change, missed)
    _log.error(
        "scrub.deadline_missed",
        due_at=missed.due_at.isoformat(),
        waiting=missed.waiting,
        leased=missed.leased,
        hint="see: scrubjay pool status; raise the bandwidth with: scrubjay pool policy",
    )
    return missed


def _untold(view: View, backlog: Sequence[Backlog], *, now_s: int) -> list[Backlog]:
    """Return what is late and was not told, the oldest first."""
    told_s = view.scrubbed().missed_until_s
    late_s = now_s - view.policy().scrub_within_s
    uncleared_s = (int(each.forgotten_at.timestamp()) for _, each in view.remains())
    end_s = min(late_s, *uncleared_s, late_s)
    return sorted(each for each in backlog if told_s < each.since_s < end_s)


def _moment(second: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(second, dt.UTC)
