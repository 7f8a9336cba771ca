"""How scrubbing stands, in the words of `scrubjay pool status`."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from scrubjay.base.units import SEGMENT_BYTES
from scrubjay.control.scrubbing import Scrubbing
from scrubjay.media.slots import Backlog

__all__ = ["ScrubStatus", "scrub_status"]


@dataclass(frozen=True, slots=True)
class ScrubStatus:
    """What waits at one moment, since when and until when, and what was done and missed."""

    within_s: int
    waiting_slots: int
    waiting_since: dt.datetime | None
    due_at: dt.datetime | None
    """When the oldest of them is to be overwritten."""
    leased_slots: int
    """In use again, with bytes of a former use left in them."""
    leased_since: dt.datetime | None
    withheld_slots: int
    """Waiting, and leased to nobody: they did not read back as they should."""
    late_slots: int
    """Waiting or leased for longer than promised."""
    done_slots: int
    """Overwritten since nothing waited."""
    rate_bytes_per_s: int
    done_by: dt.datetime | None
    """When nothing waits any more, at the rate seen; None where none was seen."""
    scrubbed_slots: int
    """These three since the pool was made."""
    missed_slots: int
    failures: int


def scrub_status(scrubbing: Scrubbing, now: dt.datetime) -> ScrubStatus:
    """Return how it stands."""
    policy, record, progress = scrubbing.policy(), scrubbing.record(), scrubbing.progress()
    backlog = scrubbing.backlog()
    waiting = [each for each in backlog if not each.leased]
    leased = [each for each in backlog if each.leased]
    since = _oldest(waiting)
    within = dt.timedelta(seconds=policy.scrub_within_s)
    late_s = int((now - within).timestamp())
    waiting_slots = sum(each.slots for each in waiting)
    done_by = None
    if waiting_slots and progress.rate_bytes_per_s:
        left_s = waiting_slots * SEGMENT_BYTES // progress.rate_bytes_per_s
        done_by = now + dt.timedelta(seconds=left_s)
    return ScrubStatus(
        within_s=policy.scrub_within_s,
        waiting_slots=waiting_slots,
        waiting_since=since,
        due_at=since + within if since else None,
        leased_slots=sum(each.slots for each in leased),
        leased_since=_oldest(leased),
        withheld_slots=progress.withheld_slots,
        late_slots=sum(each.slots for each in backlog if each.since_s < late_s),
        done_slots=progress.done_slots,
        rate_bytes_per_s=progress.rate_bytes_per_s,
        done_by=done_by,
        scrubbed_slots=record.slots,
        missed_slots=record.missed_slots,
        failures=record.failures,
    )


def _oldest(backlog: list[Backlog]) -> dt.datetime | None:
    if not backlog:
        return None
    return dt.datetime.fromtimestamp(min(each.since_s for each in backlog), dt.UTC)
