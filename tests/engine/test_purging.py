"""Purging: what was overwritten or discarded in a live volume opens for nobody, in time (I3)."""

# ruff: noqa: SLF001 - what is due is looked up where the engine keeps it

from __future__ import annotations

import struct
from collections.abc import Iterator
from random import Random

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from scrubjay.base.errors import Corrupt
from scrubjay.base.units import GIB, HEADER_KEY, SEGMENT_BYTES, SLOTS_OFFSET_BYTES, STRIPES
from scrubjay.engine import purging
from scrubjay.engine.entry import STRIPE_SHIFT
from scrubjay.engine.purging import Purger
from scrubjay.engine.record import read_prefix, units_of, unpack_header
from scrubjay.keys.aead import children
from scrubjay.media.simulated import IoKind, SimulatedMedium
from tests.engine.fsck import fsck
from tests.engine.rig import Keeper, Machine, churn, key_of

HOUR = 3600
NOON = 1_800_000_000


def readable(machine: Machine) -> set[tuple[int, int]]:
    """Return every (LBA, version) that opens with the medium's past and the keys of today.

    He knows the format, tries every key that the keeper would still give, and has every byte
    that was ever written.
    """
    keys = {
        segment: dict(surviving(machine.keeper, segment))
        for segment in range(1, machine.keeper.next_segment)
        if segment in machine.keeper.places
    }
    found: set[tuple[int, int]] = set()
    for io in machine.medium.trace:
        if io.kind is not IoKind.WRITE or io.offset_bytes < SLOTS_OFFSET_BYTES:
            continue
        at = (io.offset_bytes - SLOTS_OFFSET_BYTES) % SEGMENT_BYTES
        for ciphers in keys.values():
            found |= set(_opened(memoryview(io.data), at, ciphers))
    return found


def surviving(keeper: Keeper, segment: int) -> Iterator[tuple[int, AESGCM]]:
    """Yield the number and the cipher of each key of a segment that is not forgotten."""
    gone = keeper.gone.get(segment, 0)
    for number, key in enumerate(children(key_of(segment), range(HEADER_KEY + 1))):
        if not gone >> number & 1:
            yield number, AESGCM(key)


def _opened(data: memoryview, at: int, ciphers: dict[int, AESGCM]) -> Iterator[tuple[int, int]]:
    prefix = read_prefix(data, room_bytes=SEGMENT_BYTES) if len(data) >= 4096 else None
    if prefix is None:
        return
    end = 32 + prefix.header_bytes
    try:
        nonce = (at << 48 | 1 << 47).to_bytes(12, "little")
        text = ciphers[HEADER_KEY].decrypt(nonce, bytes(data[32:end]), bytes(data[:32]))
    except InvalidTag:
        return
    header = unpack_header(text, "")
    bytes_of = {"at_bytes": at, "units_at": prefix.units_at, "record_bytes": prefix.record_bytes}
    for unit in units_of(header, **bytes_of):
        cipher = ciphers.get(unit.offset_bytes * STRIPES // SEGMENT_BYTES)
        if unit.lba >= 1 << 46 or cipher is None:
            continue
        nonce = (unit.offset_bytes << 48 | unit.lba).to_bytes(12, "little")
        start = unit.offset_bytes - at
        plain = cipher.decrypt(nonce, bytes(data[start : start + unit.sealed_bytes]), None)
        for sector in range(unit.sectors):
            yield struct.unpack_from("<QQ", plain, sector * 4096)


def stale(machine: Machine) -> set[tuple[int, int]]:
    """Return what opens though it was overwritten or discarded."""
    return {each for each in readable(machine) if machine.state.get(each[0], 0) != each[1]}


def volume(*, lbas: int = 6000, slots: int = 60) -> Machine:
    """Return a volume of two segments, written once, of which some sectors are dead."""
    machine = Machine(slots=slots, lbas=lbas)
    machine.disk.tick(NOON)
    for lba in range(0, lbas, 200):
        machine.write((lba, min(200, lbas - lba)))
    machine.checkpoint()
    return machine


def test_purge_leaves_nothing_of_what_was_overwritten_or_discarded() -> None:
    """Every byte ever written and every key of today open what is current, and no more (I3)."""
    machine = volume()
    for lba in (5, 900, 901, 4000):
        machine.write((lba, 1))
    machine.drop(3000, 40)
    machine.checkpoint()
    assert stale(machine)
    machine.purge(NOON + HOUR)
    assert not machine.disk.purger.moved_bytes, "half of a day has to be over"
    machine.purge(NOON + 13 * HOUR)
    assert not stale(machine)
    machine.verify()
    fsck(machine)
    machine.kill()
    machine.verify()
    assert readable(machine) == {
        (lba, version) for lba, version in machine.state.items() if version
    }


def test_purge_moves_stripes_and_not_segments() -> None:
    """One dead sector costs a stripe's worth of moving, and its segment keeps its slot."""
    machine = volume()
    before = dict(machine.keeper.places)
    machine.write((2000, 1))
    machine.purge(NOON + 13 * HOUR)
    assert 0 < machine.disk.purger.moved_bytes < 66 * 4096
    assert before.items() <= machine.keeper.places.items()
    assert sum(mask.bit_count() for mask in machine.keeper.gone.values()) == 1
    assert not stale(machine)


def test_purge_of_the_open_segment_has_the_log_go_on_elsewhere() -> None:
    """A small volume that is never written again is in time as well."""
    machine = Machine(lbas=64)
    machine.disk.tick(NOON)
    machine.write((0, 64))
    machine.write((0, 8))
    segment = machine.disk._log.segment
    machine.purge(NOON + 13 * HOUR)
    assert machine.disk._log.segment != segment
    assert not stale(machine)
    machine.kill()
    machine.verify()


def test_purge_counts_what_died_before_the_last_attachment() -> None:
    """Dates are durable: a volume that changes hands every hour is purged in time."""
    machine = volume()
    machine.write((100, 1), (5000, 2))
    machine.detach()
    machine.disk.tick(NOON + 11 * HOUR)
    machine.detach()
    assert machine.keeper.purged.waiting_since_s == NOON
    machine.purge(NOON + 13 * HOUR)
    assert not stale(machine)
    assert machine.keeper.purged.waiting_since_s == 0


def test_purge_dates_what_replay_finds_dead_no_later_than_it_died() -> None:
    """A death behind the last checkpoint is dated with that checkpoint's beginning (I8)."""
    machine = volume()
    machine.disk.tick(NOON + HOUR)
    machine.write((100, 1))
    machine.flush()
    machine.kill()
    machine.disk.tick(NOON + 9 * HOUR)
    assert machine.disk.purger.waiting_since_s == NOON


def test_purge_beyond_its_allowance_waits_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes moved are bounded; what is due by then stays, dated, until there is more (I8)."""
    monkeypatch.setattr(purging, "ALLOWANCE_BYTES_MIN", GIB >> 11)
    machine = volume(lbas=8000)
    machine.write(*((lba, 1) for lba in range(0, 8000, 400)))
    machine.checkpoint()
    machine.purge(NOON + 13 * HOUR)
    moved = machine.disk.purger.moved_bytes
    assert 0 < moved < 20 * 60 * 4096
    assert stale(machine)
    assert machine.keeper.purged.waiting_since_s == NOON
    for hour in range(14, 14 + 24 * 12):
        machine.purge(NOON + hour * HOUR)
    assert not stale(machine)
    assert machine.keeper.purged.waiting_since_s == 0


def test_entry_into_a_forgotten_stripe_is_an_error_and_no_other_bytes() -> None:
    """A map that names what was purged reads as an error (I1)."""
    machine = volume()
    old = machine.disk._map[2000]
    machine.write((2000, 1))
    machine.purge(NOON + 13 * HOUR)
    assert machine.keeper.gone[old >> 28] >> (old >> STRIPE_SHIFT & 63) & 1
    machine.disk._map[2000] = old
    with pytest.raises(Corrupt, match="no slot or no key"):
        machine.read(2000, 1)
    machine.kill()
    machine.verify()


def test_purge_of_a_segment_that_does_not_open_is_overdue_for_ever() -> None:
    """What cannot be read cannot be moved: that is told, and nothing else waits for it (I8)."""
    machine = volume()
    rotten, sound = machine.disk._map[2000], machine.disk._map[5000]
    machine.write((2001, 1), (5001, 1))
    machine.checkpoint()
    place = SLOTS_OFFSET_BYTES + machine.keeper.places[rotten >> 28] * SEGMENT_BYTES
    machine.medium.plant(place + (rotten >> 4 & 0xFFFFF0), b"\xff" * 8)
    with pytest.raises(Corrupt):
        machine.purge(NOON + 13 * HOUR)
    machine.purge(NOON + 14 * HOUR)
    assert sound >> 28 in machine.keeper.gone
    assert rotten >> 28 not in machine.keeper.gone
    assert machine.keeper.purged.waiting_since_s == NOON


@pytest.mark.parametrize("keep", [0, 1])
def test_power_cut_anywhere_in_a_purge_loses_nothing_and_brings_nothing_back(
    keep: int, seed: int
) -> None:
    """At every write and sync the volume is whole: what was given up is not needed (I5, I6)."""
    machine = volume(lbas=1500, slots=24)
    random = Random(seed)
    machine.flush()
    cuts: list[tuple[int, Keeper]] = []
    machine.keeper.on_change = lambda: cuts.append(
        (len(machine.medium.trace), machine.keeper.copy())
    )
    first = len(machine.medium.trace)
    machine.keeper.on_change()
    machine._base, machine.requests = dict(machine.state), []
    for hour in (13, 14, 27, 28):
        churn(machine, random)
        machine.drop(random.randrange(1000), 30)
        machine.flush()
        machine.purge(NOON + hour * HOUR)
    assert machine.keeper.gone
    last = len(machine.medium.trace)
    for cut in range(first, last + 1):
        keeper = [each for at, each in cuts if at <= cut][-1].copy()
        medium = _replayed(machine, cut).crash(lambda count: (count - 1) * keep)
        again = Machine.after(medium, keeper, lbas=machine.lbas)
        image = again.image()
        machine.matching(
            image, least=machine.durable(cut), most=len(machine.requests), base=machine._base
        )
        fsck(again)


def _replayed(machine: Machine, cut: int) -> SimulatedMedium:
    medium = SimulatedMedium(machine.keeper.medium_bytes)
    for io in machine.medium.trace[:cut]:
        if io.kind is IoKind.WRITE:
            medium.write(io.offset_bytes, io.data)
        else:
            medium.sync(io.extents)
    return medium


def _purged_and_written_on() -> None:
    machine = volume(lbas=1500)
    machine.write((1490, 4))
    machine.write((1490, 4))
    machine.purge(NOON + 13 * HOUR)
    machine.write((8, 2))
    machine.flush()
    machine.kill()
    machine.verify()


def test_stripe_that_is_still_written_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log goes on behind what is purged; else what follows would be lost (I4)."""
    _purged_and_written_on()
    monkeypatch.setattr("scrubjay.engine.disk.go_on_behind", lambda *_, **__: True)
    seal = Purger.seal
    monkeypatch.setattr(Purger, "seal", lambda self, **_: seal(self, before=1 << 36))
    with pytest.raises((AssertionError, Corrupt)):
        _purged_and_written_on()


def test_key_that_is_not_forgotten_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who still has one key of what was given up reads what was overwritten (I3)."""
    machine = volume()
    machine.write((2000, 1))
    machine.purge(NOON + 13 * HOUR)
    assert not stale(machine)
    monkeypatch.setattr(machine.keeper, "gone", {})
    assert stale(machine)
