"""A sink that has signed what it holds, by itself or by its members (sinks/attestation.py)."""

from __future__ import annotations

from typing import Protocol, runtime_checkable
from uuid import UUID

from scrubjay.base.ids import Epoch
from scrubjay.sinks.attestation import Evidence

__all__ = ["Attesting", "signers_of"]


@runtime_checkable
class Attesting(Protocol):
    """A sink some of whose parts sign."""

    def signers(self) -> dict[UUID, bytes]:
        """Return the pinned name of each part's signing key, by sink id; others sign nothing."""
        ...

    def attest(self, sink_id: UUID, epoch: Epoch, challenge: bytes) -> Evidence:
        """Have a part sign that it holds this epoch alone, over a challenge of up to 32 bytes.

        NotFound where no such part signs; Conflict unless the epoch is held alone.
        """
        ...


def signers_of(sink: object) -> dict[UUID, bytes]:
    """Return who signs in a sink of any kind, as `Attesting.signers` does."""
    return sink.signers() if isinstance(sink, Attesting) else {}
