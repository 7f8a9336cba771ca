"""One volume being served: what its clients ask, and what comes back, against its oracle."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from scrubjay.base.errors import NoSpace
from scrubjay.base.units import SECTOR_BYTES
from tests.model.exporters import Exporter
from tests.model.oracle import ZEROS, Change, Oracle, WrongError
from tests.sinks.disks import PowerLossError

__all__ = ["Served"]

CHUNK_SECTORS = 64
WHOLE_SECTORS = 1024
"""A volume up to this size is looked at as a whole, a larger one where it was touched."""
_ROUNDS = 8


@dataclass(frozen=True)
class Served:
    """An exporter and the oracle of its volume."""

    oracle: Oracle
    exporter: Exporter
    size_bytes: int
    events: Counter[str]

    def write(self, extents: tuple[tuple[int, int], ...]) -> None:
        """Write extents of (offset, size) in bytes, in one batch."""
        with self._batch(sum(size for _, size in extents)):
            for offset, size in extents:
                data = self.oracle.fresh(offset, size)
                write = functools.partial(self.exporter.disk.write_bytes, offset, memoryview(data))
                self._change(self.oracle.change(offset, data), write)

    def zero(self, offset: int, size: int, *, exact: bool) -> None:
        """WRITE_ZEROES a range, or TRIM the whole sectors of one."""
        with self._batch(size):
            if exact:
                change = self.oracle.change(offset, bytes(size))
            else:
                first, last = -(-offset // SECTOR_BYTES), (offset + size) // SECTOR_BYTES
                change = dict.fromkeys(range(first, last), ZEROS)
            drop = functools.partial(self.exporter.disk.drop, offset, size, exact=exact)
            self._change(change, drop)

    def read(self, offset: int, size: int) -> None:
        """Read a range, and compare (I1)."""
        out = memoryview(bytearray(size))
        with self.exporter.disk.lock:
            self.exporter.disk.read_bytes(offset, out)
        if out != self.oracle.expected(offset, size):
            self.look()  # says more about what is wrong
            raise WrongError(f"{size} bytes at {offset} differ, their sectors do not")

    def flush(self) -> None:
        """Make durable what was written (I4)."""
        self.exporter.disk.sync()
        self.oracle.synced()

    def clean(self, slices: int) -> None:
        """Do so many slices of cleaning, whether it is worth it or not."""
        for _ in range(slices):
            with self.exporter.disk.lock:
                if not self.exporter.disk.clean():
                    return

    def close_segment(self) -> None:
        """Go on in other segments, as after a failed append: few bytes make many of them."""
        disk = self.exporter.disk
        for appender in (disk._log, disk._mover):  # noqa: SLF001 - nobody outside may ask for it
            appender.close()

    def look(self) -> None:
        """Read all and compare it; after a crash, find out what it left."""
        image: Change = {}
        disk = self.exporter.disk
        for lba, sectors in self._windows():
            out = bytearray(sectors * SECTOR_BYTES)
            with disk.lock:
                disk.read_into(lba, sectors, memoryview(out))
            for index in range(sectors):
                image[lba + index] = bytes(out[index << 12 : index + 1 << 12])
        if self.oracle.certain:
            for lba, sector in image.items():
                self.oracle.check(lba, sector)
        else:
            self.events["settled after a crash"] += 1
            if self.oracle.settle(image):
                self.events["lost what was not flushed"] += 1

    @contextmanager
    def tended(self) -> Iterator[Exporter]:
        """Do some upkeep, which may find no space, and note whether it made things durable."""
        exporter = self.exporter
        before = exporter.disk.counters.checkpoints
        try:
            yield exporter
        except NoSpace:
            self.events["upkeep found no space"] += 1
        if exporter.disk.counters.checkpoints > before:
            self.oracle.synced()
        assert not exporter.troubles, exporter.troubles

    # --- private ------------------------------------------------------------------------

    @contextmanager
    def _batch(self, size_bytes: int) -> Iterator[None]:
        """Serve a batch as a connection does: wait for space, lock, serve, commit, upkeep."""
        disk = self.exporter.disk
        with self.tended() as exporter:
            exporter.feed()
        with disk.lock:
            disk.begin(size_bytes)
        yield
        with disk.lock:
            disk.commit()
        if disk.needs_upkeep:
            with disk.lock:
                disk.maintain()

    def _change(self, change: Change, serve: Callable[[], None]) -> None:
        """Serve one request; where the pool is full some of its sectors may be new."""
        disk = self.exporter.disk
        for _ in range(_ROUNDS):
            try:
                with disk.lock:
                    serve()
            except PowerLossError:
                self.oracle.started(change)
                raise
            except NoSpace:
                self.oracle.apply(self._arrived(change))
                if disk.full:
                    self.events["pool full"] += 1
                    return
                disk.starving = True
                with self.tended() as exporter:
                    exporter.look()
            else:
                self.oracle.apply(change)
                return
        raise AssertionError(f"neither space nor full, after {_ROUNDS} rounds")

    def _arrived(self, change: Change) -> Change:
        """Return which sectors of a refused request are new all the same (I5)."""
        arrived: Change = {}
        for lba, wanted in change.items():
            sector = bytearray(SECTOR_BYTES)
            with self.exporter.disk.lock:
                self.exporter.disk.read_into(lba, 1, memoryview(sector))
            if sector == wanted:
                arrived[lba] = wanted
            else:
                self.oracle.check(lba, bytes(sector))
        return arrived

    def _windows(self) -> list[tuple[int, int]]:
        sectors = self.size_bytes // SECTOR_BYTES
        if sectors <= WHOLE_SECTORS:
            return [(0, sectors)]
        chunks = {lba // CHUNK_SECTORS for lba in (*self.oracle.touched, 0, sectors - 1)}
        return [
            (chunk * CHUNK_SECTORS, min(CHUNK_SECTORS, sectors - chunk * CHUNK_SECTORS))
            for chunk in sorted(chunks)
        ]
