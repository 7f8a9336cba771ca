"""A volume without a daemon: a keeper of segments in memory, a steward, and an oracle.

`Keeper` is the pool's keeper of one volume, durable by being in memory. `Machine` puts a
disk, its medium and its keeper together and remembers what the volume should hold.
"""

# ruff: noqa: SLF001 - the rig closes segments early, so that few bytes make many of them

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from scrubjay.base.errors import Conflict, NoSpace
from scrubjay.base.ids import BranchNo, Entry, LineageNo, SegmentId, Slot, VolumeId
from scrubjay.base.ports import Medium
from scrubjay.base.units import HEADER_KEY, SECTOR_BYTES, SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.engine.disk import Disk
from scrubjay.engine.lessor import GROUP_SEGMENTS, Attachment, Checkpoint, Grant, Purged
from scrubjay.keys.aead import children
from scrubjay.media.simulated import Choose, SimulatedMedium

VOLUME = VolumeId(uuid.UUID(int=7))
ZEROS = bytes(SECTOR_BYTES)
GROWTH = (1, 58, 2040)
"""First segments: of the last two, the maps of moves and of usage soon grow by a level."""


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
    """The pool's keeper of one volume; `copy` is what a crash leaves of it."""

    slots: int = 64
    size_bytes: int = 1 << 30
    epoch: int = 0
    checkpoint: Checkpoint = field(default_factory=lambda: Checkpoint(Entry(0), 0, True, 0))
    next_segment: int = 1
    free_percent: int = 0
    """What commits are answered with: a pool that is short of space has all cleaning done."""
    places: dict[int, int] = field(default_factory=dict)
    free: list[int] = field(default_factory=list)
    others: list[int] = field(default_factory=list)
    """Slots that other volumes have."""
    gone: dict[int, int] = field(default_factory=dict)
    """Forgotten stripes of segments, as masks: each with the commit that says it may be."""
    created_s: int = 0
    """When the volume was made."""
    on_change: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)
    """Called behind each durable change."""
    on_commit: Callable[[Checkpoint], None] = field(
        default=lambda _: None, repr=False, compare=False
    )
    """Called with each checkpoint that is on its way, before it is taken over."""

    def __post_init__(self) -> None:
        if not self.places and not self.free and not self.others:
            self.free = list(range(self.slots))[::-1]

    @property
    def medium_bytes(self) -> int:
        """How large the medium must be."""
        return SLOTS_OFFSET_BYTES + self.slots * SEGMENT_BYTES

    @property
    def purged(self) -> Purged:
        """What was last said of purging."""
        return self.checkpoint.purged or Purged()

    def copy(self) -> Keeper:
        """Return what a restart would find."""
        return Keeper(
            slots=self.slots,
            size_bytes=self.size_bytes,
            epoch=self.epoch,
            checkpoint=self.checkpoint,
            next_segment=self.next_segment,
            places=dict(self.places),
            free=list(self.free),
            others=list(self.others),
            gone=dict(self.gone),
            created_s=self.created_s,
        )

    def attach(self) -> Attachment:
        """Begin another attachment."""
        self.epoch += 1
        self.on_change()
        return Attachment(
            VOLUME,
            "v",
            LineageNo(1),
            BranchNo(1),
            self.epoch,
            self.size_bytes,
            replace(self.checkpoint, filled=(), purged=None),
            SegmentId(self.next_segment),
            waiting_since_s=self.purged.waiting_since_s,
            created_s=self.created_s,
        )

    def lessor(self, epoch: int) -> EpochLessor:
        """Return the port for one attachment."""
        return EpochLessor(self, epoch)


@dataclass
class EpochLessor:
    """`Lessor` of one attachment."""

    keeper: Keeper
    epoch: int

    def lease(self, count: int) -> Sequence[Grant]:
        """Lease segments."""
        keeper = self._current()
        if not keeper.free:
            raise NoSpace("pool: 0 slots, expected one")
        granted = []
        for _ in range(min(count, len(keeper.free))):
            segment = keeper.next_segment
            keeper.next_segment += 1
            keeper.places[segment] = keeper.free.pop()
            granted.append(_grant(segment, keeper.places[segment], 0))
        keeper.on_change()
        return granted

    def group(self, group: int) -> Sequence[Grant]:
        """Return the grants of a group."""
        keeper = self._current()
        first = group * GROUP_SEGMENTS
        ids = range(max(first, 1), min(first + GROUP_SEGMENTS, keeper.next_segment))
        return [_grant(s, keeper.places.get(s), keeper.gone.get(s, 0)) for s in ids]

    def commit(self, checkpoint: Checkpoint, *, freed: Sequence[SegmentId]) -> int:
        """Name a checkpoint; the same again changes nothing, as the daemon has it."""
        keeper = self._current()
        keeper.on_commit(checkpoint)
        if checkpoint.flushed < keeper.checkpoint.flushed:
            raise Conflict(f"{checkpoint.flushed}, expected {keeper.checkpoint.flushed}")
        before, keeper.checkpoint = keeper.checkpoint, checkpoint
        if checkpoint.purged is None:  # what was said before holds on
            keeper.checkpoint = replace(checkpoint, purged=before.purged)
        for segment, stripes in checkpoint.purged.stripes if checkpoint.purged else ():
            keeper.gone[segment] = keeper.gone.get(segment, 0) | stripes
        for segment in freed:
            slot = keeper.places.pop(segment, None)
            if slot is not None:
                keeper.free.append(slot)
        keeper.on_change()
        return keeper.free_percent

    def _current(self) -> Keeper:
        if self.epoch != self.keeper.epoch:
            raise Conflict(f"epoch: {self.epoch}, expected {self.keeper.epoch}")
        return self.keeper


def key_of(segment: int) -> bytes:
    """Return the key of a segment."""
    return hashlib.sha256(b"segment %d" % segment).digest()


def _grant(segment: int, slot: int | None, gone: int) -> Grant:
    if slot is None:
        return Grant(SegmentId(segment), None, b"")
    if gone:
        numbers = [i for i in range(HEADER_KEY + 1) if not gone >> i & 1]
        survivors = zip(numbers, children(key_of(segment), numbers), strict=True)
        return Grant(SegmentId(segment), Slot(slot), b"", tuple(survivors))
    return Grant(SegmentId(segment), Slot(slot), key_of(segment))


def open_disk(medium: Medium, keeper: Keeper, *, map_limit_pages: int = 1 << 14) -> Disk:
    """Attach the volume."""
    attachment = keeper.attach()
    disk = Disk(medium, keeper.lessor(attachment.epoch), Arena(), attachment)
    disk.map_limit_pages = map_limit_pages
    disk.attach()
    return disk


def feed(disk: Disk, keeper: Keeper) -> None:
    """Do what a steward does: lease ahead."""
    disk.starving = True
    while wanted := disk.wants_grants():
        try:
            disk.add_grants(keeper.lessor(disk.attachment.epoch).lease(wanted))
        except NoSpace:
            disk.full = True
            break
    disk.starving = False


def checkpoint(disk: Disk) -> None:
    """Run a checkpoint from end to end."""
    for _ in disk.checkpoint():
        pass
    disk.sync()
    disk.commit_checkpoint()


def content(lba: int, version: int) -> bytes:
    """Return a sector that says whose version of what it is; version 0 is zeros."""
    return struct.pack("<QQ", lba, version) * (SECTOR_BYTES // 16) if version else ZEROS


@dataclass(slots=True)
class Request:
    """A change that a client asked for, and the I/Os between which it was served."""

    lba: int
    sectors: int
    version: int
    begun: int
    """I/Os that were done when it was issued."""
    done: int = -1
    """I/Os that were done when it was acknowledged; -1: it was not."""


class Machine:
    """One volume, what serves it, and what it should hold."""

    def __init__(
        self,
        *,
        slots: int = 40,
        lbas: int = 512,
        map_limit_pages: int = 1 << 14,
        first_segment: int = 1,
    ) -> None:
        self.lbas = lbas
        self.map_limit_pages = map_limit_pages
        self.keeper = Keeper(slots=slots, size_bytes=max(lbas * SECTOR_BYTES, 1 << 20))
        self.keeper.next_segment = first_segment
        self.medium = SimulatedMedium(self.keeper.medium_bytes, record=True)
        self.state: dict[int, int] = {}
        """LBA -> version."""
        self.requests: list[Request] = []
        self.version = 0
        self.disk = self._open()

    @classmethod
    def after(cls, medium: SimulatedMedium, keeper: Keeper, *, lbas: int) -> Machine:
        """Return a machine that attaches what a crash left; its oracle takes what is there."""
        self = cls.__new__(cls)
        self.lbas, self.map_limit_pages = lbas, 1 << 14
        self.keeper, self.medium = keeper, medium
        self.state, self.requests, self.version = {}, [], 1 << 32
        self.disk = self._open()
        for lba, data in enumerate(self.image()):
            at, version = struct.unpack_from("<QQ", data)
            assert data == content(lba, version), f"LBA {lba}: garbage"
            assert at == lba or not version, f"LBA {lba}: the bytes of {at}"
            self.state[lba] = version
        return self

    def _open(self) -> Disk:
        return open_disk(self.medium, self.keeper, map_limit_pages=self.map_limit_pages)

    # --- what clients do -------------------------------------------------------------

    def write(self, *extents: tuple[int, int]) -> None:
        """Write extents of (LBA, sectors) in one batch."""
        self.feed()
        requests: list[Request] = []
        self.disk.begin(sum(sectors for _, sectors in extents) * SECTOR_BYTES)
        for lba, sectors in extents:
            requests.append(self._request(lba, sectors, zero=False))
            version = self.version
            data = b"".join(content(lba + i, version) for i in range(sectors))
            self.disk.write(lba, sectors, memoryview(data))
        self.disk.commit()
        self._acknowledge(requests)

    def drop(self, lba: int, sectors: int) -> None:
        """Zero sectors."""
        self.feed()
        request = self._request(lba, sectors, zero=True)
        self.disk.drop(lba * SECTOR_BYTES, sectors * SECTOR_BYTES, exact=True)
        self.disk.commit()
        self._acknowledge([request])

    def flush(self) -> None:
        """Sync, as the flusher does."""
        self.disk.sync()

    def read(self, lba: int, sectors: int) -> None:
        """Read, and compare (I1)."""
        out = memoryview(bytearray(sectors * SECTOR_BYTES))
        self.disk.read_into(lba, sectors, out)
        expected = b"".join(content(lba + i, self.state.get(lba + i, 0)) for i in range(sectors))
        assert out == expected, f"LBA {lba}, {sectors} sectors"

    def image(self) -> list[bytes]:
        """Return every sector."""
        out = memoryview(bytearray(self.lbas * SECTOR_BYTES))
        self.disk.read_into(0, self.lbas, out)
        return [bytes(out[at : at + SECTOR_BYTES]) for at in range(0, len(out), SECTOR_BYTES)]

    def verify(self) -> None:
        """Compare every sector, in one read and one by one (I1)."""
        self.read(0, self.lbas)
        for lba in range(self.lbas):
            self.read(lba, 1)

    # --- what the steward and the daemon do --------------------------------------------

    def feed(self) -> None:
        """Lease ahead."""
        feed(self.disk, self.keeper)

    def checkpoint(
        self, between: Callable[[], object] | None = None, *, keep_spares: int | None = None
    ) -> None:
        """Run a checkpoint, with `between` after each of its slices."""
        self.feed()
        for _ in self.disk.checkpoint(keep_spares=keep_spares):
            if between:
                between()
        self.disk.sync()
        self.disk.commit_checkpoint()

    def clean(self, steps: int = 1 << 20) -> int:
        """Clean up to so many slices; return how many there were."""
        for step in range(steps):
            self.feed()
            if not self.disk.clean():
                return step
        return steps

    def purge(self, now_s: int, *, slices: int = 1 << 20) -> None:
        """Purge what is due at a moment, up to so many slices; commit it where that is all."""
        self.disk.tick(now_s)
        for _ in range(slices):
            self.feed()
            if not self.disk.purger.wants or not self.disk.purge():
                break
        if self.disk.purger.wants_checkpoint:
            self.checkpoint()

    def close_segment(self) -> None:
        """Have the log go on in another segment, as it does when one is full."""
        self.disk._log.close()

    def close_moved(self) -> None:
        """Have cleaning go on in another segment."""
        self.disk._mover.close()

    def detach(self) -> None:
        """Detach in order, and attach again."""
        self.disk.detach()
        self.disk = self._open()

    def kill(self) -> None:
        """Kill the exporter: what was written stays written."""
        self.disk = self._open()

    def crash(self, choose: Choose) -> None:
        """Lose power, and begin anew with whatever is there (I4, I5)."""
        durable = self.durable()
        self.medium = self.medium.crash(choose)
        self.keeper = self.keeper.copy()
        self.disk = self._open()
        self.state = self.matching(self.image(), least=durable, most=len(self.requests))
        self.requests = []

    # --- the oracle ----------------------------------------------------------------------

    def durable(self, cut: int | None = None) -> int:
        """Return how many requests a completed sync covered, `cut` I/Os into the trace."""
        trace = self.medium.trace[:cut]
        synced = max((i for i, io in enumerate(trace) if io.kind.name == "SYNC"), default=-1)
        count = 0
        for index, request in enumerate(self.requests):
            if 0 <= request.done <= synced:
                count = index + 1
        return count

    def matching(
        self, image: list[bytes], *, least: int, most: int, base: dict[int, int] | None = None
    ) -> dict[int, int]:
        """Return the state after some whole number of requests, if the image is that.

        Stronger than I5 asks: not each sector alone, but all of them together are as
        they were at one moment, since the log is a chain.
        """
        state = dict(self._base if base is None else base)
        for request in self.requests[:least]:
            self._apply(state, request)
        found = {lba: struct.unpack_from("<QQ", data)[1] for lba, data in enumerate(image)}
        for lba, data in enumerate(image):
            assert data == content(lba, found[lba]), f"LBA {lba}: garbage"
        for count in range(least, most + 1):
            if count > least:
                self._apply(state, self.requests[count - 1])
            if all(found[lba] == state.get(lba, 0) for lba in found):
                self._base = dict(state)
                return state
        wrong = {k: (v, state.get(k, 0)) for k, v in found.items() if v != state.get(k, 0)}
        raise AssertionError(f"no state from {least} to {most} requests; against the last {wrong}")

    _base: dict[int, int] = {}  # noqa: RUF012 - replaced, never changed
    """The state before the first of `requests`."""

    @staticmethod
    def _apply(state: dict[int, int], request: Request) -> None:
        for lba in range(request.lba, request.lba + request.sectors):
            state[lba] = request.version

    def _request(self, lba: int, sectors: int, *, zero: bool) -> Request:
        self.version += 1
        request = Request(lba, sectors, 0 if zero else self.version, len(self.medium.trace))
        self.requests.append(request)
        return request

    def _acknowledge(self, requests: list[Request]) -> None:
        for request in requests:
            request.done = len(self.medium.trace)
            self._apply(self.state, request)


def churn(machine: Machine, random: Random, *, extents: int = 4, sectors: int = 12) -> None:
    """Write a few extents somewhere."""
    batch = []
    for _ in range(random.randrange(1, extents + 1)):
        count = random.randrange(1, sectors + 1)
        batch.append((random.randrange(machine.lbas - count), count))
    machine.write(*batch)
