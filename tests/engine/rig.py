"""A volume without a daemon: a keeper of segments in memory, an arena, and drivers."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from scrubjay.base.errors import Conflict, NoSpace
from scrubjay.base.ids import BranchNo, Entry, LineageNo, SegmentId, Slot, VolumeId
from scrubjay.base.ports import Medium
from scrubjay.base.units import SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.engine.disk import Disk
from scrubjay.engine.lessor import GROUP_SEGMENTS, Attachment, Checkpoint, Grant

VOLUME = VolumeId(uuid.UUID(int=7))


class Arena:
    """Keys in a dict."""

    def __init__(self) -> None:
        self.keys: dict[int, bytes] = {}

    def put(self, segment: int, key: bytes) -> None:
        """Keep a key."""
        self.keys[segment] = key

    def get(self, segment: int) -> bytes | None:
        """Return a key."""
        return self.keys.get(segment)

    def drop(self, segment: int) -> None:
        """Let go of a key."""
        self.keys.pop(segment, None)

    def drop_all(self) -> None:
        """Let go of all."""
        self.keys.clear()


@dataclass
class Keeper:
    """The pool's keeper of one volume, durable by being in memory; copy it to crash it."""

    slots: int = 64
    size_bytes: int = 1 << 30
    epoch: int = 0
    checkpoint: Checkpoint = field(default_factory=lambda: Checkpoint(Entry(0), 0, True, 0))
    next_segment: int = 1
    places: dict[int, int] = field(default_factory=dict)
    free: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.places and not self.free:
            self.free = list(range(self.slots))[::-1]

    @property
    def medium_bytes(self) -> int:
        """How large the medium must be."""
        return SLOTS_OFFSET_BYTES + self.slots * SEGMENT_BYTES

    def copy(self) -> Keeper:
        """Return what a restart would find."""
        return Keeper(
            self.slots, self.size_bytes, self.epoch, self.checkpoint, self.next_segment,
            dict(self.places), list(self.free),
        )

    def attach(self) -> Attachment:
        """Begin another attachment."""
        self.epoch += 1
        return Attachment(
            VOLUME, "v", LineageNo(1), BranchNo(1), self.epoch, self.size_bytes,
            self.checkpoint, SegmentId(self.next_segment),
        )

    def lessor(self, epoch: int) -> EpochLessor:
        """Return the port for one attachment."""
        return EpochLessor(self, epoch)


@dataclass
class EpochLessor:
    """`Lessor` of one attachment."""

    keeper: Keeper
    epoch: int
    leases: int = 0
    commits: int = 0

    def lease(self, count: int) -> Sequence[Grant]:
        """Lease segments."""
        keeper = self._current()
        if not keeper.free:
            msg = "pool: 0 slots, expected one"
            raise NoSpace(msg)
        granted = []
        for _ in range(min(count, len(keeper.free))):
            segment = keeper.next_segment
            keeper.next_segment += 1
            keeper.places[segment] = keeper.free.pop()
            granted.append(_grant(segment, keeper.places[segment]))
        self.leases += 1
        return granted

    def group(self, group: int) -> Sequence[Grant]:
        """Return the grants of a group."""
        keeper = self._current()
        first = group * GROUP_SEGMENTS
        ids = range(max(first, 1), min(first + GROUP_SEGMENTS, keeper.next_segment))
        return [_grant(s, keeper.places.get(s)) for s in ids]

    def commit(self, checkpoint: Checkpoint, *, freed: Sequence[SegmentId]) -> None:
        """Name a checkpoint."""
        keeper = self._current()
        keeper.checkpoint = checkpoint
        for segment in freed:
            keeper.free.append(keeper.places.pop(segment))
        self.commits += 1

    def _current(self) -> Keeper:
        if self.epoch != self.keeper.epoch:
            msg = f"epoch: {self.epoch}, expected {self.keeper.epoch}"
            raise Conflict(msg)
        return self.keeper


def key_of(segment: int) -> bytes:
    """Return the key of a segment."""
    return hashlib.sha256(b"segment %d" % segment).digest()


def _grant(segment: int, slot: int | None) -> Grant:
    return Grant(SegmentId(segment), None if slot is None else Slot(slot), key_of(segment) if slot is not None else b"")


def open_disk(medium: Medium, keeper: Keeper) -> Disk:
    """Attach the volume."""
    attachment = keeper.attach()
    disk = Disk(medium, keeper.lessor(attachment.epoch), Arena(), attachment)
    disk.attach()
    return disk


def feed(disk: Disk, keeper: Keeper) -> None:
    """Do what a steward does: lease ahead."""
    disk.starving = True
    while wanted := disk.wants_grants():
        try:
            disk.add_grants(keeper.lessor(keeper.epoch).lease(wanted))
        except NoSpace:
            disk.full = True
            return


def checkpoint(disk: Disk, medium: Medium) -> None:
    """Run a checkpoint from end to end."""
    for _ in disk.checkpoint():
        pass
    medium.sync()
    disk.commit_checkpoint()
