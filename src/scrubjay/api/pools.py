"""`/v1/pools`: in this version, one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping

from fastapi import APIRouter, Response

from scrubjay.api.models import NewScan, Operation, Page, Policy, PolicyChange, Pool
from scrubjay.api.problems import PROBLEMS
from scrubjay.api.repeats import Repeatable
from scrubjay.api.services import ServicesHere
from scrubjay.base.durations import parse_duration
from scrubjay.control.names import parse_size

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


@router.get("/{pool}/policy")
def show_policy(pool: uuid.UUID, services: ServicesHere) -> Policy:
    """Show what is promised about deadlines, and how fast upkeep may go for it."""
    return Policy.of(services.policies.show(pool))


@router.patch("/{pool}/policy")
def change_policy(pool: uuid.UUID, change: PolicyChange, services: ServicesHere) -> Policy:
    """Change deadlines or rates; what waits already is due by the new ones at once."""
    spans = {"scrub_within_s": change.scrub_within, "purge_within_s": change.purge_within}
    sizes = {
        "scrub_idle_bytes_per_s": change.scrub_bandwidth,
        "scrub_busy_bytes_per_s": change.scrub_bandwidth_busy,
    }
    changes = _meant(spans, parse_duration) | _meant(sizes, parse_size)
    return Policy.of(services.policies.change(pool, changes))


@router.post("/{pool}/scans", status_code=202)
def scan_pool(
    pool: uuid.UUID, new: NewScan, response: Response, services: ServicesHere
) -> Operation:
    """Look for bytes in the raw media, all of them; the result counts where they occur."""
    services.pools.status(pool)
    operation = services.scans.start(new.hex)
    response.headers["Location"] = f"/v1/operations/{operation}"
    return Operation.of(*services.operations.find(operation))


def _meant(given: Mapping[str, int | str | None], parse: Callable[[str], int]) -> dict[str, int]:
    """Return what was given, as numbers."""
    return {
        name: parse(value) if isinstance(value, str) else value
        for name, value in given.items()
        if value is not None
    }
