"""What a shell offers for the word being typed. It never complains: there is nobody to hear."""

from __future__ import annotations

from contextlib import suppress

from scrubjay.base.errors import ScrubjayError
from scrubjay.cli.session import connect
from scrubjay.client.replies import Tenant, Volume

__all__ = ["tenants", "volumes"]


def volumes(incomplete: str) -> list[tuple[str, str]]:
    """Return (name, owner) of the volumes whose names begin like this."""
    with suppress(ScrubjayError), connect() as daemon:
        found = daemon.all("volumes", Volume, limit=1000)
        return [(each.name, each.tenant) for each in found if each.name.startswith(incomplete)]
    return []


def tenants(incomplete: str) -> list[str]:
    """Return the names of tenants that begin like this."""
    with suppress(ScrubjayError), connect() as daemon:
        found = daemon.all("tenants", Tenant, limit=1000)
        return [each.name for each in found if each.name.startswith(incomplete)]
    return []
