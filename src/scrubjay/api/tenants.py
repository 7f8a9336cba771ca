"""`/v1/tenants`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from scrubjay.api.models import NewTenant, Operation, Page, Tenant
from scrubjay.api.paging import Cursor, Limit, cursor_of, position_of
from scrubjay.api.problems import PROBLEMS
from scrubjay.api.purge_models import TenantPurge
from scrubjay.api.repeats import Repeatable, digest_of
from scrubjay.api.services import ServicesHere
from scrubjay.api.tags import IfMatch, expecting, tag_of
from scrubjay.base.ids import TenantNo
from scrubjay.control.tenants import place_of

__all__ = ["router"]

router = APIRouter(
    prefix="/v1/tenants", tags=["tenants"], route_class=Repeatable, responses=PROBLEMS
)


@router.post("", status_code=201)
def create_tenant(
    new: NewTenant, request: Request, response: Response, services: ServicesHere
) -> Tenant:
    """Make a tenant."""
    record = services.tenants.create(new.name, request=digest_of(request))
    response.headers["Location"] = f"/v1/tenants/{record.id}"
    response.headers["ETag"] = tag_of(record)
    return Tenant.of(record)


@router.get("")
def list_tenants(
    services: ServicesHere,
    *,
    cursor: Cursor = None,
    limit: Limit = 100,
    closed: Annotated[bool, Query(description="also those that were closed")] = False,
) -> Page[Tenant]:
    """List tenants by name; closed ones, whose names may have been given again, if asked for."""
    tenants = services.tenants
    page = tenants.page_of_all if closed else tenants.page
    records = page(after=position_of(cursor), limit=limit + 1)
    more = None
    if len(records) > limit:
        last = records[limit - 1]
        more = cursor_of(place_of(last) if closed else last.name)
    return Page(items=[Tenant.of(each) for each in records[:limit]], next_cursor=more)


@router.get("/{tenant}")
def show_tenant(tenant: str, response: Response, services: ServicesHere) -> Tenant:
    """Show one tenant, by name or id."""
    record = services.tenants.find(tenant)
    response.headers["ETag"] = tag_of(record)
    return Tenant.of(record)


@router.get("/{tenant}/purge")
def show_tenant_purge(tenant: str, services: ServicesHere) -> TenantPurge:
    """Show what purging did for a tenant, which is charged to it."""
    number = TenantNo(services.tenants.find(tenant).id)
    totals = services.pools.purges.totals()
    return TenantPurge(
        moved_bytes=totals.moved_bytes[number], missed_deadlines=totals.missed[number]
    )


@router.delete("/{tenant}", status_code=202)
def close_tenant(
    tenant: str, response: Response, services: ServicesHere, if_match: IfMatch = None
) -> Operation:
    """Close a tenant: all its volumes are withheld at once, and forgotten within seconds.

    The operation is done when nothing opens any byte that the tenant ever wrote, and its
    result names every volume that it ever had. Asking again before that returns the same one.
    """
    operation = services.forgetting.close(tenant, check=expecting(if_match))
    response.headers["Location"] = f"/v1/operations/{operation}"
    return Operation.of(*services.operations.find(operation))
