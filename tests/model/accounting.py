"""Whose is each slot: of the metadata, of exactly one living lineage, or of nobody."""

from __future__ import annotations

import struct

from scrubjay.base.ids import LineageNo, Slot
from scrubjay.control.directory import groups_of
from scrubjay.control.view import View
from scrubjay.media.pool import Pool
from scrubjay.media.slots import METADATA, NOBODY, SlotState

__all__ = ["check_slots"]


def check_slots(pool: Pool) -> dict[int, int]:
    """Compare areas and directories; return how many slots each lineage holds (I1)."""
    view = View(pool)
    living = {record.lineage for _, record in view.volumes()}
    listed = {int.from_bytes(key[1:5]) for letter in b"ldgb" for key, _ in _of(pool, letter)}
    assert listed == living, f"lineages {listed ^ living}: living or listed, expected both"
    held: dict[Slot, int] = {}
    counts = dict.fromkeys(living, 0)
    for lineage in living:
        for _, group in groups_of(view, LineageNo(lineage)):
            for slot in group.slots:
                if slot is None:
                    continue
                other = held.setdefault(slot, lineage)
                assert other == lineage, f"slot {slot}: of lineages {other} and {lineage}"
                counts[lineage] += 1
    assert len(held) == sum(counts.values()), "slots: one is listed twice, expected once"
    for place, (owner, state) in _states(pool).items():
        match state:
            case SlotState.LEASED:
                assert held.pop(place, None) == owner, (
                    f"slot {place}: leased by {owner}, not listed"
                )
            case SlotState.METADATA:
                assert owner == METADATA, f"slot {place}: metadata in an area of {owner}"
            case _:
                assert owner == NOBODY or owner in {METADATA, *living}, f"slot {place}: of {owner}"
    assert not held, f"slots {sorted(held)}: listed, expected leased"
    return counts


def _states(pool: Pool) -> dict[Slot, tuple[int, int]]:
    states: dict[Slot, tuple[int, int]] = {}
    for key, value in _of(pool, ord("a")):
        (owner,) = struct.unpack_from("<I", value)
        slots = pool.geometry.slots_of(int.from_bytes(key[1:]))
        each = value[4 : 4 + len(slots)]  # dates may follow
        states |= {Slot(slot): (owner, state) for slot, state in zip(slots, each, strict=True)}
    return states


def _of(pool: Pool, letter: int) -> list[tuple[bytes, bytes]]:
    return pool.scan(bytes((letter,)))
