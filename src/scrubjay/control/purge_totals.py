"""What purging did for each tenant in all: what is charged to him, and what came late.

The record of a volume counts for as long as it lives (records.py, `PurgeRecord`). What it had
counted when it ended is added to its tenant's record, so that no sum ever turns back.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass

from scrubjay.base.ids import TenantNo
from scrubjay.control.keeper import Change
from scrubjay.control.records import SCRUB_KEY, U64, Record, decode, encode
from scrubjay.control.view import View

__all__ = ["EndedPurges", "PurgeTotals", "add_ended", "ended_key", "purge_totals"]


class EndedPurges(Record, frozen=True):
    """Key `z` and a tenant: what purging did in volumes that are no more; none where nothing."""

    moved_bytes: U64 = 0
    missed: U64 = 0


@dataclass(frozen=True, slots=True)
class PurgeTotals:
    """Sums since the pool was made, by tenant; a tenant that is not named has none."""

    moved_bytes: Counter[TenantNo]
    missed: Counter[TenantNo]
    """Deadlines."""


def ended_key(tenant: TenantNo) -> bytes:
    """Key of an EndedPurges."""
    return struct.pack(">cI", SCRUB_KEY, tenant)


def add_ended(change: Change, tenant: TenantNo, *, moved_bytes: int = 0, missed: int = 0) -> None:
    """Stage that so much is counted by no volume's record any more."""
    if not moved_bytes and not missed:
        return
    before = _ended(change, tenant)
    after = EndedPurges(moved_bytes=before.moved_bytes + moved_bytes, missed=before.missed + missed)
    change.put(ended_key(tenant), encode(after))


def purge_totals(view: View) -> PurgeTotals:
    """Return the sums of all tenants, closed ones too."""
    totals = PurgeTotals(Counter(), Counter())
    for tenant in (TenantNo(each.id) for each in view.tenants()):
        ended = _ended(view, tenant)
        totals.moved_bytes[tenant] += ended.moved_bytes
        totals.missed[tenant] += ended.missed
    for _, record in view.volumes():
        if record.purge is not None:
            totals.moved_bytes[TenantNo(record.tenant)] += record.purge.moved_bytes
            totals.missed[TenantNo(record.tenant)] += record.purge.missed
    return totals


def _ended(view: View, tenant: TenantNo) -> EndedPurges:
    value = view.get(ended_key(tenant))
    if value is None:
        return EndedPurges()
    return decode(EndedPurges, value, where=f"purging of tenant {tenant}")
