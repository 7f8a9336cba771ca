"""What of living volumes' dead bytes can still be read, since when, and until when (I8).

Every date errs to the early side: what is late stays late in every status until it is done.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from scrubjay.base.ids import LineageNo, TenantNo, VolumeId
from scrubjay.control.keeper import Keeper
from scrubjay.control.liveness import Liveness
from scrubjay.control.purge_totals import PurgeTotals, purge_totals
from scrubjay.control.records import VolumeRecord, at
from scrubjay.control.stripes import every_waiting
from scrubjay.control.view import View

__all__ = ["PoolPurge", "PurgeStatus", "VolumePurge", "dead_since", "given_up", "within"]

_SET_BACK = dt.timedelta(minutes=1)
"""By so much clocks are set back every day; a date within it is taken as it is."""


@dataclass(frozen=True, slots=True)
class VolumePurge:
    """How a volume stands."""

    waiting_since: dt.datetime | None
    """Since when the oldest is dead; None: nothing is, as of its last checkpoint."""
    due_at: dt.datetime | None
    missed: bool
    reason: str
    """What it waits for; empty where nothing does."""
    moved_bytes: int
    """Moved in the volume's life, in order to purge: charged to its tenant."""


@dataclass(frozen=True, slots=True)
class PoolPurge:
    """How all volumes stand."""

    within_s: int
    stripes: int
    """Given up, and not yet forgotten."""
    waiting_since: dt.datetime | None
    due_at: dt.datetime | None
    missed: list[str]
    """Names of the volumes of which something should have been forgotten by now."""
    missed_deadlines: int
    """Since the pool was made, in volumes that are no more as well."""
    moved_by_tenant: Mapping[TenantNo, int]
    """Bytes, likewise; of tenants that are closed too."""

    @property
    def moved_bytes(self) -> int:
        """What was moved in order to purge, for all tenants."""
        return sum(self.moved_by_tenant.values())


class PurgeStatus:
    """Reads how volumes stand."""

    def __init__(self, keeper: Keeper, liveness: Liveness) -> None:
        self._keeper = keeper
        self._liveness = liveness

    def of(self, volume: VolumeId) -> VolumePurge:
        """Return how a volume stands."""
        with self._keeper.reading() as view:
            now = self._keeper.now()
            return self._of(view, volume, view.volume(volume), given_up(view, now))

    def every(self) -> dict[VolumeId, VolumePurge]:
        """Return how each volume stands whose end is not decided."""
        with self._keeper.reading() as view:
            return self.standing(view, view.volumes())

    def standing(
        self, view: View, volumes: Iterable[tuple[VolumeId, VolumeRecord]]
    ) -> dict[VolumeId, VolumePurge]:
        """Return how each of these stands whose end is not decided, as a view has it."""
        dates = given_up(view, self._keeper.now())
        return {
            volume: self._of(view, volume, record, dates)
            for volume, record in volumes
            if record.state == "ready"
        }

    def pool(self) -> PoolPurge:
        """Return how the pool stands."""
        every = self.every()
        with self._keeper.reading() as view:
            limit = within(view)
            missed = [view.volume(volume).name for volume, one in every.items() if one.missed]
            totals = purge_totals(view)
            masks = [mask for _, _, waiting in every_waiting(view) for mask in waiting.masks]
        dates = [one.waiting_since for one in every.values() if one.waiting_since]
        return PoolPurge(
            within_s=int(limit.total_seconds()),
            stripes=sum(mask.bit_count() for mask in masks),
            waiting_since=min(dates, default=None),
            due_at=min(dates) + limit if dates else None,
            missed=sorted(missed),
            missed_deadlines=totals.missed.total(),
            moved_by_tenant=totals.moved_bytes,
        )

    def totals(self) -> PurgeTotals:
        """Return what purging did for each tenant since the pool was made."""
        with self._keeper.reading() as view:
            return purge_totals(view)

    def inside(self, view: View, volume: VolumeId, record: VolumeRecord) -> dt.datetime | None:
        """Return since when something may be dead in a volume that it has not given up."""
        now = self._keeper.now()
        return _inside(view, record, lambda: self._liveness.attached(volume), now)

    def _of(
        self,
        view: View,
        volume: VolumeId,
        record: VolumeRecord,
        dates: dict[LineageNo, dt.datetime],
    ) -> VolumePurge:
        outside, inside = dates.get(LineageNo(record.lineage)), self.inside(view, volume, record)
        since = min((each for each in (outside, inside) if each), default=None)
        due_at = since + within(view) if since else None
        if since is None:
            reason = ""
        elif since == outside:
            reason = "all of it is moved; its keys go with the next change of the sink's key"
        elif not self._liveness.attached(volume):
            reason = "it is not attached"
        else:
            reason = "its sectors wait to be moved"
        return VolumePurge(
            waiting_since=since,
            due_at=due_at,
            missed=due_at is not None and due_at < self._keeper.now(),
            reason=reason,
            moved_bytes=record.purge.moved_bytes if record.purge else 0,
        )


def dead_since(
    view: View, record: VolumeRecord, *, attached: bool, now: dt.datetime
) -> dt.datetime | None:
    """Return since when the oldest may be dead in a volume that is about to be forgotten whole.

    `attached` says whether its exporter was there for as long as the volume lived. None:
    everything that was ever dead in it is forgotten already.
    """
    lineage = LineageNo(record.lineage)
    outside = given_up(view, now, of=lineage).get(lineage)
    dates = (_inside(view, record, lambda: attached, now), outside)
    return min((each for each in dates if each), default=None)


def within(view: View) -> dt.timedelta:
    """Return how long dead bytes of a living volume may stay readable."""
    return dt.timedelta(seconds=view.policy().purge_within_s)


def given_up(
    view: View, now: dt.datetime, *, of: LineageNo | None = None
) -> dict[LineageNo, dt.datetime]:
    """Return since when the oldest is dead that each lineage has given up, where it is data.

    A date that is still to come, the clock having been set back, counts as the volume's birth.
    """
    now_s, latest_s = int(now.timestamp()), int((now + _SET_BACK).timestamp())
    oldest: dict[LineageNo, int] = {}
    wrong: set[LineageNo] = set()
    for lineage, _, waiting in every_waiting(view, of=of):
        if waiting.since_s > latest_s:
            wrong.add(lineage)
        elif waiting.since_s:
            since_s = min(waiting.since_s, now_s)
            oldest[lineage] = min(oldest.get(lineage, since_s), since_s)
    dates = {lineage: at(since_s * 1_000_000_000) for lineage, since_s in oldest.items()}
    return dates | _born(view, wrong, now)


def _born(view: View, lineages: set[LineageNo], now: dt.datetime) -> dict[LineageNo, dt.datetime]:
    """Return when the volumes of lineages were made; the pool, where a volume is no more."""
    if not lineages:
        return {}
    made = {LineageNo(record.lineage): record.created_at for _, record in view.volumes()}
    first = view.pool().created_at
    return {lineage: min(made.get(lineage, first), now) for lineage in lineages}


def _inside(
    view: View, record: VolumeRecord, attached: Callable[[], bool], now: dt.datetime
) -> dt.datetime | None:
    """Return since when something may be dead in a volume that it has not given up."""
    since = _said(view, record, attached)
    if since is None or since <= now:
        return since
    return min(now if since <= now + _SET_BACK else record.created_at, now)


def _said(view: View, record: VolumeRecord, attached: Callable[[], bool]) -> dt.datetime | None:
    told = record.purge
    if record.keys == "memory" and not attached():
        return None  # its keys ended with its exporter
    if told is None:  # never committed, or by a version that did not purge
        if record.checkpoint.root:
            return record.created_at
        leased = view.lineage(LineageNo(record.lineage)).next_segment > 1
        return record.created_at if leased and not attached() else None  # its log may know more
    if told.waiting_since or record.checkpoint.clean or attached():
        return told.waiting_since
    return told.told_at  # it ended without a last checkpoint: the log may know more
