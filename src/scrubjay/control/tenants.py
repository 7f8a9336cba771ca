"""Tenants: the owners of everything."""

from __future__ import annotations

import re

import msgspec

from scrubjay.base.errors import Conflict, NotFound
from scrubjay.base.ids import TenantNo
from scrubjay.catalog.index import TenantRow
from scrubjay.control.keeper import Keeper
from scrubjay.control.names import check_name
from scrubjay.control.records import POOL_KEY, TenantRecord, encode, tenant_key
from scrubjay.control.view import View
from scrubjay.keys import path

__all__ = ["Tenants", "resolve_tenant"]

_ID = re.compile("[1-9][0-9]{0,7}")


class Tenants:
    """What the API does to tenants."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def create(self, name: str, *, request: str = "") -> TenantRecord:
        """Make a tenant; Conflict where the name is taken.

        `request` is the digest of the request: the same one again finds what it made.
        """
        check_name("tenant", name)
        with self._keeper.naming() as change:
            taken = self._keeper.index.tenant_named(name)
            if taken is not None:
                known = change.tenant(taken.id)
                if request and known.request == request:
                    return known
                raise Conflict(f"tenant {name}: exists", hint="choose another name")
            pool = change.pool()
            tenant = TenantNo(pool.next_tenant)
            record = TenantRecord(
                id=tenant, name=name, created_at=self._keeper.now(), state="active", request=request
            )
            next_pool = msgspec.structs.replace(pool, next_tenant=tenant + 1)
            change.put(POOL_KEY, encode(next_pool))
            change.put(tenant_key(tenant), encode(record))
            change.birth([path.tenant(tenant)])
            change.index_as(
                lambda index, generation: index.add_tenant(
                    TenantRow(tenant, name), generation=generation
                )
            )
        return record

    def find(self, reference: str) -> TenantRecord:
        """Return the tenant of a name or id; NotFound where there is none."""
        with self._keeper.reading() as view:
            return resolve_tenant(self._keeper, view, reference)

    def page(self, *, after: str, limit: int) -> list[TenantRecord]:
        """Return up to `limit` tenants in order of names, from behind `after` on."""
        with self._keeper.reading() as view:
            rows = self._keeper.index.tenants(after=after, limit=limit)
            return [view.tenant(row.id) for row in rows]


def resolve_tenant(keeper: Keeper, view: View, reference: str) -> TenantRecord:
    """Return the tenant of a name or id; no name is a number."""
    row = keeper.index.tenant_named(reference)
    if row is not None:
        return view.tenant(row.id)
    if _ID.fullmatch(reference) and int(reference) < 1 << 24:
        return view.tenant(TenantNo(int(reference)))
    raise NotFound(f"tenant {reference[:80]!r}: unknown", hint="see: scrubjay tenant list")
