"""What the handshake shows of an export, and the port through which it finds one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from scrubjay.nbd import wire

__all__ = ["SERVED", "ExportInfo", "Exports"]

SERVED: Final = (
    wire.FLAG_HAS_FLAGS
    | wire.FLAG_SEND_FLUSH
    | wire.FLAG_SEND_FUA
    | wire.FLAG_SEND_TRIM
    | wire.FLAG_SEND_WRITE_ZEROES
    | wire.FLAG_CAN_MULTI_CONN
    | wire.FLAG_SEND_CACHE
    | wire.FLAG_SEND_FAST_ZERO
)
"""Transmission flags of an ordinary volume; DF comes by itself with structured replies."""


@dataclass(frozen=True, slots=True)
class ExportInfo:
    """An export as a client sees it. ``name`` is the canonical one.

    ``flags`` are transmission flags: ``SERVED``, with ``FLAG_READ_ONLY`` where it applies.
    Block size and payload limits other than the preferred one are fixed, see ``wire``.
    """

    name: str
    size_bytes: int
    flags: int = SERVED
    description: str = ""
    block_bytes_preferred: int = wire.BLOCK_BYTES_PREFERRED


class Exports(Protocol):
    """Which exports this client may see."""

    def listed(self) -> Iterable[ExportInfo]:
        """Those that LIST names."""

    def find(self, name: str) -> ExportInfo | None:
        """The export that a client means by ``name``; the empty name is the default one."""
