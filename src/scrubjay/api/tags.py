"""ETags, and the If-Match that makes a change wait for nobody else's (RFC 9110, 13.1.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated

from fastapi import Header

from scrubjay.api.problems import Outdated
from scrubjay.control.records import TenantRecord
from scrubjay.control.volumes import Volume

__all__ = ["IfMatch", "expecting", "tag_of"]

IfMatch = Annotated[
    str | None, Header(max_length=400, description="only if the ETag is still this one")
]


def tag_of(subject: TenantRecord | Volume) -> str:
    """Return the ETag of a thing's definition."""
    if isinstance(subject, TenantRecord):
        parts: tuple[object, ...] = (subject.id, subject.name, subject.state)
    else:
        record = subject.record
        parts = (subject.id, record.name, record.tenant, record.size_bytes, record.state)
    return f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:24]}"'


def expecting(if_match: str | None) -> Callable[[TenantRecord | Volume], None]:
    """Return a check that raises Outdated where a thing is not what If-Match says."""

    def check(subject: TenantRecord | Volume) -> None:
        if if_match is None or if_match.strip() == "*":
            return
        wanted = {each.strip() for each in if_match.split(",")}
        if tag_of(subject) not in wanted:
            raise Outdated(
                f"{_name_of(subject)}: is {tag_of(subject)}, expected {if_match}",
                hint="it changed: read it again",
            )

    return check


def _name_of(subject: TenantRecord | Volume) -> str:
    if isinstance(subject, TenantRecord):
        return f"tenant {subject.name}"
    return f"volume {subject.record.name}"
