"""A whole control plane on simulated disks: a pool, a file sink, a catalog, no processes."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Self

from scrubjay.base.errors import Unavailable
from scrubjay.base.ids import Epoch, SegmentId, VolumeId
from scrubjay.base.ports import Buffer, Extent, Medium
from scrubjay.catalog.database import Database
from scrubjay.catalog.operations import Operations as OperationRows
from scrubjay.control.attachments import Attachments, Start
from scrubjay.control.births import enter_births
from scrubjay.control.certificates import Certificates
from scrubjay.control.deadlines import PurgeMissed
from scrubjay.control.events import Events
from scrubjay.control.forgetting import Forgetting
from scrubjay.control.grounds import Ground
from scrubjay.control.keeper import Change, Keeper
from scrubjay.control.leases import Leases
from scrubjay.control.liveness import Liveness
from scrubjay.control.log import Log
from scrubjay.control.looking import Looking, Serving
from scrubjay.control.opening import create_pool, open_keeper
from scrubjay.control.operations import Operations
from scrubjay.control.policy import Policies
from scrubjay.control.pool_status import Pools
from scrubjay.control.purging import Purging
from scrubjay.control.rotating import Rotating
from scrubjay.control.scrubbing import Scrubbing
from scrubjay.control.tenants import Tenants
from scrubjay.control.volumes import Volume, Volumes
from scrubjay.engine.lessor import Grant
from scrubjay.evidence.folder import Folder
from scrubjay.media.simulated import Io, IoKind, SimulatedMedium
from scrubjay.sinks.file import FILE_BYTES, FileSink
from scrubjay.sinks.sink import Grade, Sink, Worth
from tests.media.rig import size_of
from tests.sinks.disks import POOL, SINK

SOMEWHERE = Worth(Grade.CONDITIONAL, "memory", "it is for tests")
SLOTS = 100
Step = tuple[str, Io]


@dataclass
class Hands:
    """A clock that moves by a second at each look."""

    now: int = 1_700_000_000_000_000_000

    def now_ns(self) -> int:
        """Return the next moment."""
        self.now += 1_000_000_000
        return self.now

    def monotonic_ns(self) -> int:
        """Return the next moment."""
        return self.now_ns()


@dataclass
class Seeded:
    """Randomness that repeats."""

    random: Random

    def token(self, size_bytes: int) -> bytes:
        """Return the next bytes."""
        return self.random.randbytes(size_bytes)


class Watched(SimulatedMedium):
    """A medium that notes every write and sync in a trace that it shares with others."""

    name = ""
    steps: list[Step] | None = None

    def watch(self, name: str, steps: list[Step]) -> None:
        """Begin to note."""
        self.name, self.steps = name, steps

    def write(self, offset_bytes: int, data: Buffer) -> int:
        """Note, then write."""
        if self.steps is not None:
            self.steps.append((self.name, Io(IoKind.WRITE, offset_bytes, bytes(data))))
        return super().write(offset_bytes, data)

    def sync(self, extents: Sequence[Extent] | None = None) -> None:
        """Note, then sync."""
        if self.steps is not None:
            named = None if extents is None else tuple(extents)
            self.steps.append((self.name, Io(IoKind.SYNC, extents=named)))
        super().sync(extents)


class SinkFile:
    """A sink's file on a simulated disk: a FileIo."""

    def __init__(self, medium: Medium) -> None:
        self._medium = medium

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        return self._medium.size_bytes

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return what lies there."""
        out = bytearray(size_bytes)
        got = self._medium.read_into(offset_bytes, memoryview(out))
        return bytes(out[:got])

    def write(self, offset_bytes: int, data: bytes) -> None:
        """Overwrite."""
        try:
            self._medium.write(offset_bytes, data)
        except OSError as error:
            raise Unavailable(f"sink: {error.strerror}") from error

    def sync(self) -> None:
        """Make it durable."""
        try:
            self._medium.sync()
        except OSError as error:
            raise Unavailable(f"sink: {error.strerror}") from error

    def expect_in_place(self) -> None:
        """It has no name that could come to mean another one."""

    def close(self) -> None:
        """Leave it to the next opener."""


@dataclass
class Disks:
    """What survives a power loss, apart from the catalog."""

    pool: SimulatedMedium
    sink: SimulatedMedium

    @classmethod
    def blank(cls, *, slots: int = SLOTS, record: bool = False) -> Disks:
        """Return new ones; the pool's medium keeps every version, if told to `record`."""
        return cls(Watched(size_of(slots), record=record), Watched(FILE_BYTES))

    def watched(self) -> list[Step]:
        """Begin to note what is written to both, in one order."""
        steps: list[Step] = []
        for name, medium in (("pool", self.pool), ("sink", self.sink)):
            assert isinstance(medium, Watched)
            medium.watch(name, steps)
        return steps

    def copied(self) -> Disks:
        """Return the same bytes on other disks, all of them durable."""

        def copy(medium: SimulatedMedium) -> SimulatedMedium:
            other = Watched(medium.size_bytes)
            for offset_bytes, block in medium.written():
                other.plant(offset_bytes, block)
            return other

        return Disks(copy(self.pool), copy(self.sink))

    def play(self, step: Step) -> None:
        """Do one step of a trace."""
        name, io = step
        medium = self.pool if name == "pool" else self.sink
        if io.kind is IoKind.SYNC:
            medium.sync(io.extents)
        else:
            medium.write(io.offset_bytes, io.data)

    def after_power_loss(self, choose: Callable[[int], int]) -> Disks:
        """Return what is left of both, of what no sync covered as `choose` says."""
        return Disks(self.pool.crash(choose), self.sink.crash(choose))


def nothing_kept(_count: int) -> int:
    """Choose that nothing unsynced arrived."""
    return 0


def everything_kept(count: int) -> int:
    """Choose that all of it arrived."""
    return 2 if count == 6 else count - 1


class Handle:
    """Another handle of a medium that others have open too; a Medium."""

    def __init__(self, medium: Medium) -> None:
        self.medium = medium
        self.size_bytes = medium.size_bytes
        self.waits = 0
        self.closed = False

    def read_into(self, offset_bytes: int, out: memoryview) -> int:
        """Read."""
        return self._open().read_into(offset_bytes, out)

    def write(self, offset_bytes: int, data: Buffer) -> int:
        """Write."""
        return self._open().write(offset_bytes, data)

    def sync(self, extents: Sequence[Extent] | None = None) -> None:
        """Sync."""
        self._open().sync(extents)

    def advise(self, extents: Sequence[Extent]) -> None:
        """Announce."""
        self._open().advise(extents)

    def close(self) -> None:
        """Close this handle alone."""
        self.closed = True

    def _open(self) -> Medium:
        if self.closed:
            raise OSError(errno.EBADF, "closed")
        return self.medium


@dataclass
class FakeExporters:
    """Exporters that hold a lock and nothing else."""

    liveness: Liveness
    locks: dict[VolumeId, int] = field(default_factory=dict)
    calls: list[tuple[str, VolumeId]] = field(default_factory=list)
    fails: dict[str, Exception] = field(default_factory=dict)
    within_s: dict[VolumeId, list[int]] = field(default_factory=dict)

    def start(self, start: Start) -> None:
        """Take the lock, as an exporter does."""
        self._call("start", start.volume)
        start.lock.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(start.lock, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.locks[start.volume] = lock

    def detach(self, volume: VolumeId) -> None:
        """End in order."""
        self._call("detach", volume)
        self.die(volume)

    def kill(self, volume: VolumeId) -> bool:
        """End at once."""
        self._call("kill", volume)
        self.die(volume)
        return True

    def connected(self) -> set[VolumeId]:
        """Return nobody: there is no process."""
        return set()

    def resize(self, volume: VolumeId, *, size_bytes: int) -> None:
        """Note it."""
        self._call("resize", volume)

    def purge_within(self, volume: VolumeId, *, within_s: int) -> None:
        """Note what was said last, and how often."""
        self._call("purge_within", volume)
        self.within_s.setdefault(volume, []).append(within_s)

    def reset(self, volume: VolumeId) -> None:
        """Note it."""
        self._call("reset", volume)

    def _call(self, what: str, volume: VolumeId) -> None:
        self.calls.append((what, volume))
        if what in self.fails:
            raise self.fails[what]

    def die(self, volume: VolumeId) -> None:
        """Let go of the lock, as a process does however it ends."""
        lock = self.locks.pop(volume, None)
        if lock is not None:
            os.close(lock)


class Nobody:
    """Serves nothing."""

    def connected(self) -> set[VolumeId]:
        """Return no volume."""
        return set()


def evidence_over(
    keeper: Keeper,
    sink: Sink,
    folder: Path,
    *,
    liveness: Liveness,
    serving: Serving,
    scrubbing: Scrubbing,
) -> tuple[Log, Certificates]:
    """Open the log and the certificates of a home in a folder."""
    log = Log(keeper, Folder(folder / "evidence" / "log"))
    enter_births(keeper)
    looking = Looking(
        keeper,
        sink,
        liveness=liveness,
        serving=serving,
        media=scrubbing.media,
        catalog=folder / "catalog.db",
        log=folder / "evidence" / "log",
        swaps=list,
    )
    envelopes = Folder(folder / "evidence")
    return log, Certificates(keeper, log, looking, envelopes=envelopes, scrubbing=scrubbing)


class World:
    """What a daemon opens, without its threads: tests call what the threads would."""

    def __init__(
        self, disks: Disks, folder: Path, *, seed: int = 1, sink: Sink | None = None
    ) -> None:
        self.disks = disks
        self.folder = folder
        self.clock = Hands()
        self.entropy = Seeded(Random(seed))
        self.sink: Sink = sink or FileSink(SinkFile(disks.sink), self.entropy, SOMEWHERE)
        self.database = Database.open(folder / "catalog.db")
        self.opened = 0
        self.unplugged = False
        self.displaced = ""
        """Why the pool's path names another file by now."""
        self.keeper = open_keeper(
            self.open_media,
            self.sink,
            self.database,
            clock=self.clock,
            entropy=self.entropy,
            in_place=self.expect_in_place,
        )
        self.liveness = Liveness(folder / "run" / "volumes")
        self.exporters = FakeExporters(self.liveness)
        self.leases = Leases(self.keeper)
        self.tenants = Tenants(self.keeper)
        self.volumes = Volumes(self.keeper, self.liveness)
        self.attachments = Attachments(self.keeper, self.liveness, self.exporters)
        self.operations = Operations(
            OperationRows(self.database), clock=self.clock, entropy=self.entropy
        )
        self.scrubbing = Scrubbing(
            self.keeper,
            self.open_for_scrubbing,
            clock=self.clock,
            busy=lambda _: False,
            grounds=lambda: [Ground("memory", "memory", SOMEWHERE)],
            on_missed=lambda change, missed: self.log.enter_missed(change, missed),  # noqa: PLW0108 - made later
        )
        self.log, self.certificates = evidence_over(
            self.keeper,
            self.sink,
            folder,
            liveness=self.liveness,
            serving=self.exporters,
            scrubbing=self.scrubbing,
        )
        self.rotating = Rotating(self.keeper, self.sink, clock=self.clock)
        self.forgetting = Forgetting(
            self.keeper,
            self.rotating,
            volumes=self.volumes,
            attachments=self.attachments,
            operations=self.operations,
            certificates=self.certificates,
            clock=self.clock,
        )
        self.policies = Policies(self.keeper)
        self.missed: list[PurgeMissed] = []
        self.events = Events(self.keeper)
        self.wake_forgetting = self.rotating.on_asked
        self.rotating.on_asked = self.forgetting.carry_out  # as its thread would
        self.purging = Purging(
            self.keeper,
            self.rotating,
            attachments=self.attachments,
            liveness=self.liveness,
            on_missed=self.tell_missed,
        )
        self.pools = Pools(
            self.keeper,
            self.sink,
            liveness=self.liveness,
            forgetting=self.forgetting,
            scrubbing=self.scrubbing,
        )

    @classmethod
    def make(cls, folder: Path, *, slots: int = SLOTS, sink: Sink | None = None) -> Self:
        """Make disks and a catalog, and open them; with another `sink`, all is recorded."""
        disks = Disks.blank(slots=slots, record=sink is not None)
        entropy = Seeded(Random(0))
        first = sink or FileSink.format(
            SinkFile(disks.sink),
            entropy,
            SOMEWHERE,
            sink_id=SINK,
            pool_id=POOL,
            epoch=Epoch(1),
        )
        create_pool([disks.pool], first, label="main", clock=Hands(), entropy=entropy)
        Database.create(folder / "catalog.db").close()
        return cls(disks, folder, sink=sink)

    def open_media(self) -> list[Medium]:
        """Open the pool's medium; again after it failed, which shows what it really holds."""
        if self.unplugged:
            raise Unavailable("pool file: gone")
        if self.opened:
            self.disks.pool = self.disks.pool.crash(everything_kept)
        self.opened += 1
        return [self.disks.pool]

    def expect_in_place(self) -> None:
        """Say that the pool's file was moved away, if it was."""
        if self.displaced:
            raise Unavailable(self.displaced, hint="put it back")

    def open_for_scrubbing(self) -> list[Medium]:
        """Return another handle of the pool's medium."""
        return [Handle(self.disks.pool)]

    def tell_missed(self, change: Change, missed: PurgeMissed) -> None:
        """Tell of a missed deadline of purging, as the daemon does, and remember it."""
        self.log.enter_purge_missed(change, missed)
        self.events.stage_purge_missed(change, missed)
        self.missed.append(missed)

    def close(self) -> None:
        """Close the files, and nothing that a dead daemon would not."""
        for volume in list(self.exporters.locks):
            self.exporters.die(volume)
        self.database.close()

    def written(self, name: str, *, tenant: str, segments: int = 3) -> Written:
        """Make a volume, attach it and lease segments to it."""
        volume = self.volumes.create(name, tenant=tenant, size_bytes=1 << 30)
        served = self.attachments.attach(name)
        grants = self.leases.lease(volume.id, served.epoch, count=segments, above=SegmentId(0))
        return Written(volume, served.epoch, list(grants))

    def forget(self) -> None:
        """Carry out every destruction that is decided, and clear away what it leaves."""
        self.forgetting.carry_out()
        while self.forgetting.clear():
            pass

    def purge(self) -> bool:
        """Forget what was given up, due or not; return whether the sink rotated for it."""
        before = self.keeper.epoch
        self.rotating.ask()
        return self.keeper.epoch > before

    def destroy(self, name: str) -> None:
        """Decide a volume's end."""
        self.forgetting.destroy(name, check=lambda _volume: None)


class SharedWorld(World):
    """A world whose pool, opened anew, lies on the same bytes: old handles still reach them."""

    def open_media(self) -> list[Medium]:
        """Open another handle of them."""
        return [Handle(self.disks.pool)]


@dataclass(frozen=True)
class Written:
    """A volume with segments of its own."""

    volume: Volume
    epoch: int
    grants: list[Grant]

    @property
    def id(self) -> VolumeId:
        """Its id."""
        return self.volume.id
