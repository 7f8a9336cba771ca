"""Closing tenants: everything that one ever had ends in one rotation, however much it was (I3, I6).

    decided     one commit: the tenant is `closing`; all its volumes are withheld by that alone
    ended       their exporters have dropped their keys, or were killed
    prepared    the sink holds the next epoch beside the old one
    committed   one commit: the tenant's node is out of the key tree; the new epoch
    dropped     the sink has destroyed the old epoch: all of it is forgotten
    entered     in slices: each birth record says how its volume ended, and the volume is no more
    closed      one commit: the tenant is `closed` and without a name, every volume it ever had
                is listed, and a certificate over all of them is due (certificates.py); what is
                left of slots and keys is cleared away later (clearing.py)

`prepared` to `dropped` are those of a destroy, and shared with whatever is destroyed meanwhile
(forgetting.py). Decision and rotation cost the same for one volume and for ten thousand. What
was decided is carried on by the next daemon, from whatever step the pool shows.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import msgspec
import structlog

from scrubjay.base.errors import NotFound, ScrubjayError, Unavailable
from scrubjay.base.ids import Epoch, LineageNo, TenantNo, VolumeId
from scrubjay.control.attachments import Attachments
from scrubjay.control.certificates import Certificates, enter_due
from scrubjay.control.keeper import Change, Keeper
from scrubjay.control.operations import Operations
from scrubjay.control.records import (
    BirthRecord,
    ClosedRecord,
    ClosingRecord,
    DestructionRecord,
    EndingRecord,
    ForgettingRecord,
    TenantRecord,
    closed_key,
    closing_key,
    encode,
    ending_key,
    tenant_key,
)
from scrubjay.control.tenants import resolve_tenant, unavailable
from scrubjay.control.view import View
from scrubjay.keys import path

__all__ = ["Closings", "TakeOut", "ends_of"]

_KIND = "tenant.close"
_SLICE = 256
"""Volumes in one commit: 30 to 90 ms (measured), and little enough for a full pool."""
_LISTED = 1024
"""Ids in one ClosedRecord: 39 KiB of the 64 that a value may have."""
_log = structlog.get_logger(__name__)


class TakeOut(Protocol):
    """Stages the end of one volume (forgetting.py)."""

    def __call__(
        self,
        change: Change,
        doomed: ForgettingRecord,
        now: dt.datetime,
        /,
        *,
        before: Epoch,
        after: Epoch,
    ) -> tuple[path.Path, DestructionRecord]:
        """Return what is to be forgotten, and how the volume ended."""
        ...


class Closings:
    """What `Forgetting` does about tenants, in its own thread but for `decide`."""

    def __init__(
        self,
        keeper: Keeper,
        attachments: Attachments,
        operations: Operations,
        *,
        certificates: Certificates,
        take_out: TakeOut,
    ) -> None:
        self._certificates = certificates
        self._keeper = keeper
        self._attachments = attachments
        self._operations = operations
        self._end_volume = take_out
        self._dropped = 0
        """The sink holds no epoch before this one."""

    def decide(self, reference: str, *, check: Callable[[TenantRecord], None]) -> uuid.UUID:
        """Decide a tenant's end, and return the operation that reports about it.

        From here on nothing serves its volumes, it takes no new ones, and nothing takes the
        decision back. Deciding again returns the same operation; Conflict for one that is
        closed. `check` may raise before anything changes.
        """
        operation: uuid.UUID | None = None
        try:
            with self._keeper.naming(frees=True) as change:
                tenant = resolve_tenant(self._keeper, change, reference)
                if tenant.state == "closed":
                    raise unavailable(tenant)
                known = change.closing(TenantNo(tenant.id))
                if known is not None:
                    return uuid.UUID(known.operation)
                check(tenant)
                operation = self._operations.begin(_KIND, f"tenant {tenant.name} ({tenant.id})")
                self._stage_decision(change, tenant, operation)
        except ScrubjayError as error:
            # A commit of which nobody knows is looked up at the next start.
            if operation is not None and type(error) is not Unavailable:
                self._operations.fail([operation], error)
            raise
        _log.info("tenant.closing_decided", tenant=tenant.id)
        return operation

    def undone(self, view: View) -> list[ClosingRecord]:
        """Return every closing that is decided and not done."""
        return [each for each in view.closings() if each.closed_at is None]

    def recover(self, view: View) -> None:
        """Adopt the operations of closings that go on, and end those of closings that are done."""
        known = {each.operation: each for each in view.closings()}
        for row in self._operations.running():
            closing = known.get(str(row.id))
            if row.kind != _KIND or closing is None:  # never decided
                continue
            if closing.closed_at is None:
                self._operations.adopt(row.id)
            else:
                self._operations.succeed([row.id], _result(view, closing))

    # --- up to the rotation -----------------------------------------------------------

    def ended(self) -> list[ClosingRecord]:
        """Have no process hold a key of the tenants that are closing; return those ready."""
        with self._keeper.reading() as view:
            waiting = [each for each in self.undone(view) if not each.epoch_after]
            return [each for each in waiting if self._all_ended(view, each)]

    def take_out(
        self, change: Change, closing: ClosingRecord, *, before: Epoch, after: Epoch
    ) -> path.Path:
        """Stage that a tenant's key goes in this rotation; return what is to be forgotten."""
        tenant = TenantNo(closing.tenant)
        rotated = msgspec.structs.replace(closing, epoch_before=before, epoch_after=after)
        change.put(closing_key(tenant), encode(rotated))
        return path.tenant(tenant)

    def dropped(self, epoch: Epoch) -> None:
        """Hear that the sink holds this epoch alone, which the pool names."""
        self._dropped = epoch

    # --- from there on ----------------------------------------------------------------

    def step(self) -> bool:
        """Enter the ends of some volumes whose keys are gone, durably; whether there were any."""
        with self._keeper.reading() as view:
            forgotten = [
                each for each in self.undone(view) if 0 < each.epoch_after <= self._dropped
            ]
        return any(self._enter(each) for each in forgotten)

    def _enter(self, closing: ClosingRecord) -> bool:
        """Do one slice of a closing; False where it waits for a destroy that came before it."""
        with self._keeper.naming(frees=True) as change:
            if closing.forgotten_at is None:
                closing = msgspec.structs.replace(closing, forgotten_at=self._keeper.now())
                change.put(closing_key(TenantNo(closing.tenant)), encode(closing))
            left = _volumes_of(change, closing)
            ending = [each for each in left if change.forgetting(each) is None][:_SLICE]
            if ending:
                self._end_volumes(change, closing, ending)
            elif left:
                return False
            else:
                closing = self._stage_closed(change, closing)
        if closing.closed_at is None:
            self._tell(closing, left=len(left) - len(ending))
            return True
        self._certificates.issue()
        with self._keeper.reading() as view:
            self._operations.succeed([uuid.UUID(closing.operation)], _result(view, closing))
        _log.info("tenant.closed", tenant=closing.tenant, volumes=closing.volumes)
        return True

    def _end_volumes(self, change: Change, closing: ClosingRecord, volumes: list[VolumeId]) -> None:
        """Stage how volumes ended: by the rotation that took their tenant's key away."""
        now = closing.forgotten_at or self._keeper.now()
        before, after = Epoch(closing.epoch_before), Epoch(closing.epoch_after)
        for volume in volumes:
            doomed = ForgettingRecord(
                volume=volume,
                lineage=change.volume(volume).lineage,
                decided_at=closing.decided_at,
                operation=closing.operation,
                exporter=ending.exporter if (ending := change.ending(volume)) else "",
                exporter_at=ending.exporter_at if ending else None,
            )
            change.delete(ending_key(volume))
            self._end_volume(change, doomed, now, before=before, after=after)
        change.index_as(
            lambda index, generation: index.remove_volumes(volumes, generation=generation)
        )

    def _stage_closed(self, change: Change, closing: ClosingRecord) -> ClosingRecord:
        """Stage the last step; return the record of what was done."""
        tenant = TenantNo(closing.tenant)
        births = ends_of(change, tenant)
        listed = [each.volume for each in births]
        for number, first in enumerate(range(0, len(listed), _LISTED)):
            page = ClosedRecord(volumes=tuple(listed[first : first + _LISTED]))
            change.put(closed_key(tenant, number), encode(page))
        enter_due(
            change,
            [VolumeId(each) for each in listed],
            before=Epoch(closing.epoch_before),
            after=Epoch(closing.epoch_after),
            now=closing.forgotten_at or self._keeper.now(),
            scope="tenant",
        )
        for key in _tables_above(tenant, births):
            change.delete(key)
        done = msgspec.structs.replace(closing, closed_at=self._keeper.now(), volumes=len(listed))
        change.put(closing_key(tenant), encode(done))
        closed = msgspec.structs.replace(change.tenant(tenant), state="closed")
        change.put(tenant_key(tenant), encode(closed))
        change.index_as(
            lambda index, generation: index.remove_tenant(tenant, generation=generation)
        )
        return done

    def _stage_decision(self, change: Change, tenant: TenantRecord, operation: uuid.UUID) -> None:
        """Stage the decision."""
        number = TenantNo(tenant.id)
        decided = ClosingRecord(
            tenant=number,
            name=tenant.name,
            decided_at=self._keeper.now(),
            operation=str(operation),
        )
        closing = msgspec.structs.replace(tenant, state="closing")
        change.put(tenant_key(number), encode(closing))
        change.put(closing_key(number), encode(decided))

    def _all_ended(self, view: View, closing: ClosingRecord) -> bool:
        """Have no process hold a key of a tenant; False where one does not let go."""
        volumes = _volumes_of(view, closing)
        self._tell(closing, left=len(volumes))
        stay = 0
        for volume in volumes:
            try:
                self._end(volume, view.volume(volume).name)
            except NotFound:  # a destroy was quicker
                continue
            except ScrubjayError as error:
                stay += 1
                _log.error("exporter.goes_on", volume=str(volume), error=error.message)
        return not stay

    def _end(self, volume: VolumeId, name: str) -> None:
        """End what serves a volume, and write down how that was: the rotation may have to wait."""
        ending = self._attachments.end(volume, name)
        if ending != "not attached":
            record = EndingRecord(exporter=ending, exporter_at=self._keeper.now())
            with self._keeper.changing(frees=True) as change:
                change.put(ending_key(volume), encode(record))

    def _tell(self, closing: ClosingRecord, *, left: int) -> None:
        """Say how far a closing has come: of the volumes that the tenant ever had."""
        with suppress(NotFound), self._keeper.reading() as view:
            _, progress = self._operations.find(uuid.UUID(closing.operation))
            if not progress.total:
                progress.total = len(ends_of(view, TenantNo(closing.tenant)))
                progress.unit = "volumes"
            progress.done = progress.total - left


def ends_of(view: View, tenant: TenantNo) -> list[BirthRecord]:
    """Return the birth record of every volume that a tenant ever had, in order of birth.

    Of one that is no more it says how it ended: by the closing, or by itself before.
    """
    ours = [each for each in view.births() if each.tenant == tenant]
    return sorted(ours, key=lambda each: (each.created_at, each.lineage))


def _volumes_of(view: View, closing: ClosingRecord) -> list[VolumeId]:
    return [volume for volume, record in view.volumes() if record.tenant == closing.tenant]


def _tables_above(tenant: TenantNo, births: list[BirthRecord]) -> set[bytes]:
    """Return the keys of a tenant's own tables; what is below its lineages is cleared with them."""
    lineages = [path.lineage(tenant, LineageNo(each.lineage)) for each in births]
    depths = range(path.TENANT_DEPTH, path.LINEAGE_DEPTH)
    return {b"k" + lineage[:depth] for lineage in lineages for depth in depths}


def _result(view: View, closing: ClosingRecord) -> dict[str, object]:
    """Return what the operation says in the end: every volume, and how it ended."""
    births = ends_of(view, TenantNo(closing.tenant))
    return {
        "tenant": closing.tenant,
        "name": closing.name,
        "decided_at": closing.decided_at.isoformat(),
        "forgotten_at": _when(closing.forgotten_at),
        "closed_at": _when(closing.closed_at),
        "epoch_before": closing.epoch_before,
        "epoch_after": closing.epoch_after,
        "certificates": [
            each.forgotten
            for _, each in view.certificates(closing.epoch_after)
            if each.scope == "tenant" and {*each.volumes} <= {birth.volume for birth in births}
        ],
        "volumes": [_end(each) for each in births],
    }


def _end(birth: BirthRecord) -> dict[str, object]:
    end = birth.destruction
    assert end is not None, "of a closed tenant every volume has ended"
    return {
        "volume": str(birth.volume),
        "decided_at": end.decided_at.isoformat(),
        "epoch_before": end.epoch_before,
        "epoch_after": end.epoch_after,
        "segments": end.segments,
        "ledger_root": end.ledger_root,
    }


def _when(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
