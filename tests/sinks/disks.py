"""Sinks and files that exist for tests: in memory, recording, tearing."""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from scrubjay.base.errors import Conflict, NotFound
from scrubjay.base.ids import Epoch
from scrubjay.base.ports import Entropy
from scrubjay.sinks.budget import UNLIMITED, Budget
from scrubjay.sinks.sink import Grade, Part, Worth, check_new

DISK_SECTOR_BYTES = 512
SINK, POOL = UUID(int=0x51), UUID(int=0x90)
SOMEWHERE = Worth(Grade.CONDITIONAL, "memory", "it is for tests")


def key_of(epoch: int, *, draw: int = 0) -> bytes:
    """Return the key that tests give to an epoch, another for each draw."""
    return hashlib.sha256(b"test epoch %d %d" % (epoch, draw)).digest()


class MemorySink:
    """The simplest sink there can be."""

    kind = "memory"

    def __init__(self, entropy: Entropy, *, sink_id: UUID, pool_id: UUID, epoch: Epoch) -> None:
        self.sink_id = sink_id
        self.pool_id = pool_id
        self._keys = {epoch: entropy.token(32)}

    def epochs(self) -> tuple[Epoch, ...]:
        """Return the epochs held."""
        return tuple(sorted(self._keys))

    def key(self, epoch: Epoch) -> bytes:
        """Return a key."""
        if epoch not in self._keys:
            raise NotFound(f"sink: epoch {epoch} not held, expected its key")
        return self._keys[epoch]

    def prepare(self, epoch: Epoch, key: bytes) -> None:
        """Keep a key."""
        check_new(self.sink_id, self._keys, epoch, key)
        self._keys[epoch] = key

    def drop(self, epoch: Epoch) -> None:
        """Lose a key."""
        if list(self._keys) == [epoch]:
            raise Conflict(f"sink: epoch {epoch} is the last one, expected another beside")
        self._keys.pop(epoch, None)

    def scour(self) -> None:
        """Nothing remains here."""

    def worth(self) -> Worth:
        """Say what it is worth."""
        return SOMEWHERE

    def parts(self) -> list[Part]:
        """Return this sink: it is its only part."""
        return [Part(self.kind, self.sink_id, self.worth(), self.epochs())]

    def budget(self) -> Budget:
        """Say how often it can rotate."""
        return UNLIMITED

    def close(self) -> None:
        """Nothing to close."""


class PowerLossError(Exception):
    """The machine stopped."""


@dataclass(frozen=True)
class Write:
    """A write that no sync has covered yet."""

    offset_bytes: int
    data: bytes

    def sectors(self) -> Iterator["Write"]:
        """Cut it as a disk may tear it."""
        for at in range(0, len(self.data), DISK_SECTOR_BYTES):
            yield Write(self.offset_bytes + at, self.data[at : at + DISK_SECTOR_BYTES])


class Power:
    """What several devices of one machine lose at once, before its n-th step."""

    def __init__(self, stop_at: int = -1) -> None:
        self.stop_at = stop_at
        self.steps = 0

    def step(self) -> None:
        """Take a step, or stop; once stopped, nothing goes on."""
        if 0 <= self.stop_at <= self.steps:
            raise PowerLossError
        self.steps += 1


class CrashFile:
    """A FileIo on a disk that loses power before its n-th write or sync.

    What a sync covered is there afterwards; of the rest each sector is there or is not, in
    any combination (`after_power_loss`).
    """

    def __init__(
        self, content: bytes = b"", *, stop_at: int = -1, power: Power | None = None
    ) -> None:
        self._power = power or Power(stop_at)
        self.durable = bytearray(content)
        self._seen = bytearray(content)
        self._pending: list[Write] = []
        self.open = True

    @property
    def steps(self) -> int:
        """How many steps its machine took."""
        return self._power.steps

    @property
    def size_bytes(self) -> int:
        """How long the file is."""
        return len(self._seen)

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return what was written last."""
        return bytes(self._seen[offset_bytes : offset_bytes + size_bytes])

    def write(self, offset_bytes: int, data: bytes) -> None:
        """Write; the power may go while the disk is at it."""
        self._pending.append(Write(offset_bytes, data))
        self._power.step()
        _put(self._seen, offset_bytes, data)

    def sync(self) -> None:
        """Make durable what was written."""
        self._power.step()
        self.durable = bytearray(self._seen)
        self._pending.clear()

    def expect_in_place(self) -> None:
        """It has no name that could come to mean another one."""

    def close(self) -> None:
        """Note it."""
        self.open = False

    def after_power_loss(self, rng: random.Random) -> bytes:
        """Return what the disk may hold now: nothing, all or some sectors of what was pending."""
        content = bytearray(self.durable)
        share = rng.choice((0.0, 0.01, 0.5, 0.99, 1.0))
        for write in self._pending:
            for sector in write.sectors():
                if rng.random() < share:
                    _put(content, sector.offset_bytes, sector.data)
        return bytes(content)


def _put(content: bytearray, offset_bytes: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset_bytes - len(content))))
    content[offset_bytes : offset_bytes + len(data)] = data
