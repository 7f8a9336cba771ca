"""`/v1/certificates` and `/v1/log`: the evidence, for whoever wants to check it elsewhere."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Query, Response

from scrubjay.api.models import Certificate, CertificateShown, EvidenceLog, Page
from scrubjay.api.paging import Cursor, Limit, cursor_of, position_of
from scrubjay.api.problems import PROBLEMS
from scrubjay.api.services import ServicesHere
from scrubjay.base.errors import Invalid

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["certificates"], responses=PROBLEMS)

_KEY = re.compile("(?:[0-9a-f]{2}){0,32}")


@router.get("/certificates")
def list_certificates(
    services: ServicesHere,
    cursor: Cursor = None,
    limit: Limit = 100,
    volume: Annotated[
        str | None,
        Query(max_length=255, description="id, or for 30 days the name that it had at its end"),
    ] = None,
    tenant: Annotated[
        str | None, Query(max_length=255, description="name or id, closed or not")
    ] = None,
) -> Page[Certificate]:
    """List certificates in the order of the rotations that they are about."""
    about = services.destroyed.about(volume=volume, tenant=tenant)
    found = services.certificates.page(after=_key(cursor), limit=limit + 1, about=about)
    more = cursor_of(found[limit - 1].key.hex()) if len(found) > limit else None
    return Page(items=[Certificate.of(each) for each in found[:limit]], next_cursor=more)


@router.get("/certificates/{certificate}")
def show_certificate(certificate: str, services: ServicesHere) -> CertificateShown:
    """Show one certificate, by its id or the beginning of it, or by a volume's id.

    The blinding values stand nowhere else: who knows one can tell whose volume was destroyed.
    """
    found = services.certificates.find(certificate)
    return CertificateShown.about(found, services.certificates.blindings(found))


@router.get(
    "/certificates/{certificate}/bundle",
    response_class=Response,
    responses={200: {"content": {"application/json": {}}}},
)
def show_bundle(certificate: str, services: ServicesHere) -> Response:
    """Return the file that an auditor checks offline (docs/format/evidence.md, "The bundle")."""
    found = services.certificates.find(certificate)
    return Response(services.certificates.bundle(found), media_type="application/json")


@router.get("/log")
def show_log(services: ServicesHere) -> EvidenceLog:
    """Show the log's key, which auditors need from elsewhere, and its newest signed state."""
    size = services.log.publish()
    return EvidenceLog(key=str(services.log.key), size=size, checkpoint=services.log.checkpoint())


def _key(cursor: str | None) -> bytes:
    position = position_of(cursor)
    if not _KEY.fullmatch(position):
        raise Invalid("cursor: not one of ours", hint="pass next_cursor back unchanged")
    return bytes.fromhex(position)
