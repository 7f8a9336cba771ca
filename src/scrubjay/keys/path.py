"""Where a node stands in the key tree: one byte a level (docs/format/keys.md).

    path = tenant u24be ‖ lineage u32be ‖ branch u24be ‖ segment id u40be ‖ stripe u8

A prefix names a whole subtree. A number is spread over the levels of its field, so the
children of an inner node follow from the numbers that were given out: see `Numbers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NewType, Protocol

from scrubjay.base.errors import Invalid
from scrubjay.base.ids import BranchNo, LineageNo, SegmentId, TenantNo
from scrubjay.base.units import HEADER_KEY, STRIPES

__all__ = [
    "BRANCH_DEPTH",
    "INNER_DEPTH",
    "LINEAGE_DEPTH",
    "ROOT",
    "SEGMENT_DEPTH",
    "STRIPE_DEPTH",
    "TENANT_DEPTH",
    "Census",
    "Numbers",
    "Path",
    "branch",
    "fan_out",
    "lineage",
    "segment",
    "segment_runs",
    "spell",
    "stripe",
    "tenant",
]

Path = NewType("Path", bytes)

ROOT = Path(b"")
TENANT_DEPTH = 3
LINEAGE_DEPTH = 7
BRANCH_DEPTH = 10
INNER_DEPTH = 14
"""Of the nodes whose children are segments."""
SEGMENT_DEPTH = 15
STRIPE_DEPTH = 16

_FIELDS = ("tenant", "lineage", "branch", "segment", "stripe")
_ENDS = (TENANT_DEPTH, LINEAGE_DEPTH, BRANCH_DEPTH, SEGMENT_DEPTH, STRIPE_DEPTH)
_SPANS = tuple(zip((0, *_ENDS), _ENDS, strict=False))
_SEGMENT_BITS = 36


def tenant(tenant_no: TenantNo) -> Path:
    """Return the path of a tenant; Invalid for a number that is none."""
    return _below(ROOT, tenant_no, first=1, stop=1 << 24, size=3, field="tenant")


def lineage(tenant_no: TenantNo, lineage_no: LineageNo) -> Path:
    """Return the path of a lineage; Invalid for a number that is none."""
    above = tenant(tenant_no)
    return _below(above, lineage_no, first=1, stop=1 << 32, size=4, field="lineage")


def branch(tenant_no: TenantNo, lineage_no: LineageNo, branch_no: BranchNo) -> Path:
    """Return the path of a branch; Invalid for a number that is none."""
    above = lineage(tenant_no, lineage_no)
    return _below(above, branch_no, first=1, stop=1 << 24, size=3, field="branch")


def segment(
    tenant_no: TenantNo, lineage_no: LineageNo, branch_no: BranchNo, segment_id: SegmentId
) -> Path:
    """Return the path of a segment; Invalid for a number that is none."""
    above = branch(tenant_no, lineage_no, branch_no)
    return _below(above, segment_id, first=1, stop=1 << _SEGMENT_BITS, size=5, field="segment")


def segment_runs(branch_path: Path, ids: range) -> Iterator[tuple[Path, range]]:
    """Yield (inner node, indices of its children) for consecutive segments of a branch."""
    if not 0 <= ids.start <= ids.stop <= 1 << _SEGMENT_BITS or ids.step != 1:
        raise Invalid(f"segments {ids}: expected consecutive ids below {1 << _SEGMENT_BITS}")
    start = ids.start
    while start < ids.stop:
        high, low = divmod(start, 256)
        stop = min(low + ids.stop - start, 256)
        yield Path(branch_path + high.to_bytes(4)), range(low, stop)
        start += stop - low


def stripe(segment_path: Path, stripe_no: int) -> Path:
    """Return the path of a stripe of a segment; Invalid for a number that is none."""
    return _below(segment_path, stripe_no, first=0, stop=STRIPES, size=1, field="stripe")


def fan_out(path: bytes) -> int:
    """Return how many children a node can have at most; a segment: its stripes, and the headers."""
    return HEADER_KEY + 1 if len(path) == SEGMENT_DEPTH else 256


def spell(path: bytes) -> str:
    """Say a path in words, for messages: "tenant 1, lineage 7, branch 1, segment 300"."""
    words = []
    for (start, end), field in zip(_SPANS, _FIELDS, strict=True):
        part = path[start:end]
        if len(part) == end - start:
            words.append(f"{field} {int.from_bytes(part)}")
        elif part:
            words.append(f"{field}s {part.hex()}…")
    return ", ".join(words) or "root"


class Census(Protocol):
    """Which children of a node were ever born, as the pool's counters know it."""

    def born(self, path: bytes) -> range:
        """Return the indices of the children of `path` that may have been born.

        Too many is harmless: the spare keys belong to nobody. One too few loses whatever
        is under it for good, when the node turns from a seed into a table. It must cover
        every number that was given out, in the same commit at the latest.
        """
        ...


@dataclass(frozen=True, slots=True)
class Numbers:
    """A census out of counters.

    `given(parent)` returns the numbers given out so far below a whole number's path: the
    tenants of b"", the lineages of a tenant, the branches of a lineage, the segment ids of
    a branch. It may return too many (the pool counts lineages through all tenants).
    """

    given: Callable[[Path], range]

    def born(self, path: bytes) -> range:
        """Return the children under which one of the given numbers falls."""
        depth = len(path)
        if depth == SEGMENT_DEPTH:
            return range(HEADER_KEY + 1)
        start, end = next(span for span in _SPANS if span[0] <= depth < span[1])
        given = self.given(Path(path[:start]))
        if not given:
            return range(0)
        bits = 8 * (end - depth - 1)  # of the number, below a child of this node
        first_child = int.from_bytes(path[start:]) << 8
        first = max((given.start >> bits) - first_child, 0)
        last = min(((given.stop - 1) >> bits) - first_child, 255)
        return range(first, max(first, last + 1))


def _below(above: Path, number: int, *, first: int, stop: int, size: int, field: str) -> Path:
    if not first <= number < stop:
        raise Invalid(f"{field} {number}: expected {first} to {stop - 1}")
    return Path(above + number.to_bytes(size))
