"""Every kind of sink, on a machine whose power can be lost at any step."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Protocol
from uuid import UUID

from scrubjay.base.errors import Conflict, NotFound, Unavailable
from scrubjay.base.ids import Epoch
from scrubjay.sinks.file import FileSink
from scrubjay.sinks.locked import LockedFile
from scrubjay.sinks.membership import Member
from scrubjay.sinks.mirrored import MirroredSink
from scrubjay.sinks.sink import Sink
from scrubjay.sinks.tpm.transport import SocketTransport
from scrubjay.sinks.tpm2 import TpmSink
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
from tests.sinks.emulator import Emulator

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

    def make(
        self, member: Member, *, sink_id: UUID, pool_id: UUID, epoch: Epoch, key: bytes
    ) -> Sink:
        """Format a member's disk."""
        if member.where in self.disks:
            raise Conflict(f"{member.where}: in use")
        disk = self.disks[member.where] = CrashFile(power=self.power)
        return FileSink.format(
            disk,
            SeededEntropy(member.number),
            SOMEWHERE,
            sink_id=sink_id,
            pool_id=pool_id,
            epoch=epoch,
            key=key,
        )

    def holds(self, where: str) -> tuple[int, ...]:
        """Return the epochs in one disk, whoever asks."""
        return FileSink(self.disks[where], SeededEntropy(2), SOMEWHERE).epochs()


class MirrorRig:
    """A mirror of file sinks; the power goes for all of it at once."""

    def __init__(self) -> None:
        self.power = Power()
        self.places = [("file", "left"), ("file", "right")]
        self.members = Disks(self.power)
        self.record = Record(self.power)

    def make(self) -> Sink:
        """Make the members and the record."""
        return MirroredSink.create(
            self.record,
            self.members,
            mirror_id=SINK,
            pool_id=POOL,
            places=self.places,
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


class CutTransport:
    """A TPM whose power may go before a command arrives, or before its answer does."""

    def __init__(self, path: Path, power: Power) -> None:
        self._socket = SocketTransport(path)
        self._power = power

    def transact(self, command: bytes) -> bytes:
        """Pass it on."""
        self._power.step()
        answer = self._socket.transact(command)
        self._power.step()
        return answer

    def close(self) -> None:
        """Let go."""
        self._socket.close()


class Tpm:
    """A TPM with the folder of a home, where one sink keeps its credentials."""

    def __init__(self, power: Power) -> None:
        self.power = power
        self.emulator = Emulator()
        self._folder = tempfile.TemporaryDirectory(prefix="scrubjay-home-")
        self.path = Path(self._folder.name) / "sink"

    def make(self, sink_id: UUID, key: bytes, epoch: Epoch = FIRST, pool_id: UUID = POOL) -> None:
        """Make the sink."""
        TpmSink.create(
            self.path,
            SeededEntropy(1),
            sink_id=sink_id,
            pool_id=pool_id,
            epoch=epoch,
            key=key,
            device=self.emulator.socket,
        ).close()

    def open(self) -> TpmSink:
        """Open it, with the power as it is; sockets are closed where it is not."""
        file = LockedFile.open(self.path)
        try:
            transport = CutTransport(self.emulator.socket, self.power)
            try:
                return TpmSink(file, transport, SeededEntropy(2), lambda _: SOMEWHERE)
            except BaseException:
                transport.close()
                raise
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        """Put it away."""
        self.emulator.close()
        self._folder.cleanup()


class TpmRig:
    """The TPM sink in an emulator."""

    def __init__(self) -> None:
        self.power = Power()
        self.tpm = Tpm(self.power)
        self._open: list[Sink] = []

    def make(self) -> Sink:
        """Make it."""
        self.tpm.make(SINK, key_of(FIRST))
        return self.open()

    def open(self) -> Sink:
        """Open it; the process before has ended."""
        for sink in self._open:
            sink.close()
        self._open = [self.tpm.open()]
        return self._open[0]

    def restart(self, rng: random.Random) -> None:
        """Cut the TPM's power; what a command did is durable, or was never begun."""
        self.power.stop_at, self.power.steps = -1, 0
        for sink in self._open:
            sink.close()
        self._open = []
        self.tpm.emulator.restart()

    def close(self) -> None:
        """Put it away."""
        for sink in self._open:
            sink.close()
        self.tpm.close()


class DisksAndTpm(Disks):
    """Members on disks, and one in a TPM."""

    def __init__(self, power: Power) -> None:
        super().__init__(power)
        self.tpm = Tpm(power)
        self.opened: list[Sink] = []

    def open(self, member: Member) -> Sink:
        """Open a member, the TPM's once at a time."""
        if member.kind != "tpm2":
            return super().open(member)
        self.let_go()
        self.opened = [self.tpm.open()]
        return self.opened[0]

    def make(
        self, member: Member, *, sink_id: UUID, pool_id: UUID, epoch: Epoch, key: bytes
    ) -> Sink:
        """Make a member."""
        if member.kind != "tpm2":
            return super().make(member, sink_id=sink_id, pool_id=pool_id, epoch=epoch, key=key)
        self.tpm.make(sink_id, key, epoch, pool_id)
        return self.open(member)

    def let_go(self) -> None:
        """End what a process before had open."""
        for sink in self.opened:
            sink.close()
        self.opened = []


class MixedRig(MirrorRig):
    """A mirror of a file and a TPM."""

    def __init__(self) -> None:
        super().__init__()
        self.members: DisksAndTpm = DisksAndTpm(self.power)
        self.places = [("file", "left"), ("tpm2", "chip")]

    def restart(self, rng: random.Random) -> None:
        """Cut the power of both."""
        super().restart(rng)
        self.members.let_go()
        self.members.tpm.emulator.restart()

    def close(self) -> None:
        """Put it away."""
        self.members.let_go()
        self.members.tpm.close()


__all__ = [
    "FIRST",
    "Disks",
    "FileRig",
    "MemoryRig",
    "MirrorRig",
    "MixedRig",
    "PowerLossError",
    "Record",
    "Rig",
    "Tpm",
    "TpmRig",
]
