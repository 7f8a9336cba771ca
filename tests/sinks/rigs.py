"""Every kind of sink, on a machine whose power can be lost at any step."""

from __future__ import annotations

import random
from typing import Protocol

from scrubjay.base.errors import Conflict, NotFound, Unavailable
from scrubjay.base.ids import Epoch
from scrubjay.sinks.file import FileSink
from scrubjay.sinks.membership import Member
from scrubjay.sinks.mirrored import MirroredSink
from scrubjay.sinks.sink import Sink
from tests.keys.world import SeededEntropy
from tests.sinks.disks import (
    POOL,
    SINK,
    SOMEWHERE,
    CrashFile,
    MemorySink,
    Power,
    PowerLossError,
    key_of,
)

FIRST = Epoch(1)


class Rig(Protocol):
    """A machine with one sink."""

    power: Power

    def make(self) -> Sink:
        """Make the sink, which holds epoch 1."""
        ...

    def open(self) -> Sink:
        """Open it, in the process that runs or after a restart."""
        ...

    def restart(self, rng: random.Random) -> None:
        """Come back after the power was lost: of what was not durable, something is left."""
        ...

    def close(self) -> None:
        """Put the machine away."""
        ...


class MemoryRig:
    """The simplest sink; nothing survives, so its steps cannot be cut."""

    def __init__(self) -> None:
        self.power = Power()
        self._sink: Sink | None = None

    def make(self) -> Sink:
        """Make it."""
        self._sink = MemorySink(SeededEntropy(1), sink_id=SINK, pool_id=POOL, epoch=FIRST)
        return self._sink

    def open(self) -> Sink:
        """Return it again."""
        assert self._sink is not None
        return self._sink

    def restart(self, rng: random.Random) -> None:
        """Nothing was lost."""

    def close(self) -> None:
        """Nothing to put away."""


class FileRig:
    """The file sink on a disk that tears and reorders."""

    def __init__(self) -> None:
        self.power = Power()
        self.disk = CrashFile(power=self.power)

    def make(self) -> Sink:
        """Format it."""
        return FileSink.format(
            self.disk, SeededEntropy(1), SOMEWHERE, sink_id=SINK, pool_id=POOL, epoch=FIRST
        )

    def open(self) -> Sink:
        """Read it."""
        return FileSink(self.disk, SeededEntropy(2), SOMEWHERE)

    def restart(self, rng: random.Random) -> None:
        """Start on what the disk holds now."""
        self.power = Power()
        self.disk = CrashFile(self.disk.after_power_loss(rng), power=self.power)

    def close(self) -> None:
        """Nothing to put away."""


class Record:
    """A RecordStore: replaced whole, or not."""

    def __init__(self, power: Power) -> None:
        self.power = power
        self.content = b""

    def read(self) -> bytes:
        """Return the record."""
        if not self.content:
            raise NotFound("record: none")
        return self.content

    def create(self, record: bytes) -> None:
        """Write the first."""
        if self.content:
            raise Conflict("record: exists")
        self.replace(record)

    def replace(self, record: bytes) -> None:
        """Write another; the power may go before it, or right after."""
        self.power.step()
        self.content = record
        self.power.step()


class Disks:
    """The members of a mirror: file sinks on disks that can be unplugged and put back."""

    def __init__(self, power: Power) -> None:
        self.power = power
        self.disks: dict[str, CrashFile] = {}
        self.unplugged: set[str] = set()

    def open(self, member: Member) -> Sink:
        """Read a member's disk."""
        if member.where in self.unplugged:
            raise Unavailable(f"{member.where}: unplugged")
        if member.where not in self.disks:
            raise NotFound(f"{member.where}: no such disk")
        return FileSink(self.disks[member.where], SeededEntropy(2), SOMEWHERE)

    def make(self, member: Member, **ids: object) -> Sink:
        """Format a member's disk."""
        if member.where in self.disks:
            raise Conflict(f"{member.where}: in use")
        disk = self.disks[member.where] = CrashFile(power=self.power)
        return FileSink.format(disk, SeededEntropy(member.number), SOMEWHERE, **ids)  # type: ignore[arg-type] # what the port hands on

    def holds(self, where: str) -> tuple[int, ...]:
        """Return the epochs in one disk, whoever asks."""
        return FileSink(self.disks[where], SeededEntropy(2), SOMEWHERE).epochs()


class MirrorRig:
    """A mirror of file sinks; the power goes for all of it at once."""

    def __init__(self, *places: str) -> None:
        self.power = Power()
        self.places = places or ("left", "right")
        self.members = Disks(self.power)
        self.record = Record(self.power)

    def make(self) -> Sink:
        """Make the members and the record."""
        return MirroredSink.create(
            self.record,
            self.members,
            mirror_id=SINK,
            pool_id=POOL,
            places=[("file", place) for place in self.places],
            epoch=FIRST,
            key=key_of(FIRST),
        )

    def open(self) -> MirroredSink:
        """Open it with what there is."""
        return MirroredSink(self.record, self.members)

    def restart(self, rng: random.Random) -> None:
        """Start on what the disks hold now."""
        self.power.stop_at, self.power.steps = -1, 0
        for where, disk in self.members.disks.items():
            content = disk.after_power_loss(rng)
            self.members.disks[where] = CrashFile(content, power=self.power)

    def close(self) -> None:
        """Nothing to put away."""


__all__ = [
    "FIRST",
    "Disks",
    "FileRig",
    "MemoryRig",
    "MirrorRig",
    "PowerLossError",
    "Record",
    "Rig",
]
