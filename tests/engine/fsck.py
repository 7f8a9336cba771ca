"""An independent check of one attached volume: map, moves, usage and directory agree.

It opens every unit with ciphers of its own, from the bytes of the medium, and counts
references itself; of the engine it reads only the three maps.
"""

# ruff: noqa: SLF001 - a check of what is inside looks inside

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from scrubjay.base.units import SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.engine.checkpoint import ROOT_ADDRESS
from scrubjay.engine.disk import Disk
from scrubjay.engine.paged import EMPTY, PagedMap, page_address
from scrubjay.keys.aead import child
from scrubjay.media.simulated import SimulatedMedium
from tests.engine.rig import Keeper, Machine, key_of

_MASK48 = (1 << 48) - 1


@dataclass(frozen=True, slots=True)
class Report:
    """What was counted."""

    referenced: int
    """Sectors that the map, or a page's parent, names."""
    leaked: int
    """Sectors that count as live and that nothing names."""


def fsck(machine: Machine) -> Report:
    """Check a machine's volume."""
    return fsck_of(machine.disk, machine.medium, machine.keeper, lbas=machine.lbas)


def fsck_of(
    disk: Disk, medium: SimulatedMedium, keeper: Keeper, *, lbas: int, failed: bool = False
) -> Report:
    """Check everything; raise AssertionError at the first contradiction.

    `failed` says that the last checkpoint did: pages that the next one moves may then be
    entered as dead where they still are.
    """
    sectors, usage, moves = disk._map, disk._usage._pages, disk._usage._moves
    disk.commit()
    disk._usage.settle()
    named: defaultdict[int, set[int]] = defaultdict(set)
    by_slot = set(keeper.places.values())
    assert len(by_slot) == len(keeper.places), "two segments in one slot"
    elsewhere = [*keeper.free, *keeper.others]
    assert sorted([*by_slot, *elsewhere]) == list(range(keeper.slots)), "each slot is of one"
    for lba in range(lbas):
        entry = sectors[lba]
        if not entry:
            continue
        _name(named, entry)
        where = entry
        if entry >> 28 not in keeper.places or _gone(keeper, entry):
            where = moves[(entry >> 28) << 12 | _position(entry)]
            assert where, f"LBA {lba}: segment {entry >> 28} has no slot and no move"
        if moved := moves[(entry >> 28) << 12 | _position(entry)]:
            _name(named, moved)
        _open(medium, keeper, where, lba - (where & 15))
    pages = [page for each in (sectors, usage, moves) for page in _pages(each)]
    if disk._checkpointer.root_entry:
        pages.append((ROOT_ADDRESS, disk._checkpointer.root_entry))
    moving = {ROOT_ADDRESS} | {
        page_address(each.kind, *at)
        for each in (sectors, usage, moves)
        for at in each.leaving(leaves=each.dirty)
    }
    for address, entry in pages:
        _open(medium, keeper, entry, address)
        dead_already = disk._usage.dead(entry >> 28) >> _position(entry) & 1
        if not (failed and address in moving and dead_already):
            _name(named, entry)
    leaked = total = 0
    for segment in range(1, keeper.next_segment):
        words = usage.leaf(segment >> 2)[(segment & 3) << 7 :][:66].tolist()
        dead = {
            64 * i + bit
            for i, word in enumerate(words[:64])
            for bit in range(64 if word else 0)
            if word >> bit & 1
        }
        wrong = named[segment] & dead
        assert not wrong, f"segment {segment}: positions {sorted(wrong)} are named and dead"
        live = words[64] - len(dead)
        leaked += live - len(named[segment])
        total += live
        assert live >= len(named[segment]), f"segment {segment}: {live} live, {named[segment]}"
        counted = disk._usage.live.get(segment)
        assert counted in (None, live), f"segment {segment}: counted {counted}, is {live}"
        if segment in keeper.places:
            held = words[65] or segment in disk._spares or disk._is_open(segment)
            assert held, f"segment {segment}: has a slot and is of nobody"
    assert disk.counters.held_segments == len(keeper.places), "segments held"
    twice = sum(
        1
        for segment in range(1, keeper.next_segment)
        for position, moved in _moves_of(moves, segment)
        if moved and not usage[(segment << 7) + (position >> 6)] >> (position & 63) & 1
    )
    assert disk.counters.live_sectors == total - twice, "live sectors"
    return Report(sum(map(len, named.values())), leaked)


def _gone(keeper: Keeper, entry: int) -> int:
    return keeper.gone.get(entry >> 28, 0) >> (entry >> 22 & 63) & 1


def _position(entry: int) -> int:
    return (entry >> 16 & 4095) + (entry & 15)


def _name(named: defaultdict[int, set[int]], entry: int) -> None:
    assert _position(entry) not in named[entry >> 28], f"entry {entry:x} is named twice"
    named[entry >> 28].add(_position(entry))


def _open(medium: SimulatedMedium, keeper: Keeper, entry: int, lba: int) -> None:
    segment, offset = entry >> 28, (entry >> 8 & 0xFFFFF) * 16
    size = ((entry >> 4 & 15) + 1) * 4096 + 16
    assert segment in keeper.places, f"segment {segment}: is freed, and named by {lba:x}"
    assert not _gone(keeper, entry), f"segment {segment}: stripe is forgotten, {lba:x} in it"
    base = SLOTS_OFFSET_BYTES + keeper.places[segment] * SEGMENT_BYTES
    sealed = medium.peek(base + offset, size)
    assert lba < 1 << 47
    nonce = (offset << 48 | lba & _MASK48).to_bytes(12, "little")
    AESGCM(child(key_of(segment), offset // (SEGMENT_BYTES // 64))).decrypt(nonce, sealed, None)


def _pages(pages: PagedMap) -> list[tuple[int, int]]:
    """Return (address, entry) of every page that is on the medium."""
    found = []
    level_pages = [0] if pages.height else []
    for level in range(pages.height - 1, -1, -1):
        below = []
        for index in level_pages:
            if entry := pages.location(level, index):
                found.append((1 << 46 | pages.kind << 44 | level << 40 | index, entry))
            page = pages._upper(level, index) if level else None
            if page is not None:
                below += [index << 9 | i for i, child in enumerate(page) if child]
        level_pages = below
    return found


def _moves_of(moves: PagedMap, segment: int) -> list[tuple[int, int]]:
    leaves = [(i, moves.leaf(segment << 3 | i)) for i in range(8)]
    return [
        (i << 9 | at, moved)
        for i, leaf in leaves
        if leaf != EMPTY
        for at, moved in enumerate(leaf)
        if moved
    ]
