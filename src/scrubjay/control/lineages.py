"""New lineages; and ephemeral volumes, which begin in another one each time (docs/rfcs/0003).

The keys of an ephemeral volume are drawn by its exporter and kept in its memory alone, so what
an attachment leaves behind is of no use to anybody. The next one gets a lineage in which
nothing was ever leased: it reads as zeros, its segments are numbered from 1, and the old
lineage is cleared away as that of a destroyed volume is (clearing.py), its slots to be scrubbed.
"""

from __future__ import annotations

import datetime as dt

import msgspec

from scrubjay.base.ids import BranchNo, LineageNo, TenantNo, VolumeId
from scrubjay.control.keeper import Change
from scrubjay.control.purge_totals import add_ended
from scrubjay.control.records import (
    POOL_KEY,
    BranchRecord,
    CheckpointRecord,
    LineageRecord,
    PurgeRecord,
    RemainsRecord,
    VolumeRecord,
    branch_key,
    encode,
    lineage_key,
    remains_key,
)

__all__ = ["FIRST_BRANCH", "NO_CHECKPOINT", "blank", "new_lineage"]

FIRST_BRANCH = BranchNo(1)
NO_CHECKPOINT = CheckpointRecord(root=0, flushed=0, clean=True, live_sectors=0)


def new_lineage(change: Change, tenant: TenantNo) -> LineageNo:
    """Stage a lineage with one branch and no segment; return its number, never given before."""
    pool = change.pool()
    lineage = LineageNo(pool.next_lineage)
    change.put(POOL_KEY, encode(msgspec.structs.replace(pool, next_lineage=lineage + 1)))
    change.put(
        lineage_key(lineage),
        encode(LineageRecord(tenant=tenant, next_segment=1, next_branch=FIRST_BRANCH + 1)),
    )
    change.put(
        branch_key(lineage, FIRST_BRANCH),
        encode(BranchRecord(state="open", parents=(), first_group=0, roots=())),
    )
    return lineage


def blank(
    change: Change, volume: VolumeId, record: VolumeRecord, *, now: dt.datetime
) -> VolumeRecord:
    """Stage that what an ephemeral volume holds is nobody's; return its record, to be put.

    Only while no exporter serves it. Where nothing was leased the record stays as it is.
    """
    assert record.keys == "memory", "what the key tree opens is forgotten by a rotation alone"
    used = LineageNo(record.lineage)
    if change.lineage(used).next_segment == 1:
        return record
    if record.purge is not None:
        moved_bytes = record.purge.moved_bytes
        add_ended(change, TenantNo(record.tenant), moved_bytes=moved_bytes)
    remains = RemainsRecord(tenant=record.tenant, volume=volume, forgotten_at=now)
    change.put(remains_key(used), encode(remains))
    lineage = new_lineage(change, TenantNo(record.tenant))
    return msgspec.structs.replace(
        record,
        lineage=lineage,
        branch=FIRST_BRANCH,
        checkpoint=NO_CHECKPOINT,
        purge=_missed_before(record.purge, now),
    )


def _missed_before(purge: PurgeRecord | None, now: dt.datetime) -> PurgeRecord | None:
    """Return what outlives an attachment: that deadlines were missed is never hidden."""
    if purge is None or not purge.missed:
        return None
    return PurgeRecord(told_at=now, missed=purge.missed, missed_due=purge.missed_due)
