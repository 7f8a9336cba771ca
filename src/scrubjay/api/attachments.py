"""`/v1/attachments`: volumes being served. An attachment is named as its volume is."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from scrubjay.api.models import Attachment, NewAttachment, Page
from scrubjay.api.paging import Cursor, Limit, cursor_of, position_of
from scrubjay.api.problems import PROBLEMS
from scrubjay.api.repeats import Repeatable
from scrubjay.api.services import ServicesHere

__all__ = ["router"]

router = APIRouter(
    prefix="/v1/attachments", tags=["attachments"], route_class=Repeatable, responses=PROBLEMS
)


@router.post("", status_code=201)
def attach(
    new: NewAttachment, _request: Request, response: Response, services: ServicesHere
) -> Attachment:
    """Serve a volume on a unix socket, to whoever runs the daemon or is in `socket_group`."""
    served = services.attachments.attach(new.volume, socket_group=new.socket_group)
    response.headers["Location"] = f"/v1/attachments/{served.volume}"
    return Attachment.of(served)


@router.get("")
def list_attachments(
    services: ServicesHere, cursor: Cursor = None, limit: Limit = 100
) -> Page[Attachment]:
    """List what is being served, by name."""
    served = services.attachments.page(after=position_of(cursor), limit=limit + 1)
    more = cursor_of(served[limit - 1].name) if len(served) > limit else None
    return Page(items=[Attachment.of(each) for each in served[:limit]], next_cursor=more)


@router.get("/{volume}")
def show_attachment(volume: str, services: ServicesHere) -> Attachment:
    """Show where a volume is served, by its name or id."""
    return Attachment.of(services.attachments.find(volume))


@router.delete("/{volume}", status_code=204)
def detach(volume: str, services: ServicesHere) -> Response:
    """End serving a volume. What was flushed is kept, and so is the rest if it ends in order."""
    services.attachments.detach(volume)
    return Response(status_code=204)
