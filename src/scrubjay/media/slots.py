"""Who holds which slot (docs/format/pool.md, key `a`).

An area belongs to one lineage, so that neighbours on the medium are neighbours in the
volume. What a lineage frees it gets back first, last freed first: those bytes are in
the page cache, and written once already. A slot is given again only after the commit
that freed it is durable (I1).

The index is in memory, built once from the tree. Under its owner's lock it changes at
once when a change stages something, and each step notes how to take it back.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Protocol

from scrubjay.base.errors import Conflict, Corrupt, NoSpace
from scrubjay.base.ids import LineageNo, Slot
from scrubjay.media.geometry import Geometry

__all__ = ["AREA_PREFIX", "METADATA", "SlotCounts", "SlotState", "Slots", "Stage"]

AREA_PREFIX = b"a"
NOBODY = 0
METADATA = LineageNo((1 << 32) - 1)
"""The owner of areas that hold the pool's own pages."""

_OWNER = struct.Struct("<I")
_NUMBER = struct.Struct(">I")


class SlotState(IntEnum):
    """What a slot holds, as its area's record says."""

    NEVER_USED = 0
    FREE = 1
    """Used before: its old bytes are still there."""
    LEASED = 2
    METADATA = 3


_FREE_STATES = frozenset({SlotState.NEVER_USED, SlotState.FREE})


@dataclass(frozen=True, slots=True)
class SlotCounts:
    """How many slots of the pool are in each state."""

    never_used: int
    free: int
    leased: int
    metadata: int


class Stage(Protocol):
    """The change on whose behalf slots move."""

    def put(self, key: bytes, value: bytes) -> None:
        """Stage a value."""
        ...

    def on_undo(self, step: Callable[[], None]) -> None:
        """Note what takes a step back, if the change is dropped."""
        ...

    def on_durable(self, step: Callable[[], None]) -> None:
        """Note what follows once the commit is durable."""
        ...


@dataclass(slots=True)
class _Area:
    owner: int
    states: bytearray


class Slots:
    """The index of a pool's slots; its owner holds a lock around every call."""

    def __init__(self, geometry: Geometry, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Build it from the (key, value) of all areas; Corrupt where they make no sense."""
        self._geometry = geometry
        self._areas: dict[int, _Area] = {}
        self._free: dict[int, list[Slot]] = {}
        """Slots to lease within an owner's areas, the next one last."""
        self._counts = [0] * len(SlotState)
        for key, value in records:
            number = _number_of(key)
            area = self._areas[number] = _area_of(number, value, geometry)
            for state in area.states:
                self._counts[state] += 1
            if area.owner != NOBODY:
                self._free.setdefault(area.owner, []).extend(reversed(self._free_in(number)))
        self._idle = [
            number
            for number in reversed(range(geometry.areas))
            if number not in self._areas or self._areas[number].owner == NOBODY
        ]
        """Whole areas to lease, the next one last."""
        self._counts[SlotState.NEVER_USED] = geometry.slots - sum(self._counts[1:])

    @property
    def counts(self) -> SlotCounts:
        """How many slots are in each state, what is staged included."""
        return SlotCounts(*self._counts)

    @property
    def unowned(self) -> int:
        """How many slots lie in areas that anybody may lease."""
        return min(len(self._idle) * self._geometry.area_slots, self._geometry.slots)

    def metadata_slots(self) -> Iterator[Slot]:
        """Yield the slots that hold metadata pages, ascending."""
        for number, area in sorted(self._areas.items()):
            if area.owner == METADATA:
                for slot, state in zip(self._geometry.slots_of(number), area.states, strict=True):
                    if state == SlotState.METADATA:
                        yield Slot(slot)

    def lease(self, owner: LineageNo, count: int, stage: Stage) -> list[Slot]:
        """Lease up to `count` slots, at least one; NoSpace when there is none."""
        state = SlotState.METADATA if owner == METADATA else SlotState.LEASED
        free = self._free.setdefault(owner, [])
        leased: list[Slot] = []
        while len(leased) < count and (free or self._take_area(owner, stage)):
            slot = free.pop()
            stage.on_undo(partial(free.append, slot))
            self._set(slot, state, stage)
            leased.append(slot)
        if not leased:
            never, used = self._counts[: SlotState.LEASED]
            message = f"slots: {never + used} free, in areas of others, expected one"
            raise NoSpace(message, hint="destroy a volume, or make the pool larger")
        self._put(leased, stage)
        return leased

    def release(self, owner: LineageNo, slots: Sequence[Slot], stage: Stage) -> None:
        """Free slots of a lineage: to be leased again once that is durable.

        Raises Conflict when one of them is not leased by it.
        """
        for slot in slots:
            area = self._areas.get(self._geometry.area_of(slot))
            state = area.states[slot % self._geometry.area_slots] if area else 0
            if area is None or area.owner != owner or state != SlotState.LEASED:
                raise Conflict(f"slot {slot}: not leased, expected leased by lineage {owner}")
            self._set(slot, SlotState.FREE, stage)
        emptied = {
            number
            for number in map(self._geometry.area_of, slots)
            if _FREE_STATES.issuperset(self._areas[number].states)
        }
        for number in sorted(emptied):
            self._give_up_area(number, stage)
        stage.on_durable(lambda: self._offer(owner, slots))
        self._put(slots, stage)

    # --- private ------------------------------------------------------------------

    def _offer(self, owner: LineageNo, slots: Iterable[Slot]) -> None:
        """Have an owner lease freed slots again, in areas that it did not give up since."""
        own = (slot for slot in slots if self._areas[self._geometry.area_of(slot)].owner == owner)
        self._free.setdefault(owner, []).extend(own)

    def _take_area(self, owner: LineageNo, stage: Stage) -> bool:
        """Give a whole area to an owner; False when there is none."""
        if not self._idle:
            return False
        number = self._idle.pop()
        stage.on_undo(partial(self._idle.append, number))
        area = self._areas.get(number)
        if area is None:
            area = _Area(NOBODY, bytearray(len(self._geometry.slots_of(number))))
            self._areas[number] = area
            stage.on_undo(lambda: _forget(self._areas, number))
        self._own(area, owner, stage)
        free = self._free[owner]
        free += reversed(self._free_in(number))
        stage.on_undo(free.clear)  # it was empty, or no area would have been taken
        return True

    def _give_up_area(self, number: int, stage: Stage) -> None:
        """Give an area that is free as a whole back to everybody."""
        area = self._areas[number]
        free = self._free.setdefault(area.owner, [])
        before = list(free)
        free[:] = [slot for slot in free if self._geometry.area_of(slot) != number]
        stage.on_undo(lambda: _refill(free, before))
        self._own(area, NOBODY, stage)
        stage.on_durable(lambda: self._idle.append(number))

    def _own(self, area: _Area, owner: int, stage: Stage) -> None:
        before, area.owner = area.owner, owner
        stage.on_undo(lambda: setattr(area, "owner", before))

    def _set(self, slot: Slot, state: SlotState, stage: Stage) -> None:
        states = self._areas[self._geometry.area_of(slot)].states
        at = slot % self._geometry.area_slots
        before = states[at]
        self._move(states, at, state)
        stage.on_undo(lambda: self._move(states, at, before))

    def _move(self, states: bytearray, at: int, state: int) -> None:
        self._counts[states[at]] -= 1
        self._counts[state] += 1
        states[at] = state

    def _put(self, slots: Iterable[Slot], stage: Stage) -> None:
        for number in sorted({self._geometry.area_of(slot) for slot in slots}):
            area = self._areas[number]
            value = _OWNER.pack(area.owner) + area.states
            stage.put(AREA_PREFIX + _NUMBER.pack(number), value)

    def _free_in(self, number: int) -> list[Slot]:
        states = self._areas[number].states
        slots = zip(self._geometry.slots_of(number), states, strict=True)
        return [Slot(slot) for slot, state in slots if state in _FREE_STATES]


def _number_of(key: bytes) -> int:
    if len(key) != len(AREA_PREFIX) + _NUMBER.size:
        raise Corrupt(f"metadata key {key.hex()}: expected an area's")
    number: int = _NUMBER.unpack_from(key, len(AREA_PREFIX))[0]
    return number


def _area_of(number: int, value: bytes, geometry: Geometry) -> _Area:
    """Return an area out of its record; Corrupt when it is not one of this pool's."""
    states = bytearray(value[_OWNER.size :])
    if number >= geometry.areas or len(states) != len(geometry.slots_of(number)):
        raise Corrupt(f"area {number}: record of {len(value)} bytes does not fit the pool")
    owner: int = _OWNER.unpack_from(value)[0]
    held = SlotState.METADATA if owner == METADATA else SlotState.LEASED
    good = _FREE_STATES if owner == NOBODY else _FREE_STATES | {held}
    if not good.issuperset(states):
        raise Corrupt(f"area {number}: slot states {states.hex()} do not fit owner {owner}")
    return _Area(owner, states)


def _refill(items: list[Slot], before: list[Slot]) -> None:
    items[:] = before


def _forget(areas: dict[int, _Area], number: int) -> None:
    del areas[number]
