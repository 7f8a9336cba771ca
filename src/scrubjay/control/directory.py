"""Where a lineage's segments lie, and what their keys commit to (docs/format/pool.md, `d` and `g`).

The directory says which slot each segment has; the ledger says of each segment ever leased
to which key it was bound, so that a certificate can later name what was forgotten.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from scrubjay.base.errors import Corrupt
from scrubjay.base.ids import BranchNo, LineageNo, SegmentId, Slot
from scrubjay.control.records import directory_key, directory_prefix, ledger_key
from scrubjay.control.view import View
from scrubjay.engine.lessor import GROUP_SEGMENTS

__all__ = [
    "COMMITMENT_BYTES",
    "Group",
    "by_group",
    "commitment",
    "groups_of",
    "read_group",
    "read_ledger",
    "segment_range",
    "unpack_group",
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
    return None if value is None else unpack_group(value, f"directory of lineage {lineage}")


def groups_of(view: View, lineage: LineageNo) -> Iterator[tuple[bytes, Group]]:
    """Yield (key, group) for the whole directory of a lineage."""
    for key, value in view.scan(directory_prefix(lineage)):
        yield key, unpack_group(value, f"directory of lineage {lineage}")


def read_ledger(view: View, lineage: LineageNo, group: int) -> bytearray:
    """Return the 64 commitments of a group, zeros where there is none."""
    value = view.get(ledger_key(lineage, group))
    if value is not None and len(value) != LEDGER_BYTES:
        raise Corrupt(f"ledger of lineage {lineage}: {len(value)} bytes, expected {LEDGER_BYTES}")
    return bytearray(value or LEDGER_BYTES)


def commitment(segment_key: bytes) -> bytes:
    """Return what the ledger keeps of a segment's key."""
    return hmac.digest(segment_key, b"scrubjay commitment 1", "sha256")


def segment_range(group: int) -> range:
    """Return the ids of a group's segments."""
    return range(group * GROUP_SEGMENTS, (group + 1) * GROUP_SEGMENTS)


def by_group(segments: Iterable[SegmentId]) -> dict[int, list[SegmentId]]:
    """Sort segments by their groups."""
    groups: dict[int, list[SegmentId]] = {}
    for segment in segments:
        groups.setdefault(segment // GROUP_SEGMENTS, []).append(segment)
    return groups


def unpack_group(value: bytes, where: str) -> Group:
    """Return a group of the directory; Corrupt, naming `where`, for another size."""
    if len(value) != _GROUP.size:
        raise Corrupt(f"{where}: {len(value)} bytes, expected {_GROUP.size}")
    branch, *slots = _GROUP.unpack(value)
    return Group(BranchNo(branch), [Slot(slot - 1) if slot else None for slot in slots])
