"""Segments that were freed by a version which forgot none of them: entered once (I3).

Their slots are gone and may be scrubbed by now, but the tree of keys still leads to them: who
copied a medium earlier could open them with a key of today. What they held is dead since a
moment that nobody knows, so it counts from the volume's birth. Until all of a pool are entered
its record does not say so, and each start goes through it again, which changes nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import structlog

from scrubjay.base.errors import NotFound
from scrubjay.base.ids import LineageNo, SegmentId, TenantNo, VolumeId
from scrubjay.control.directory import Group, groups_of, read_group, segment_range
from scrubjay.control.keeper import Change, Keeper
from scrubjay.control.records import POOL_KEY, encode
from scrubjay.control.stripes import ALL_STRIPES, await_forgetting, read_waiting
from scrubjay.control.view import View
from scrubjay.engine.lessor import Purged
from scrubjay.keys import path

__all__ = ["adopt_freed"]

_GROUPS = 64
"""In one commit: others wait for it."""
_log = structlog.get_logger(__name__)


def adopt_freed(keeper: Keeper) -> None:
    """Enter what earlier versions freed under `o`, durably, unless that was done before.

    Raises NoSpace where the pool is too full for it: to be called again later.
    """
    with keeper.reading() as view:
        if view.pool().freed_entered:
            return
        found = list(_found(view))
    entered = 0
    for first in range(0, len(found), _GROUPS):
        with keeper.changing() as change:
            entered += sum(_enter(change, *each) for each in found[first : first + _GROUPS])
    with keeper.changing(frees=True) as change:
        pool = msgspec.structs.replace(change.pool(), freed_entered=True)
        change.put(POOL_KEY, encode(pool))
    if entered:
        _log.info("stripes.adopted", segments=entered)


def _found(view: View) -> Iterator[tuple[VolumeId, int]]:
    """Yield (volume, group) where segments that were born have no slot."""
    for volume, record in view.volumes():
        if record.state != "ready" or record.keys != "tree":
            continue
        lineage = LineageNo(record.lineage)
        for key, group in groups_of(view, lineage):
            number = int.from_bytes(key[5:])
            if _freed(view, lineage, number, group):
                yield volume, number


def _freed(view: View, lineage: LineageNo, number: int, group: Group) -> list[SegmentId]:
    """Return the segments of a group that were leased, have no slot, and do not wait already."""
    born = range(1, view.lineage(lineage).next_segment)
    waiting = read_waiting(view, lineage, number)
    masks = waiting.masks if waiting else [0] * len(group.slots)
    return [
        SegmentId(segment)
        for segment, slot, mask in zip(segment_range(number), group.slots, masks, strict=True)
        if slot is None and segment in born and mask != ALL_STRIPES
    ]


def _enter(change: Change, volume: VolumeId, number: int) -> int:
    """Enter those of a group that have a key still; return how many."""
    try:
        record = change.volume(volume)
    except NotFound:
        return 0  # it was destroyed meanwhile
    lineage, group = (
        LineageNo(record.lineage),
        read_group(change, LineageNo(record.lineage), number),
    )
    if record.state != "ready" or group is None:
        return 0
    freed = _freed(change, lineage, number, group)
    branch = path.branch(TenantNo(record.tenant), lineage, group.branch)
    keys = [change.segment_keys(branch, range(each, each + 1)) for each in freed]
    left = [each for each, key in zip(freed, keys, strict=True) if key != [None]]
    if left:
        dead_since_s = int(record.created_at.timestamp())
        await_forgetting(change, lineage, Purged(dead_since_s=dead_since_s), left)
    return len(left)
