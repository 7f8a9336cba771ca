"""What an attached volume asks of the pool: segments, their keys, checkpoints.

The service behind `engine.lessor.Lessor`. Every call names the attach epoch that it was
started under; one that another attachment has replaced, or whose volume is being
destroyed, gets Conflict and must stop, so that two never write one log (I1, I5).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from scrubjay.base.errors import Conflict, Invalid
from scrubjay.base.ids import BranchNo, Entry, LineageNo, SegmentId, Slot, TenantNo, VolumeId
from scrubjay.control.dates import with_dates
from scrubjay.control.directory import (
    COMMITMENT_BYTES,
    Group,
    by_group,
    commitment,
    read_group,
    read_ledger,
    segment_range,
)
from scrubjay.control.keeper import Change, Keeper
from scrubjay.control.ledger import read_frontier, write_frontier
from scrubjay.control.purge_totals import add_ended
from scrubjay.control.records import (
    CheckpointRecord,
    PurgeRecord,
    VolumeRecord,
    at,
    directory_key,
    encode,
    ledger_key,
    lineage_key,
    volume_key,
)
from scrubjay.control.said import believed, oldest_of
from scrubjay.control.stripes import Waiting, await_forgetting, left_of, read_waiting
from scrubjay.control.view import View
from scrubjay.engine.lessor import GROUP_SEGMENTS, Attachment, Checkpoint, Grant, Purged
from scrubjay.keys import path
from scrubjay.keys.segment import SegmentKey

__all__ = ["Leases"]

_LEASE_MAX = 256
"""Segments per call, 4 GiB: what one commit can carry without keeping others waiting."""


class Leases:
    """The pool's keeper, as exporters see it."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def attachment(self, volume: VolumeId, epoch: int) -> Attachment:
        """Return all that an exporter needs to begin."""
        with self._keeper.reading() as view:
            record = _held(view, volume, epoch)
            lineage = view.lineage(LineageNo(record.lineage))
            within_s = view.policy().purge_within_s
        last, waiting = record.checkpoint, record.purge and record.purge.waiting_since
        if waiting and waiting > self._keeper.now():
            waiting = oldest_of(record, self._keeper.now())
        return Attachment(
            volume=volume,
            name=record.name,
            lineage=LineageNo(record.lineage),
            branch=BranchNo(record.branch),
            epoch=epoch,
            size_bytes=record.size_bytes,
            checkpoint=Checkpoint(Entry(last.root), last.flushed, last.clean, last.live_sectors),
            next_segment=SegmentId(lineage.next_segment),
            purge_within_s=within_s,
            waiting_since_s=int(waiting.timestamp()) if waiting else 0,
            created_s=max(int(record.created_at.timestamp()), 0),
        )

    def lease(
        self, volume: VolumeId, epoch: int, *, count: int, above: SegmentId
    ) -> Sequence[Grant]:
        """Lease up to `count` new segments, at least one; NoSpace when the pool is full.

        `above` is the highest id that the exporter knows of. What was leased beyond it
        is of a reply that got lost: it is granted again, and nothing new.
        """
        if count < 1:
            raise Invalid(f"volume {volume}: leases {count} segments, expected 1 or more")
        with self._keeper.changing() as change:
            record = _held(change, volume, epoch)
            lineage_no = LineageNo(record.lineage)
            lineage = change.lineage(lineage_no)
            if above + 1 < lineage.next_segment:
                ids = range(max(above + 1, 1), lineage.next_segment)
                return _told_clean(change, _grants(change, record, ids))
            if above + 1 > lineage.next_segment:
                raise Conflict(
                    f"volume {record.name}: knows segment {above}, "
                    f"expected below {lineage.next_segment}"
                )
            slots = change.lease_slots(lineage_no, min(count, _LEASE_MAX))
            ids = range(lineage.next_segment, lineage.next_segment + len(slots))
            grown = msgspec.structs.replace(lineage, next_segment=ids.stop)
            change.put(lineage_key(lineage_no), encode(grown))
            return _told_clean(change, _enter(change, record, ids, slots))

    def group(self, volume: VolumeId, epoch: int, group: int) -> Sequence[Grant]:
        """Return the grants of the segments of a group that were born."""
        # Nothing is changed, but root and tables of the keys must be of one moment.
        with self._keeper.changing() as change:
            record = _held(change, volume, epoch)
            lineage = change.lineage(LineageNo(record.lineage))
            ids = segment_range(group)
            born = range(max(ids.start, 1), min(ids.stop, lineage.next_segment))
            return _told_clean(change, _grants(change, record, born)) if born else []

    def commit(
        self, volume: VolumeId, epoch: int, checkpoint: Checkpoint, *, freed: Sequence[SegmentId]
    ) -> int:
        """Name a checkpoint and free the slots of `freed`; the same again changes nothing.

        A segment in `freed` that has no slot any more is passed over; Invalid for one that was
        never leased. From here on nobody is
        granted a key of it, nor of what was purged (I3). Returns how much of the pool is free,
        in percent.
        """
        with self._keeper.changing(frees=True) as change:
            record = _held(change, volume, epoch)
            if checkpoint.flushed < record.checkpoint.flushed:
                raise Conflict(
                    f"volume {record.name}: checkpoint at {checkpoint.flushed}, "
                    f"expected at least {record.checkpoint.flushed}"
                )
            checkpoint = believed(change, record, checkpoint, freed=freed, now=self._keeper.now())
            named = CheckpointRecord(
                root=checkpoint.root,
                flushed=checkpoint.flushed,
                clean=checkpoint.clean,
                live_sectors=checkpoint.live_sectors,
            )
            _fill(change, record, checkpoint.filled)
            dates = _free(change, record, freed)
            if record.keys == "tree":  # of others the keys are gone already, with the exporter's
                purged = checkpoint.purged or Purged()
                await_forgetting(change, LineageNo(record.lineage), purged, freed)
            purge = _told(checkpoint.purged, self._keeper.now(), before=record.purge)
            before = record.purge
            if before and purge and purge.moved_bytes < before.moved_bytes:  # a reset began anew
                add_ended(change, TenantNo(record.tenant), moved_bytes=before.moved_bytes)
            since = record.slots_since
            if since is not None:
                since = with_dates(since, dates)
            renewed = msgspec.structs.replace(
                record, checkpoint=named, purge=purge, slots_since=since
            )
            change.put(volume_key(volume), encode(renewed))
        return self._keeper.free_percent


def _held(view: View, volume: VolumeId, epoch: int) -> VolumeRecord:
    """Return the record of a volume that is attached under this epoch; Conflict otherwise."""
    record = view.volume(volume)
    if record.state != "ready":
        raise Conflict(f"volume {record.name}: is being destroyed, expected to be served")
    if record.attach_epoch != epoch:
        raise Conflict(
            f"volume {record.name}: attach epoch {epoch}, expected {record.attach_epoch}",
            hint="another attachment took its place; this one must end",
        )
    return record


def _enter(change: Change, record: VolumeRecord, ids: range, slots: Sequence[Slot]) -> list[Grant]:
    """Bear the keys of new segments, and write them into directory and ledger."""
    if record.keys == "memory":
        return _enter_without_keys(change, record, ids, slots)
    lineage, branch = LineageNo(record.lineage), _branch_path(record)
    change.birth([path.segment(*_numbers(record), SegmentId(each)) for each in ids])
    keys = change.segment_keys(branch, ids)
    grants = [
        _grant(segment, slot, key) for segment, slot, key in zip(ids, slots, keys, strict=True)
    ]
    frontier = read_frontier(change, lineage)
    for number, segments in by_group(SegmentId(each) for each in ids).items():
        group = read_group(change, lineage, number) or Group(
            BranchNo(record.branch), [None] * GROUP_SEGMENTS
        )
        if group.branch != record.branch:
            raise Conflict(f"group {number}: of branch {group.branch}, not {record.branch}")
        ledger = read_ledger(change, lineage, number)
        for segment in segments:
            place = segment % GROUP_SEGMENTS
            grant = grants[segment - ids.start]
            group.slots[place] = grant.slot
            at = place * COMMITMENT_BYTES
            ledger[at : at + COMMITMENT_BYTES] = bound = commitment(grant.key)
            frontier = frontier.append(bound)
        change.put(directory_key(lineage, number), group.pack())
        change.put(ledger_key(lineage, number), bytes(ledger))
    write_frontier(change, lineage, frontier)
    return grants


def _enter_without_keys(
    change: Change, record: VolumeRecord, ids: range, slots: Sequence[Slot]
) -> list[Grant]:
    """Write new segments of an ephemeral volume into the directory; their keys are not ours."""
    lineage = LineageNo(record.lineage)
    for number, segments in by_group(SegmentId(each) for each in ids).items():
        group = read_group(change, lineage, number) or Group(
            BranchNo(record.branch), [None] * GROUP_SEGMENTS
        )
        for segment in segments:
            group.slots[segment % GROUP_SEGMENTS] = slots[segment - ids.start]
        change.put(directory_key(lineage, number), group.pack())
    return _grants(change, record, ids)


def _grants(change: Change, record: VolumeRecord, ids: range) -> list[Grant]:
    """Return what is known of segments that were leased before."""
    lineage = LineageNo(record.lineage)
    groups: dict[int, Group | None] = {}
    waiting: dict[int, Waiting] = {}
    grants = []
    ephemeral = record.keys == "memory"
    keys = (
        [SegmentKey()] * len(ids) if ephemeral else change.segment_keys(_branch_path(record), ids)
    )
    for segment, key in zip(ids, keys, strict=True):
        number = segment // GROUP_SEGMENTS
        if number not in groups:
            groups[number] = read_group(change, lineage, number)
            waiting[number] = read_waiting(change, lineage, number) or Waiting()
        group = groups[number]
        left = left_of(key, waiting[number].masks[segment % GROUP_SEGMENTS])
        slot = None if group is None else group.slots[segment % GROUP_SEGMENTS]
        grants.append(_grant(segment, slot, left))
    return grants


def _told_clean(change: Change, grants: list[Grant]) -> list[Grant]:
    """Have grants say in which slots nothing of a former use has to be written over."""
    return [
        replace(each, clean=each.slot is not None and change.is_clean(each.slot)) for each in grants
    ]


def _fill(change: Change, record: VolumeRecord, filled: Sequence[SegmentId]) -> None:
    """Note which slots hold nothing of a former use any more."""
    lineage = LineageNo(record.lineage)
    slots = []
    for number, segments in by_group(filled).items():
        group = read_group(change, lineage, number)
        if group is not None:
            slots += [group.slots[segment % GROUP_SEGMENTS] for segment in segments]
    held = [slot for slot in slots if slot is not None]
    if held:
        change.filled_slots(lineage, held)


def _free(change: Change, record: VolumeRecord, freed: Sequence[SegmentId]) -> frozenset[int]:
    """Free the slots of segments; return since when they wait to be scrubbed."""
    lineage = LineageNo(record.lineage)
    slots = []
    for number, segments in by_group(freed).items():
        group = read_group(change, lineage, number)
        if group is None:
            continue
        for segment in segments:
            slot = group.slots[segment % GROUP_SEGMENTS]
            if slot is not None:
                slots.append(slot)
                group.slots[segment % GROUP_SEGMENTS] = None
        change.put(directory_key(lineage, number), group.pack())
    return change.release_slots(lineage, slots) if slots else frozenset()


def _told(
    purged: Purged | None, now: dt.datetime, *, before: PurgeRecord | None
) -> PurgeRecord | None:
    """Return what a checkpoint says; what was missed before stays missed, and told.

    One that says nothing leaves what is known.
    """
    if purged is None:
        return before
    since = at(purged.waiting_since_s * 1_000_000_000) if purged.waiting_since_s else None
    return PurgeRecord(
        told_at=now,
        waiting_since=since,
        moved_bytes=purged.moved_bytes,
        missed=before.missed if before else 0,
        missed_due=before.missed_due if before else None,
    )


def _grant(segment: int, slot: Slot | None, key: SegmentKey | None) -> Grant:
    if key is None or slot is None:  # forgotten as a whole, or about to be: nobody opens it
        return Grant(SegmentId(segment), None, b"")
    return Grant(SegmentId(segment), slot, key.seed, key.stripes)


def _numbers(record: VolumeRecord) -> tuple[TenantNo, LineageNo, BranchNo]:
    return TenantNo(record.tenant), LineageNo(record.lineage), BranchNo(record.branch)


def _branch_path(record: VolumeRecord) -> path.Path:
    return path.branch(*_numbers(record))
