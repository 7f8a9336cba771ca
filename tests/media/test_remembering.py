"""The test medium that forgets nothing: what it finds, and what it must not miss."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.ids import Epoch
from scrubjay.media.erase import Technique, erase
from scrubjay.media.simulated import Fault, IoKind, SimulatedMedium
from scrubjay.sinks.file import FileSink
from scrubjay.sinks.sink import Grade, Worth
from tests.media.remembering import BLOCK_BYTES, RememberingFile, RememberingMedium
from tests.media.rig import Seeded
from tests.sinks.disks import CrashFile

SIZE_BYTES = 16 * BLOCK_BYTES
KEY = bytes(range(32))


def _medium() -> RememberingMedium:
    return RememberingMedium(SimulatedMedium(SIZE_BYTES))


def test_history_after_overwriting_still_has_the_old_version() -> None:
    """What was overwritten is read no more, and found all the same."""
    medium = _medium()
    medium.write(5000, KEY)
    medium.write(5000, bytes(32))
    out = memoryview(bytearray(32))
    medium.read_into(5000, out)
    assert bytes(out) == bytes(32)
    assert list(medium.history.find(KEY)) == [5000]
    assert medium.history.versions(5000, 32) == [bytes(32), KEY]


@pytest.mark.parametrize("technique", Technique)
def test_history_after_every_kind_of_erasing_still_has_the_old_version(
    technique: Technique,
) -> None:
    """An adversary keeps what was discarded and what was overwritten."""
    medium = _medium()
    medium.write(BLOCK_BYTES, KEY)
    extent = (BLOCK_BYTES, BLOCK_BYTES)
    assert erase(medium, [extent], entropy=Seeded(), technique=technique).used is technique
    assert list(medium.history.find(KEY)) == [BLOCK_BYTES]


def test_history_of_what_was_there_before_has_it() -> None:
    """What a medium held when it was wrapped counts, once its block is written to."""
    inner = SimulatedMedium(SIZE_BYTES)
    inner.plant(100, KEY)
    medium = RememberingMedium(inner)
    medium.write(3000, b"x")
    medium.write(100, bytes(32))
    assert list(medium.history.find(KEY)) == [100]


@given(split=st.integers(1, 31), first=st.booleans())
def test_history_with_parts_written_at_different_times_finds_the_whole(
    split: int, *, first: bool
) -> None:
    """A key across two blocks is found, though its halves were never there at one time."""
    medium = _medium()
    edge = 3 * BLOCK_BYTES
    parts = [(edge - split, KEY[:split]), (edge, KEY[split:])]
    for at, part in parts if first else reversed(parts):
        medium.write(at, part)
        medium.write(at, bytes(len(part)))
    assert list(medium.history.find(KEY)) == [edge - split]


def test_history_of_a_write_that_failed_counts_it_as_written() -> None:
    """Nobody knows how far a failed write came: the adversary gets all of it."""
    for fault in (Fault.ERROR, Fault.TORN):
        inner = SimulatedMedium(SIZE_BYTES)
        medium = RememberingMedium(inner)
        inner.inject(fault, kind=IoKind.WRITE)
        with pytest.raises(OSError, match="simulated"):
            medium.write(0, KEY)
        assert list(medium.history.find(KEY)) == [0]


def test_history_after_a_crash_goes_on() -> None:
    """The medium that comes back is another; the adversary is the same."""
    inner = SimulatedMedium(SIZE_BYTES)
    before = RememberingMedium(inner)
    before.write(0, KEY)
    crashed = inner.crash(lambda _: 0)
    assert crashed.peek(0, 32) == bytes(32)
    after = RememberingMedium(crashed, history=before.history)
    after.write(64, b"more")
    assert list(after.history.find(KEY)) == [0]
    assert bytes(64) + b"more" in after.history.versions(0, 68), "the key was lost, then this came"


def test_history_where_nothing_was_written_finds_nothing() -> None:
    """The search can fail: a key that was never written is nowhere."""
    medium = _medium()
    medium.write(0, bytes(reversed(KEY)))
    assert not list(medium.history.find(KEY))
    assert len(list(medium.history.every_byte())) == 2


def test_history_of_too_many_combinations_says_so() -> None:
    """Impossible questions are refused, not answered in part."""
    medium = _medium()
    for number in range(16):
        medium.write(number * BLOCK_BYTES, b"x")
    with pytest.raises(ValueError, match="combinations"):
        medium.history.versions(0, SIZE_BYTES)
    for needle in (b"", bytes(BLOCK_BYTES + 1)):
        with pytest.raises(ValueError, match="needle"):
            list(medium.history.find(needle))


def test_history_of_a_sink_has_what_it_dropped() -> None:
    """A sink's file can be watched the same way: what it overwrites stays in the history."""
    io = RememberingFile(CrashFile())
    worth = Worth(Grade.CONDITIONAL, "memory", "it is for tests")
    sink = FileSink.format(
        io, Seeded(), worth, sink_id=UUID(int=1), pool_id=UUID(int=2), epoch=Epoch(1)
    )
    old = io.read(4096, BLOCK_BYTES)
    sink.prepare(Epoch(2), bytes(range(32)))
    sink.drop(Epoch(1))
    assert io.read(4096, BLOCK_BYTES) == bytes(BLOCK_BYTES)
    assert list(io.history.find(old)) == [4096]
    sink.close()
