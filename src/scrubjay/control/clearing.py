"""Clearing away what forgotten volumes leave: slots, directory, ledger, key tables.

Nothing opens any of it, so it can wait, and goes in slices: a neighbour who needs the pool
waits for one of them at most. What a slice clears is read before it takes the pool's lock, for
nobody else touches what is forgotten. Small volumes go several to a slice. The record under
`w` is the last thing to go, so that a crash in between leaves what is needed to go on; each
slice can be done twice. What somebody wants scrubbed first goes first: slots wait
to be scrubbed since they were given back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from scrubjay.base.ids import LineageNo, Slot, TenantNo, VolumeId
from scrubjay.control.dates import with_dates
from scrubjay.control.directory import unpack_group
from scrubjay.control.keeper import Change, Keeper
from scrubjay.control.records import (
    RemainsRecord,
    birth_key,
    branch_prefix,
    directory_prefix,
    encode,
    ledger_prefix,
    lineage_key,
    peaks_key,
    remains_key,
    stripes_prefix,
    volume_key,
)
from scrubjay.keys import path

__all__ = ["Clearing"]

_GROUPS = 2
"""Of 64 slots each in one slice: some 3 ms of the pool's lock, and of its commit."""
_KEYS = 48
"""Deleted in one slice, of pages that are all its own to find and to write."""
_LINEAGES = 16


@dataclass(slots=True)
class _Slice:
    """What one commit clears away, of one lineage after another."""

    slots: list[tuple[LineageNo, RemainsRecord, list[Slot]]] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    groups: int = 0

    @property
    def full(self) -> bool:
        """Whether it has grown as large as it may."""
        return self.groups >= _GROUPS or len(self.keys) >= _KEYS

    def stage(self, change: Change) -> None:
        """Stage it: slots wait to be scrubbed since the forgetting, from which that is promised."""
        for lineage, remains, slots in self.slots:
            forgotten_s = int(remains.forgotten_at.timestamp())
            dates = change.release_slots(lineage, slots, since_s=forgotten_s)
            _note(change, VolumeId(remains.volume), slots=len(slots), dates=dates)
        for key in self.keys:
            change.delete(key)


class Clearing:
    """Carried out by one thread, slice by slice."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def step(self) -> bool:
        """Clear one slice away, durably; return whether there was anything."""
        with self._keeper.reading() as view:
            first = sorted(view.remains(), key=lambda each: not each[1].scrub_first)
            found = first[:_LINEAGES]
        if not found:
            return False
        cut = _Slice()
        for lineage, remains in found:
            if cut.full or not self._slots(cut, lineage, remains):
                continue
            if self._keys(cut, lineage, remains):
                cut.keys += (peaks_key(lineage), lineage_key(lineage), remains_key(lineage))
        with self._keeper.changing(frees=True) as change:
            cut.stage(change)
        return True

    def _slots(self, cut: _Slice, lineage: LineageNo, remains: RemainsRecord) -> bool:
        """Add slots of a lineage, and where they stand; return whether these were the last."""
        room = _GROUPS - cut.groups
        rows = self._keeper.pool.scan(directory_prefix(lineage), limit=room + 1)
        for key, value in rows[:room]:
            group = unpack_group(value, f"directory of lineage {lineage}")
            held = [slot for slot in group.slots if slot is not None]
            if held:
                cut.slots.append((lineage, remains, held))
            cut.keys.append(key)
            cut.groups += 1
        return len(rows) <= room

    def _keys(self, cut: _Slice, lineage: LineageNo, remains: RemainsRecord) -> bool:
        """Add keys of what has no slots; return whether these were the last."""
        below = b"k" + path.lineage(TenantNo(remains.tenant), lineage)
        for prefix in (
            ledger_prefix(lineage),
            stripes_prefix(lineage),
            below,
            branch_prefix(lineage),
        ):
            room = max(0, _KEYS - len(cut.keys))
            rows = self._keeper.pool.scan(prefix, limit=room + 1)
            cut.keys += [key for key, _ in rows[:room]]
            if len(rows) > room:
                return False
        return True


def _note(change: Change, volume: VolumeId, *, slots: int, dates: Iterable[int]) -> None:
    """Note in how many slots a volume's bytes were, and since when they wait, for its certificate.

    Of an ephemeral one that lives on it is noted with the volume, for a later end.
    """
    birth = change.birth_record(volume)
    end = birth.destruction
    if end is not None:
        since = None if end.slots_since is None else with_dates(end.slots_since, dates)
        end = msgspec.structs.replace(end, slots=end.slots + slots, slots_since=since)
        change.put(birth_key(volume), encode(msgspec.structs.replace(birth, destruction=end)))
        return
    record = change.volume(volume)
    if record.slots_since is not None:
        since = with_dates(record.slots_since, dates)
        renewed = msgspec.structs.replace(record, slots_since=since)
        change.put(volume_key(volume), encode(renewed))
