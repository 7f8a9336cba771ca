"""Days of one random overwrite a second on 1 TiB, on a simulated clock.

The data is imagined; the accounting of what is dead, the choice of what is moved, the
allowance and the rounds are the engine's own.
"""

# ruff: noqa: SLF001 - cleaning is imagined, and enters what it moves as the real one does

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import cast

from scrubjay.base.units import SECTOR_BYTES, SEGMENT_BYTES, STRIPE_BYTES, STRIPES, TIB
from scrubjay.engine.cleaning import Cleaner
from scrubjay.engine.entry import pack
from scrubjay.engine.paged import PagedMap
from scrubjay.engine.purging import Purger
from scrubjay.engine.stripes import Segments
from scrubjay.engine.usage import ALL_STRIPES, MAIN, MOVED, Usage

__all__ = ["Played", "play"]

DAY_S = 24 * 3600
NOON = 1_800_000_000
UNIT_BYTES = 4 * SECTOR_BYTES + 16
UNITS = (SEGMENT_BYTES - 4096) // UNIT_BYTES
"""Of a segment that was written sequentially."""
SEGMENTS = TIB // (UNITS * 4 * SECTOR_BYTES) + 1

Place = tuple[int, int]
"""(segment, number of a sector in it, in order of offsets)."""


def entry_of(place: Place) -> int:
    """Return the entry of a sector."""
    segment, number = place
    return pack(
        segment=segment, offset_bytes=4096 + number // 4 * UNIT_BYTES, sectors=4, index=number % 4
    )


def stripe_of(number: int) -> int:
    """Return the stripe in which a sector's unit begins."""
    return (4096 + number // 4 * UNIT_BYTES) // STRIPE_BYTES


FIRST = [0] * (STRIPES + 1)
"""The first sector of each stripe."""
for _number in range(UNITS * 4 - 1, -1, -1):
    FIRST[stripe_of(_number)] = _number
FIRST[STRIPES] = UNITS * 4


@dataclass
class Imagined:
    """A cleaner that moves a whole stripe per step, and remembers where the sectors went."""

    usage: Usage
    next_segment: int
    victim: int = 0
    purged: dict[int, int] = field(default_factory=dict)
    evacuated: set[int] = field(default_factory=set)
    unreadable: set[int] = field(default_factory=set)
    moved_bytes: int = 0
    dead: set[Place] = field(default_factory=set)
    went: dict[tuple[int, int], list[tuple[int, Place]]] = field(default_factory=dict)
    """(segment, stripe) -> which sectors of it went, and where to."""
    open_at: int = UNITS * 4
    rounds: int = 0
    stripes: int = 0

    def begin(self, segment: int, stripes: int) -> None:
        """Take a segment on."""
        assert stripes != ALL_STRIPES, "a segment of which little is dead is not emptied"
        self.victim, self.mask = segment, stripes
        self.usage.leaves(segment, stripes)

    def step(self) -> bool:
        """Move all that is to be moved."""
        segment, self.victim = self.victim, 0
        for stripe in range(STRIPES):
            if self.mask >> stripe & 1:
                self.went[segment, stripe] = list(self._moved(segment, stripe))
        self.purged[segment] = self.purged.get(segment, 0) | self.mask
        self.stripes += self.mask.bit_count()
        return True

    def now(self, place: Place) -> Place | None:
        """Return where a sector is now; None of one that was overwritten before."""
        at: Place | None = place
        while at and (moved := self.went.get((at[0], stripe_of(at[1])))):
            at = dict(moved).get(at[1])
        return None if at in self.dead else at

    def _moved(self, segment: int, stripe: int) -> list[tuple[int, Place]]:
        alive = [
            number
            for number in range(FIRST[stripe], FIRST[stripe + 1])
            if (segment, number) not in self.dead
        ]
        if self.usage.state(segment) == MOVED:  # written no further than this
            written = self.usage.written(segment)
            alive = [number for number in alive if number < written]
        places = []
        for number in alive:
            if self.open_at == UNITS * 4:
                self.next_segment += 1
                self.open_at = 0
                self.usage.opened(self.next_segment, MOVED)
            places.append((number, (self.next_segment, self.open_at)))
            self.usage.wrote(self.next_segment, 1)
            self.open_at += 1
        self.moved_bytes += len(alive) * SECTOR_BYTES
        return places


class Here:
    """Every segment has a slot."""

    def base(self, _segment: int) -> int:
        """Return where."""
        return 0


@dataclass(frozen=True, slots=True)
class Played:
    """What purging did in two days, of which the second purges as much as dies."""

    moved_bytes: int
    """In the second day."""
    oldest_s: int
    """How long the oldest death waited."""
    rounds: int
    """Each of which a checkpoint ends."""
    stripes: int


def play(seed: int) -> Played:
    """Play two days of a random overwrite of 4 KiB a second; takes half a minute."""
    random = Random(seed)
    usage = _written()
    cleaner = Imagined(usage, SEGMENTS)
    purger = _purger(usage, cleaner)
    after_a_day = oldest_s = 0
    for second in range(2 * DAY_S):
        place = cleaner.now((random.randrange(1, SEGMENTS + 1), random.randrange(UNITS * 4)))
        if place is not None:
            cleaner.dead.add(place)
            usage.displaced.append(entry_of(place))
        if second % 600:
            continue
        purger.tick(NOON + second, written_bytes=second * SECTOR_BYTES)
        while purger.wants and purger.step():
            pass
        if purger.wants_checkpoint:
            cleaner.rounds += 1
            for _ in purger.seal(before=1 << 36):
                pass
            purger.committed(purger.report(set()), ())
        waiting_s = purger.waiting_since_s
        oldest_s = max(oldest_s, NOON + second - waiting_s if waiting_s else 0)
        if second == DAY_S:
            after_a_day = cleaner.moved_bytes
    moved_bytes = cleaner.moved_bytes - after_a_day
    return Played(moved_bytes, oldest_s, cleaner.rounds, cleaner.stripes)


def _written() -> Usage:
    """Return the accounting of 1 TiB that was written from end to end."""

    def absent(_address: int, _entry: int) -> bytes:
        raise AssertionError("no page was ever written")

    usage = Usage(
        PagedMap(1, absent, height=0, root=0),
        PagedMap(2, absent, height=0, root=0),
        live_sectors=0,
    )
    usage._pages.limit_pages = usage._moves.limit_pages = 1 << 20
    for segment in range(1, SEGMENTS + 1):
        usage.opened(segment, MAIN)
        usage.wrote(segment, UNITS * 4)
    return usage


def _purger(usage: Usage, cleaner: Imagined) -> Purger:
    return Purger(
        cast("Segments", Here()),
        usage,
        cast("Cleaner", cleaner),
        close=lambda _segment: True,
        next_segment=0,
        within_s=DAY_S,
        moved_bytes=0,
        adopt=False,
        told_since_s=0,
    )
