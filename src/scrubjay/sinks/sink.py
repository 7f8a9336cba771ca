"""The port of every sink: it holds epoch keys, and can really lose one.

I3 rests on `drop`: when it returns, the key is gone as far as `worth` says. I6 rests on
the keys being fresh: `prepare` draws one and takes none.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol
from uuid import UUID

from scrubjay.base.ids import Epoch

__all__ = ["Grade", "Sink", "Worth"]


class Grade(Enum):
    """What a sink's forgetting amounts to."""

    CLEAR = "Clear"
    """NIST SP 800-88r2: withstands everything but a laboratory."""
    CONDITIONAL = "CONDITIONAL"
    """The overwritten bytes may survive where Scrubjay does not see them."""


@dataclass(frozen=True, slots=True)
class Worth:
    """An assessment of a sink: the grade, where it lies, and why that is so."""

    grade: Grade
    place: str
    reason: str

    def __str__(self) -> str:
        return f"The sink is on {self.place}: {self.reason}. Forgetting is {self.grade.value}."


class Sink(Protocol):
    """Holds one epoch key, or two during a rotation.

    A crash at any point of `prepare` or `drop` leaves every other epoch held. What it
    leaves of the epoch at hand is either held or remains for `scour`.
    """

    @property
    def sink_id(self) -> UUID:
        """The id that the superblock names."""
        ...

    @property
    def pool_id(self) -> UUID:
        """The only pool that this sink serves."""
        ...

    def epochs(self) -> tuple[Epoch, ...]:
        """Return the epochs whose keys it holds, ascending."""
        ...

    def key(self, epoch: Epoch) -> bytes:
        """Return the 32-byte key of an epoch; NotFound if not held, Corrupt if damaged."""
        ...

    def prepare(self, epoch: Epoch) -> None:
        """Store a fresh random key for a new epoch beside the held one, durably.

        Conflict if two are held or remains lie about, Invalid if the epoch is not newer.
        """
        ...

    def drop(self, epoch: Epoch) -> None:
        """Destroy the key of an epoch, and see that it is gone; fine if it is not held.

        Conflict if no other epoch is held: nothing would be left to open the pool.
        """
        ...

    def scour(self) -> None:
        """Destroy what an interrupted prepare or drop left; Corrupt if no epoch is held."""
        ...

    def worth(self) -> Worth:
        """Say what its forgetting is worth."""
        ...

    def close(self) -> None:
        """Let go of the sink, so that another may open it."""
        ...
