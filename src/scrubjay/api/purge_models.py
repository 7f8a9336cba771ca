"""What the API says of purging, as OpenAPI shows it."""

from __future__ import annotations

import datetime as dt
from typing import Self

from pydantic import BaseModel, Field

from scrubjay.control import purge_status

__all__ = ["PoolPurge", "TenantPurge", "VolumePurge"]


class VolumePurge(BaseModel):
    """What of a volume's overwritten and discarded bytes can still be read, at the worst."""

    waiting_since: dt.datetime | None = Field(description="since when the oldest is dead")
    due_at: dt.datetime | None
    missed: bool
    reason: str = Field(description="what it waits for")
    moved_bytes: int = Field(description="moved in its life in order to purge")

    @classmethod
    def of(cls, purge: purge_status.VolumePurge) -> Self:
        """Show how a volume stands."""
        return cls.model_validate(purge, from_attributes=True)


class TenantPurge(BaseModel):
    """What purging did for a tenant since it was made, in volumes that are no more as well."""

    moved_bytes: int = Field(description="moved in order to purge: charged to the tenant")
    missed_deadlines: int = Field(description="by which something was to be forgotten, and was not")


class PoolPurge(BaseModel):
    """How all volumes stand."""

    within_s: int
    stripes: int = Field(description="given up by volumes and not yet forgotten")
    waiting_since: dt.datetime | None
    due_at: dt.datetime | None
    missed: list[str] = Field(description="volumes that are late, by name")
    missed_deadlines: int = Field(description="since the pool was made")
    moved_bytes: int = Field(description="since the pool was made")
