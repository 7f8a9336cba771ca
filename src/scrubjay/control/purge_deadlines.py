"""Deadlines of purging that were missed: each is told once, in the commit that notes it (I8).

A restart neither forgets one nor tells it again. What is told is a moment by which something
had to be forgotten: where the oldest that waits is another, or the policy has changed, that is
another deadline.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping

import msgspec
import structlog

from scrubjay.base.errors import NotFound
from scrubjay.base.ids import TenantNo, VolumeId
from scrubjay.control.births import enter_birth, subject_of
from scrubjay.control.deadlines import OnPurgeMissed, PurgeMissed
from scrubjay.control.keeper import Change, Keeper
from scrubjay.control.purge_status import PurgeStatus, VolumePurge
from scrubjay.control.records import PurgeRecord, VolumeRecord, encode, volume_key
from scrubjay.control.view import View

__all__ = ["note_missed_purges"]

_BATCH = 256
"""Volumes told of in one commit: all can be late at once, where the daemon was away."""
_log = structlog.get_logger(__name__)


def note_missed_purges(
    keeper: Keeper, status: PurgeStatus, on_missed: OnPurgeMissed
) -> list[PurgeMissed]:
    """Note the deadlines that were missed and not told yet, durably; tell of them, return them."""
    every = status.every()
    with keeper.reading() as view:
        untold = [volume for volume, _ in _untold(_found(view, every), every)]
    told: list[PurgeMissed] = []
    for first in range(0, len(untold), _BATCH):
        told += _note(keeper, status, untold[first : first + _BATCH], on_missed)
    return told


def _note(
    keeper: Keeper, status: PurgeStatus, volumes: Iterable[VolumeId], on_missed: OnPurgeMissed
) -> list[PurgeMissed]:
    """Note and tell of some, as they stand by now, in one commit."""
    noted = []
    with keeper.changing(frees=True) as change:
        found = dict(_found(change, volumes))
        stands = status.standing(change, found.items())
        for volume, due_at in _untold(found.items(), stands):
            record = found[volume]
            since = status.inside(change, volume, record)
            before = record.purge or PurgeRecord(told_at=record.created_at, waiting_since=since)
            purge = msgspec.structs.replace(before, missed=before.missed + 1, missed_due=due_at)
            change.put(volume_key(volume), encode(msgspec.structs.replace(record, purge=purge)))
            missed = PurgeMissed(
                volume=volume,
                tenant=TenantNo(record.tenant),
                subject=_subject(keeper, change, volume),
                due_at=due_at,
                reason=stands[volume].reason,
            )
            on_missed(change, missed)
            noted.append(missed)
    for each in noted:
        _log.error(
            "purge.deadline_missed",
            volume=str(each.volume),
            due_at=each.due_at.isoformat(),
            reason=each.reason,
            hint="see: scrubjay pool status; give it longer with: scrubjay pool policy",
        )
    return noted


def _found(view: View, volumes: Iterable[VolumeId]) -> Iterator[tuple[VolumeId, VolumeRecord]]:
    """Yield the volumes that there are still, and whose end is not decided."""
    for volume in volumes:
        try:
            record = view.volume(volume)
        except NotFound:
            continue
        if record.state == "ready":
            yield volume, record


def _untold(
    volumes: Iterable[tuple[VolumeId, VolumeRecord]], stands: Mapping[VolumeId, VolumePurge]
) -> Iterator[tuple[VolumeId, dt.datetime]]:
    """Yield what is late, and when it was due, unless that was told."""
    for volume, record in volumes:
        one = stands[volume]
        told = record.purge.missed_due if record.purge else None
        if one.missed and one.due_at is not None and one.due_at != told:
            yield volume, one.due_at


def _subject(keeper: Keeper, change: Change, volume: VolumeId) -> str:
    """Return a volume's blinded id; a birth that the log does not know yet is entered first."""
    birth = change.birth_record(volume)
    if birth.log_index is None:
        birth = enter_birth(change, birth, now=keeper.now(), entropy=keeper.entropy)
    return subject_of(birth)
