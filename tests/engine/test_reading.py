"""Reading: the last bytes written, zeros, or an error that names the unit (I1)."""

# ruff: noqa: SLF001 - units are found by their entries

from __future__ import annotations

from random import Random

import pytest

from scrubjay.base.errors import Corrupt
from scrubjay.base.units import SECTOR_BYTES, SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.media.simulated import Fault, IoKind
from tests.engine.rig import Machine, churn, content


def _place(machine: Machine, lba: int) -> int:
    """Return where the unit of a sector lies on the medium."""
    entry = machine.disk._map[lba]
    slot = machine.keeper.places[entry >> 28]
    return SLOTS_OFFSET_BYTES + slot * SEGMENT_BYTES + (entry >> 8 & 0xFFFFF) * 16


def test_read_of_any_range_returns_the_last_bytes_written(seed: int) -> None:
    """Ranges of any shape, over units cut, overwritten and moved in any way (I1)."""
    random = Random(seed)
    machine = Machine(lbas=1200)
    for _ in range(30):
        churn(machine, random, sectors=70)
        lba = random.randrange(1100)
        machine.drop(lba, random.randrange(1, 90))
        machine.close_segment()
        machine.clean(2)
        if random.random() < 0.2:
            machine.checkpoint()
        for _ in range(10):
            count = random.randrange(1, 300)
            machine.read(random.randrange(machine.lbas - count), count)
    machine.verify()


def test_read_within_a_batch_sees_what_is_staged() -> None:
    """A read behind a write in one batch returns that write, appended or not (I1)."""
    machine = Machine()
    machine.write((0, 8))
    machine.feed()
    machine.disk.begin(1 << 20)
    machine.disk.write(2, 3, memoryview(b"".join(content(2 + i, 9) for i in range(3))))
    machine.state.update({2: 9, 3: 9, 4: 9})
    machine.verify()
    machine.disk.commit()
    machine.verify()


def test_read_of_sectors_never_written_asks_the_medium_for_nothing() -> None:
    """What has no entry is zeros, whatever a slot's last owner left there (I1)."""
    machine = Machine()
    machine.write((0, 1))
    machine.medium.inject(Fault.ERROR, kind=IoKind.READ)
    machine.read(1, 300)
    machine.read(77, 1)
    with pytest.raises(OSError, match="simulated"):
        machine.read(0, 1)


@pytest.mark.parametrize("moved", [False, True])
def test_read_of_a_flipped_bit_is_an_error_of_that_unit_alone(moved: bool) -> None:
    """A damaged unit is named in the error; its neighbours read as ever (I1)."""
    machine = Machine()
    machine.write((0, 16))
    if moved:
        machine.write((100, 4))
        machine.close_segment()
        machine.write((100, 4))
        machine.clean()
        machine.checkpoint()
    machine.write((300, 1))
    random = Random(4)
    for _ in range(40):
        entry = machine.disk._map[4]
        if moved:
            entry = machine.disk._usage._moves[(entry >> 28) << 12 | (entry >> 16 & 4095)]
        slot = machine.keeper.places[entry >> 28]
        offset = (entry >> 8 & 0xFFFFF) * 16
        at = SLOTS_OFFSET_BYTES + slot * SEGMENT_BYTES + offset
        bit = 8 * at + random.randrange(8 * (4 * SECTOR_BYTES + 16))
        machine.medium.flip(bit)
        for lba in (4, 5, 7):
            with pytest.raises(Corrupt, match=f"segment {entry >> 28} offset {offset}: .* LBA "):
                machine.read(lba, 1)
        with pytest.raises(Corrupt):
            machine.read(0, 16)
        machine.read(0, 4)
        machine.read(8, 8)
        machine.medium.flip(bit)
    machine.verify()


def test_read_of_a_misdirected_unit_is_an_error() -> None:
    """A unit opens at its own place and for its own LBA, and nowhere else (I1)."""
    machine = Machine()
    machine.write((0, 4), (8, 4))
    machine.close_segment()
    machine.write((16, 4))
    first, second, elsewhere = (_place(machine, lba) for lba in (0, 8, 16))
    sealed = machine.medium.peek(first, 4 * SECTOR_BYTES + 16)
    for target, lba in ((second, 8), (elsewhere, 16)):
        kept = machine.medium.peek(target, len(sealed))
        machine.medium.plant(target, sealed)
        with pytest.raises(Corrupt):
            machine.read(lba, 4)
        machine.medium.plant(target, kept)
    machine.verify()


def test_read_of_a_stale_slot_is_an_error() -> None:
    """What a slot held for its last segment does not open for the next one (I1)."""
    machine = Machine(slots=12)
    machine.write((0, 16))
    place = _place(machine, 0)
    old = machine.medium.peek(place, 4 * SECTOR_BYTES + 16)
    machine.close_segment()
    machine.write((0, 16))
    machine.checkpoint()
    while _place(machine, 0) != place:
        machine.close_segment()
        machine.write((0, 16))
        machine.checkpoint()
    machine.medium.plant(place, old)
    with pytest.raises(Corrupt):
        machine.read(0, 1)


def test_read_that_comes_up_short_is_an_error() -> None:
    """A medium that returns less than a unit returns no unit (I1)."""
    machine = Machine()
    machine.write((0, 16))
    for sectors in (1, 16):
        machine.medium.inject(Fault.SHORT, kind=IoKind.READ)
        with pytest.raises(Corrupt, match="medium: ends"):
            machine.read(0, sectors)
    machine.verify()


def test_extents_are_what_a_read_will_ask_for() -> None:
    """Advice covers every unit of the range, where it is now, and nothing else."""
    machine = Machine()
    machine.write((0, 6), (10, 1))
    assert machine.disk.extents(0, 20) == [
        (_place(machine, 0), 4 * SECTOR_BYTES + 16),
        (_place(machine, 4), 2 * SECTOR_BYTES + 16),
        (_place(machine, 10), SECTOR_BYTES + 16),
    ]
    machine.disk.announce([(0, 20 * SECTOR_BYTES)])
    assert machine.medium.advised == machine.disk.extents(0, 20)
    assert machine.disk.extents(100, 5) == []


def test_allocation_tells_data_from_holes(seed: int) -> None:
    """BLOCK_STATUS follows the map, sector by sector."""
    random = Random(seed)
    machine = Machine(lbas=1500)
    for _ in range(20):
        churn(machine, random)
        machine.drop(random.randrange(1400), 30)
    for _ in range(50):
        first = random.randrange(1400)
        size = random.randrange(1, (1500 - first) * SECTOR_BYTES)
        extents = machine.disk.allocation(first * SECTOR_BYTES, size, extents_max=10_000)
        assert sum(length for length, _ in extents) == size
        at = first * SECTOR_BYTES
        for length, data in extents:
            for lba in range(at // SECTOR_BYTES, -(-(at + length) // SECTOR_BYTES)):
                assert data == bool(machine.state.get(lba))
            at += length
        assert machine.disk.allocation(first * SECTOR_BYTES, size, extents_max=2) == extents[:2]
