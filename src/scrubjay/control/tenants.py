"""Tenants: the owners of everything."""

from __future__ import annotations

import re
from heapq import nsmallest

import msgspec

from scrubjay.base.errors import Conflict, NotFound
from scrubjay.base.ids import TenantNo
from scrubjay.catalog.index import TenantRow
from scrubjay.control.keeper import Keeper
from scrubjay.control.names import check_name
from scrubjay.control.records import POOL_KEY, TenantRecord, encode, tenant_key
from scrubjay.control.view import View
from scrubjay.keys import path

__all__ = ["Tenants", "place_of", "resolve_tenant", "unavailable"]

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
                raise _taken(known)
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
        """Return up to `limit` tenants that are not closed, by name, from behind `after` on."""
        with self._keeper.reading() as view:
            rows = self._keeper.index.tenants(after=after, limit=limit)
            return [view.tenant(row.id) for row in rows]

    def page_of_all(self, *, after: str, limit: int) -> list[TenantRecord]:
        """Return up to `limit` tenants, the closed ones too, by `place_of`, from behind `after`.

        A name may come several times: of closed tenants, and of one that bears it now.
        """
        with self._keeper.reading() as view:
            behind = (each for each in view.tenants() if place_of(each) > after)
            return nsmallest(limit, behind, key=place_of)


def place_of(tenant: TenantRecord) -> str:
    """Return what all tenants are sorted by: the name, then the number."""
    return f"{tenant.name} {tenant.id:08}"


def resolve_tenant(keeper: Keeper, view: View, reference: str) -> TenantRecord:
    """Return the tenant of a name or id; no name is a number. A closed one has no name left."""
    row = keeper.index.tenant_named(reference)
    if row is not None:
        return view.tenant(row.id)
    if _ID.fullmatch(reference) and int(reference) < 1 << 24:
        return view.tenant(TenantNo(int(reference)))
    raise NotFound(f"tenant {reference[:80]!r}: unknown", hint="see: scrubjay tenant list")


def unavailable(tenant: TenantRecord) -> Conflict:
    """Return what to say to who wants something of a tenant whose end is decided."""
    if tenant.state == "closing":
        return Conflict(
            f"tenant {tenant.name}: is being closed, and takes no new volumes",
            hint="nobody can undo that; make another tenant",
        )
    return Conflict(
        f"tenant {tenant.id}: was closed; its name was {tenant.name}", hint="make another tenant"
    )


def _taken(known: TenantRecord) -> Conflict:
    if known.state == "closing":
        return Conflict(f"tenant {known.name}: is being closed", hint="wait a moment, then retry")
    return Conflict(f"tenant {known.name}: exists", hint="choose another name")
