"""What purging costs: throughput under random overwrites, and bytes written and moved.

The volume is served by an engine of its own in this process, with its steward, over a pool
file in the bench's folder. While purging is on, its clock runs so quickly that something is
always due, and of the allowance only the share of the volume's own writes is left: what is
measured is that share, used up as far as there is something to move. Turns alternate, since
times drift.
"""

import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median

from bench.day import play
from bench.extent import Extent, Report
from scrubjay.base.errors import NoSpace, Unavailable
from scrubjay.base.ids import BranchNo, Entry, LineageNo, SegmentId, Slot, TenantNo, VolumeId
from scrubjay.base.units import GIB, KIB, MIB, SECTOR_BYTES, SEGMENT_BYTES, SLOTS_OFFSET_BYTES, TIB
from scrubjay.engine import purging as engine
from scrubjay.engine.disk import Disk
from scrubjay.engine.lessor import GROUP_SEGMENTS, Attachment, Checkpoint, Grant
from scrubjay.export.arena import Arena
from scrubjay.export.steward import Steward
from scrubjay.keys import path
from scrubjay.keys.path import Numbers
from scrubjay.keys.tree import KeyTree
from scrubjay.media.file import PoolFile

__all__ = ["purging"]

VOLUME_BYTES = GIB
SLOTS = 3 * VOLUME_BYTES // SEGMENT_BYTES
BATCH = 16
TURN_S = 10.0
TURNS = 8
HASTE = 24 * 3600 // 10
"""Seconds that go by in one: a day, and its deadline, in each turn."""


@dataclass
class Pool:
    """The keeper of one volume, in memory."""

    free: list[int] = field(default_factory=lambda: list(range(SLOTS))[::-1])
    places: dict[int, int] = field(default_factory=dict)
    next_segment: int = 1

    def lease(self, count: int) -> Sequence[Grant]:
        """Lease segments."""
        if not self.free:
            raise NoSpace("pool: full")
        granted = []
        for _ in range(min(count, len(self.free))):
            self.places[self.next_segment] = self.free.pop()
            granted.append(self._grant(self.next_segment))
            self.next_segment += 1
        return granted

    def group(self, group: int) -> Sequence[Grant]:
        """Return the grants of a group."""
        ids = range(max(1, group * GROUP_SEGMENTS), (group + 1) * GROUP_SEGMENTS)
        return [self._grant(each) for each in ids if each in self.places]

    def commit(self, _checkpoint: Checkpoint, *, freed: Sequence[SegmentId]) -> int:
        """Free segments."""
        self.free += [self.places.pop(each) for each in freed if each in self.places]
        return 100 * len(self.free) // SLOTS

    def _grant(self, segment: int) -> Grant:
        key = segment.to_bytes(32, "little")
        return Grant(SegmentId(segment), Slot(self.places[segment]), key)


@dataclass(frozen=True, slots=True)
class Turn:
    """How quickly, and with how much of the processor, sectors were overwritten."""

    iops: float
    cpu_us: float


class Run:
    """A disk, its steward, and a clock that can be hurried."""

    def __init__(self, file: Path) -> None:
        PoolFile.create(file, size_bytes=SLOTS_OFFSET_BYTES + SLOTS * SEGMENT_BYTES).close()
        pool = Pool()
        attachment = Attachment(
            VolumeId(uuid.UUID(int=1)),
            "v",
            LineageNo(1),
            BranchNo(1),
            1,
            VOLUME_BYTES,
            Checkpoint(Entry(0), 0, clean=True, live_sectors=0),
            SegmentId(1),
        )
        self.disk = Disk(PoolFile.open(file, hold=False), pool, Arena(), attachment)
        self.disk.attach()
        self.on = False
        self._now_s = 1_800_000_000.0
        self._looked_s = time.monotonic()
        self.steward = Steward(
            self.disk, pool, poison=_fail, end=_raise, complain=_fail, now_s=self._clock
        )
        self._random = Random(1)

    def fill(self) -> None:
        """Write the volume once, from end to end."""
        piece = memoryview(self._random.randbytes(MIB))
        for at in range(0, VOLUME_BYTES, MIB):
            self._write([(at // SECTOR_BYTES, MIB // SECTOR_BYTES)], piece)

    def turn(self, *, purging: bool) -> Turn:
        """Overwrite at random for some seconds."""
        self.on = purging
        piece = memoryview(self._random.randbytes(SECTOR_BYTES))
        sectors, done, start_s = VOLUME_BYTES // SECTOR_BYTES, 0, time.monotonic()
        cpu_s = time.process_time()
        while time.monotonic() < start_s + TURN_S:
            batch = [(self._random.randrange(sectors), 1) for _ in range(BATCH)]
            self._write(batch, piece)
            done += BATCH
        took_s, cpu_s = time.monotonic() - start_s, time.process_time() - cpu_s
        return Turn(iops=done / took_s, cpu_us=1e6 * cpu_s / done)

    def _write(self, extents: Sequence[tuple[int, int]], data: memoryview) -> None:
        disk = self.disk
        if disk.starved:
            self.steward.wait_for_space()
        opened = disk.opened_segments
        with disk.lock:
            disk.begin(sum(sectors for _, sectors in extents) * SECTOR_BYTES)
            for lba, sectors in extents:
                disk.write(lba, sectors, data)
            disk.commit()
            if disk.needs_upkeep:
                disk.maintain()
        if disk.opened_segments != opened:
            self.steward.kick()

    def _clock(self) -> int:
        now_s = time.monotonic()
        if self.on:
            self._now_s += (now_s - self._looked_s) * HASTE
        self._looked_s = now_s
        return int(self._now_s)


def overwriting(folder: Path) -> tuple[Turn, Turn]:
    """Return medians of the turns without purging, and of those with it."""
    usual = engine.ALLOWANCE_BYTES_MIN, engine.SHARE
    engine.ALLOWANCE_BYTES_MIN, engine.SHARE = 16 * MIB, 1 << 60
    run = Run(folder / "purged")
    thread = threading.Thread(target=run.steward.run, daemon=True)
    thread.start()
    turns: dict[bool, list[Turn]] = {False: [], True: []}
    try:
        run.fill()
        run.turn(purging=True)
        for turn in range(2 * TURNS):
            on = bool(turn % 2) ^ bool(turn // 2 % 2)
            turns[on].append(run.turn(purging=on))
        if not run.disk.counters.purge_moved_bytes:
            raise Unavailable("purging: moved nothing, expected something to be due")
    finally:
        run.steward.close()
        thread.join()
        (folder / "purged").unlink()
        engine.ALLOWANCE_BYTES_MIN, engine.SHARE = usual
    return _median(turns[False]), _median(turns[True])


def _median(turns: Sequence[Turn]) -> Turn:
    return Turn(median(each.iops for each in turns), median(each.cpu_us for each in turns))


class Store:
    """Nodes in memory; counts what is written."""

    def __init__(self) -> None:
        self.nodes: dict[bytes, bytes] = {}
        self.written_bytes = 0

    def get(self, at: bytes) -> bytes | None:
        """Return a node."""
        return self.nodes.get(at)

    def put(self, at: bytes, stored: bytes) -> None:
        """Store a node."""
        self.nodes[at] = stored
        self.written_bytes += len(at) + len(stored)

    def delete(self, at: bytes) -> None:
        """Remove a node."""
        self.nodes.pop(at, None)


class Drawn:
    """Random bytes that repeat."""

    def __init__(self) -> None:
        self._random = Random(2)

    def token(self, size_bytes: int) -> bytes:
        """Return the next bytes."""
        return self._random.randbytes(size_bytes)


def bytes_to_forget_a_stripe() -> list[int]:
    """Return the bytes of nodes written for each of some stripes of a branch of 1 TiB, in turn."""
    store, drawn, segments = Store(), Drawn(), TIB // SEGMENT_BYTES
    tree = KeyTree(store, KeyTree.new_root(drawn), drawn)
    census = Numbers(lambda above: range(1, segments + 1 if len(above) == 10 else 2))
    numbers = TenantNo(1), LineageNo(1), BranchNo(1)
    tree.birth([path.segment(*numbers, SegmentId(each)) for each in range(1, segments + 1)])
    costs: list[int] = []
    for segment in (segments // 2, segments // 2 + 1, segments // 2, 1, segments):
        before = store.written_bytes
        above = path.segment(*numbers, SegmentId(segment))
        tree.forget([path.stripe(above, len(costs))], census)
        costs.append(store.written_bytes - before)
    return costs


def purging(folder: Path, _extent: Extent) -> list[Report]:
    """Answer the issue's three questions about purging inside a living volume."""
    costs = bytes_to_forget_a_stripe()
    played = play(seed=1)
    off, on = overwriting(folder)
    label = "random overwrite of 4 KiB"
    lost = 100 * (1 - on.iops / off.iops)
    more = 100 * (on.cpu_us / off.cpu_us - 1)
    return [
        Report(name="forget a stripe of 1 TiB, key tree written", value=max(costs) / KIB,
               unit="KiB", target=64),
        Report(name=f"{label} a second for a day on 1 TiB, moved", value=played.moved_bytes / GIB,
               unit="GiB", target=32),
        Report(name=f"{label}, throughput given up to purging", value=lost, unit="%", target=10),
        Report(name=f"{label}, processor time that purging adds", value=more, unit="%"),
    ]  # fmt: skip


def _fail(reason: str) -> None:
    raise RuntimeError(reason)


def _raise(error: Exception) -> None:
    raise error
