"""Storage without processes and sockets: the real control plane, engine and pool, by calls.

What is left out is the exporter's process and the NBD socket. Leases, keys, slots, maps,
recovery at every attach, rotations and clearing are those of the daemon. `Memory` holds the
pool's bytes: the same ones that a scan of the raw media reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from scrubjay.audit.storage import Scan
from scrubjay.base.ids import Epoch, VolumeId
from scrubjay.base.ports import Buffer, Extent, Medium
from scrubjay.catalog.database import Database
from scrubjay.control.opening import create_pool
from scrubjay.control.operations import Progress
from scrubjay.control.scan import search
from scrubjay.engine.disk import Disk as Engine
from scrubjay.sinks.file import FILE_BYTES, FileSink
from tests.control.rig import SOMEWHERE, Hands, Seeded, SinkFile
from tests.media.rig import size_of
from tests.model.daemon import Daemon
from tests.model.exporters import LocalExporters
from tests.sinks.disks import POOL, SINK

SLOTS = 24


class Memory:
    """A medium that is a run of bytes; nothing here fails, and syncing is free."""

    def __init__(self, size_bytes: int) -> None:
        self.bytes = bytearray(size_bytes)

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        return len(self.bytes)

    @property
    def waits(self) -> int:
        """No read waits."""
        return 0

    def read_into(self, offset_bytes: int, out: memoryview) -> int:
        """Read."""
        data = self.bytes[offset_bytes : offset_bytes + len(out)]
        out[: len(data)] = data
        return len(data)

    def write(self, offset_bytes: int, data: Buffer) -> int:
        """Write."""
        self.bytes[offset_bytes : offset_bytes + len(data)] = data
        return len(data)

    def sync(self, extents: Sequence[Extent] | None = None) -> None:
        """Do nothing."""

    def advise(self, extents: Sequence[Extent]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


@dataclass
class LocalDisk:
    """One connection, served as an exporter does, without the socket."""

    engine: Engine

    @property
    def size_bytes(self) -> int:
        """The volume's size."""
        return self.engine.size_bytes

    def write_all(self, pieces: Iterable[tuple[int, bytes | memoryview]]) -> int:
        """Write pieces, each as a batch."""
        written = 0
        for offset_bytes, data in pieces:
            with self.engine.lock:
                self.engine.begin(len(data))
                self.engine.write_bytes(offset_bytes, memoryview(data))
                self.engine.commit()
            written += len(data)
        return written

    def read_all(self, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
        """Read ranges."""
        for offset_bytes, size_bytes in ranges:
            out = bytearray(size_bytes)
            with self.engine.lock:
                self.engine.read_bytes(offset_bytes, memoryview(out))
            yield offset_bytes, bytes(out)

    def flush(self) -> None:
        """Make durable."""
        self.engine.sync()

    def close(self) -> None:
        """Nothing to let go of."""


class LocalStorage:
    """`Storage` over a daemon's parts."""

    def __init__(self, folder: Path, *, pool: Medium | None = None) -> None:
        self.pool = Memory(size_of(SLOTS)) if pool is None else pool
        sink = SinkFile(Memory(FILE_BYTES))
        entropy = Seeded(Random(0))
        made = FileSink.format(sink, entropy, SOMEWHERE, sink_id=SINK, pool_id=POOL, epoch=Epoch(1))
        create_pool([self.pool], made, label="audited", clock=Hands(), entropy=entropy)
        Database.create(folder / "catalog.db").close()
        self.slots: set[int] = set()
        """Slots that were ever leased to a volume."""
        self.leases = 0
        self.exporters = LocalExporters(
            lambda: self.daemon.leases,
            lambda: self.pool,
            on_slot=self._leased,
            revive=_never,
            entropy=entropy,
        )
        self.daemon = Daemon.open(
            self.pool, made, folder, exporters=self.exporters, entropy=entropy
        )
        self.kept_tenants: list[str] = []

    def make_tenant(self, name: str) -> None:
        """Make a tenant."""
        self.daemon.tenants.create(name)
        self.kept_tenants.append(name)

    def make_volume(self, name: str, *, tenant: str, size_bytes: int) -> None:
        """Make a volume."""
        self.daemon.volumes.create(name, tenant=tenant, size_bytes=size_bytes)

    def attach(self, name: str) -> LocalDisk:
        """Attach a volume."""
        served = self.daemon.attachments.attach(name)
        exporter = self.exporters.served[served.volume]
        exporter.feed()
        return LocalDisk(exporter.disk)

    def detach(self, name: str) -> None:
        """Detach it."""
        self.daemon.attachments.detach(name)

    def grow(self, name: str, *, size_bytes: int) -> None:
        """Let it grow."""
        shown = self.daemon.volumes.resize(name, size_bytes=size_bytes, check=lambda _: None)
        self.daemon.attachments.tell_size(shown)

    def destroy(self, name: str) -> None:
        """Forget it, and clear away what it leaves: its slots are the next one's."""
        self.daemon.forgetting.destroy(name, check=lambda _: None)
        self.daemon.forgetting.carry_out()
        while self.daemon.forgetting.clear():
            pass

    def scan(self, mark: bytes) -> Scan:
        """Search the pool's bytes as the daemon does."""
        found = search([self.pool], mark, Progress())
        scanned, matches, offsets = (
            found[each] for each in ("bytes_scanned", "matches", "offsets")
        )
        assert isinstance(scanned, int)
        assert isinstance(matches, int)
        assert isinstance(offsets, list)
        return Scan(scanned, matches, tuple(offsets))

    def close_tenant(self, name: str) -> bool:
        """Note that the audit is done with it."""
        if name in self.kept_tenants:
            self.kept_tenants.remove(name)
        return True

    def volumes(self) -> list[str]:
        """Which volumes there are."""
        return [each.record.name for each in self.daemon.volumes.page(after="", limit=99)]

    def close(self) -> None:
        """End."""
        self.exporters.lose_power()
        self.daemon.close()

    def _leased(self, _volume: VolumeId, slot: int) -> None:
        self.slots.add(slot)
        self.leases += 1


def _never() -> None:
    raise AssertionError("no daemon dies here")
