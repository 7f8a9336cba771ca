"""How a pool's sink is shown by the API."""

from __future__ import annotations

from pydantic import BaseModel, Field

__all__ = ["Sink", "SinkBudget", "SinkGone", "SinkMember"]


class SinkMember(BaseModel):
    """One of a mirror's sinks."""

    number: int
    kind: str
    where: str
    epochs: list[int]
    worth: str = Field(description="empty while it is away")
    finding: str = Field(description="what that is worth in words, or why it is away")
    away: bool
    key: str = Field(description="name of the key with which a TPM signs; empty where none does")


class SinkGone(BaseModel):
    """A sink that was expelled; it may hold these epochs' keys, unless it is destroyed."""

    number: int
    kind: str
    where: str
    epochs: list[int]
    destroyed: bool


class SinkBudget(BaseModel):
    """How often a sink that wears out can rotate."""

    interval_s: float
    burst: int
    left: int = Field(description="rotations that it affords at once, from now on")
    wait_s: float
    certainty: str
    reason: str


class Sink(BaseModel):
    """Where the root of the keys lies, and what forgetting there is worth."""

    kind: str
    epoch: int
    worth: str
    findings: list[str]
    members: list[SinkMember] = Field(description="empty unless it is a mirror")
    expelled: list[SinkGone]
    owed: list[int] = Field(description="epochs that are still to be dropped somewhere")
    budget: SinkBudget | None = Field(description="null where nothing wears out")
    key: str = Field(description="as a member's; empty for a mirror")
    where: str = Field(description="its file or TPM; of a mirror, the record of its members")
    away: str = Field(description="why a single sink is out of reach; empty where it is not")
