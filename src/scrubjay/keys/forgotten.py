"""What looking for a forgotten key raises."""

from __future__ import annotations

from scrubjay.base.errors import NotFound

__all__ = ["Forgotten"]


class Forgotten(NotFound):
    """The key was forgotten or never born: a table cannot tell which, and that is the point."""

    code = "forgotten"
    http_status = 410
