"""How much a study does, and what it finds: the types that all studies share."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Extent", "Report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much a study does: the real size, or enough to see that it runs."""

    turn_count: int
    seconds: float
    disk_bytes: int
    overwrite_bytes: int
    mapped_bytes: int
    scrubbed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One figure, and what it is to reach."""

    name: str
    value: float
    unit: str
    target: float | None = None
    better: Literal["lower", "higher"] = "lower"
