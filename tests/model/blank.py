"""A home in which nothing happened yet, made once for every example to begin with."""

from __future__ import annotations

import functools
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from random import Random

from scrubjay.base.ids import Epoch
from scrubjay.catalog.database import Database
from scrubjay.control.records import POOL_KEY, PoolRecord, at, encode
from scrubjay.keys.tree import KeyTree
from scrubjay.media.pool import Pool
from scrubjay.media.simulated import Io, SimulatedMedium
from scrubjay.sinks.file import FILE_BYTES, FileSink
from tests.control.rig import SOMEWHERE, Hands, Seeded, SinkFile
from tests.media.rig import size_of
from tests.sinks.disks import POOL, SINK

__all__ = ["IN_MEMORY", "Blank", "make_blank"]

IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a new folder's
"""Where syncing the catalog costs nothing: what a crash leaves is the simulated disks' affair."""


@dataclass(frozen=True)
class Blank:
    """A home in which nothing happened yet."""

    pool: SimulatedMedium
    sink: SimulatedMedium
    trace: list[Io]
    catalog: Path


@functools.cache
def make_blank(folder: Path, slots: int, area_slots: int) -> Blank:
    """Make a home once, for every example to begin with."""
    entropy = Seeded(Random(0))
    pool = SimulatedMedium(size_of(slots), record=True)
    sink = SimulatedMedium(FILE_BYTES)
    file = FileSink.format(
        SinkFile(sink), entropy, SOMEWHERE, sink_id=SINK, pool_id=POOL, epoch=Epoch(1)
    )
    record = PoolRecord(
        label="model", created_at=at(Hands().now_ns()), next_tenant=1, next_lineage=1
    )
    Pool.create(
        [pool],
        clock=Hands(),
        entropy=entropy,
        pool_id=POOL,
        sink_id=SINK,
        epoch=Epoch(1),
        epoch_key=file.key(Epoch(1)),
        root=KeyTree.new_root(entropy),
        records={POOL_KEY: encode(record)},
        area_slots=area_slots,
    )
    catalog = folder / f"blank-{uuid.uuid4()}.db"
    Database.create(catalog).close()
    return Blank(pool, sink, list(pool.trace), catalog)
