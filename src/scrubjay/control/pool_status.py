"""How the pool is: how full, how far, and what its sink is worth."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

from scrubjay.base.errors import NotFound
from scrubjay.base.units import SEGMENT_BYTES
from scrubjay.control.forgetting import Forgetting
from scrubjay.control.keeper import Keeper
from scrubjay.control.liveness import Liveness
from scrubjay.control.purge_status import PoolPurge, PurgeStatus
from scrubjay.control.scrub_status import ScrubStatus, scrub_status
from scrubjay.control.scrubbing import Scrubbing
from scrubjay.control.sink_status import SinkStatus, sink_status
from scrubjay.sinks.sink import Sink

__all__ = ["PoolStatus", "Pools"]


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A pool at one moment."""

    id: uuid.UUID
    label: str
    path: str
    """Where it lies."""
    created_at: dt.datetime
    generation: int
    size_bytes: int
    slot_bytes: int
    slots: int
    slots_free: int
    slots_leased: int
    slots_metadata: int
    tenants: int
    volumes: int
    attached: int
    forgettings: int
    trouble: str
    """Why forgetting has to wait, or the pool; "" where nothing is known to be wrong."""
    scrubbing: ScrubStatus
    purge: PoolPurge
    sink: SinkStatus


class Pools:
    """What the API says of pools; there is one."""

    def __init__(
        self,
        keeper: Keeper,
        sink: Sink,
        *,
        liveness: Liveness,
        forgetting: Forgetting,
        scrubbing: Scrubbing,
        pool_path: str = "",
        sink_path: str = "",
    ) -> None:
        self.purges = PurgeStatus(keeper, liveness)
        self._keeper = keeper
        self._sink = sink
        self._liveness = liveness
        self._forgetting = forgetting
        self._scrubbing = scrubbing
        self._pool_path = pool_path
        self._sink_path = sink_path

    def status(self, pool_id: uuid.UUID | None = None) -> PoolStatus:
        """Return how the pool is; NotFound for the id of another."""
        pool = self._keeper.pool
        if pool_id not in (None, pool.pool_id):
            raise NotFound(f"pool {pool_id}: unknown", hint="see: scrubjay pool status")
        with self._keeper.reading() as view:
            record = view.pool()
            volumes = [volume for volume, _ in view.volumes()]
            tenants = sum(each.state != "closed" for each in view.tenants())
        counts = pool.counts
        return PoolStatus(
            id=pool.pool_id,
            label=record.label,
            path=self._pool_path,
            created_at=record.created_at,
            generation=pool.generation,
            size_bytes=pool.geometry.slots * SEGMENT_BYTES,
            slot_bytes=SEGMENT_BYTES,
            slots=pool.geometry.slots,
            slots_free=counts.available,
            slots_leased=counts.leased,
            slots_metadata=counts.metadata,
            tenants=tenants,
            volumes=len(volumes),
            attached=sum(map(self._liveness.attached, volumes)),
            forgettings=self._forgetting.pending(),
            purge=self.purges.pool(),
            trouble=self._keeper.trouble or self._forgetting.trouble,
            scrubbing=scrub_status(self._scrubbing, self._keeper.now()),
            sink=sink_status(
                self._sink,
                where=self._sink_path,
                epoch=pool.epoch,
                created_at=record.created_at,
                now=self._keeper.now(),
            ),
        )
