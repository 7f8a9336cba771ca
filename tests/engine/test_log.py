"""The appender: what is sealed where, once, and what a failed append leaves behind."""

# ruff: noqa: SLF001 - the appender is reached through its disk

from __future__ import annotations

import errno
from random import Random
from typing import ClassVar

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from scrubjay.base.errors import NoSpace
from scrubjay.base.units import SECTOR_BYTES, SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.engine import stripes
from scrubjay.engine.log import RESERVE_SEGMENTS
from scrubjay.engine.writing import AppendFailed
from scrubjay.media.simulated import Fault, IoKind
from tests.engine.rig import Machine, churn

FORMER = b"former use".ljust(4096, b".")


class Witness:
    """AES-GCM that refuses to seal twice under one key and nonce."""

    used: ClassVar[set[tuple[bytes, bytes]]] = set()

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._cipher = AESGCM(key)
        self.decrypt = self._cipher.decrypt
        self.decrypt_into = self._cipher.decrypt_into

    def encrypt_into(
        self, nonce: bytes, data: memoryview, ad: bytes | None, out: memoryview
    ) -> int:
        """Seal, once."""
        assert (self._key, nonce) not in self.used, f"nonce {nonce.hex()} twice under one key"
        self.used.add((self._key, nonce))
        return self._cipher.encrypt_into(nonce, data, ad, out)


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> type[Witness]:
    """Watch every seal of every volume, over crashes too."""
    Witness.used = set()
    monkeypatch.setattr(stripes, "AESGCM", Witness)
    return Witness


def _history(seed: int, *, steps: int) -> None:
    """Play a volume whose medium fails now and then, and which crashes."""
    random = Random(seed)
    machine = Machine(slots=60, lbas=300)
    for _ in range(steps):
        if random.random() < 0.3:
            fault = random.choice([Fault.ERROR, Fault.SHORT, Fault.TORN, Fault.NO_SPACE])
            machine.medium.inject(fault, after=random.randrange(3), kind=IoKind.WRITE)
        try:
            match random.randrange(12):
                case 0:
                    machine.close_segment()
                case 1:
                    machine.clean(random.randrange(8))
                case 2:
                    machine.checkpoint(lambda: churn(machine, random))
                case 3:
                    machine.drop(random.randrange(200), 50)
                case 4:
                    _reattach(machine, random)
                case _:
                    churn(machine, random, sectors=40)
        except OSError:
            pass
        machine.read(0, machine.lbas)


def _reattach(machine: Machine, random: Random) -> None:
    """Attach again, over a crash or not, until it succeeds."""
    if random.random() < 0.7:
        machine.medium = machine.medium.crash(random.randrange)
    while True:
        try:
            machine.kill()
        except OSError:
            continue
        break
    machine.state = {
        lba: int.from_bytes(data[8:16], "little") for lba, data in enumerate(machine.image())
    }


def test_appender_over_any_history_seals_no_offset_twice(witness: type[Witness], seed: int) -> None:
    """One key and nonce never seal two plaintexts: not after short writes, not after crashes.

    Section 8, line 7.
    """
    for run in range(6):
        witness.used = set()  # the next volume has the same keys
        _history(seed + run, steps=60)
        assert len(witness.used) > 100


def test_witness_with_the_segment_kept_open_after_a_failure_objects(
    witness: type[Witness], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the closing of the segment the test above would fail (section 8, line 7)."""
    machine = Machine()
    machine.write((0, 4))
    log = machine.disk._log
    monkeypatch.setattr(log, "close", lambda: None)
    machine.medium.inject(Fault.TORN, kind=IoKind.WRITE)
    with pytest.raises(AppendFailed):
        machine.write((4, 4))
    with pytest.raises(AssertionError, match="twice under one key"):
        machine.write((4, 4))
    assert witness.used


@pytest.mark.parametrize("fault", list(Fault))
def test_append_that_failed_leaves_the_map_as_it_was(fault: Fault) -> None:
    """Every sector of the batch reads as before it; the next write goes on elsewhere (I1)."""
    machine = Machine()
    machine.write((0, 16), (40, 3))
    segment = machine.disk._log.segment
    machine.medium.inject(fault, kind=IoKind.WRITE)
    with pytest.raises(AppendFailed) as raised:
        machine.write((2, 5), (4, 9), (2, 1), (41, 1), (41, 1), (200, 2))
    assert raised.value.errno == (errno.ENOSPC if fault is Fault.NO_SPACE else errno.EIO)
    machine.verify()
    machine.write((3, 2))
    assert machine.disk._log.segment > segment
    machine.verify()
    machine.kill()
    machine.verify()


@pytest.mark.parametrize("fault", list(Fault))
def test_drop_that_failed_leaves_the_map_as_it_was(fault: Fault) -> None:
    """A trim that did not arrive trims nothing (I1)."""
    machine = Machine()
    machine.write((0, 16))
    machine.medium.inject(fault, kind=IoKind.WRITE)
    with pytest.raises(AppendFailed):
        machine.drop(0, 8)
    machine.verify()
    machine.drop(4, 2)
    machine.verify()
    machine.kill()
    machine.verify()


def test_append_that_failed_and_arrived_is_left_out_by_replay() -> None:
    """What a client was told to have failed does not come back over what he wrote then."""
    machine = Machine()
    machine.write((0, 8))
    for _ in range(3):
        real = machine.disk._log._medium

        class Late:
            """Writes everything, and says that it did not."""

            def write(self, offset_bytes: int, data: memoryview, to: object = real) -> int:
                machine.medium.write(offset_bytes, data)
                raise OSError(errno.EIO, "late")

        machine.disk._log._medium = Late()  # type: ignore[assignment] # as much as is used
        with pytest.raises(AppendFailed):
            machine.write((0, 4))
        machine.disk._log._medium = real
    machine.write((6, 1))
    machine.flush()
    machine.kill()
    machine.verify()


def test_record_at_the_end_of_a_segment_stays_inside() -> None:
    """Every record of every kind ends where its segment ends, or before (I1)."""
    machine = Machine(slots=12, lbas=2048)
    random = Random(1)
    for _ in range(60):
        churn(machine, random, extents=3, sectors=200)
        if random.random() < 0.1:
            machine.checkpoint()
    base = 1 << 20
    for io in machine.medium.trace:
        if io.data:
            end = io.offset_bytes + len(io.data) - 1
            assert (io.offset_bytes - base) // SEGMENT_BYTES == (end - base) // SEGMENT_BYTES
    machine.verify()


def test_write_without_a_spare_segment_changes_nothing_and_says_no_space() -> None:
    """A pool that is full is told apart, and what was written before stays (I1)."""
    machine = Machine(slots=6)
    machine.write((0, 16))
    machine.close_segment()
    machine.keeper.others, machine.keeper.free = machine.keeper.free, []
    while len(machine.disk._spares) > RESERVE_SEGMENTS:
        machine.write((0, 16))
        machine.close_segment()
    with pytest.raises(NoSpace):
        machine.disk.write(0, 1, memoryview(bytes(SECTOR_BYTES)))
    machine.verify()
    machine.drop(0, 4)
    machine.verify()


def test_sync_after_one_that_failed_fails_as_well() -> None:
    """Who waited for the one that failed is not told that all is well (I4)."""
    machine = Machine()
    machine.write((0, 8))
    machine.medium.inject(Fault.ERROR, kind=IoKind.SYNC)
    for _ in range(3):
        with pytest.raises(OSError, match=r"simulated|a sync failed before"):
            machine.disk.sync()
    machine.write((8, 8))
    with pytest.raises(OSError, match="a sync failed before"):
        machine.disk.sync()


def test_sync_names_each_segment_that_was_appended_to() -> None:
    """Records of the main log and of cleaning, in whichever segments they are (I4)."""
    machine = Machine()
    for lba in range(0, 64, 16):
        machine.write((lba, 16))
        machine.write((lba, 8))
        machine.close_segment()
    machine.clean()
    machine.write((100, 1))
    machine.disk.sync()
    after = machine.medium.crash(lambda _n: 0)
    assert list(after.written()) == list(machine.medium.written())


def _left_segments(machine: Machine, *, count: int) -> list[int]:
    """Write until the log has gone on to its segment after the next `count`; return those."""
    random = Random(5)
    left: list[int] = []
    while len(left) < count:
        before = machine.disk._log.segment
        churn(machine, random, sectors=200)
        if before and machine.disk._log.segment != before:
            left.append(before)
    return left


def _former_use(machine: Machine) -> None:
    """Have every slot hold bytes of somebody else."""
    for slot in range(len(machine.keeper.free)):
        at = SLOTS_OFFSET_BYTES + slot * SEGMENT_BYTES
        machine.medium.write(at, FORMER * (SEGMENT_BYTES // len(FORMER)))


def test_segment_that_is_left_was_written_to_its_end() -> None:
    """Nothing of a former use lies behind the log, and the checkpoint says so (I8)."""
    machine = Machine(slots=10)
    _former_use(machine)
    left = _left_segments(machine, count=2)
    machine.checkpoint()
    assert set(machine.keeper.checkpoint.filled) == set(left)
    for segment in left:
        base = SLOTS_OFFSET_BYTES + machine.keeper.places[segment] * SEGMENT_BYTES
        held = bytearray(SEGMENT_BYTES)
        machine.medium.read_into(base, memoryview(held))
        assert FORMER not in held
    machine.checkpoint()
    assert machine.keeper.checkpoint.filled == (), "each is told once"


def test_segment_that_could_not_be_written_to_its_end_is_not_called_full() -> None:
    """What an error leaves of a former use stays on record (I8)."""
    machine = Machine(slots=10)
    _former_use(machine)
    machine.write((0, 4))
    left = machine.disk._log.segment
    machine.medium.inject(Fault.ERROR, kind=IoKind.WRITE)
    with pytest.raises(OSError, match="simulated"):
        machine.write((4, 4))
    _left_segments(machine, count=1)
    machine.checkpoint()
    assert left not in machine.keeper.checkpoint.filled
    assert machine.keeper.checkpoint.filled
