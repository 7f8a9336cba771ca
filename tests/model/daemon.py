"""A daemon without threads, sockets and processes, on disks that may lose power."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from scrubjay.base.ports import Entropy, Medium
from scrubjay.catalog.database import Database
from scrubjay.catalog.operations import Operations as OperationRows
from scrubjay.control.attachments import Attachments, Exporters
from scrubjay.control.forgetting import Forgetting
from scrubjay.control.grounds import Ground
from scrubjay.control.keeper import Keeper
from scrubjay.control.leases import Leases
from scrubjay.control.liveness import Liveness
from scrubjay.control.opening import open_keeper
from scrubjay.control.operations import Operations
from scrubjay.control.purging import Purging
from scrubjay.control.rotating import Rotating
from scrubjay.control.scrubbing import Scrubbing
from scrubjay.control.tenants import Tenants
from scrubjay.control.volumes import Volumes
from scrubjay.sinks.sink import Sink
from tests.control.rig import SOMEWHERE, Hands, Nobody, evidence_over

__all__ = ["Daemon"]


@dataclass(frozen=True)
class Daemon:
    """What `scrubjay serve` wires up."""

    keeper: Keeper
    leases: Leases
    tenants: Tenants
    volumes: Volumes
    attachments: Attachments
    operations: Operations
    forgetting: Forgetting
    purging: Purging
    rotating: Rotating
    database: Database

    @classmethod
    def open(
        cls, pool: Medium, sink: Sink, folder: Path, *, exporters: Exporters, entropy: Entropy
    ) -> Self:
        """Open pool, sink and catalog, and take up what an earlier daemon left."""
        database = Database.open(folder / "catalog.db")
        try:
            return cls._wired(pool, sink, folder, database, exporters=exporters, entropy=entropy)
        except BaseException:
            database.close()
            raise

    @classmethod
    def _wired(
        cls,
        pool: Medium,
        sink: Sink,
        folder: Path,
        database: Database,
        *,
        exporters: Exporters,
        entropy: Entropy,
    ) -> Self:
        clock = Hands()
        keeper = open_keeper(lambda: [pool], sink, database, clock=clock, entropy=entropy)
        liveness = Liveness(folder / "run")
        volumes = Volumes(keeper, liveness)
        attachments = Attachments(keeper, liveness, exporters)
        operations = Operations(OperationRows(database), clock=clock, entropy=entropy)
        scrubbing = Scrubbing(
            keeper,
            list,
            clock=clock,
            busy=lambda _: False,
            grounds=lambda: [Ground("memory", "memory", SOMEWHERE)],
        )
        _, certificates = evidence_over(
            keeper,
            sink,
            folder,
            liveness=liveness,
            serving=Nobody(),
            scrubbing=scrubbing,
        )
        rotating = Rotating(keeper, sink, clock=clock)
        forgetting = Forgetting(
            keeper,
            rotating,
            volumes=volumes,
            attachments=attachments,
            operations=operations,
            certificates=certificates,
            clock=clock,
        )
        forgetting.recover()
        return cls(
            keeper,
            Leases(keeper),
            Tenants(keeper),
            volumes,
            attachments,
            operations,
            forgetting,
            Purging(keeper, rotating, attachments=attachments, liveness=liveness),
            rotating,
            database,
        )

    def purge(self) -> bool:
        """Forget what was given up, due or not; return whether the sink rotated for it."""
        before = self.keeper.epoch
        self.rotating.asked = True
        self.forgetting.carry_out()
        return self.keeper.epoch > before

    def close(self) -> None:
        """End as a killed process does, but for the database's file, which is let go."""
        self.database.close()
