"""Disks that lose power in the middle of anything, and handles of processes that are killed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from scrubjay.base.ports import Buffer, Extent, Medium
from scrubjay.media.simulated import SimulatedMedium
from tests.sinks.disks import PowerLossError

__all__ = ["DaemonDiedError", "Handle", "Power", "Powered"]


class DaemonDiedError(Exception):
    """The daemon was killed; the machine goes on."""


@dataclass
class Power:
    """What all disks of a machine hang on, or what is left of a process's life."""

    error: type[Exception] = PowerLossError
    left: int | None = None
    """So many more writes and syncs, and then no more; None: for ever."""

    def spend(self) -> bool:
        """Take one I/O; True where it all ends during this one, and an error afterwards."""
        self.check()
        if self.left is None:
            return False
        self.left -= 1
        return self.left < 0

    def check(self) -> None:
        """Raise where it has ended."""
        if self.left is not None and self.left < 0:
            raise self.error


class Powered(SimulatedMedium):
    """A disk on a machine's power; its trace is every version that it was ever told."""

    def __init__(self, size_bytes: int, power: Power) -> None:
        super().__init__(size_bytes, record=True)
        self.power = power

    def write(self, offset_bytes: int, data: Buffer) -> int:
        """Write; what is under way when the power fails may arrive, wholly or in part."""
        fails = self.power.spend()
        done = super().write(offset_bytes, data)
        if fails:
            raise self.power.error
        return done

    def sync(self, extents: Sequence[Extent] | None = None) -> None:
        """Make durable, unless the power fails first."""
        if self.power.spend():
            raise self.power.error
        super().sync(extents)

    def survivor(self, random: Random) -> Powered:
        """Return the disk as it is when the power comes back; its trace goes on."""
        return self.holding(self.crash(random.randrange))

    def holding(self, other: SimulatedMedium) -> Powered:
        """Return a disk with the bytes of another one, all durable, and with this trace."""
        disk = Powered(other.size_bytes, self.power)
        for offset_bytes, block in other.written():
            disk.plant(offset_bytes, block)
        disk.trace = self.trace
        return disk


class Handle:
    """A medium as a process has it that may be killed: what it wrote stays in the cache."""

    def __init__(self, disk: Medium, life: Power) -> None:
        self._disk = disk
        self._life = life

    @property
    def size_bytes(self) -> int:
        """How many bytes it holds."""
        return self._disk.size_bytes

    @property
    def waits(self) -> int:
        """How many reads had to wait."""
        return self._disk.waits

    def read_into(self, offset_bytes: int, out: memoryview) -> int:
        """Read."""
        self._life.check()
        return self._disk.read_into(offset_bytes, out)

    def write(self, offset_bytes: int, data: Buffer) -> int:
        """Write; the last one arrives, and its writer does not hear of it."""
        ends = self._life.spend()
        done = self._disk.write(offset_bytes, data)
        if ends:
            raise self._life.error
        return done

    def sync(self, extents: Sequence[Extent] | None = None) -> None:
        """Make durable."""
        if self._life.spend():
            raise self._life.error
        self._disk.sync(extents)

    def advise(self, extents: Sequence[Extent]) -> None:
        """Announce reads."""
        self._disk.advise(extents)

    def close(self) -> None:
        """Leave the disk to other processes."""
