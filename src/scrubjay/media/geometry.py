"""How a pool is cut: media into slots, slots into areas and metadata pages.

Slots are numbered through all media of the pool; a medium serves a range of them
(docs/format/pool.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scrubjay.base.errors import Invalid
from scrubjay.base.ids import Slot
from scrubjay.base.units import PAGE_BYTES, SEGMENT_BYTES, SLOTS_OFFSET_BYTES

__all__ = ["AREA_SLOTS_MAX", "SLOTS_MAX", "SLOTS_MIN", "SLOT_PAGES", "Geometry", "slots_in"]

SLOT_PAGES = SEGMENT_BYTES // PAGE_BYTES
AREA_SLOTS_MAX = 64
"""1 GiB: enough for a volume to write in one piece for a while."""
AREAS_WANTED = 256
"""Small pools have smaller areas, so that many volumes find room side by side."""
SLOTS_MIN = 3
"""One for the metadata, one to write, one to clean into: 64 MiB is a pool."""
SLOTS_MAX = (1 << 32) - 2
"""A directory holds slot + 1 in 32 bits."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """The cut of one pool; `first_slots` holds the first slot of each medium, ascending."""

    slots: int
    area_slots: int
    first_slots: tuple[int, ...] = (0,)

    @classmethod
    def of(cls, sizes_bytes: Iterable[int], *, area_slots: int | None = None) -> Geometry:
        """Cut media of these sizes; Invalid when they hold too little for a pool."""
        counts = [slots_in(size) for size in sizes_bytes]
        slots = sum(counts)
        if not SLOTS_MIN <= slots <= SLOTS_MAX or 0 in counts:
            smallest = SLOTS_OFFSET_BYTES + SLOTS_MIN * SEGMENT_BYTES
            message = f"pool of {slots} slots: expected {SLOTS_MIN} to {SLOTS_MAX} of 16 MiB"
            raise Invalid(message, hint=f"the smallest pool takes {smallest} bytes")
        area_slots = area_slots or min(AREA_SLOTS_MAX, max(1, slots // AREAS_WANTED))
        firsts = tuple(sum(counts[:index]) for index in range(len(counts)))
        return cls(slots, 1 << area_slots.bit_length() - 1, firsts)

    @property
    def areas(self) -> int:
        """How many areas there are; the last one may be short."""
        return -(-self.slots // self.area_slots)

    def area_of(self, slot: Slot) -> int:
        """Return the area in which a slot lies."""
        return slot // self.area_slots

    def slots_of(self, area: int) -> range:
        """Return the slots of an area."""
        first = area * self.area_slots
        return range(first, min(first + self.area_slots, self.slots))

    def place(self, slot: int) -> tuple[int, int]:
        """Return (index of the medium, offset in bytes) of a slot."""
        medium = len(self.first_slots) - 1
        while self.first_slots[medium] > slot:
            medium -= 1
        return medium, SLOTS_OFFSET_BYTES + (slot - self.first_slots[medium]) * SEGMENT_BYTES

    def place_of_page(self, page: int) -> tuple[int, int]:
        """Return (index of the medium, offset in bytes) of a metadata page."""
        medium, offset_bytes = self.place(page // SLOT_PAGES)
        return medium, offset_bytes + page % SLOT_PAGES * PAGE_BYTES


def slots_in(size_bytes: int) -> int:
    """Return how many slots a medium of this size holds."""
    return max(0, size_bytes - SLOTS_OFFSET_BYTES) // SEGMENT_BYTES
