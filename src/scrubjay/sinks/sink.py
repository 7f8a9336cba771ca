"""The port of every sink: it holds epoch keys, and can really lose one.

I3 rests on `drop`: when it returns, the key is gone as far as `worth` says. I6 rests on
the keys being fresh. `EpochKeeper.prepare` draws each one, and hands it to the sink, which
may be several that must hold the same; nobody else calls `prepare` with a key that the
pool has not named yet. A sink refuses a key that it holds under another epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol
from uuid import UUID

from scrubjay.base.errors import Conflict, Invalid
from scrubjay.base.ids import Epoch
from scrubjay.keys.aead import KEY_BYTES
from scrubjay.sinks.budget import Budget

__all__ = ["Grade", "Part", "Sink", "Worth", "check_new", "weakest"]


class Grade(Enum):
    """What a sink's forgetting amounts to, the strongest first."""

    PURGE = "Purge"
    """NIST SP 800-88r2: withstands a laboratory too, as far as the part's maker is right."""
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


@dataclass(frozen=True, slots=True)
class Part:
    """One place that holds, or may hold, epoch keys: what a certificate lists."""

    kind: str
    sink_id: UUID
    worth: Worth
    epochs: tuple[Epoch, ...]
    """Those whose keys it holds; none where nobody can tell, as of one that is away."""
    remains: int = 0
    """Places of keys in it that are neither whole nor empty."""
    residue: str = ""
    """Why it may hold keys that were dropped elsewhere; "" for a part that took part."""


_GRADES = tuple(Grade)


def weakest(worths: list[Worth]) -> Worth:
    """Return the worst of several assessments, the first of equals."""
    return max(worths, key=lambda worth: _GRADES.index(worth.grade))


def check_new(sink_id: UUID, held: dict[Epoch, bytes], epoch: Epoch, key: bytes) -> None:
    """Refuse what no sink prepares, given the keys that this one holds.

    Invalid for a key of another size, one that is held, or an epoch that is not newer;
    Conflict where two are held.
    """
    if len(key) != KEY_BYTES:
        raise Invalid(f"sink {sink_id}: key of {len(key)} bytes, expected {KEY_BYTES}")
    newest = max(held, default=0)
    if epoch <= newest:
        raise Invalid(f"sink {sink_id}: new epoch {epoch}, expected more than {newest}")
    if key in held.values():
        raise Invalid(f"sink {sink_id}: new epoch {epoch} with a key that it holds, expected fresh")
    if len(held) > 1:
        raise Conflict(
            f"sink {sink_id}: two epochs held, expected one",
            hint="the last rotation was interrupted: open the pool anew, it settles that",
        )


class Sink(Protocol):
    """Holds one epoch key, or two during a rotation.

    A crash at any point of `prepare` or `drop` leaves every other epoch held. What it
    leaves of the epoch at hand is either held or remains for `scour`.
    """

    @property
    def kind(self) -> str:
        """What kind of sink this is: file, tpm2, mirror."""
        ...

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

    def prepare(self, epoch: Epoch, key: bytes) -> None:
        """Store the fresh 32-byte key of a new epoch beside the held one, durably; read it back.

        Conflict if two are held or remains lie about, Invalid if the epoch is not newer or
        the key is known.
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

    def parts(self) -> list[Part]:
        """Return every place that this sink is made of, and what is left of former ones."""
        ...

    def budget(self) -> Budget:
        """Say how often it can afford to rotate."""
        ...

    def close(self) -> None:
        """Let go of the sink, so that another may open it."""
        ...
