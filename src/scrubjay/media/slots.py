"""Who holds which slot (docs/format/pool.md, key `a`).

An area belongs to one lineage, so that neighbours on the medium are neighbours in the
volume. What a lineage frees it gets back first, last freed first: those bytes are in
the page cache, and written once already. A slot is given again only after the commit
that freed it is durable (I1).

A slot that was freed waits to be scrubbed, since a certain second; whoever can takes another
that is clean. It is leased all the same where there is none: then its old bytes go under new
ones, and until its owner says that a slot is full, the second stays on record.

The index is in memory, built once from the tree. Under its owner's lock it changes at
once when a change stages something, and each step notes how to take it back.
"""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from heapq import nsmallest
from typing import Protocol

from scrubjay.base.errors import Conflict, Corrupt, NoSpace
from scrubjay.base.ids import LineageNo, Slot
from scrubjay.media.geometry import Geometry

__all__ = [
    "AREA_PREFIX",
    "METADATA",
    "Backlog",
    "SlotCounts",
    "SlotState",
    "Slots",
    "Stage",
    "Waiting",
]

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
    """Used before, and scrubbed since."""
    LEASED = 2
    METADATA = 3
    WAITING = 4
    """Free, and to be scrubbed: its old bytes are still there."""


_FREE_STATES = frozenset({SlotState.NEVER_USED, SlotState.FREE, SlotState.WAITING})


@dataclass(frozen=True, slots=True)
class SlotCounts:
    """How many slots of the pool are in each state."""

    never_used: int
    free: int
    leased: int
    metadata: int
    waiting: int

    @property
    def available(self) -> int:
        """How many nobody holds."""
        return self.never_used + self.free + self.waiting


@dataclass(frozen=True, slots=True, order=True)
class Waiting:
    """A slot with bytes of a former use, and the second (since 1970) that they wait since."""

    since_s: int
    slot: Slot


@dataclass(frozen=True, slots=True, order=True)
class Backlog:
    """How many slots hold bytes of a former use since one second (since 1970)."""

    since_s: int
    leased: bool
    """They are in use again: who holds them overwrites what is left, or frees them."""
    slots: int


class Stage(Protocol):
    """The change on whose behalf slots move."""

    @property
    def now_s(self) -> int:
        """The second in which it moves them, since 1970."""
        ...

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
    since_s: array[int]
    """Of each slot, since when bytes of a former use lie in it; 0: there are none."""


class Slots:
    """The index of a pool's slots; its owner holds a lock around every call."""

    def __init__(self, geometry: Geometry, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Build it from the (key, value) of all areas; Corrupt where they make no sense."""
        self._geometry = geometry
        self._areas: dict[int, _Area] = {}
        self._free: dict[int, list[Slot]] = {}
        """Slots to lease within an owner's areas, the next one last."""
        self._waiting: dict[Slot, int] = {}
        """Slots that may be scrubbed, their release being durable, and since when they wait."""
        self._claimed: set[Slot] = set()
        """Those of them that are being scrubbed, and are not to be leased."""
        self._counts = [0] * len(SlotState)
        for key, value in records:
            number = _number_of(key)
            area = self._areas[number] = _area_of(number, value, geometry)
            for slot, state in zip(geometry.slots_of(number), area.states, strict=True):
                self._counts[state] += 1
                if state == SlotState.WAITING:
                    self._waiting[Slot(slot)] = area.since_s[slot % geometry.area_slots]
            if area.owner != NOBODY:
                self._free.setdefault(area.owner, []).extend(reversed(self._free_in(number)))
        self._idle: list[int] = []
        """Whole areas to lease that are clean, the next one last."""
        self._left: dict[int, int] = {}
        """Areas that an owner who lives gave up: he takes them again first, cached as they are."""
        self._stale: list[int] = []
        """And those in which slots wait to be scrubbed: leased where there is no other."""
        for number in reversed(range(geometry.areas)):
            if number not in self._areas or self._areas[number].owner == NOBODY:
                self._shelf(number).append(number)
        self._counts[SlotState.NEVER_USED] = geometry.slots - sum(self._counts[1:])

    @property
    def counts(self) -> SlotCounts:
        """How many slots are in each state, what is staged included."""
        return SlotCounts(*self._counts)

    @property
    def unowned(self) -> int:
        """How many slots lie in areas that anybody may lease."""
        areas = len(self._idle) + len(self._stale)
        return min(areas * self._geometry.area_slots, self._geometry.slots)

    def metadata_slots(self) -> Iterator[Slot]:
        """Yield the slots that hold metadata pages, ascending."""
        for number, area in sorted(self._areas.items()):
            if area.owner == METADATA:
                for slot, state in zip(self._geometry.slots_of(number), area.states, strict=True):
                    if state == SlotState.METADATA:
                        yield Slot(slot)

    def held_slots(self) -> Iterator[Slot]:
        """Yield the slots that hold something that counts, ascending."""
        held = (SlotState.LEASED, SlotState.METADATA)
        for number, area in sorted(self._areas.items()):
            for slot, state in zip(self._geometry.slots_of(number), area.states, strict=True):
                if state in held:
                    yield Slot(slot)

    def lease(self, owner: LineageNo, count: int, stage: Stage) -> list[Slot]:
        """Lease up to `count` slots, at least one; NoSpace when there is none."""
        state = SlotState.METADATA if owner == METADATA else SlotState.LEASED
        free = self._free.setdefault(owner, [])
        leased: list[Slot] = []
        while len(leased) < count and (free or self._take_area(owner, stage)):
            slot = free.pop()
            stage.on_undo(partial(free.append, slot))
            since_s = self._waiting.pop(slot, 0)
            if since_s:
                stage.on_undo(partial(self._waiting.__setitem__, slot, since_s))
            self._set(slot, state, stage)
            leased.append(slot)
        if not leased:
            message = f"slots: {self.counts.available} free, in areas of others, expected one"
            raise NoSpace(message, hint="destroy a volume, or make the pool larger")
        self._put(leased, stage)
        return leased

    def release(
        self, owner: LineageNo, slots: Sequence[Slot], stage: Stage, *, since_s: int = 0
    ) -> frozenset[int]:
        """Free slots of a lineage: to be scrubbed, or leased again, once that is durable.

        They wait since now, or since an earlier second in which their use ended, or since one
        that was on record when they were leased; returned is since when. Raises Conflict when
        one of them is not leased by it.
        """
        dates: set[int] = set()
        for slot in slots:
            area = self._leased(owner, slot)
            at = slot % self._geometry.area_slots
            date_s = area.since_s[at] or since_s or stage.now_s
            dates.add(date_s)
            self._date(slot, date_s, stage)
            self._set(slot, SlotState.WAITING, stage)
        emptied = {
            number
            for number in map(self._geometry.area_of, slots)
            if _FREE_STATES.issuperset(self._areas[number].states)
        }
        for number in sorted(emptied):
            self._give_up_area(number, stage)
        stage.on_durable(lambda: self._freed(slots))
        stage.on_durable(lambda: self._note_left(owner, emptied, lives=not since_s))
        self._put(slots, stage)
        return frozenset(dates)

    def is_clean(self, slot: Slot) -> bool:
        """Tell whether a leased slot holds no bytes of a former use."""
        area = self._areas[self._geometry.area_of(slot)]
        return not area.since_s[slot % self._geometry.area_slots]

    def filled(self, owner: LineageNo, slots: Sequence[Slot], stage: Stage) -> None:
        """Note that a lineage has written slots of its own to the end: what was there is gone.

        Raises Conflict when one of them is not leased by it.
        """
        dated = []
        for slot in slots:
            area = self._leased(owner, slot)
            if area.since_s[slot % self._geometry.area_slots]:
                self._date(slot, 0, stage)
                dated.append(slot)
        self._put(dated, stage)

    # --- scrubbing ------------------------------------------------------------------

    def overdue(self) -> list[Waiting]:
        """Return every slot with bytes of a former use, leased ones included, the oldest first."""
        return sorted(
            Waiting(since_s, Slot(slot))
            for number, area in self._areas.items()
            if any(area.since_s)
            for slot, since_s in zip(self._geometry.slots_of(number), area.since_s, strict=True)
            if since_s
        )

    def backlog(self) -> list[Backlog]:
        """Return the same, counted: quick also where a million slots wait."""
        counts: Counter[tuple[int, int]] = Counter()
        for area in self._areas.values():
            if any(area.since_s):
                counts.update(zip(area.since_s, area.states, strict=True))
        return sorted(
            Backlog(since_s, state != SlotState.WAITING, slots)
            for (since_s, state), slots in counts.items()
            if since_s
        )

    def is_claimed(self, slot: Slot) -> bool:
        """Whether a slot is being scrubbed; needs no lock."""
        return slot in self._claimed

    def claim(self, count: int, *, owned_before_s: int) -> list[Waiting]:
        """Take up to `count` waiting slots to scrub them, the oldest first; nobody leases them.

        Of areas that somebody owns only those that wait since before `owned_before_s`: the
        owner is likely to write them full himself; likewise of those that he just gave up.
        Each is to be given back.
        """
        candidates = (
            Waiting(since_s, slot)
            for slot, since_s in self._waiting.items()
            if slot not in self._claimed and (self._is_nobodys(slot) or since_s < owned_before_s)
        )
        claimed = nsmallest(count, candidates)
        self._claimed.update(each.slot for each in claimed)
        for owner in {self._owner_of(each.slot) for each in claimed}:
            if owner in self._free:
                self._free[owner] = [s for s in self._free[owner] if s not in self._claimed]
        return claimed

    def give_back(self, slots: Sequence[Slot]) -> None:
        """Have claimed slots leased again, scrubbed or not."""
        mine = [slot for slot in slots if slot in self._claimed]
        self._claimed.difference_update(mine)
        self._offer(mine)

    def scrubbed(self, slots: Sequence[Slot], stage: Stage) -> None:
        """Note that claimed slots hold nothing any more; they are still to be given back."""
        for slot in slots:
            if slot not in self._claimed:
                raise Conflict(f"slot {slot}: not claimed, expected claimed to be scrubbed")
            self._set(slot, SlotState.FREE, stage)
            self._date(slot, 0, stage)
        self._put(slots, stage)
        stage.on_durable(lambda: self._tidy(slots))

    # --- private ------------------------------------------------------------------

    def _leased(self, owner: LineageNo, slot: Slot) -> _Area:
        """Return the area of a slot; Conflict unless `owner` leases it."""
        area = self._areas.get(self._geometry.area_of(slot))
        state = area.states[slot % self._geometry.area_slots] if area else 0
        if area is None or area.owner != owner or state != SlotState.LEASED:
            raise Conflict(f"slot {slot}: not leased, expected leased by lineage {owner}")
        return area

    def _owner_of(self, slot: Slot) -> int:
        return self._areas[self._geometry.area_of(slot)].owner

    def _freed(self, slots: Iterable[Slot]) -> None:
        """Have slots scrubbed, or leased again: their release is durable."""
        for slot in slots:
            area = self._areas[self._geometry.area_of(slot)]
            self._waiting[slot] = area.since_s[slot % self._geometry.area_slots]
        self._offer(slots)

    def _offer(self, slots: Iterable[Slot]) -> None:
        """Have the owners of areas lease free slots in them again; idle areas need no offer."""
        for slot in slots:
            owner = self._owner_of(slot)
            if owner != NOBODY:
                self._free.setdefault(owner, []).append(slot)

    def _shelf(self, number: int) -> list[int]:
        """Return the list in which an area that nobody owns stands."""
        area = self._areas.get(number)
        dirty = area is not None and SlotState.WAITING in area.states
        return self._stale if dirty else self._idle

    def _tidy(self, slots: Iterable[Slot]) -> None:
        """Let go of slots that are scrubbed; idle areas in which none waits are clean again."""
        for slot in slots:
            self._waiting.pop(slot, None)
        for number in sorted({self._geometry.area_of(slot) for slot in slots}):
            if number in self._stale and self._shelf(number) is self._idle:
                self._stale.remove(number)
                self._idle.append(number)

    def _take_area(self, owner: LineageNo, stage: Stage) -> bool:
        """Give a whole area to an owner; False when there is none with a slot to lease."""
        number = self._take_down(owner, stage)
        if number is None:
            return False
        area = self._areas.get(number)
        if area is None:
            slots = len(self._geometry.slots_of(number))
            area = _Area(NOBODY, bytearray(slots), array("I", bytes(4 * slots)))
            self._areas[number] = area
            stage.on_undo(lambda: _forget(self._areas, number))
        self._own(area, owner, stage)
        free = self._free[owner]
        free += reversed(self._free_in(number))
        stage.on_undo(free.clear)  # it was empty, or no area would have been taken
        return True

    def _note_left(self, owner: int, emptied: Iterable[int], *, lives: bool) -> None:
        """Remember areas for an owner who lives, and none for one who does not."""
        if lives:
            self._left |= dict.fromkeys(emptied, owner)
        else:
            self._left = {number: whose for number, whose in self._left.items() if whose != owner}

    def _is_nobodys(self, slot: Slot) -> bool:
        """Whether nobody has a use for a slot, nor is likely to have one soon."""
        return self._owner_of(slot) == NOBODY and self._geometry.area_of(slot) not in self._left

    def _take_down(self, owner: LineageNo, stage: Stage) -> int | None:
        """Take an area off its shelf: one that the owner left, a clean one, any other.

        Areas that are being scrubbed whole are passed over.
        """
        mine = {number for number, whose in self._left.items() if whose == owner}
        for shelf, wanted in ((self._stale, mine), (self._idle, None), (self._stale, None)):
            if wanted is not None and not wanted:
                continue
            for at in reversed(range(len(shelf))):
                number = shelf[at]
                if wanted is not None and number not in wanted:
                    continue
                if number not in self._areas or self._free_in(number):
                    del shelf[at]
                    self._left.pop(number, None)
                    stage.on_undo(partial(shelf.insert, at, number))
                    return number
        return None

    def _give_up_area(self, number: int, stage: Stage) -> None:
        """Give an area that is free as a whole back to everybody."""
        area = self._areas[number]
        free = self._free.setdefault(area.owner, [])
        before = list(free)
        free[:] = [slot for slot in free if self._geometry.area_of(slot) != number]
        stage.on_undo(lambda: _refill(free, before))
        self._own(area, NOBODY, stage)
        stage.on_durable(lambda: self._shelf(number).append(number))

    def _own(self, area: _Area, owner: int, stage: Stage) -> None:
        before, area.owner = area.owner, owner
        stage.on_undo(lambda: setattr(area, "owner", before))

    def _set(self, slot: Slot, state: SlotState, stage: Stage) -> None:
        area = self._areas[self._geometry.area_of(slot)]
        before = area.states[slot % self._geometry.area_slots]
        self._move(slot, state)
        stage.on_undo(lambda: self._move(slot, before))

    def _date(self, slot: Slot, since_s: int, stage: Stage) -> None:
        """Note since when bytes of a former use lie in a slot; before its state changes."""
        dates = self._areas[self._geometry.area_of(slot)].since_s
        at = slot % self._geometry.area_slots
        before, dates[at] = dates[at], since_s
        stage.on_undo(partial(dates.__setitem__, at, before))

    def _move(self, slot: Slot, state: int) -> None:
        area, at = self._areas[self._geometry.area_of(slot)], slot % self._geometry.area_slots
        self._counts[area.states[at]] -= 1
        self._counts[state] += 1
        area.states[at] = state

    def _put(self, slots: Iterable[Slot], stage: Stage) -> None:
        for number in sorted({self._geometry.area_of(slot) for slot in slots}):
            area = self._areas[number]
            dates = area.since_s.tobytes() if any(area.since_s) else b""
            value = _OWNER.pack(area.owner) + area.states + dates
            stage.put(AREA_PREFIX + _NUMBER.pack(number), value)

    def _free_in(self, number: int) -> list[Slot]:
        """Return the slots of an area that can be leased, those that wait for scrubbing last."""
        slots = zip(self._geometry.slots_of(number), self._areas[number].states, strict=True)
        free = [
            (state == SlotState.WAITING, Slot(slot))
            for slot, state in slots
            if state in _FREE_STATES and slot not in self._claimed
        ]
        return [slot for _, slot in sorted(free)]


def _number_of(key: bytes) -> int:
    if len(key) != len(AREA_PREFIX) + _NUMBER.size:
        raise Corrupt(f"metadata key {key.hex()}: expected an area's")
    number: int = _NUMBER.unpack_from(key, len(AREA_PREFIX))[0]
    return number


def _area_of(number: int, value: bytes, geometry: Geometry) -> _Area:
    """Return an area out of its record; Corrupt when it is not one of this pool's."""
    slots = len(geometry.slots_of(number)) if number < geometry.areas else -1
    if len(value) not in (_OWNER.size + slots, _OWNER.size + 5 * slots):
        raise Corrupt(f"area {number}: record of {len(value)} bytes does not fit the pool")
    states = bytearray(value[_OWNER.size : _OWNER.size + slots])
    since_s = array("I", value[_OWNER.size + slots :] or bytes(4 * slots))
    owner: int = _OWNER.unpack_from(value)[0]
    held = SlotState.METADATA if owner == METADATA else SlotState.LEASED
    good = _FREE_STATES if owner == NOBODY else _FREE_STATES | {held}
    if not good.issuperset(states):
        raise Corrupt(f"area {number}: slot states {states.hex()} do not fit owner {owner}")
    undated = any(
        state == SlotState.WAITING and not when for state, when in zip(states, since_s, strict=True)
    )
    if undated:
        raise Corrupt(f"area {number}: a slot waits to be scrubbed, and nobody knows since when")
    return _Area(owner, states, since_s)


def _refill(items: list[Slot], before: list[Slot]) -> None:
    items[:] = before


def _forget(areas: dict[int, _Area], number: int) -> None:
    del areas[number]
