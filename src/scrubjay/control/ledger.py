"""The ledger of a lineage: to which key each of its segments was bound at birth.

Of each group of 64 segments the commitments (docs/format/pool.md, `g`), and over all of them,
in order of birth, a Merkle tree, of which the peaks are kept (`h`). So the root that a
certificate names is at hand however many segments there are, and a destroy of 16 TiB costs
what one of 1 GiB does.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

from scrubjay.base.errors import Corrupt
from scrubjay.base.ids import LineageNo
from scrubjay.control.directory import COMMITMENT_BYTES
from scrubjay.control.keeper import Change
from scrubjay.control.records import peaks_key
from scrubjay.control.view import View

__all__ = ["Ledger"]

_COUNT = struct.Struct("<Q")


class Ledger:
    """Merkle tree hash over a growing list (RFC 9162, section 2.1.1), by its peaks."""

    def __init__(self, leaves: int = 0, peaks: Iterable[bytes] = ()) -> None:
        """`peaks` are the roots of whole subtrees, the largest first, one per bit of `leaves`."""
        self.leaves = leaves
        self._peaks = list(peaks)

    @classmethod
    def read(cls, view: View, lineage: LineageNo) -> Ledger:
        """Return a lineage's ledger as it stands; Corrupt where it makes no sense."""
        value = view.get(peaks_key(lineage))
        if value is None:
            return cls()
        leaves = _COUNT.unpack_from(value)[0] if len(value) >= _COUNT.size else -1
        expected_bytes = _COUNT.size + COMMITMENT_BYTES * leaves.bit_count()
        if len(value) != expected_bytes or leaves < 1:
            raise Corrupt(f"ledger of lineage {lineage}: {len(value)} bytes of peaks")
        peaks = range(_COUNT.size, len(value), COMMITMENT_BYTES)
        return cls(leaves, (value[at : at + COMMITMENT_BYTES] for at in peaks))

    def write(self, change: Change, lineage: LineageNo) -> None:
        """Stage it."""
        change.put(peaks_key(lineage), _COUNT.pack(self.leaves) + b"".join(self._peaks))

    def add(self, commitment: bytes) -> None:
        """Enter the commitment of one more segment, 32 bytes."""
        node = hashlib.sha256(b"\0" + commitment).digest()
        for _ in range(_trailing_ones(self.leaves)):
            node = hashlib.sha256(b"\1" + self._peaks.pop() + node).digest()
        self._peaks.append(node)
        self.leaves += 1

    def root(self) -> bytes:
        """Return the Merkle tree hash, 32 bytes."""
        if not self._peaks:
            return hashlib.sha256(b"").digest()
        *rest, node = self._peaks
        for left in reversed(rest):
            node = hashlib.sha256(b"\1" + left + node).digest()
        return node


def _trailing_ones(number: int) -> int:
    return (~number & number + 1).bit_length() - 1
