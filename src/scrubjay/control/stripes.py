"""Stripes that wait to be forgotten (docs/format/pool.md, `o`).

An exporter that committed a checkpoint has let go of their keys; until a rotation has
forgotten them and the sink has dropped the old epoch, they are granted to nobody. Of a
segment that was freed all 64 wait, and its headers with them: it is forgotten as a whole.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from scrubjay.base.errors import Corrupt
from scrubjay.base.ids import LineageNo, SegmentId
from scrubjay.base.units import STRIPES
from scrubjay.control.directory import by_group
from scrubjay.control.keeper import Change
from scrubjay.control.records import stripes_key, stripes_prefix
from scrubjay.control.view import View
from scrubjay.engine.lessor import GROUP_SEGMENTS, Purged
from scrubjay.keys.segment import SegmentKey

__all__ = ["ALL_STRIPES", "Waiting", "await_forgetting", "every_waiting", "left_of", "read_waiting"]

ALL_STRIPES = (1 << STRIPES) - 1
_WAITING = struct.Struct(f"<{1 + GROUP_SEGMENTS}Q")


@dataclass(slots=True)
class Waiting:
    """Stripes of 64 consecutive segments, as masks; the first of their dead died at `since_s`.

    `since_s` is 0 where nobody's data is among them: segments that were never written.
    """

    since_s: int = 0
    masks: list[int] = field(default_factory=lambda: [0] * GROUP_SEGMENTS)

    def pack(self) -> bytes:
        """Return the value as the pool keeps it."""
        return _WAITING.pack(self.since_s, *self.masks)


def read_waiting(view: View, lineage: LineageNo, group: int) -> Waiting | None:
    """Return what waits of a group; None where nothing does."""
    value = view.get(stripes_key(lineage, group))
    return None if value is None else _unpack(value, lineage)


def every_waiting(
    view: View, *, of: LineageNo | None = None
) -> Iterator[tuple[LineageNo, int, Waiting]]:
    """Yield (lineage, group, what waits) for the whole pool, or `of` one lineage."""
    for key, value in view.scan(b"o" if of is None else stripes_prefix(of)):
        lineage = LineageNo(int.from_bytes(key[1:5]))
        yield lineage, int.from_bytes(key[5:]), _unpack(value, lineage)


def await_forgetting(
    change: Change, lineage: LineageNo, purged: Purged, freed: Sequence[SegmentId]
) -> None:
    """Enter what a checkpoint has given up."""
    masks: dict[SegmentId, int] = {}
    for segment, mask in (*purged.stripes, *((each, ALL_STRIPES) for each in freed)):
        masks[segment] = masks.get(segment, 0) | mask
    for group, segments in by_group(masks).items():
        waiting = read_waiting(change, lineage, group) or Waiting()
        for segment in segments:
            waiting.masks[segment % GROUP_SEGMENTS] |= masks[segment]
        dates = [each for each in (waiting.since_s, purged.dead_since_s) if each]
        waiting.since_s = min(dates, default=0)
        change.put(stripes_key(lineage, group), waiting.pack())


def left_of(key: SegmentKey | None, mask: int) -> SegmentKey | None:
    """Return what may still be granted of a segment's key."""
    if key is None or mask == ALL_STRIPES:
        return None
    return key.without(_numbers(mask))


def _numbers(mask: int) -> Iterable[int]:
    return (number for number in range(STRIPES) if mask >> number & 1)


def _unpack(value: bytes, lineage: LineageNo) -> Waiting:
    if len(value) != _WAITING.size:
        where = f"waiting stripes of lineage {lineage}"
        raise Corrupt(f"{where}: {len(value)} bytes, expected {_WAITING.size}")
    since_s, *masks = _WAITING.unpack(value)
    return Waiting(since_s, masks)
