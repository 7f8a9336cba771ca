"""`scrubjay pool status`: what waits to be scrubbed, and what came too late, in words."""

from __future__ import annotations

import datetime as dt
import uuid

from scrubjay.cli import pools
from scrubjay.client.replies import Pool, PoolPurge, Scrubbing, Sink

NOON = dt.datetime(2026, 1, 2, 12, tzinfo=dt.UTC)
QUIET = Scrubbing(
    within_s=86_400,
    waiting_slots=0,
    waiting_since=None,
    due_at=None,
    leased_slots=0,
    leased_since=None,
    withheld_slots=0,
    late_slots=0,
    done_slots=0,
    rate_bytes_per_s=0,
    done_by=None,
    scrubbed_slots=0,
    missed_slots=0,
    failures=0,
)


def _told(**changed: object) -> list[tuple[str, str]]:
    values = {name: getattr(QUIET, name) for name in QUIET.__struct_fields__}
    pool = Pool(
        id=str(uuid.UUID(int=7)),
        label="main",
        created_at=NOON,
        generation=1,
        size_bytes=1 << 30,
        slot_bytes=16 << 20,
        slots=64,
        slots_free=60,
        slots_leased=3,
        slots_metadata=1,
        tenants=1,
        volumes=1,
        attached=0,
        forgettings=0,
        trouble="",
        scrubbing=Scrubbing(**(values | changed)),
        purge=PoolPurge(
            within_s=86_400,
            stripes=0,
            waiting_since=None,
            due_at=None,
            missed=[],
            moved_bytes=0,
        ),
        sink=Sink(
            kind="file",
            epoch=1,
            worth="Clear",
            findings=[],
            members=[],
            expelled=[],
            owed=[],
            budget=None,
        ),
    )
    return pools._scrubbing(pool)  # noqa: SLF001 - what `pool status` says of it


def test_status_with_nothing_to_scrub_says_so() -> None:
    """One line, and no alarm."""
    assert _told() == [("to scrub", "nothing")]


def test_status_shows_what_waits_with_its_deadline_and_progress() -> None:
    """Slots and bytes, since when and until when, done and expected."""
    hour = dt.timedelta(hours=1)
    ((name, text),) = _told(
        waiting_slots=12,
        waiting_since=NOON,
        due_at=NOON + 24 * hour,
        done_slots=4,
        rate_bytes_per_s=8 << 20,
        done_by=NOON + hour,
    )
    assert name == "to scrub"
    assert "12 slots, 192MiB; since 2026-01-02" in text
    assert "; 4 of 16 done, 64MiB; expected 2026-01-02" in text
    assert text.endswith("at 8MiB a second")


def test_status_names_what_is_late_missed_failed_or_in_use_loudly() -> None:
    """A promise that was broken is not between the lines."""
    told = dict(
        _told(late_slots=3, missed_slots=9, withheld_slots=1, leased_slots=2, leased_since=NOON)
    )
    assert told["LATE"] == "3 slots not overwritten within 24h, as was promised"
    assert told["missed"] == "9 slots since the pool was made"
    assert told["FAILED"].startswith("1 slot did not read back as zeros")
    assert told[""].startswith("2 slots in use again, not overwritten since 2026-01-02")
