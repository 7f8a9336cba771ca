"""`/v1/volumes`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from scrubjay.api.models import (
    Destruction,
    NewVolume,
    Operation,
    Page,
    Volume,
    VolumeChange,
)
from scrubjay.api.paging import Cursor, Limit, cursor_of, position_of
from scrubjay.api.problems import PROBLEMS
from scrubjay.api.purge_models import VolumePurge
from scrubjay.api.repeats import Repeatable, digest_of
from scrubjay.api.services import ServicesHere
from scrubjay.api.tags import IfMatch, expecting, tag_of
from scrubjay.control.names import parse_size

__all__ = ["router"]

router = APIRouter(
    prefix="/v1/volumes", tags=["volumes"], route_class=Repeatable, responses=PROBLEMS
)


@router.post("", status_code=201)
def create_volume(
    new: NewVolume, request: Request, response: Response, services: ServicesHere
) -> Volume:
    """Make a volume: all zeros, with a key of its own."""
    volume = services.volumes.create(
        new.name,
        tenant=new.tenant,
        size_bytes=_bytes(new.size),
        ephemeral=new.ephemeral,
        request=digest_of(request),
    )
    response.headers["Location"] = f"/v1/volumes/{volume.id}"
    response.headers["ETag"] = tag_of(volume)
    return Volume.of(volume)


@router.get("")
def list_volumes(
    services: ServicesHere,
    cursor: Cursor = None,
    limit: Limit = 100,
    tenant: Annotated[str | None, Query(max_length=255, description="name or id")] = None,
) -> Page[Volume]:
    """List volumes by name."""
    found = services.volumes.page(after=position_of(cursor), limit=limit + 1, tenant=tenant)
    more = cursor_of(found[limit - 1].record.name) if len(found) > limit else None
    return Page(items=[Volume.of(each) for each in found[:limit]], next_cursor=more)


@router.get("/{volume}")
def show_volume(volume: str, response: Response, services: ServicesHere) -> Volume:
    """Show one volume, by name or id."""
    found = services.volumes.find(volume)
    response.headers["ETag"] = tag_of(found)
    return Volume.of(found)


@router.get("/{volume}/purge")
def show_purge(volume: str, services: ServicesHere) -> VolumePurge:
    """Show what of a volume's overwritten and discarded bytes can still be read, and until when."""
    return VolumePurge.of(services.pools.purges.of(services.volumes.find(volume).id))


@router.patch("/{volume}")
def change_volume(
    volume: str,
    change: VolumeChange,
    response: Response,
    services: ServicesHere,
    if_match: IfMatch = None,
) -> Volume:
    """Let a volume grow; what is new reads as zeros."""
    changed = services.volumes.resize(
        volume, size_bytes=_bytes(change.size), check=expecting(if_match)
    )
    services.attachments.tell_size(changed)
    response.headers["ETag"] = tag_of(changed)
    return Volume.of(changed)


@router.delete("/{volume}", status_code=202)
def destroy_volume(
    volume: str,
    response: Response,
    services: ServicesHere,
    *,
    if_match: IfMatch = None,
    scrub_data: Annotated[
        bool, Query(description="overwrite its bytes before those of others; the rest is the same")
    ] = False,
) -> Destruction:
    """Destroy a volume: withheld at once, its key forgotten within seconds.

    The operation is done when nothing opens the volume's bytes any more. Asking again
    before that returns the same operation. `scrub_data` is for clients that send it: true or
    false, nobody reads the volume any more, and its bytes are overwritten in the end.
    """
    doomed = services.volumes.find(volume).id
    operation = services.forgetting.destroy(
        str(doomed), check=expecting(if_match), scrub_first=scrub_data
    )
    response.headers["Location"] = f"/v1/operations/{operation}"
    begun = Operation.of(*services.operations.find(operation))
    return Destruction(
        **dict(begun),
        withheld_at=services.forgetting.withheld_at(doomed),
        shared=[],
        scrub_first=scrub_data,
    )


@router.post("/{volume}/reset")
def reset_volume(
    volume: str, _request: Request, response: Response, services: ServicesHere
) -> Volume:
    """Return an ephemeral volume to zeros: its keys are dropped, and its clients go on."""
    reset = services.attachments.reset(volume)
    response.headers["ETag"] = tag_of(reset)
    return Volume.of(reset)


def _bytes(size: int | str) -> int:
    return size if isinstance(size, int) else parse_size(size)
