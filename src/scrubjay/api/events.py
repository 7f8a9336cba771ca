"""`/v1/events`: what tenants are told."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from scrubjay.api.models import Event, Page
from scrubjay.api.paging import Cursor, Limit, cursor_of, position_of
from scrubjay.api.problems import PROBLEMS
from scrubjay.api.services import ServicesHere
from scrubjay.base.errors import Invalid

__all__ = ["router"]

router = APIRouter(prefix="/v1/events", tags=["events"], responses=PROBLEMS)
_NUMBER_MAX = (1 << 63) - 1


@router.get("")
def list_events(
    services: ServicesHere,
    cursor: Cursor = None,
    limit: Limit = 100,
    after: Annotated[
        int, Query(ge=0, le=_NUMBER_MAX, description="only events with a higher id than this")
    ] = 0,
    tenant: Annotated[
        str | None,
        Query(max_length=255, description="name or id; what everybody is told is included"),
    ] = None,
) -> Page[Event]:
    """List events, oldest first. None is ever changed or taken away."""
    start = max(after, _number(position_of(cursor)))
    found = services.events.page(after=start, limit=limit + 1, tenant=tenant)
    more = cursor_of(str(found[limit - 1].number)) if len(found) > limit else None
    return Page(items=[Event.of(each) for each in found[:limit]], next_cursor=more)


def _number(position: str) -> int:
    if not position:
        return 0
    if position.isascii() and position.isdecimal() and (number := int(position)) <= _NUMBER_MAX:
        return number
    raise Invalid("cursor: not one of ours", hint="pass next_cursor back unchanged")
