"""Disks that lose power in the middle of whatever is going on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from scrubjay.base.ports import Buffer, Extent
from scrubjay.media.simulated import SimulatedMedium
from tests.sinks.disks import PowerLossError

__all__ = ["Power", "Powered"]


@dataclass
class Power:
    """What all disks of a machine hang on."""

    left: int | None = None
    """So many more writes and syncs, and then no more; None: for ever."""

    def spend(self) -> bool:
        """Take one I/O; True where the power fails during it, PowerLossError afterwards."""
        if self.left is None:
            return False
        if self.left < 0:
            raise PowerLossError
        self.left -= 1
        return self.left < 0


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
            raise PowerLossError
        return done

    def sync(self, extents: Sequence[Extent] | None = None) -> None:
        """Make durable, unless the power fails first."""
        if self.power.spend():
            raise PowerLossError
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
