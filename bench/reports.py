"""What is measured on Scrubjay alone: cleaning, memory, times to create, attach and destroy, scale.

Each study makes a home of its own, sized for its question, and deletes it.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median

from bench import fio, machine
from bench.extent import Extent, Report
from bench.fio import Job
from bench.forgetting import destroying
from bench.product import Home, server_pid
from bench.purging import purging
from bench.rows import FILL, WORKING_SET_BYTES
from scrubjay.base.errors import Unavailable
from scrubjay.base.units import GIB, MIB, SECTOR_BYTES, TIB

__all__ = ["STUDIES", "Extent", "Report", "Study"]

LEAF_BYTES = 2 * MIB
"""What one leaf page of the map covers: 512 sectors."""
NEAR_BYTES = 32 * GIB
"""What 64 MiB of leaf pages cover: a map that is all in memory, to compare with."""
IDLE_VOLUMES = 10
BUSY_VOLUMES = 100
BUSY_SPAN_BYTES = 16 * MIB


@dataclass(frozen=True, slots=True)
class Study:
    """A question, and the measurement that answers it with reports."""

    name: str
    measure: Callable[[Path, Extent], list[Report]]


def cleaning(folder: Path, extent: Extent) -> list[Report]:
    """Overwrite at random for long enough that every slot is cleaned and used again.

    The pool is twice the disk. Appended is what the exporter and the daemon handed to
    write calls on files, as the kernel counts it: data, headers, map and moved units.
    """
    over = Job(
        rw="randwrite",
        span_bytes=extent.disk_bytes,
        repeats=True,
        total_bytes=extent.overwrite_bytes,
    )
    with _home(folder, pool_bytes=2 * extent.disk_bytes) as home:
        uri = _attached(home, "disk", size_bytes=extent.disk_bytes)
        _fill([uri], extent.disk_bytes)
        pids = [*home.pids(), server_pid(uri)]
        before_bytes = machine.written_bytes(pids)
        figures = fio.run(over, [uri], seed=1)
        appended_bytes = machine.written_bytes(pids) - before_bytes
    label = f"{_size(extent.overwrite_bytes)} of random overwrite"
    amplification = appended_bytes / (figures.requests * over.block_bytes)
    return [
        Report(name=f"{label}, write amplification", value=amplification, unit="x"),
        Report(name=f"{label}, p99 latency", value=figures.p99_us / 1000, unit="ms"),
        Report(name=f"{label}, rate", value=figures.iops, unit="IOPS", better="higher"),
    ]


def memory(folder: Path, extent: Extent) -> list[Report]:
    """Weigh exporters: the first, each of several, and one that has worked."""
    work = Job(rw="randrw", span_bytes=WORKING_SET_BYTES, seconds=extent.seconds)
    with _home(folder, pool_bytes=8 * GIB) as home:
        first = _attached(home, "idle0", size_bytes=GIB)
        alone = machine.pss_bytes(server_pid(first))
        rest = [_attached(home, f"idle{i}", size_bytes=GIB) for i in range(1, IDLE_VOLUMES)]
        each = mean(machine.pss_bytes(server_pid(uri)) for uri in [first, *rest])
        _fill([first], WORKING_SET_BYTES)
        fio.run(work, [first], seed=1)
        worked = machine.pss_bytes(server_pid(first))
    return [
        Report(name="memory, the only volume, idle", value=alone / MIB, unit="MiB PSS", target=15),
        Report(name="memory, each of 10, idle", value=each / MIB, unit="MiB PSS", target=15),
        Report(name="memory, after 1 GiB was used", value=worked / MIB, unit="MiB PSS"),
    ]


def readiness(folder: Path, extent: Extent) -> list[Report]:
    """Create and attach small and huge volumes in turns."""
    sizes = (GIB, 16 * TIB)
    created_ms: dict[int, list[float]] = {size: [] for size in sizes}
    attached_ms: dict[int, list[float]] = {size: [] for size in sizes}
    with _home(folder, pool_bytes=8 * GIB) as home:
        for turn in range(3 * extent.turn_count):
            for size in sizes:
                name = f"v{turn}-{size}"
                start_s = time.perf_counter()
                home.create(name, size_bytes=size)
                ready_s = time.perf_counter()
                home.attach(name)
                created_ms[size].append((ready_s - start_s) * 1000)
                attached_ms[size].append((time.perf_counter() - ready_s) * 1000)
                home.detach(name)
    return [
        Report(name=f"{verb} {_size(size)}", value=median(took[size]), unit="ms", target=target)
        for verb, took, target in (("create", created_ms, 20), ("attach", attached_ms, 150))
        for size in sizes
    ]


def mapped(folder: Path, extent: Extent) -> list[Report]:
    """Map a huge volume thinly: one sector under each leaf page, so that all are there.

    The map's pages are real, all of them; the data is 1/512 of what a full volume
    holds, and so is the directory of segments.
    """
    leaf_count = extent.mapped_bytes // LEAF_BYTES
    sparse = Job(rw="write", span_bytes=extent.mapped_bytes, skip_bytes=LEAF_BYTES - SECTOR_BYTES,
                 total_bytes=leaf_count * SECTOR_BYTES)  # fmt: skip
    far = Job(rw="randwrite", span_bytes=extent.mapped_bytes, repeats=True, seconds=extent.seconds)
    near = replace(far, span_bytes=NEAR_BYTES)
    rates: dict[Job, list[float]] = {far: [], near: []}
    took_ms: list[float] = []
    with _home(folder, pool_bytes=16 * GIB) as home:
        uri = _attached(home, "huge", size_bytes=extent.mapped_bytes)
        fio.run(sparse, [uri], seed=0)
        for turn in range(extent.turn_count):
            for job, iops in rates.items():
                iops.append(fio.run(job, [uri], seed=turn).iops)
            home.detach("huge")
            start_s = time.perf_counter()
            uri = home.attach("huge")
            took_ms.append((time.perf_counter() - start_s) * 1000)
    label = f"{_size(extent.mapped_bytes)} mapped"
    ratio = median(rates[far]) / median(rates[near])
    return [
        Report(name=f"{label}, attach", value=median(took_ms), unit="ms", target=1000),
        Report(name=f"{label}, random write", value=median(rates[far]), unit="IOPS",
               better="higher"),
        Report(name=f"{label}, random write to that over {_size(NEAR_BYTES)}", value=ratio,
               unit="x", better="higher"),
    ]  # fmt: skip


def crowd(folder: Path, extent: Extent) -> list[Report]:
    """Keep many volumes busy at once; a single I/O error fails the study."""
    mixed = Job(rw="randrw", depth=4, span_bytes=BUSY_SPAN_BYTES, seconds=2 * extent.seconds)
    with _home(folder, pool_bytes=16 * GIB) as home:
        uris = [_attached(home, f"busy{i}", size_bytes=GIB) for i in range(BUSY_VOLUMES)]
        _fill(uris, BUSY_SPAN_BYTES)
        figures = fio.run(mixed, uris, seed=1)
        held = sum(machine.pss_bytes(server_pid(uri)) for uri in uris)
    label = f"{BUSY_VOLUMES} volumes busy at once"
    return [
        Report(name=f"{label}, all together", value=figures.iops, unit="IOPS", better="higher"),
        Report(name=f"{label}, p99 latency", value=figures.p99_us / 1000, unit="ms"),
        Report(name=f"{label}, memory of each", value=held / MIB / len(uris), unit="MiB PSS"),
    ]


def scrubbing(folder: Path, extent: Extent) -> list[Report]:
    """Measure a neighbour while a destroyed volume is overwritten, and while nothing is.

    Turns without come before and after, so that drift of the machine hits both alike. The
    study fails where the scrubbing was over before the last turn with it was.
    """
    work = Job(rw="randrw", depth=1, span_bytes=WORKING_SET_BYTES, seconds=extent.seconds)
    alone_us: list[float] = []
    beside_us: list[float] = []
    with _home(folder, pool_bytes=extent.scrubbed_bytes * 5 // 4 + 4 * WORKING_SET_BYTES) as home:
        uri = _attached(home, "neighbour", size_bytes=WORKING_SET_BYTES)
        _fill([uri], WORKING_SET_BYTES)
        past = _attached(home, "past", size_bytes=extent.scrubbed_bytes)
        _fill([past], extent.scrubbed_bytes)
        home.detach("past")
        alone_us += _p99s(work, uri, extent.turn_count)
        home.destroy("past")
        beside_us += _p99s(work, uri, extent.turn_count)
        under_way = home.scrubbing().waiting_slots > 0
        home.wait_for_scrubbing()
        alone_us += _p99s(work, uri, extent.turn_count)
    if not under_way:
        raise Unavailable("scrubbing: over before the turns beside it were, expected it to last")
    label = f"4k mixed beside {_size(extent.scrubbed_bytes)} being scrubbed"
    ratio = median(beside_us) / median(alone_us)
    return [
        Report(name=f"{label}, p99 to that without", value=ratio, unit="x", target=1.2),
        Report(name=f"{label}, p99 latency", value=median(beside_us) / 1000, unit="ms"),
    ]


STUDIES = (
    Study("create and attach", readiness),
    Study("memory", memory),
    Study("random overwrite with cleaning", cleaning),
    Study("mapped", mapped),
    Study("volumes busy at once", crowd),
    Study("neighbour of scrubbing", scrubbing),
    Study("destroy", destroying),
    Study("purging", purging),
)


@contextmanager
def _home(folder: Path, *, pool_bytes: int) -> Iterator[Home]:
    home = Home(folder / "study", pool_bytes=pool_bytes)
    try:
        home.start()
        yield home
    finally:
        home.stop()


def _attached(home: Home, name: str, *, size_bytes: int) -> str:
    home.create(name, size_bytes=size_bytes)
    return home.attach(name)


def _p99s(job: Job, uri: str, turn_count: int) -> list[float]:
    os.sync()  # what was written before is not the neighbour's
    return [fio.run(job, [uri], seed=turn).p99_us for turn in range(1, turn_count + 1)]


def _fill(uris: list[str], span_bytes: int) -> None:
    fio.run(replace(FILL, span_bytes=span_bytes, total_bytes=span_bytes), uris, seed=0)


def _size(count_bytes: int) -> str:
    return f"{count_bytes // TIB} TiB" if count_bytes >= TIB else f"{count_bytes // GIB} GiB"
