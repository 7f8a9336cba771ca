"""What an exporter says at a commit, before the pool believes it.

A commit about segments that its volume was never given is refused, for the exporter that says
so: what it enters is read with what all others gave up. A date later than now is no reason to
refuse one, since a clock can be set back; it counts as the oldest that it can be (I8).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import replace

from scrubjay.base.errors import Invalid
from scrubjay.base.ids import LineageNo, SegmentId
from scrubjay.control.directory import by_group, read_group
from scrubjay.control.records import VolumeRecord
from scrubjay.control.stripes import ALL_STRIPES
from scrubjay.control.view import View
from scrubjay.engine.lessor import Checkpoint

__all__ = ["believed", "oldest_of"]


def believed(
    view: View,
    record: VolumeRecord,
    checkpoint: Checkpoint,
    *,
    freed: Sequence[SegmentId],
    now: dt.datetime,
) -> Checkpoint:
    """Return a checkpoint with its dates as they can be true; Invalid where it cannot be."""
    purged = checkpoint.purged
    said = purged.stripes if purged else ()
    _check_leased(view, record, {*freed, *checkpoint.filled, *(each for each, _ in said)})
    if purged is None:
        return checkpoint
    for segment, mask in purged.stripes:
        if not 0 <= mask <= ALL_STRIPES:
            raise Invalid(
                f"volume {record.name}: gives up stripes {mask:#x} of segment {segment}, "
                "expected a mask of 64"
            )
    dated = replace(
        purged,
        dead_since_s=_believed_s(purged.dead_since_s, record, now),
        waiting_since_s=_believed_s(purged.waiting_since_s, record, now),
    )
    return replace(checkpoint, purged=dated)


def oldest_of(record: VolumeRecord, now: dt.datetime) -> dt.datetime:
    """Return since when, at the earliest, something can be dead that no commit told of yet."""
    told = record.purge
    known = (told.waiting_since or told.told_at) if told else record.created_at
    return next((each for each in (known, record.created_at) if each <= now), now)


def _check_leased(view: View, record: VolumeRecord, segments: Collection[SegmentId]) -> None:
    """Raise Invalid unless all of these were leased to the volume."""
    lineage = LineageNo(record.lineage)
    end = view.lineage(lineage).next_segment
    strange = [each for each in segments if not 1 <= each < end] or [
        found[0]
        for number, found in by_group(segments).items()
        if read_group(view, lineage, number) is None
    ]
    if strange:
        raise Invalid(
            f"volume {record.name}: speaks of segment {min(strange)}, "
            f"expected one of those leased, from 1 to {end - 1}"
        )


def _believed_s(since_s: int, record: VolumeRecord, now: dt.datetime) -> int:
    """Return a second of the past, in the place of one that is to come."""
    if 0 <= since_s <= int(now.timestamp()):
        return since_s
    return int(oldest_of(record, now).timestamp())
