"""The simulated medium: its crashes are legal, complete, and repeat from a seed."""

from __future__ import annotations

from random import Random

import pytest

from scrubjay.media.simulated import Fault, IoKind, SimulatedMedium, replay

SIZE_BYTES = 1 << 20
SECTOR = 512


def test_crash_after_sync_keeps_what_was_synced(seed: int) -> None:
    """I4: no crash takes back what a sync covered."""
    medium = SimulatedMedium(SIZE_BYTES)
    medium.write(5000, b"kept" * 1000)
    medium.sync()
    medium.write(100_000, b"may go" * 1000)
    choose = Random(seed).randrange
    outcomes = [*medium.crashes(), *(medium.crash(choose) for _ in range(200))]
    assert all(after.peek(5000, 4000) == b"kept" * 1000 for after in outcomes)


def test_crash_without_sync_drops_tears_and_reorders(seed: int) -> None:
    """Every sector is old or new on its own: all combinations of two writes are met."""
    medium = SimulatedMedium(SIZE_BYTES)
    medium.write(0, b"A" * 2 * SECTOR)
    medium.write(8192, b"B" * SECTOR)
    choose = Random(seed).randrange
    seen = set()
    for _ in range(500):
        after = medium.crash(choose)
        marks = bytes(after.peek(at, 1)[0] for at in (0, SECTOR, 8192))
        seen.add(marks.replace(b"\0", b"."))
        for at in (0, SECTOR, 8192):
            assert len(set(after.peek(at, SECTOR))) == 1
    assert seen == {b"...", b"A..", b".A.", b"AA.", b"..B", b"A.B", b".AB", b"AAB"}


def test_crash_between_two_writes_of_one_place_gives_any_version(seed: int) -> None:
    """A sector overwritten twice may hold the first, the second or the old bytes."""
    medium = SimulatedMedium(SIZE_BYTES)
    medium.write(0, b"1" * SECTOR)
    medium.write(0, b"2" * SECTOR)
    choose = Random(seed).randrange
    assert {medium.crash(choose).peek(0, 1) for _ in range(100)} == {b"\0", b"1", b"2"}


def test_crash_enumeration_is_the_same_every_time() -> None:
    """`crashes` needs no seed: it meets every subset of a few writes, and every tear."""
    medium = SimulatedMedium(SIZE_BYTES)
    for at in range(3):
        medium.write(at * 4096, bytes([at + 1]) * 4096)

    def outcomes() -> list[bytes]:
        return [after.peek(0, 3 * 4096) for after in medium.crashes()]

    first = outcomes()
    assert first == outcomes()
    whole = {tuple(bool(image[at * 4096]) for at in range(3)) for image in first}
    assert len(whole) == 8
    assert any(image[0] and not image[4095] for image in first), "a torn write"


def test_crash_leaves_the_medium_itself_alone(seed: int) -> None:
    """What a crash returns is apart: neither side sees the other's later writes."""
    medium = SimulatedMedium(SIZE_BYTES)
    medium.write(0, b"before")
    after = medium.crash(Random(seed).randrange)
    medium.write(0, b"medium")
    after.write(0, b"copied")
    assert medium.peek(0, 6) == b"medium"
    assert after.peek(0, 6) == b"copied"


def test_failed_sync_then_good_sync_does_not_make_durable() -> None:
    """I4: Linux drops what a failed sync could not write; the next sync says nothing of it."""
    medium = SimulatedMedium(SIZE_BYTES)
    medium.inject(Fault.ERROR, kind=IoKind.SYNC)
    medium.write(0, b"doomed")
    with pytest.raises(OSError, match="simulated"):
        medium.sync()
    medium.sync()
    assert medium.peek(0, 6) == b"doomed", "the cache still shows it"
    assert medium.crash(lambda _: 0).peek(0, 6) == bytes(6)
    assert b"doomed" in {after.peek(0, 6) for after in medium.crashes()}
    medium.write(0, b"anew..")
    medium.sync()
    assert {after.peek(0, 6) for after in medium.crashes()} == {b"anew.."}


@pytest.mark.parametrize(
    ("fault", "left"),
    [
        (Fault.ERROR, b"\0\0\0\0"),
        (Fault.NO_SPACE, b"\0\0\0\0"),
        (Fault.SHORT, b"da\0\0"),
        (Fault.TORN, b"da\0\0"),
    ],
)
def test_fault_on_the_nth_write_hits_that_one_alone(fault: Fault, left: bytes) -> None:
    """A fault is played once, at the I/O that was named."""
    medium = SimulatedMedium(SIZE_BYTES)
    medium.inject(fault, after=1, kind=IoKind.WRITE)
    assert medium.write(0, b"data") == 4
    medium.sync()
    if fault is Fault.SHORT:
        assert medium.write(4096, b"data") == 2
    else:
        with pytest.raises(OSError, match="simulated"):
            medium.write(4096, b"data")
    assert medium.peek(4096, 4) == left
    assert medium.write(8192, b"data") == 4


def test_unreadable_block_fails_reads_that_touch_it() -> None:
    """A latent sector error is an error, never other bytes."""
    medium = SimulatedMedium(SIZE_BYTES)
    medium.unreadable.add(1)
    out = memoryview(bytearray(4096))
    assert medium.read_into(0, out) == 4096
    with pytest.raises(OSError, match="simulated"):
        medium.read_into(4095, out[:2])


def test_replay_of_a_trace_reaches_the_same_bytes() -> None:
    """A trace holds every write and sync, in order: the workload runs once for all its cuts."""
    medium = SimulatedMedium(SIZE_BYTES, record=True)
    for step in range(5):
        medium.write(step * 100, b"x" * 50)
        medium.sync()
    images = [cut.peek(0, 600) for cut in replay(medium.trace, SimulatedMedium(SIZE_BYTES))]
    assert len(images) == 1 + len(medium.trace) == 11
    assert images[0] == bytes(600)
    assert images[-1] == medium.peek(0, 600)


def test_flip_of_a_bit_changes_that_bit_alone() -> None:
    """Rot is one bit, and survives a crash."""
    medium = SimulatedMedium(SIZE_BYTES)
    medium.write(0, b"abc")
    medium.sync()
    medium.flip(8)
    assert medium.peek(0, 3) == b"acc"
    assert medium.crash(lambda _: 0).peek(0, 3) == b"acc"
    assert [offset for offset, _ in medium.written()] == [0]


def test_sync_of_extents_leaves_the_rest_undecided() -> None:
    """A sync of a part promises nothing about writes elsewhere (I4)."""
    medium = SimulatedMedium(1 << 20)
    medium.write(0, b"a" * 4096)
    medium.write(65536, b"b" * 4096)

    medium.sync([(0, 4096)])

    crashed = medium.crash(lambda _: 0)
    assert crashed.peek(0, 4096) == b"a" * 4096
    outcomes = {bytes(each.peek(65536, 4096)) for each in medium.crashes()}
    assert {bytes(4096), b"b" * 4096} <= outcomes
