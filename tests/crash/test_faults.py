"""I/Os that fail, one after the other, and bytes that rot: an error, never other data (I1, I4)."""

# ruff: noqa: SLF001 - the places of pages and units are found by their entries

from __future__ import annotations

from random import Random

import pytest

from scrubjay.base.errors import Corrupt, ScrubjayError
from scrubjay.base.units import SECTOR_BYTES, SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.media.simulated import Fault, IoKind, SimulatedMedium
from tests.engine.fsck import _pages, fsck
from tests.engine.rig import Machine, checkpoint, content, feed, open_disk

Failures = (OSError, ScrubjayError)


class Client:
    """One who remembers what he wrote, and what may or may not have become of the rest."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.may: dict[int, set[int]] = {}
        """LBA -> versions that it may hold: one, unless a request failed."""
        self.failed = 0

    def write(self, lba: int, sectors: int) -> None:
        """Write; where it fails the sectors are old or new, each of them (I5)."""
        machine = self.machine
        machine.version += 1
        version = machine.version
        data = b"".join(content(lba + i, version) for i in range(sectors))

        def do() -> None:
            machine.feed()
            machine.disk.begin(len(data))
            machine.disk.write(lba, sectors, memoryview(data))
            machine.disk.commit()

        self._do(do, range(lba, lba + sectors), version)

    def drop(self, lba: int, sectors: int) -> None:
        """Zero."""
        self._do(
            lambda: self.machine.disk.drop(lba * SECTOR_BYTES, sectors * SECTOR_BYTES, exact=True),
            range(lba, lba + sectors),
            0,
        )

    def attempt(self, *steps: object) -> None:
        """Take a step of upkeep that may fail."""
        for step in steps:
            assert callable(step)
            try:
                step()
            except Failures:
                self.failed += 1

    def check(self) -> None:
        """Read every sector: what was written, or an error."""
        for lba in range(self.machine.lbas):
            out = memoryview(bytearray(SECTOR_BYTES))
            try:
                self.machine.disk.read_into(lba, 1, out)
            except Failures:
                continue
            versions = self.may.get(lba, {0})
            assert out in [content(lba, version) for version in versions], f"LBA {lba}"

    def settle(self) -> None:
        """Read what is there, with a medium that works; from here on that is what holds."""
        for lba, data in enumerate(self.machine.image()):
            version = int.from_bytes(data[8:16], "little")
            assert version in self.may.get(lba, {0}), f"LBA {lba}: version {version}"
            assert data == content(lba, version)
            self.may[lba] = {version}

    def _do(self, do: object, lbas: range, version: int) -> None:
        assert callable(do)
        try:
            do()
        except Failures:
            self.failed += 1
            try:
                self.machine.disk.commit()
            except Failures:
                self.failed += 1
            for lba in lbas:
                self.may.setdefault(lba, {0}).add(version)
        else:
            self.may.update({lba: {version} for lba in lbas})


def _workload(client: Client) -> None:
    """A bit of everything, on few segments, with a map of which little stays in memory."""
    machine = client.machine
    client.write(0, 24)
    client.write(600, 8)
    machine.close_segment()
    client.write(0, 12)
    client.drop(4, 4)
    client.attempt(lambda: machine.clean(3), machine.checkpoint)
    client.check()
    machine.close_segment()
    machine.close_moved()
    client.write(8, 6)
    client.attempt(machine.clean, machine.checkpoint)
    client.write(602, 2)
    client.drop(0, 2)
    client.attempt(machine.flush, machine.clean, machine.checkpoint)
    client.check()


def _play(kind: IoKind, fault: Fault, after: int) -> tuple[int, Client]:
    """Play the workload with one fault; return how many requests and steps failed."""
    machine = Machine(slots=30, lbas=620, map_limit_pages=1)
    client = Client(machine)
    machine.medium.inject(fault, after=after, kind=kind)
    _workload(client)
    return client.failed, client


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(IoKind))
@pytest.mark.parametrize("fault", list(Fault))
def test_any_io_that_fails_is_an_error_and_never_other_data(kind: IoKind, fault: Fault) -> None:
    """The N-th I/O fails, for every N: requests fail, and nothing else happens (I1, I4, I5)."""
    fails = 0
    stride = 3 if kind is IoKind.READ else 1
    for number in range(0, 10_000, stride):
        failed, client = _play(kind, fault, number)
        machine = client.machine
        if not machine.medium._faults:
            fails += bool(failed)
        elif number:
            break
        machine.medium._faults.clear()
        client.check()
        if kind is IoKind.SYNC:
            continue  # the volume is poisoned, which is the exporter's to do
        _aftermath(client)
    assert fails


def _aftermath(client: Client) -> None:
    """The medium works again: everything acknowledged is there, and the volume works on."""
    machine = client.machine
    machine.kill()
    client.settle()
    fsck(machine)
    for _ in range(2):
        machine.clean()
        machine.checkpoint()
    client.write(3, 5)
    machine.detach()
    client.settle()
    fsck(machine)


@pytest.mark.parametrize("kind", list(IoKind))
@pytest.mark.parametrize("fault", list(Fault))
def test_attach_with_an_io_that_fails_is_refused_and_repeatable(kind: IoKind, fault: Fault) -> None:
    """An error while recovering is no end of the log: the next attempt finds everything (I4)."""
    machine = Machine(slots=40, lbas=64)
    machine.write((0, 24))
    machine.checkpoint()
    machine.write((4, 8))
    machine.close_segment()
    machine.write((8, 30))
    machine.flush()
    for number in range(100):
        medium, keeper = machine.medium.crash(lambda _n: 1), machine.keeper.copy()
        medium.inject(fault, after=number, kind=kind)
        try:
            open_disk(medium, keeper)
        except Failures:
            pass
        else:
            assert number, "the fault is noticed"
        over = not medium._faults
        medium._faults.clear()
        again = Machine.after(medium.crash(lambda _n: 0), keeper, lbas=64)
        assert again.image() == machine.image()
        fsck(again)
        if not over:
            break
    else:
        raise AssertionError("more I/Os than there can be")


def _rotten(machine: Machine, at: int, length: int, random: Random) -> SimulatedMedium:
    """Return a copy of the medium with one bit of these bytes flipped."""
    medium = machine.medium.crash(lambda n: n - 1 if n == 6 else 0)
    medium.flip(8 * at + random.randrange(8 * length))
    return medium


def _base(machine: Machine, segment: int) -> int:
    return SLOTS_OFFSET_BYTES + machine.keeper.places[segment] * SEGMENT_BYTES


def _detached() -> Machine:
    """Return a volume that was detached, with moved sectors and two leaves of map."""
    machine = Machine(slots=30, lbas=620)
    machine.write((0, 24), (600, 8))
    machine.close_segment()
    machine.write((0, 12))
    machine.clean()
    machine.checkpoint()
    machine.write((30, 4))
    machine.disk.detach()
    return machine


@pytest.mark.parametrize("part", ["root", "map", "usage", "moves"])
def test_page_that_rots_is_an_error_or_a_refused_attach(part: str, seed: int) -> None:
    """No page of any kind is believed with a bit flipped (I1)."""
    random = Random(seed)
    machine = _detached()
    disk = machine.disk
    maps = {"map": disk._map, "usage": disk._usage._pages, "moves": disk._usage._moves}
    if part == "root":
        entries = [disk._checkpointer.root_entry]
    else:
        entries = [entry for _, entry in _pages(maps[part])]
    assert entries
    for entry in entries * 3:
        at = _base(machine, entry >> 28) + (entry >> 8 & 0xFFFFF) * 16
        medium = _rotten(machine, at, SECTOR_BYTES + 16, random)
        _believes_nothing(machine, medium)


def test_slot_that_rots_anywhere_is_an_error_or_a_refused_attach(seed: int) -> None:
    """Prefixes, headers, units, pages, padding: no flipped bit gives other data (I1)."""
    random = Random(seed)
    machine = _detached()
    for _ in range(60):
        segment = random.choice(list(machine.keeper.places))
        medium = _rotten(machine, _base(machine, segment), 400 << 10, random)
        _believes_nothing(machine, medium)


@pytest.mark.parametrize("how", ["misdirected", "stale", "zero"])
def test_block_that_is_another_is_an_error_or_a_refused_attach(how: str, seed: int) -> None:
    """A write that went elsewhere, or was lost, gives an error, never other data (I1)."""
    random = Random(seed)
    machine = _detached()
    written = sorted({io.offset_bytes for io in machine.medium.trace if io.data})
    for _ in range(60):
        medium = machine.medium.crash(lambda n: n - 1 if n == 6 else 0)
        at = random.choice(written) + random.choice([0, 4096, 8192])
        match how:
            case "misdirected":
                block = medium.peek(random.choice(written), 4096)
            case "stale":
                block = random.choice([io.data for io in machine.medium.trace if io.data])[:4096]
            case _:
                block = bytes(4096)
        medium.plant(at, block)
        _believes_nothing(machine, medium)


def _believes_nothing(machine: Machine, medium: SimulatedMedium) -> None:
    """Attach, read all, clean and checkpoint: right bytes or errors; then read all again."""
    keeper = machine.keeper.copy()
    try:
        disk = open_disk(medium, keeper)
    except Corrupt:
        return
    for _ in range(3):
        for lba in range(machine.lbas):
            out = memoryview(bytearray(SECTOR_BYTES))
            try:
                disk.read_into(lba, 1, out)
            except Corrupt:
                continue
            assert out == content(lba, machine.state.get(lba, 0)), f"LBA {lba}"
        feed(disk, keeper)
        for _ in range(20):
            try:
                if not disk.clean():
                    break
            except Corrupt:
                continue
        try:
            checkpoint(disk)
        except Corrupt:
            return


def test_rot_in_the_tail_gives_a_moment_of_the_past_at_worst(seed: int) -> None:
    """Behind the last checkpoint a flipped bit looks like a torn write (attacks.md).

    The volume is then as it was at one moment since that checkpoint, whole; or refused.
    """
    random = Random(seed)
    for _ in range(25):
        machine = Machine(slots=30, lbas=64)
        machine.write((0, 24))
        machine.checkpoint()
        floor = len(machine.requests)
        for lba in range(0, 40, 8):
            machine.write((lba, 10))
        machine.flush()
        segment = machine.disk._log.segment
        end = machine.disk._log.position
        medium = _rotten(machine, _base(machine, segment), end, random)
        try:
            after = Machine.after(medium, machine.keeper.copy(), lbas=64)
        except Corrupt:
            continue
        machine.matching(after.image(), least=floor, most=len(machine.requests), base={})


def test_victims_that_cannot_be_read_are_left_alone_and_the_rest_is_cleaned() -> None:
    """A damaged segment stops neither cleaning nor checkpoints, and costs no segments."""
    machine = Machine(slots=40, lbas=200)
    victims = []
    for lba in range(0, 96, 24):
        machine.write((lba, 24))
        victims.append(machine.disk._log.segment)
        machine.close_segment()
    machine.write((0, 8), (24, 8), (48, 8), (72, 8))
    damaged = victims[1]
    machine.medium.flip(8 * (_base(machine, damaged) + 40))
    errors = 0
    for _ in range(100):
        try:
            if not machine.clean(1):
                break
        except Corrupt:
            errors += 1
    assert errors == 1
    held = machine.disk.counters.held_segments
    machine.checkpoint()
    machine.verify()
    assert damaged in machine.keeper.places
    assert not set(victims) - {damaged} & set(machine.keeper.places)
    assert machine.disk.counters.held_segments < held
