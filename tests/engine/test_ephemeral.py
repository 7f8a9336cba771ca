"""Ephemeral disks: keys of their own, and a reset in the middle of everything."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import pytest

from scrubjay.base.errors import Unavailable
from scrubjay.base.ids import SegmentId
from scrubjay.base.units import MIB, SEGMENT_BYTES
from scrubjay.engine.ephemeral import EphemeralDisk, OwnKeys
from scrubjay.engine.lessor import Checkpoint
from scrubjay.export.arena import Arena
from scrubjay.export.steward import Steward
from scrubjay.media.simulated import SimulatedMedium
from tests.engine.rig import EpochLessor, Keeper


class Drawn:
    """An Entropy that remembers."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []

    def token(self, size_bytes: int) -> bytes:
        """Draw, and note."""
        self.keys.append(os.urandom(size_bytes))
        return self.keys[-1]


class Interrupted(EpochLessor):
    """The pool's keeper, with something that happens before it answers the next commit."""

    meanwhile: Callable[[], None] | None = None

    def commit(self, checkpoint: Checkpoint, *, freed: Sequence[SegmentId]) -> int:
        """Let it happen, then commit."""
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().commit(checkpoint, freed=freed)


class Ephemeral:
    """A disk over keys of its own, its steward, and what it drew."""

    def __init__(self) -> None:
        self.keeper = Keeper(slots=40, size_bytes=64 * MIB)
        self.drawn = Drawn()
        self.arena = Arena()
        attachment = self.keeper.attach()
        self.pool = Interrupted(self.keeper, attachment.epoch)
        self.lessor = OwnKeys(self.pool, self.drawn)
        self.medium = SimulatedMedium(self.keeper.medium_bytes)
        self.disk = EphemeralDisk(self.medium, self.lessor, self.arena, attachment)
        self.disk.attach()
        self.troubles: list[str] = []
        self.steward = Steward(
            self.disk,
            self.lessor,
            poison=self.troubles.append,
            end=lambda error: self.troubles.append(str(error)),
            complain=self.troubles.append,
            first=self.disk.give_back,
        )

    def look(self) -> None:
        """Have the steward look once."""
        self.steward.kick()
        self.steward._look()  # noqa: SLF001 - what its thread would do, without the thread

    def write(self, offset: int, data: bytes) -> None:
        """Write as a connection does."""
        for at in range(0, len(data), MIB):
            if self.disk.starved:
                self.disk.starving = True
                self.look()
            with self.disk.lock:
                self.disk.begin(MIB)
                self.disk.write_bytes(offset + at, memoryview(data[at : at + MIB]))
                self.disk.commit()

    def read(self, offset: int, size: int) -> bytes:
        """Read."""
        out = bytearray(size)
        with self.disk.lock:
            self.disk.read_bytes(offset, memoryview(out))
        return bytes(out)


@pytest.fixture
def volume() -> Ephemeral:
    """One that holds 40 MiB."""
    made = Ephemeral()
    made.write(0, os.urandom(40 * MIB))
    return made


def test_keys_are_drawn_here_each_once_and_are_not_the_keepers(volume: Ephemeral) -> None:
    """I2: what the pool's keeper bears opens nothing of it; no key serves two segments."""
    assert len(set(volume.drawn.keys)) == len(volume.drawn.keys) >= 3
    held = [volume.arena.get(each) for each in range(1, len(volume.drawn.keys) + 1)]
    assert held == volume.drawn.keys
    granted = [each.key for each in volume.pool.group(0)]
    assert not set(granted) & set(volume.drawn.keys)
    assert list(volume.lessor.group(0)) == []


def test_reset_reads_zeros_at_once_and_leaves_no_key_that_sealed_anything(
    volume: Ephemeral,
) -> None:
    """I1, I3: at its return the arena holds keys of unopened segments alone."""
    spares = set(volume.disk._spares)  # noqa: SLF001 - which those are
    volume.disk.reset()
    assert volume.read(0, 40 * MIB) == bytes(40 * MIB)
    kept = {each for each in range(1, 41) if volume.arena.get(each) is not None}
    assert kept == spares
    assert not volume.disk._segments.places  # noqa: SLF001 - the ciphers of them all


def test_reset_gives_every_slot_back_and_goes_on(volume: Ephemeral) -> None:
    """What is written afterwards stays, over more resets than the pool would hold otherwise."""
    for turn in range(8):
        volume.disk.reset()
        data = bytes([turn + 1]) * (33 * MIB)
        volume.write(0, data)
        assert volume.read(0, len(data)) == data
        assert volume.read(40 * MIB, MIB) == bytes(MIB)
    volume.disk.reset()
    volume.look()
    held = volume.disk.counters.held_segments
    assert held == volume.disk.counters.spare_segments
    assert len(volume.keeper.places) == held
    assert not volume.troubles


def _before_the_pages(volume: Ephemeral) -> Callable[[], None]:
    slices = volume.disk.checkpoint()
    with volume.disk.lock:
        next(slices)

    def go_on() -> None:
        with pytest.raises(Unavailable, match="reset"), volume.disk.lock:
            next(slices)

    return go_on


def _before_the_commit(volume: Ephemeral) -> Callable[[], None]:
    with volume.disk.lock:
        for _ in volume.disk.checkpoint():
            pass
    return volume.disk.commit_checkpoint


@pytest.mark.parametrize("begun", [_before_the_pages, _before_the_commit])
def test_reset_in_the_middle_of_a_checkpoint_lets_it_come_to_nothing(
    volume: Ephemeral, begun: Callable[[Ephemeral], Callable[[], None]]
) -> None:
    """Whatever the steward was at, it finds the disk blank, and the next checkpoint is whole."""
    go_on = begun(volume)
    volume.disk.reset()
    volume.write(MIB, b"new" * (MIB // 3))
    go_on()
    with volume.disk.lock:
        for _ in volume.disk.checkpoint():
            pass
    volume.disk.sync()
    volume.disk.commit_checkpoint()
    assert volume.read(MIB, 3) == b"new"
    volume.look()
    counters = volume.disk.counters
    assert counters.checkpoints == 1
    assert len(volume.keeper.places) == counters.held_segments


def test_reset_while_the_pool_commits_frees_everything_all_the_same(volume: Ephemeral) -> None:
    """The answer to a commit of before the reset says nothing about what is held now."""
    with volume.disk.lock:
        volume.disk.drop(0, 32 * MIB, exact=False)
        volume.disk.commit()
    with volume.disk.lock:
        for _ in volume.disk.checkpoint():
            pass
    volume.disk.sync()
    volume.pool.meanwhile = volume.disk.reset
    volume.disk.commit_checkpoint()
    volume.look()
    assert len(volume.keeper.places) == volume.disk.counters.held_segments
    assert volume.read(0, 40 * MIB) == bytes(40 * MIB)


def test_segment_that_is_freed_takes_its_key_with_it(volume: Ephemeral) -> None:
    """Finer than a seed for all: what cleaning frees is forgotten while the volume serves."""
    with volume.disk.lock:
        volume.disk.drop(0, 40 * MIB, exact=False)
        volume.disk.commit()
    before = [each for each in range(1, 41) if volume.arena.get(each) is not None]
    with volume.disk.lock:
        for _ in volume.disk.checkpoint():
            pass
    volume.disk.sync()
    volume.disk.commit_checkpoint()
    after = [each for each in range(1, 41) if volume.arena.get(each) is not None]
    assert len(before) - len(after) >= 40 * MIB // SEGMENT_BYTES
    assert SegmentId(before[0]) not in after


def test_reset_that_kept_a_key_would_be_found_out(
    volume: Ephemeral, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checks above can fail: a reset that forgets the map and no key leaves the keys."""
    monkeypatch.setattr(volume.arena, "drop", lambda _segment: None)
    spares = set(volume.disk._spares)  # noqa: SLF001 - which those are
    volume.disk.reset()
    assert {each for each in range(1, 41) if volume.arena.get(each) is not None} > spares


def test_reset_keeps_the_deadline_of_purging_that_was_told_last() -> None:
    """The parts are made anew around it; the policy had changed since the volume was attached."""
    volume = Ephemeral()
    volume.disk.purger.within_s = 3600
    volume.disk.reset()
    assert volume.disk.purger.within_s == 3600
