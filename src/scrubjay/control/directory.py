"""Where a lineage's segments lie, and what their keys commit to (docs/format/pool.md, `d` and `g`).

The directory says which slot each segment has; the ledger says of each segment ever leased
to which key it was bound, so that a certificate can later name what was forgotten.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from scrubjay.base.errors import Corrupt
from scrubjay.base.ids import BranchNo, LineageNo, SegmentId, Slot
from scrubjay.control.records import directory_key, ledger_key
from scrubjay.control.view import View
from scrubjay.engine.lessor import GROUP_SEGMENTS

__all__ = [
    "COMMITMENT_BYTES",
    "Group",
    "by_group",
    "commitment",
    "groups_of",
    "ledger_root",
    "read_group",
    "read_ledger",
    "segment_range",
]

COMMITMENT_BYTES = 32
LEDGER_BYTES = GROUP_SEGMENTS * COMMITMENT_BYTES
_GROUP = struct.Struct(f"<I{GROUP_SEGMENTS}I")


@dataclass(slots=True)
class Group:
    """64 consecutive segments of one branch, and their slots."""

    branch: BranchNo
    slots: list[Slot | None]

    def pack(self) -> bytes:
        """Return the value as the pool keeps it."""
        return _GROUP.pack(self.branch, *(0 if slot is None else slot + 1 for slot in self.slots))


def read_group(view: View, lineage: LineageNo, group: int) -> Group | None:
    """Return a group of the directory; None where no segment of it was ever leased."""
    value = view.get(directory_key(lineage, group))
    return None if value is None else _unpack(value, f"directory of lineage {lineage}")


def groups_of(view: View, lineage: LineageNo) -> Iterator[tuple[bytes, Group]]:
    """Yield (key, group) for the whole directory of a lineage."""
    for key, value in view.scan(struct.pack(">cI", b"d", lineage)):
        yield key, _unpack(value, f"directory of lineage {lineage}")


def read_ledger(view: View, lineage: LineageNo, group: int) -> bytearray:
    """Return the 64 commitments of a group, zeros where there is none."""
    value = view.get(ledger_key(lineage, group))
    if value is not None and len(value) != LEDGER_BYTES:
        raise Corrupt(f"ledger of lineage {lineage}: {len(value)} bytes, expected {LEDGER_BYTES}")
    return bytearray(value or LEDGER_BYTES)


def commitment(segment_key: bytes) -> bytes:
    """Return what the ledger keeps of a segment's key."""
    return hmac.digest(segment_key, b"scrubjay commitment 1", "sha256")


def ledger_root(view: View, lineage: LineageNo) -> tuple[str, int, list[bytes]]:
    """Return (Merkle root in hex, commitments, keys) of a lineage's whole ledger."""
    keys = []
    tree = _Merkle()
    for key, value in view.scan(struct.pack(">cI", b"g", lineage)):
        keys.append(key)
        for at in range(0, len(value), COMMITMENT_BYTES):
            leaf = value[at : at + COMMITMENT_BYTES]
            if any(leaf):
                tree.add(leaf)
    return tree.root().hex(), tree.leaves, keys


def segment_range(group: int) -> range:
    """Return the ids of a group's segments."""
    return range(group * GROUP_SEGMENTS, (group + 1) * GROUP_SEGMENTS)


def by_group(segments: Iterable[SegmentId]) -> dict[int, list[SegmentId]]:
    """Sort segments by their groups."""
    groups: dict[int, list[SegmentId]] = {}
    for segment in segments:
        groups.setdefault(segment // GROUP_SEGMENTS, []).append(segment)
    return groups


def _unpack(value: bytes, where: str) -> Group:
    if len(value) != _GROUP.size:
        raise Corrupt(f"{where}: {len(value)} bytes, expected {_GROUP.size}")
    branch, *slots = _GROUP.unpack(value)
    return Group(BranchNo(branch), [Slot(slot - 1) if slot else None for slot in slots])


class _Merkle:
    """Merkle tree hash over a growing list (RFC 9162, section 2.1.1), in log n memory."""

    def __init__(self) -> None:
        self.leaves = 0
        self._peaks: list[tuple[int, bytes]] = []

    def add(self, leaf: bytes) -> None:
        size, node = 1, hashlib.sha256(b"\0" + leaf).digest()
        while self._peaks and self._peaks[-1][0] == size:
            _, left = self._peaks.pop()
            size, node = 2 * size, hashlib.sha256(b"\1" + left + node).digest()
        self._peaks.append((size, node))
        self.leaves += 1

    def root(self) -> bytes:
        if not self._peaks:
            return hashlib.sha256(b"").digest()
        *rest, (_, node) = self._peaks
        for _, left in reversed(rest):
            node = hashlib.sha256(b"\1" + left + node).digest()
        return node
