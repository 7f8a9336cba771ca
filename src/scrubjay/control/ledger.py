"""The ledger of a lineage: to which key each of its segments was bound at birth.

Of each group of 64 segments the commitments (docs/format/pool.md, `g`), and over all of them,
in order of birth, a Merkle tree, of which the frontier is kept (`h`). So the root that a
certificate names is at hand however many segments there are, and a destroy of 16 TiB costs
what one of 1 GiB does.
"""

from __future__ import annotations

from scrubjay.base.ids import LineageNo
from scrubjay.control.directory import COMMITMENT_BYTES
from scrubjay.control.keeper import Change
from scrubjay.control.records import ledger_prefix, peaks_key
from scrubjay.control.view import View
from scrubjay.evidence.merkle import Frontier

__all__ = ["read_frontier", "write_frontier"]

_NONE = bytes(COMMITMENT_BYTES)


def read_frontier(view: View, lineage: LineageNo) -> Frontier:
    """Return the frontier of a lineage's ledger; Corrupt where what is stored is none.

    A lineage from before frontiers were kept has it made from its commitments.
    """
    stored = view.get(peaks_key(lineage))
    if stored is not None:
        return Frontier.parse(stored)
    frontier = Frontier()
    for _, group in view.scan(ledger_prefix(lineage)):
        for at in range(0, len(group), COMMITMENT_BYTES):
            commitment = group[at : at + COMMITMENT_BYTES]
            if commitment != _NONE:
                frontier = frontier.append(commitment)
    return frontier


def write_frontier(change: Change, lineage: LineageNo, frontier: Frontier) -> None:
    """Stage it."""
    change.put(peaks_key(lineage), frontier.serialise())
