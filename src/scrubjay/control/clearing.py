"""Clearing away what forgotten volumes leave: slots, directory, ledger, key tables.

Nothing opens any of it, so it can wait, and goes in slices: a neighbour who needs the pool
waits for one of them at most. The record under `w` is the last thing to go, so that a crash
in between leaves what is needed to go on; each slice can be done twice.
"""

from __future__ import annotations

from itertools import islice

import msgspec

from scrubjay.base.ids import LineageNo, TenantNo, VolumeId
from scrubjay.control.directory import groups_of
from scrubjay.control.keeper import Change, Keeper
from scrubjay.control.records import (
    RemainsRecord,
    birth_key,
    branch_prefix,
    encode,
    ledger_prefix,
    lineage_key,
    peaks_key,
    remains_key,
)
from scrubjay.keys import path

__all__ = ["Clearing"]

_GROUPS = 16
"""A thousand slots in one slice: some 10 ms of the pool's lock."""
_KEYS = 256


class Clearing:
    """Carried out by one thread, slice by slice."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def step(self) -> bool:
        """Clear one slice away, durably; return whether there was anything."""
        with self._keeper.reading() as view:
            found = next(iter(view.remains()), None)
        if found is None:
            return False
        with self._keeper.changing(frees=True) as change:
            lineage, remains = found
            if not (_slots(change, lineage, remains) or _keys(change, lineage, remains)):
                change.delete(remains_key(lineage))
        return True


def _slots(change: Change, lineage: LineageNo, remains: RemainsRecord) -> bool:
    """Free the slots of some groups, and count them; return whether there were any.

    They wait to be scrubbed since the forgetting, from which that is promised.
    """
    groups = list(islice(groups_of(change, lineage), _GROUPS))
    slots = [slot for _, group in groups for slot in group.slots if slot is not None]
    if slots:
        change.release_slots(lineage, slots, since_s=int(remains.forgotten_at.timestamp()))
        _count(change, VolumeId(remains.volume), len(slots))
    for key, _ in groups:
        change.delete(key)
    return bool(groups)


def _count(change: Change, volume: VolumeId, slots: int) -> None:
    """Note in how many slots a volume's bytes were, for its certificate."""
    birth = change.birth_record(volume)
    if birth.destruction is not None:
        end = msgspec.structs.replace(birth.destruction, slots=birth.destruction.slots + slots)
        change.put(birth_key(volume), encode(msgspec.structs.replace(birth, destruction=end)))


def _keys(change: Change, lineage: LineageNo, remains: RemainsRecord) -> bool:
    """Delete some of what has no slots; return whether there was any."""
    below = b"k" + path.lineage(TenantNo(remains.tenant), lineage)
    for prefix in (ledger_prefix(lineage), below, branch_prefix(lineage)):
        keys = change.keys(prefix)[:_KEYS]
        for key in keys:
            change.delete(key)
        if keys:
            return True
    change.delete(peaks_key(lineage))
    change.delete(lineage_key(lineage))
    return False
