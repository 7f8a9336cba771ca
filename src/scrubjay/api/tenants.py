"""`/v1/tenants`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from scrubjay.api.models import NewTenant, Page, Tenant
from scrubjay.api.paging import Cursor, Limit, cursor_of, position_of
from scrubjay.api.problems import PROBLEMS
from scrubjay.api.repeats import Repeatable, digest_of
from scrubjay.api.services import ServicesHere
from scrubjay.api.tags import tag_of

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
def list_tenants(services: ServicesHere, cursor: Cursor = None, limit: Limit = 100) -> Page[Tenant]:
    """List tenants by name."""
    records = services.tenants.page(after=position_of(cursor), limit=limit + 1)
    more = cursor_of(records[limit - 1].name) if len(records) > limit else None
    return Page(items=[Tenant.of(each) for each in records[:limit]], next_cursor=more)


@router.get("/{tenant}")
def show_tenant(tenant: str, response: Response, services: ServicesHere) -> Tenant:
    """Show one tenant, by name or id."""
    record = services.tenants.find(tenant)
    response.headers["ETag"] = tag_of(record)
    return Tenant.of(record)
