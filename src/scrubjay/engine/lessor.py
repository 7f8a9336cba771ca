"""What a volume asks of the pool's keeper: segments, their keys, and commits.

The engine of an attached volume runs in an exporter; the pool belongs to the daemon.
Between them is this port. Every method is one durable commit of the pool or one read
of it, and compares the attach epoch: an exporter that another attachment has replaced
gets `Conflict` and must stop (docs/format/log.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from scrubjay.base.ids import BranchNo, Entry, LineageNo, SegmentId, Slot, VolumeId

__all__ = [
    "GROUP_SEGMENTS",
    "PURGE_WITHIN_S",
    "Attachment",
    "Checkpoint",
    "Grant",
    "Lessor",
    "Purged",
]

GROUP_SEGMENTS = 64
"""Segments per group of the directory (docs/format/pool.md, key `d`)."""
PURGE_WITHIN_S = 24 * 3600
"""Default of `purge_within`: how long what was overwritten or discarded may stay readable."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A segment of this volume: its id, its slot, the key of its node.

    `slot` is None when the segment has no place (freed, or moved by cleaning). `key` is
    32 bytes, a seed from which the 64 stripe keys derive; when stripes were forgotten it
    is empty, and `stripes` holds the keys of those that survive, that of the headers included.
    `clean` says of a leased one that its slot holds no bytes of a former use for sure.
    """

    segment: SegmentId
    slot: Slot | None
    key: bytes
    stripes: tuple[tuple[int, bytes], ...] = ()
    clean: bool = False

    def __repr__(self) -> str:
        return f"Grant(segment={self.segment}, slot={self.slot})"


@dataclass(frozen=True, slots=True)
class Purged:
    """What a checkpoint tells the keeper about purging.

    `stripes` are to be forgotten: (segment, mask), without keys here by then. What died in
    them, and in the segments that the checkpoint frees, did so from `dead_since_s` on; what
    waits in the volume has been dead since `waiting_since_s` (seconds since 1970, 0: nothing).
    `moved_bytes` were moved in the volume's life, in order to purge.
    """

    stripes: tuple[tuple[SegmentId, int], ...] = ()
    dead_since_s: int = 0
    waiting_since_s: int = 0
    moved_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the pool's volume record says of the log.

    `root` is the entry of the root page, 0 before the first checkpoint; `flushed` the
    sequence that was durable at the commit (recovery must reach it); `clean` says that
    the volume was detached in order and nothing follows; `live_sectors` is for the
    accounting and nothing else. `filled` are segments that were written to their slots' end
    since the last checkpoint: nothing of a former use is left there. `purged` is for forgetting;
    None leaves what the keeper knows of it as it is: who commits has looked at nothing.
    """

    root: Entry
    flushed: int
    clean: bool
    live_sectors: int
    filled: tuple[SegmentId, ...] = ()
    purged: Purged | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """All that an exporter is told when it attaches a volume."""

    volume: VolumeId
    name: str
    lineage: LineageNo
    branch: BranchNo
    epoch: int
    size_bytes: int
    checkpoint: Checkpoint
    next_segment: SegmentId
    """Ids below it may have been leased before this attachment; ids from it on were not."""
    purge_within_s: int = PURGE_WITHIN_S
    waiting_since_s: int = 0
    """As the last checkpoint said (`Purged`)."""
    created_s: int = 0
    """When the volume was made, seconds since 1970: nothing of it died earlier. 0: unknown."""


class Lessor(Protocol):
    """The pool's keeper, as one attached volume sees it."""

    def lease(self, count: int) -> Sequence[Grant]:
        """Lease up to `count` new segments, at least one; ids ascend. NoSpace when full."""
        ...

    def group(self, group: int) -> Sequence[Grant]:
        """Return the grants of segments 64 * group ... 64 * group + 63 that were born."""
        ...

    def commit(self, checkpoint: Checkpoint, *, freed: Sequence[SegmentId]) -> int:
        """Name a new checkpoint and free the slots of `freed`, in one commit.

        What was freed or purged is granted with no key from then on, and forgotten later. The
        caller has let go of those keys before: to call this is to say so.

        Returns how much of the pool is free now, in percent: what it is not short of needs
        no cleaning in a hurry.
        """
        ...
