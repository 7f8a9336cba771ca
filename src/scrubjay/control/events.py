"""What tenants are told: events, numbered from 1, never changed and never taken away.

They stand in the pool, in the commit of what they tell of, so that a lost catalog loses none.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from scrubjay.base.ids import TenantNo
from scrubjay.control.deadlines import PurgeMissed
from scrubjay.control.keeper import Change, Keeper
from scrubjay.control.records import decode, encode
from scrubjay.control.tenants import resolve_tenant
from scrubjay.control.told_records import EVENTS_KEY, EventRecord, EventsRecord, event_key

__all__ = ["Event", "Events"]

_PURGE_MISSED = "purge-deadline-missed"
_CHUNK = 1000
"""Events read at once where only some of them are a tenant's."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event as the API shows it; `tenant` is its name, None where it is for everybody."""

    number: int
    record: EventRecord
    tenant: str | None


class Events:
    """The pool's events."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def stage(
        self,
        change: Change,
        kind: str,
        text: str,
        *,
        tenant: TenantNo | None = None,
        effective_at: dt.datetime | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> int:
        """Tell something with a change, once that is durable; return the event's number."""
        value = change.get(EVENTS_KEY)
        count = EventsRecord() if value is None else decode(EventsRecord, value, where="events")
        record = EventRecord(
            at=self._keeper.now(),
            kind=kind,
            text=text,
            tenant=tenant,
            effective_at=effective_at,
            facts=dict(facts or {}),
        )
        change.put(event_key(count.next), encode(record))
        change.put(EVENTS_KEY, encode(msgspec.structs.replace(count, next=count.next + 1)))
        return count.next

    def stage_purge_missed(self, change: Change, missed: PurgeMissed) -> None:
        """Tell a tenant that something of his volume was not forgotten in time.

        The volume is named by its id: an event outlives it, and a name may say more than that.
        """
        due = missed.due_at.isoformat(timespec="seconds")
        what = f"volume {missed.volume}: what was overwritten or discarded in it"
        facts = {"volume": str(missed.volume), "due_at": due, "reason": missed.reason}
        self.stage(
            change,
            _PURGE_MISSED,
            f"{what} was to be forgotten by {due}, and is not: {missed.reason}",
            tenant=missed.tenant,
            facts=facts,
        )

    def page(self, *, after: int, limit: int, tenant: str | None = None) -> list[Event]:
        """Return up to `limit` events behind number `after`, oldest first.

        With a tenant, name or id, those for it and those for everybody; NotFound for another.
        """
        with self._keeper.reading() as view:
            names = {each.id: each.name for each in view.tenants()}
            owner = None if tenant is None else resolve_tenant(self._keeper, view, tenant).id
        found: list[Event] = []
        while len(found) < limit:
            rows = self._keeper.pool.scan(EVENTS_KEY, after=event_key(after), limit=_CHUNK)
            for key, value in rows:
                after = int.from_bytes(key[len(EVENTS_KEY) :])
                record = decode(EventRecord, value, where=f"event {after}")
                if owner is None or record.tenant in (None, owner):
                    name = (
                        None
                        if record.tenant is None
                        else names.get(record.tenant, str(record.tenant))
                    )
                    found.append(Event(after, record, name))
            if len(rows) < _CHUNK:
                break
        return found[:limit]
