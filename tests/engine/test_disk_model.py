"""One disk, played by hypothesis against an array of bytes (I1, I4, I5).

Requests of any size and alignment, checkpoints with requests between their slices,
cleaning, crashes, full pools, growth; after each, what is read is what was written, and
now and then an independent check goes through everything (fsck.py).
"""

# ruff: noqa: SLF001 - segments are closed early, so that few bytes make many of them

from __future__ import annotations

import os
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from scrubjay.base.errors import NoSpace
from scrubjay.base.units import MIB, SECTOR_BYTES
from scrubjay.media.simulated import SimulatedMedium
from tests.engine.fsck import fsck_of
from tests.engine.rig import GROWTH, Keeper, checkpoint, feed, open_disk

SIZE_BYTES = 5 * MIB // 2
"""Of two leaves of the map: it grows by a level when the second one is written."""
OFFSETS = st.integers(0, SIZE_BYTES // SECTOR_BYTES - 1)
SIZES = st.one_of(st.integers(1, 9000), st.integers(1, 64).map(lambda n: n * SECTOR_BYTES))
SEEDS = st.integers(0, 1 << 32)
LONG = bool(os.environ.get("SCRUBJAY_CRASH_LONG"))


class DiskModel(RuleBasedStateMachine):
    """What is done to the disk, and beside it to a bytearray."""

    @initialize(
        limit=st.sampled_from([1, 3, 1 << 14]),
        slots=st.sampled_from([14, 30]),
        first=st.sampled_from(GROWTH),
    )
    def attach_for_the_first_time(self, limit: int, slots: int, first: int) -> None:
        """Begin with an empty volume."""
        self.limit = limit
        self.keeper = Keeper(slots=slots, size_bytes=SIZE_BYTES, next_segment=first)
        self.medium = SimulatedMedium(self.keeper.medium_bytes)
        self.disk = open_disk(self.medium, self.keeper, map_limit_pages=limit)
        self.bytes = bytearray(SIZE_BYTES)
        self.base = bytearray(SIZE_BYTES)
        """What the volume held before the first of `log`."""
        self.log: list[tuple[int, bytes]] = []
        """Changes since then, in the order in which the disk makes them."""
        self.durable = 0
        """How many of them a sync covered."""
        self.failed = False
        """The last checkpoint found no room."""
        self.now_s = 1_000_000

    # --- requests ---------------------------------------------------------------------

    @rule(sector=OFFSETS, skip=st.sampled_from([0, 0, 0, 1, 511, 4095]), size=SIZES, seed=SEEDS)
    def write(self, sector: int, skip: int, size: int, seed: int) -> None:
        """Write any range."""
        offset = sector * SECTOR_BYTES + skip
        data = Random(seed).randbytes(min(size, SIZE_BYTES - offset))
        self._supply()
        self.disk.begin(len(data))
        try:
            self.disk.write_bytes(offset, memoryview(data))
        except NoSpace:
            self.disk.commit()
            self._take_over(offset, data)
            return
        self.disk.commit()
        self._note(offset, data)

    @rule(extents=st.lists(st.tuples(OFFSETS, st.integers(1, 20)), min_size=1, max_size=8))
    def write_batch(self, extents: list[tuple[int, int]]) -> None:
        """Write several extents of whole sectors in one batch, and read between them."""
        self._supply()
        if self.disk.starved:
            return
        self.disk.begin(1 << 18)
        for number, (sector, count) in enumerate(extents):
            count = min(count, SIZE_BYTES // SECTOR_BYTES - sector)  # noqa: PLW2901 - clipped
            data = bytes([len(self.log) % 251 + 1, number]) * (count * SECTOR_BYTES // 2)
            self.disk.write(sector, count, memoryview(data))
            self._note(sector * SECTOR_BYTES, data)
            self.read(sector, 0, 3 * SECTOR_BYTES)
        self.disk.commit()

    @rule(sector=OFFSETS, skip=st.sampled_from([0, 0, 1, 700]), size=SIZES, exact=st.booleans())
    def drop(self, sector: int, skip: int, size: int, exact: bool) -> None:
        """Zero any range, or trim it."""
        offset = sector * SECTOR_BYTES + skip
        end = min(offset + size, SIZE_BYTES)
        first, last = -(-offset // SECTOR_BYTES) * SECTOR_BYTES, end // SECTOR_BYTES * SECTOR_BYTES
        self._supply()
        try:
            self.disk.drop(offset, end - offset, exact=exact)
        except NoSpace:
            self.disk.commit()
            self._take_over(offset, bytes(end - offset))
            return
        self.disk.commit()
        if exact:
            edge = min(first, end)
            self._note(offset, bytes(edge - offset))
            if last >= first:
                self._note(last, bytes(end - last))
        if last > first:
            self._note(first, bytes(last - first))

    @rule(sector=OFFSETS, skip=st.sampled_from([0, 0, 5]), size=SIZES)
    def read(self, sector: int, skip: int, size: int) -> None:
        """Read any range (I1)."""
        offset = sector * SECTOR_BYTES + skip
        size = min(size, SIZE_BYTES - offset)
        out = memoryview(bytearray(size))
        self.disk.read_bytes(offset, out)
        assert out == self.bytes[offset : offset + size]

    @rule()
    def flush(self) -> None:
        """Sync."""
        self.disk.sync()
        self.durable = len(self.log)

    # --- upkeep -----------------------------------------------------------------------

    @rule(seed=SEEDS)
    def checkpoint(self, seed: int) -> None:
        """Write and commit a checkpoint, with other things between its slices."""
        random = Random(seed)
        self._supply()
        try:
            for _ in self.disk.checkpoint():
                match random.randrange(5):
                    case 0:
                        self.write(random.randrange(200), 0, 9000, random.randrange(99))
                    case 1:
                        self.drop(random.randrange(200), 0, 30000, exact=True)
                    case 2:
                        self.disk.clean()
                        self.disk.purge()
                    case 3:
                        self.disk._log.close()
                        self._supply()
                    case _:
                        pass
        except NoSpace:
            self.failed = True
            return
        self.disk.sync()
        self.durable = len(self.log)
        self.disk.commit_checkpoint()
        self.failed = False

    @rule(steps=st.integers(1, 20))
    def clean(self, steps: int) -> None:
        """Clean some slices."""
        for _ in range(steps):
            self._supply()
            if not self.disk.clean():
                break

    @rule(slices=st.integers(1, 40), hours=st.integers(1, 30), commit=st.booleans())
    def purge(self, slices: int, hours: int, commit: bool) -> None:
        """Let hours go by, and purge some slices of what is due by then."""
        self.now_s += hours * 3600
        self.disk.tick(self.now_s)
        for _ in range(slices):
            self._supply()
            if not self.disk.purge():
                break
        if commit:
            self.checkpoint(hours)

    @rule(moved=st.booleans())
    def close_segment(self, moved: bool) -> None:
        """Go on in another segment."""
        (self.disk._mover if moved else self.disk._log).close()

    @rule()
    def fsck(self) -> None:
        """Go through everything."""
        lbas = SIZE_BYTES // SECTOR_BYTES
        report = fsck_of(self.disk, self.medium, self.keeper, lbas=lbas, failed=self.failed)
        assert report.leaked == 0

    # --- the world --------------------------------------------------------------------

    @rule()
    def detach(self) -> None:
        """Detach in order, and attach again."""
        try:
            self.disk.detach()
        except NoSpace:
            self.failed = True
            return
        self._attach()
        self.durable = len(self.log)

    @rule()
    def kill(self) -> None:
        """Kill the exporter; the system stays up."""
        self._attach()

    @rule(seed=SEEDS)
    def crash(self, seed: int) -> None:
        """Lose power."""
        self.medium = self.medium.crash(Random(seed).randrange)
        self._attach()
        self._resume()

    @precondition(lambda self: self.keeper.free)
    @rule()
    def fill_the_pool(self) -> None:
        """Have others take every free slot."""
        self.keeper.others += self.keeper.free
        self.keeper.free.clear()

    @precondition(lambda self: self.keeper.others)
    @rule()
    def empty_the_pool(self) -> None:
        """Have others go; the volume works on at once."""
        self.keeper.free += self.keeper.others
        self.keeper.others.clear()
        self.write(0, 0, SECTOR_BYTES, 1)

    @rule()
    def grow(self) -> None:
        """Grow; what is new reads as zeros."""
        self.keeper.size_bytes += MIB
        self.disk.resize(self.keeper.size_bytes)
        out = memoryview(bytearray(SECTOR_BYTES))
        self.disk.read_bytes(self.keeper.size_bytes - SECTOR_BYTES, out)
        assert out == bytes(SECTOR_BYTES)

    @invariant()
    def holds_what_was_written(self) -> None:
        """Every byte, after every step (I1)."""
        if hasattr(self, "disk"):
            self.read(0, 0, SIZE_BYTES)

    def teardown(self) -> None:
        """At the end, whatever happened, the volume can be left and found in order."""
        if not hasattr(self, "disk"):
            return
        self.keeper.free += self.keeper.others
        self.keeper.others.clear()
        for _ in range(2):
            self._supply()
            checkpoint(self.disk)
            self.failed = False
            while self.disk.clean():
                self._supply()
        self.disk.detach()
        self._attach()
        self.read(0, 0, SIZE_BYTES)
        self.fsck()

    # --- private ----------------------------------------------------------------------

    def _supply(self) -> None:
        """Do as the steward does when the pool has nothing left: clean, and checkpoint."""
        feed(self.disk, self.keeper)
        if self.disk.full and not self.disk._preparing:
            while self.disk.clean():
                pass
            try:
                checkpoint(self.disk)
            except NoSpace:
                self.failed = True
                return
            self.failed = False
            self.durable = len(self.log)
            feed(self.disk, self.keeper)

    def _attach(self) -> None:
        self.failed = False
        try:
            self.disk = open_disk(self.medium, self.keeper, map_limit_pages=self.limit)
        except NoSpace:  # a full pool, and nothing of ours to put in: not before others go
            self.keeper.free += self.keeper.others
            self.keeper.others.clear()
            self.disk = open_disk(self.medium, self.keeper, map_limit_pages=self.limit)

    def _note(self, offset: int, data: bytes) -> None:
        self.log.append((offset, data))
        self.bytes[offset : offset + len(data)] = data

    def _image(self) -> bytearray:
        out = bytearray(SIZE_BYTES)
        self.disk.read_bytes(0, memoryview(out))
        return out

    def _take_over(self, offset: int, data: bytes) -> None:
        """Accept what a request that failed left behind: each sector old or new (I5)."""
        image = self._image()
        new = bytearray(self.bytes)
        new[offset : offset + len(data)] = data
        for at in range(0, SIZE_BYTES, SECTOR_BYTES):
            there = image[at : at + SECTOR_BYTES]
            assert there in (self.bytes[at : at + SECTOR_BYTES], new[at : at + SECTOR_BYTES])
        self.disk.sync()
        self.base, self.bytes, self.log, self.durable = image, bytearray(image), [], 0

    def _resume(self) -> None:
        """Find the moment, behind the last sync, at which the log ended (I4, I5)."""
        image, state = self._image(), self.base
        for count, (offset, data) in enumerate([(0, b""), *self.log]):
            state[offset : offset + len(data)] = data
            if count >= self.durable and state == image:
                break
        else:
            raise AssertionError(f"no moment after {self.durable} of {len(self.log)} changes")
        self.bytes, self.log, self.durable = bytearray(image), [], 0


@pytest.mark.slow
@pytest.mark.timeout(0 if LONG else 600)  # a failure takes its time to become short
def test_disk_in_any_history_returns_what_was_written() -> None:
    """I1, I4 and I5, over every order of requests, upkeep and bad luck that was tried."""
    run_state_machine_as_test(
        DiskModel,
        settings=settings(
            max_examples=1000 if LONG else 25,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(settings().suppress_health_check),
        ),
    )
