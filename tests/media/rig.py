"""What the tests of this room share: a clock, seeded randomness, and small pools."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from scrubjay.base.errors import NotFound
from scrubjay.base.ids import Epoch
from scrubjay.base.ports import Medium
from scrubjay.base.units import SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.keys.table import Kind, Node
from scrubjay.media.pool import Pool
from scrubjay.media.simulated import SimulatedMedium

SINK_ID = uuid.UUID(int=0x51)
ROOT = Node(Kind.SEED, b"root" * 8)
RECORDS = {b"p": b'{"label":"test"}'}


def size_of(slots: int) -> int:
    """Return the size of a medium with so many slots."""
    return SLOTS_OFFSET_BYTES + slots * SEGMENT_BYTES


@dataclass
class Tick:
    """A clock that moves on by one at each look."""

    now: int = 0

    def now_ns(self) -> int:
        """Return the next moment."""
        self.now += 1
        return self.now

    def monotonic_ns(self) -> int:
        """Return the next moment."""
        return self.now_ns()


@dataclass
class Seeded:
    """Randomness that repeats."""

    random: Random = field(default_factory=lambda: Random(1))

    def token(self, size_bytes: int) -> bytes:
        """Return the next bytes."""
        return self.random.randbytes(size_bytes)


@dataclass
class Sink:
    """Epoch keys in a dict."""

    keys: dict[int, bytes] = field(default_factory=lambda: {1: b"epoch 1." * 4})

    def key(self, epoch: Epoch) -> bytes:
        """Return a key, or raise as every sink does."""
        if epoch not in self.keys:
            raise NotFound(f"epoch {epoch}: not held")
        return self.keys[epoch]

    def prepare(self, epoch: int) -> bytes:
        """Hold another key."""
        self.keys[epoch] = f"epoch{epoch:3}".encode() * 4
        return self.keys[epoch]


def create(
    media: Sequence[Medium] | None = None,
    *,
    slots: int = 8,
    records: Mapping[bytes, bytes] = RECORDS,
    area_slots: int | None = None,
    sink: Sink | None = None,
) -> Pool:
    """Make a pool under epoch 1."""
    media = media or [SimulatedMedium(size_of(slots))]
    return Pool.create(
        media,
        clock=Tick(),
        entropy=Seeded(),
        sink_id=SINK_ID,
        epoch=Epoch(1),
        epoch_key=(sink or Sink()).keys[1],
        root=ROOT,
        records=records,
        area_slots=area_slots,
    )


def reopen(media: Sequence[Medium], *, sink: Sink | None = None, seed: int = 2) -> Pool:
    """Open a pool as a restarted daemon does."""
    entropy = Seeded(Random(seed))
    return Pool.open(media, clock=Tick(), entropy=entropy, epoch_keys=(sink or Sink()).key)


def state_of(pool: Pool) -> dict[bytes, bytes]:
    """Return all that the tree holds."""
    return dict(pool.scan(b""))
