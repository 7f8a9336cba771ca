"""Cursors: where a page of a collection begins, as a text that clients pass back unread."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from fastapi import Query

from scrubjay.base.errors import Invalid

__all__ = ["LIMIT_MAX", "Cursor", "Limit", "cursor_of", "position_of"]

LIMIT_MAX = 1000

Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="items per page")]
Cursor = Annotated[
    str | None, Query(max_length=400, description="`next_cursor` of the page before")
]


def cursor_of(position: str) -> str:
    """Return the cursor of a page that begins behind `position`."""
    return base64.urlsafe_b64encode(b"1:" + position.encode()).decode().rstrip("=")


def position_of(cursor: str | None) -> str:
    """Return where a page begins, "" for the first; Invalid for a cursor that we never gave."""
    if cursor is None:
        return ""
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        version, _, position = data.decode().partition(":")
    except (binascii.Error, ValueError) as error:
        raise Invalid("cursor: not one of ours", hint="pass next_cursor back unchanged") from error
    if version != "1":
        raise Invalid("cursor: not one of ours", hint="pass next_cursor back unchanged")
    return position
