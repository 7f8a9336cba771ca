"""A daemon's worth of fakes: a pool in memory, real processes and sockets around it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from scrubjay.base.errors import Conflict, NoSpace, ScrubjayError
from scrubjay.base.ids import BranchNo, Entry, LineageNo, SegmentId, Slot, VolumeId
from scrubjay.base.units import MIB, SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.client.nbd import NbdClient
from scrubjay.control.attachments import Start
from scrubjay.control.liveness import Liveness
from scrubjay.engine.lessor import GROUP_SEGMENTS, Attachment, Checkpoint, Grant
from scrubjay.export import lockfile
from scrubjay.export.exporters import Exporters
from scrubjay.export.launcher import Launcher
from scrubjay.media.file import PoolFile

__all__ = ["Connect", "FakeLeases", "FakeVolume", "Home", "descriptors", "ended", "home", "until"]

Connect = Callable[[Path], NbdClient]

FRESH = Checkpoint(Entry(0), 0, True, 0)


def until(condition: Callable[[], bool], *, timeout_s: float = 30) -> None:
    """Wait for a condition of another process; fail when it does not come."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("waited in vain")
        time.sleep(0.01)


def descriptors(pid: int) -> list[str]:
    """Return what a process has open."""
    found = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(each.readlink()))
        except FileNotFoundError:
            continue
    return found


def ended(pid: int) -> bool:
    """Tell whether a process is no more, not even as a zombie."""
    return not Path(f"/proc/{pid}").exists()


class SystemEntropy:
    """The system's randomness."""

    def token(self, size_bytes: int) -> bytes:
        """Return random bytes."""
        return os.urandom(size_bytes)


class FakeVolume:
    """What a pool knows of a volume."""

    def __init__(self, lineage: int, size_bytes: int) -> None:
        self.lineage = lineage
        self.size_bytes = size_bytes
        self.epoch = 0
        self.checkpoint = FRESH
        self.next_segment = 1
        self.slots: dict[int, int] = {}
        self.keys: dict[int, bytes] = {}


class FakeLeases:
    """The daemon's service over a pool in memory; also a log of what was asked."""

    def __init__(self, slots: int) -> None:
        self.free = list(range(slots))
        self.volumes: dict[VolumeId, FakeVolume] = {}
        self.calls: list[tuple[object, ...]] = []
        self.refusal: ScrubjayError | None = None
        self.lock = threading.Lock()

    def attachment(self, volume: VolumeId, epoch: int) -> Attachment:
        """See Leases."""
        known = self._known(volume, epoch, "attachment")
        return Attachment(
            volume=volume,
            name=f"db{known.lineage}",
            lineage=LineageNo(known.lineage),
            branch=BranchNo(1),
            epoch=epoch,
            size_bytes=known.size_bytes,
            checkpoint=known.checkpoint,
            next_segment=SegmentId(known.next_segment),
        )

    def lease(
        self, volume: VolumeId, epoch: int, *, count: int, above: SegmentId
    ) -> Sequence[Grant]:
        """See Leases."""
        known = self._known(volume, epoch, "lease", count, above)
        with self.lock:
            again = range(above + 1, known.next_segment)
            if again:
                return [self._grant(known, segment) for segment in again]
            for _ in range(count):
                if self.free:
                    known.slots[known.next_segment] = self.free.pop(0)
                    known.keys[known.next_segment] = os.urandom(32)
                    known.next_segment += 1
            if known.next_segment == above + 1:
                raise NoSpace("pool: no slot is free, expected one")
            return [self._grant(known, each) for each in range(above + 1, known.next_segment)]

    def group(self, volume: VolumeId, epoch: int, group: int) -> Sequence[Grant]:
        """See Leases."""
        known = self._known(volume, epoch, "group", group)
        ids = range(group * GROUP_SEGMENTS, (group + 1) * GROUP_SEGMENTS)
        return [self._grant(known, each) for each in ids if each in known.keys]

    def commit(
        self, volume: VolumeId, epoch: int, checkpoint: Checkpoint, *, freed: Sequence[SegmentId]
    ) -> int:
        """See Leases."""
        known = self._known(volume, epoch, "commit", checkpoint, tuple(freed))
        with self.lock:
            known.checkpoint = checkpoint
            for segment in freed:
                slot = known.slots.pop(segment, None)
                if slot is not None:
                    self.free.insert(0, slot)
            return 0

    def _known(self, volume: VolumeId, epoch: int, *call: object) -> FakeVolume:
        self.calls.append(call)
        if self.refusal is not None:
            raise self.refusal
        known = self.volumes[volume]
        if known.epoch != epoch:
            raise Conflict(f"volume {volume}: epoch {epoch}, expected {known.epoch}")
        return known

    def _grant(self, known: FakeVolume, segment: int) -> Grant:
        slot = known.slots.get(segment)
        return Grant(SegmentId(segment), None if slot is None else Slot(slot), known.keys[segment])


class Home:
    """A home with a pool file, its daemon's export room, and volumes in it."""

    def __init__(self, folder: Path, *, slots: int) -> None:
        self.folder = folder
        self.run = folder / "run"
        for each in (self.run, self.run / "volumes"):
            each.mkdir(mode=0o700)
        self.pool = folder / "pool"
        size_bytes = SLOTS_OFFSET_BYTES + slots * SEGMENT_BYTES
        PoolFile.create(self.pool, size_bytes=size_bytes, sparse=True).close()
        self.leases = FakeLeases(slots)
        self.liveness = Liveness(self.run / "volumes")
        self.launcher = Launcher(folder)
        self.parent = self.launcher.ensure().pid
        self.exporters = self._exporters()

    def volume(self, size_bytes: int = 64 * MIB) -> VolumeId:
        """Create a volume."""
        volume = VolumeId(uuid.uuid4())
        lineage = len(self.leases.volumes) + 1
        self.leases.volumes[volume] = FakeVolume(lineage, size_bytes)
        return volume

    def start(self, volume: VolumeId) -> Start:
        """Count up the epoch, as the daemon does when a volume is attached."""
        known = self.leases.volumes[volume]
        known.epoch += 1
        return Start(
            volume, known.epoch, self.socket(volume), self.liveness.lock_path(volume), None
        )

    def attach(self, volume: VolumeId) -> Path:
        """Attach a volume; return its socket."""
        start = self.start(volume)
        self.exporters.start(start)
        return start.socket

    def socket(self, volume: VolumeId) -> Path:
        """Return where a volume is served."""
        return self.run / "volumes" / f"{self.leases.volumes[volume].lineage}.sock"

    def pid(self, volume: VolumeId) -> int:
        """Return which process serves a volume."""
        holder = lockfile.holder(self.liveness.lock_path(volume))
        assert holder is not None, "attached"
        return holder.pid

    def restart_daemon(self) -> None:
        """End the daemon's side, and begin another."""
        self.stop_daemon()
        self.start_daemon()

    def stop_daemon(self) -> None:
        """End the daemon's side."""
        self.exporters.close()

    def start_daemon(self) -> None:
        """Begin another daemon's side."""
        self.exporters = self._exporters()

    def close(self) -> None:
        """End every process."""
        for volume in self.leases.volumes:
            self.exporters.kill(volume)
        self.exporters.close()
        self.launcher.end()

    def _exporters(self) -> Exporters:
        return Exporters(
            self.launcher,
            self.leases,
            self.liveness,
            SystemEntropy(),
            channel=self.run / "channel.sock",
            pool=self.pool,
        )


@contextlib.contextmanager
def home(*, slots: int = 64) -> Iterator[Home]:
    """A home in a folder whose path is short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="jay-"))
    try:
        made = Home(folder, slots=slots)
        try:
            yield made
        finally:
            made.close()
    finally:
        shutil.rmtree(folder)
