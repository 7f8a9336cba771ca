"""`/v1/defaults`: what holds unless somebody says otherwise, and since when."""

from __future__ import annotations

from fastapi import APIRouter

from scrubjay.api.models import Default, Page
from scrubjay.api.problems import PROBLEMS
from scrubjay.api.services import ServicesHere

__all__ = ["router"]

router = APIRouter(prefix="/v1/defaults", tags=["defaults"], responses=PROBLEMS)


@router.get("")
def list_defaults(services: ServicesHere) -> Page[Default]:
    """List every default that security rests on, all on one page."""
    return Page(items=[Default.of(each) for each in services.defaults.page()], next_cursor=None)
