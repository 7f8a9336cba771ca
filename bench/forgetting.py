"""How long destroying takes, beside what people overwrite disks with.

The pool, its sink and its catalog are real, on the disk that is measured; so are keys, tree,
directory and ledger of volumes of any size. What is simulated is that somebody wrote: the slots
of a sparse pool are leased, as an exporter leases them, and nothing is put into them. Forgetting
never looks at them. No exporter runs, so ending one is not in the figures.
"""

import logging
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec
import structlog

from bench.extent import Extent, Report
from scrubjay.app.ambient import SystemClock, SystemEntropy
from scrubjay.app.evidence import open_certificates, open_log
from scrubjay.app.home import Home
from scrubjay.base.errors import Unavailable
from scrubjay.base.ids import Epoch, SegmentId, VolumeId
from scrubjay.base.units import GIB, MIB, SEGMENT_BYTES, SLOTS_OFFSET_BYTES, TIB
from scrubjay.catalog.database import Database
from scrubjay.catalog.index import Index
from scrubjay.catalog.operations import Operations as OperationRows
from scrubjay.control.attachments import Attachments, Start
from scrubjay.control.forgetting import Forgetting
from scrubjay.control.grounds import ground_of
from scrubjay.control.keeper import Keeper, bring_forward
from scrubjay.control.leases import Leases
from scrubjay.control.liveness import Liveness
from scrubjay.control.opening import create_pool, open_keeper
from scrubjay.control.operations import Operations
from scrubjay.control.records import encode, volume_key
from scrubjay.control.rotating import Rotating
from scrubjay.control.scrubbing import Scrubbing
from scrubjay.control.tenants import Tenants
from scrubjay.control.volumes import Volumes
from scrubjay.media.file import PoolFile
from scrubjay.sinks.file import FileSink

__all__ = ["destroying"]

CROWD = 1000
OVERWRITTEN_BYTES = GIB
CALLERS = 40
"""Requests that the API serves at once."""
LEASED_AT_ONCE = 256
SPARE_SLOTS = 8192
"""For metadata, and so that no volume is short of areas of its own."""
PIECE_BYTES = 4 * MIB
OVERWRITING = {
    "dd if=/dev/zero": ["dd", "if=/dev/zero", "bs=4M", "conv=notrunc,fdatasync", "status=none"],
    "shred -n1": ["shred", "-n1"],
    "hole punching": ["fallocate", "-p", "-o", "0"],
}


def destroying(folder: Path, extent: Extent) -> list[Report]:
    """Destroy volumes small and huge in turns, overwrite what fits, and destroy a crowd."""
    sizes = [each for each in (GIB, 64 * GIB, TIB) if each <= extent.mapped_bytes]
    took_ms: dict[int, list[float]] = {size: [] for size in sizes}
    slices_ms: list[float] = []
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with _plane(folder / "forgetting", slots=sizes[-1] // SEGMENT_BYTES) as plane:
        plane.destroyed_ms("first", GIB)  # imports, and statements that are compiled once
        plane.cleared_ms()
        for turn in range(extent.turn_count):
            for size in sizes:
                took_ms[size].append(plane.destroyed_ms(f"v{turn}-{size}", size))
                slices_ms += plane.cleared_ms()
        crowd_s = plane.crowd_s()
    small_ms = median(took_ms[GIB])
    return [
        *(
            Report(name=f"destroy until forgotten, {_size(size)} written", value=median(took),
                   unit="ms", target=50)
            for size, took in took_ms.items()
        ),
        Report(name=f"the same, {_size(sizes[-1])} to 1 GiB",
               value=median(took_ms[sizes[-1]]) / small_ms, unit="x"),
        Report(name=f"{CROWD} destroys at once, until all are forgotten", value=crowd_s, unit="s",
               target=2),
        Report(name="clearing away behind it, a slice", value=median(slices_ms), unit="ms"),
        Report(name="clearing away behind it, the longest slice", value=max(slices_ms), unit="ms"),
        *_overwritten(folder, OVERWRITTEN_BYTES, small_ms),
    ]  # fmt: skip


def _overwritten(folder: Path, size_bytes: int, small_ms: float) -> Iterator[Report]:
    """Yield what each tool takes for a file of this size, synced, and its ratio."""
    for name, command in OVERWRITING.items():
        path = folder / "overwritten"
        _fill(path, size_bytes)
        argv = [*command, *_target(command[0], path, size_bytes)]
        start_s = time.perf_counter()
        done = subprocess.run(argv, check=False, capture_output=True)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        took_ms = (time.perf_counter() - start_s) * 1000
        path.unlink()
        if done.returncode:
            raise Unavailable(f"{command[0]}: {done.stderr.decode().strip()}")
        yield Report(name=f"{_size(size_bytes)} with {name}", value=took_ms, unit="ms")
        yield Report(
            name=f"{_size(size_bytes)} with {name}, to destroying it",
            value=took_ms / small_ms,
            unit="x",
        )


def _target(program: str, path: Path, size_bytes: int) -> list[str]:
    match program:
        case "dd":
            return [f"of={path}", f"count={size_bytes // (4 * MIB)}"]
        case "fallocate":
            return ["-l", str(size_bytes), str(path)]
        case _:
            return [str(path)]


def _fill(path: Path, size_bytes: int) -> None:
    """Write a file of bytes that are not zero, and have them on the disk."""
    piece = os.urandom(PIECE_BYTES)
    with path.open("wb") as file:
        for _ in range(size_bytes // PIECE_BYTES):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


class _NoExporters:
    """No volume is ever served here."""

    def start(self, start: Start) -> None:
        """Refuse."""
        raise Unavailable(f"volume {start.volume}: not served in this study")

    def detach(self, volume: VolumeId) -> None:
        """Have nothing to end."""

    def kill(self, volume: VolumeId) -> bool:  # noqa: ARG002 - as the port has it
        """Have nothing to end."""
        return True

    def reset(self, volume: VolumeId) -> None:
        """Have nothing to reset."""

    def connected(self) -> set[VolumeId]:
        """Speak with nobody."""
        return set()

    def resize(self, volume: VolumeId, *, size_bytes: int) -> None:
        """Have nobody to tell."""

    def purge_within(self, volume: VolumeId, *, within_s: int) -> None:
        """Have nobody to tell."""


@dataclass(frozen=True, slots=True)
class _Plane:
    """The daemon's parts that destroying needs."""

    keeper: Keeper
    volumes: Volumes
    leases: Leases
    forgetting: Forgetting

    def destroyed_ms(self, name: str, size_bytes: int) -> float:
        """Make a volume that holds so much, and return how long it takes to forget it."""
        self._made(name, size_bytes // SEGMENT_BYTES)
        start_s = time.perf_counter()
        self._destroy(name)
        self.forgetting.carry_out()
        took_ms = (time.perf_counter() - start_s) * 1000
        if self.forgetting.pending():
            raise Unavailable(f"volume {name}: not forgotten")
        return took_ms

    def cleared_ms(self) -> list[float]:
        """Clear away what is left; return how long each slice took, its commit included."""
        took_ms: list[float] = []
        while True:
            start_s = time.perf_counter()
            if not self.forgetting.clear():
                return took_ms
            took_ms.append((time.perf_counter() - start_s) * 1000)

    def crowd_s(self) -> float:
        """Destroy volumes as fast as they can be asked for; return until the last is forgotten."""
        names = [f"crowd{index}" for index in range(CROWD)]
        with ThreadPoolExecutor(CALLERS) as callers:
            list(callers.map(lambda name: self._made(name, 0), names))
            start_s = time.perf_counter()
            list(callers.map(self._destroy, names))
        while self.forgetting.pending():
            self.forgetting.carry_out()
        return time.perf_counter() - start_s

    def _destroy(self, name: str) -> None:
        self.forgetting.destroy(name, check=lambda _volume: None)

    def _made(self, name: str, segments: int) -> None:
        """Make a volume, and lease it segments as its exporter would."""
        volume = self.volumes.create(name, tenant="bench", size_bytes=GIB)
        if not segments:
            return
        with self.keeper.changing() as change:
            attached = msgspec.structs.replace(change.volume(volume.id), attach_epoch=1)
            change.put(volume_key(volume.id), encode(attached))
        last = SegmentId(0)
        while last < segments:
            count = min(LEASED_AT_ONCE, segments - last)
            last = self.leases.lease(volume.id, 1, count=count, above=last)[-1].segment


@contextmanager
def _plane(folder: Path, *, slots: int) -> Iterator[_Plane]:
    """Make a home for it, sparse, and take it away."""
    clock, entropy = SystemClock(), SystemEntropy()
    pool_id, sink_id = uuid.uuid4(), uuid.uuid4()
    (folder / "volumes").mkdir(parents=True)
    with ExitStack() as parts:
        parts.callback(shutil.rmtree, folder, ignore_errors=True)
        sink = FileSink.create(
            folder / "sink", entropy, sink_id=sink_id, pool_id=pool_id, epoch=Epoch(1)
        )
        parts.callback(sink.close)
        database = Database.create(folder / "catalog.db")
        parts.callback(database.close)
        size_bytes = SLOTS_OFFSET_BYTES + (slots + SPARE_SLOTS) * SEGMENT_BYTES
        medium = PoolFile.create(folder / "pool", size_bytes=size_bytes, sparse=True)
        pool = create_pool([medium], sink, label="bench", clock=clock, entropy=entropy)
        bring_forward(pool, Index(database))
        pool.close()
        keeper = open_keeper(
            lambda: [PoolFile.open(folder / "pool", hold=True)],
            sink,
            database,
            clock=clock,
            entropy=entropy,
        )
        parts.callback(keeper.close)
        liveness = Liveness(folder / "volumes")
        volumes = Volumes(keeper, liveness)
        home = Home(folder)
        log = open_log(home, keeper)
        scrubbing = Scrubbing(
            keeper,
            list,
            clock=clock,
            busy=lambda _: False,
            grounds=lambda: [ground_of(folder / "pool")],
        )
        certificates = open_certificates(
            home,
            keeper,
            sink,
            log,
            liveness=liveness,
            serving=_NoExporters(),
            scrubbing=scrubbing,
        )
        forgetting = Forgetting(
            keeper,
            Rotating(keeper, sink, clock=clock),
            volumes=volumes,
            attachments=Attachments(keeper, liveness, _NoExporters()),
            operations=Operations(OperationRows(database), clock=clock, entropy=entropy),
            certificates=certificates,
            clock=clock,
        )
        Tenants(keeper).create("bench")
        yield _Plane(keeper, volumes, Leases(keeper), forgetting)


def _size(count_bytes: int) -> str:
    return f"{count_bytes // TIB} TiB" if count_bytes >= TIB else f"{count_bytes // GIB} GiB"
