"""How often a sink can afford to forget: what wears out is rationed over its life.

A rotation writes to the sink. A file does not mind; the memory of a TPM endures some
100,000 writes, and a rotation every two seconds would wear it out within a day. So a budget
is an average over years, with some rotations ahead of it, and it needs no counter of its
own: the epoch says how often the pool has rotated.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["UNLIMITED", "Budget", "Certainty", "scarcest"]


class Certainty(Enum):
    """How well a budget is founded."""

    NOT_NEEDED = "nothing wears out"
    STATED = "stated by the operator, from a data sheet"
    ASSUMED = "assumed, as no part tells its endurance"


@dataclass(frozen=True, slots=True)
class Budget:
    """One rotation per `interval_min_s` on average, and `burst` more at any time."""

    interval_min_s: float
    burst: int
    certainty: Certainty
    reason: str

    @property
    def reserve(self) -> int:
        """How many of the rotations ahead are kept for what cannot wait: a tenth."""
        return self.burst // 10

    def wait_s(self, *, rotations: int, age_s: float, kept: int = 0) -> float:
        """Return how long to wait before the next rotation; 0.0: it can be afforded now.

        `rotations` were done in the `age_s` seconds since the sink was made; `kept` are to be
        there still after this one.
        """
        return max(0.0, (rotations + 1 + kept - self.burst) * self.interval_min_s - age_s)

    def rotations(self, age_s: float) -> int:
        """Return how many rotations it affords within this time, from its first day."""
        return self.burst + int(age_s / self.interval_min_s) if self.interval_min_s else 1 << 62


UNLIMITED = Budget(0.0, 0, Certainty.NOT_NEEDED, "overwriting a file wears nothing out by itself")


def scarcest(budgets: list[Budget]) -> Budget:
    """Return the budget that keeps every one of these: their longest wait, at any time."""
    slowest = max(budgets, key=lambda each: each.interval_min_s)
    if not slowest.interval_min_s:
        return slowest
    burst = min(each.burst for each in budgets if each.interval_min_s)
    return Budget(slowest.interval_min_s, burst, slowest.certainty, slowest.reason)
