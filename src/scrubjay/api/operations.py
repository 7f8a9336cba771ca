"""`/v1/operations`: long work, how far it is, and how it ended."""

from __future__ import annotations

import datetime as dt
import uuid

from fastapi import APIRouter

from scrubjay.api.models import Operation, Page
from scrubjay.api.paging import Cursor, Limit, cursor_of, position_of
from scrubjay.api.problems import PROBLEMS
from scrubjay.api.services import ServicesHere
from scrubjay.base.errors import Invalid

__all__ = ["router"]

router = APIRouter(prefix="/v1/operations", tags=["operations"], responses=PROBLEMS)


@router.get("")
def list_operations(
    services: ServicesHere, cursor: Cursor = None, limit: Limit = 100
) -> Page[Operation]:
    """List operations, newest first."""
    rows = services.operations.page(before=_before(cursor), limit=limit + 1)
    more = None
    if len(rows) > limit:
        last = rows[limit - 1][0]
        more = cursor_of(f"{last.created_at.isoformat()} {last.id}")
    return Page(items=[Operation.of(*each) for each in rows[:limit]], next_cursor=more)


@router.get("/{operation}")
def show_operation(operation: uuid.UUID, services: ServicesHere) -> Operation:
    """Show one operation."""
    return Operation.of(*services.operations.find(operation))


def _before(cursor: str | None) -> tuple[dt.datetime, str] | None:
    position = position_of(cursor)
    if not position:
        return None
    moment, _, operation = position.partition(" ")
    try:
        return dt.datetime.fromisoformat(moment).astimezone(dt.UTC), str(uuid.UUID(operation))
    except (ValueError, OverflowError) as error:
        raise Invalid("cursor: not one of ours", hint="pass next_cursor back unchanged") from error
