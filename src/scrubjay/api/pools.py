"""`/v1/pools`: in this version, one."""

from __future__ import annotations

import uuid

from fastapi import APIRouter, Response

from scrubjay.api.models import NewScan, Operation, Page, Pool
from scrubjay.api.problems import PROBLEMS
from scrubjay.api.repeats import Repeatable
from scrubjay.api.services import ServicesHere

__all__ = ["router"]

router = APIRouter(prefix="/v1/pools", tags=["pools"], route_class=Repeatable, responses=PROBLEMS)


@router.get("")
def list_pools(services: ServicesHere) -> Page[Pool]:
    """List the pools."""
    return Page(items=[Pool.of(services.pools.status())], next_cursor=None)


@router.get("/{pool}")
def show_pool(pool: uuid.UUID, services: ServicesHere) -> Pool:
    """Show a pool and how full it is."""
    return Pool.of(services.pools.status(pool))


@router.post("/{pool}/scans", status_code=202)
def scan_pool(
    pool: uuid.UUID, new: NewScan, response: Response, services: ServicesHere
) -> Operation:
    """Look for bytes in the raw media, all of them; the result counts where they occur."""
    services.pools.status(pool)
    operation = services.scans.start(new.hex)
    response.headers["Location"] = f"/v1/operations/{operation}"
    return Operation.of(*services.operations.find(operation))
