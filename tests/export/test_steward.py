"""Upkeep between a disk and a daemon: fed in time, checkpointed, and honest when it is full."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from random import Random

import pytest

from scrubjay.base.errors import Conflict, Corrupt, NoSpace, ScrubjayError, Unavailable
from scrubjay.base.ids import SegmentId, VolumeId
from scrubjay.base.units import MIB, SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.engine.disk import Disk
from scrubjay.engine.lessor import Checkpoint, Grant
from scrubjay.export.arena import Arena
from scrubjay.export.steward import Pace, Steward
from scrubjay.media.simulated import Fault, IoKind, SimulatedMedium
from tests.engine.rig import Machine
from tests.export.rig import FakeLeases, FakeVolume, until

_VOLUME = VolumeId(uuid.UUID(int=9))
_NOON = 1_800_000_000
_PIECE = memoryview(bytes(range(256)) * 1024)  # 256 KiB


class _Lessor:
    """The daemon's service without a daemon; refuses what the test says."""

    def __init__(self, leases: FakeLeases) -> None:
        self.leases = leases
        self.refusal: ScrubjayError | None = None
        self.commit_refusal: ScrubjayError | None = None
        self.commits: list[Checkpoint] = []
        self._highest = 0

    def lease(self, count: int) -> Sequence[Grant]:
        self._check()
        granted = self.leases.lease(_VOLUME, 1, count=count, above=SegmentId(self._highest))
        self._highest = max(grant.segment for grant in granted)
        return granted

    def group(self, group: int) -> Sequence[Grant]:
        self._check()
        return self.leases.group(_VOLUME, 1, group)

    def commit(self, checkpoint: Checkpoint, *, freed: Sequence[SegmentId]) -> int:
        self._check()
        if self.commit_refusal is not None:
            raise self.commit_refusal
        self.commits.append(checkpoint)
        return self.leases.commit(_VOLUME, 1, checkpoint, freed=freed)

    def _check(self) -> None:
        if self.refusal is not None:
            raise self.refusal


class _Stage:
    """A disk, and its steward in a thread."""

    def __init__(self, *, slots: int, pace: Pace, next_segment: int) -> None:
        self.leases = FakeLeases(slots)
        volume = self.leases.volumes[_VOLUME] = FakeVolume(1, 512 * MIB)
        volume.epoch, volume.next_segment = 1, next_segment
        self.lessor = _Lessor(self.leases)
        self.medium = SimulatedMedium(SLOTS_OFFSET_BYTES + slots * SEGMENT_BYTES)
        attachment = self.leases.attachment(_VOLUME, 1)
        self.disk = Disk(self.medium, self.lessor, Arena(), attachment)
        self.disk.attach()
        self.poisons: list[str] = []
        self.ends: list[ScrubjayError] = []
        self.complaints: list[str] = []
        self.steward = Steward(
            self.disk,
            self.lessor,
            poison=self._poison,
            end=self.ends.append,
            complain=self.complaints.append,
            pace=pace,
        )
        self.thread = threading.Thread(target=self.steward.run)
        self.thread.start()

    def write(self, piece: int) -> bool:
        """Write as a connection does; False where the disk is full."""
        opened = self.disk.opened_segments
        while True:
            with self.disk.lock:
                self.disk.begin(len(_PIECE))
                try:
                    self.disk.write_bytes(piece * len(_PIECE), _PIECE)
                except NoSpace:
                    if self.disk.full:
                        return False
                else:
                    break
                finally:
                    self.disk.commit()
            self.steward.wait_for_space()
        if self.disk.opened_segments != opened:
            self.steward.kick()
        return True

    def close(self) -> None:
        self.steward.close()
        self.thread.join(timeout=30)
        assert not self.thread.is_alive()

    def _poison(self, reason: str) -> None:
        self.disk.poisoned = 5
        self.poisons.append(reason)


@pytest.fixture
def stage() -> Iterator[Callable[..., _Stage]]:
    """Makes a stage; what it leaves running is ended."""
    made: list[_Stage] = []

    def make(*, slots: int = 64, pace: Pace | None = None, next_segment: int = 1) -> _Stage:
        pace = pace or Pace(retry_s=0.01, idle_s=60)
        made.append(_Stage(slots=slots, pace=pace, next_segment=next_segment))
        return made[-1]

    yield make
    for each in made:
        each.close()


Make = Callable[..., _Stage]


def test_disk_without_segments_is_fed_before_it_writes(stage: Make) -> None:
    """A volume that never wrote holds no segment; its first writes get some, ahead of need."""
    one = stage()
    assert not one.leases.volumes[_VOLUME].slots
    assert all(one.write(piece) for piece in range(200))
    assert one.disk.counters.spare_segments > 0


def test_disk_never_written_costs_the_pool_nothing(stage: Make) -> None:
    """Looking after an unused volume leases nothing and commits nothing."""
    one = stage(pace=Pace(retry_s=0.001, idle_s=0.001, asleep_s=0.001))
    one.steward.kick()
    one.close()
    assert not one.leases.volumes[_VOLUME].slots
    assert not one.lessor.commits


def test_pool_full_is_declared_and_forgotten_when_space_returns(stage: Make) -> None:
    """Full: writes are refused. Space returns: they go on, with nobody asking for it."""
    one = stage(slots=6)
    written = next(n for n in range(1000) if not one.write(n))
    assert written > 0
    assert one.disk.full
    one.leases.free += range(100, 110)
    until(lambda: not one.disk.full)


def test_pool_full_is_left_by_what_the_volume_frees_itself(stage: Make) -> None:
    """Overwriting in place forever fits into a pool that holds it a few times over."""
    one = stage(slots=24)
    for turn in range(12):
        assert all(one.write(piece) for piece in range(256)), turn  # 64 MiB, twelve times
    assert one.disk.counters.held_segments <= 24


def test_daemon_refusing_for_now_is_asked_again(stage: Make) -> None:
    """Unavailable is complained about and tried again; who waits goes on waiting."""
    one = stage()
    one.lessor.refusal = Unavailable("pool: stopped")
    done = threading.Event()

    def write() -> None:
        one.write(0)
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    until(lambda: len(one.complaints) > 2)
    assert not done.is_set()
    one.lessor.refusal = None
    assert done.wait(30)
    thread.join()
    assert not one.ends


def test_attachment_replaced_ends_the_exporter(stage: Make) -> None:
    """Design 8.9: Conflict from the pool is final."""
    one = stage()
    one.lessor.refusal = Conflict("volume: epoch 1, expected 2")
    waiter = threading.Thread(target=one.write, args=(0,))
    waiter.start()
    until(lambda: bool(one.ends))
    one.thread.join(timeout=30)
    assert not one.thread.is_alive()
    assert isinstance(one.ends[0], Conflict)
    one.disk.full = True  # what ends with the process, in an exporter
    one.close()
    waiter.join(timeout=30)


def test_volume_idle_is_checkpointed_once(stage: Make) -> None:
    """A while after the last write there is a checkpoint, and then no other."""
    one = stage(pace=Pace(retry_s=0.01, idle_s=0.01, asleep_s=0.01))
    assert one.write(0)
    until(lambda: len(one.lessor.commits) == 1)
    appended = one.disk.counters.appended_bytes
    looks = len(one.leases.calls)
    until(lambda: one.disk.counters.checkpoints == 1)
    one.close()
    assert one.disk.counters.appended_bytes == appended
    assert len(one.leases.calls) <= looks + 1
    assert one.lessor.commits[0].flushed == one.leases.volumes[_VOLUME].checkpoint.flushed


def test_commit_refused_is_repeated_not_rewritten(stage: Make) -> None:
    """A checkpoint that the pool could not name yet is named later, the same."""
    one = stage(pace=Pace(retry_s=0.01, idle_s=0.01))
    one.lessor.commit_refusal = Unavailable("pool: busy")
    assert one.write(0)
    until(lambda: len(one.complaints) > 3)
    appended = one.disk.counters.appended_bytes
    one.lessor.commit_refusal = None
    until(lambda: len(one.lessor.commits) == 1)
    assert one.disk.counters.appended_bytes == appended


def test_commit_left_over_at_the_end_is_finished(stage: Make) -> None:
    """`finish` names a checkpoint whose commit was still refused when the thread ended."""
    one = stage(pace=Pace(retry_s=0.01, idle_s=0.01))
    one.lessor.commit_refusal = Unavailable("pool: busy")
    assert one.write(0)
    until(lambda: len(one.complaints) > 1)
    one.close()
    one.lessor.commit_refusal = None
    one.steward.finish()
    assert len(one.lessor.commits) == 1
    one.steward.finish()
    assert len(one.lessor.commits) == 1
    one.disk.detach()
    assert one.leases.volumes[_VOLUME].checkpoint.clean


def test_sync_failed_poisons_and_commits_nothing(stage: Make) -> None:
    """I4: a checkpoint whose sync failed is never named, and the steward does no more."""
    one = stage(pace=Pace(retry_s=0.01, idle_s=0.01))
    one.medium.inject(Fault.ERROR, kind=IoKind.SYNC)
    assert one.write(0)
    until(lambda: bool(one.poisons))
    one.thread.join(timeout=30)
    assert not one.thread.is_alive()
    assert not one.lessor.commits
    assert len(one.poisons) == 1


def test_append_failed_is_complained_about_and_survived(stage: Make) -> None:
    """I5: an append of the steward that fails costs its segment, not the volume."""
    one = stage(pace=Pace(retry_s=0.01, idle_s=0.01))
    assert one.write(0)
    one.medium.inject(Fault.ERROR, kind=IoKind.WRITE)
    until(lambda: bool(one.lessor.commits))
    assert one.write(1)
    assert not one.ends
    assert not one.poisons


def test_steward_closed_lets_go_of_who_waits(stage: Make) -> None:
    """A connection that waits for space is let go when the volume ends."""
    one = stage()
    one.lessor.refusal = Unavailable("pool: stopped")
    waiter = threading.Thread(target=one.steward.wait_for_space)
    waiter.start()
    until(lambda: bool(one.complaints))
    one.close()
    waiter.join(timeout=30)
    assert not waiter.is_alive()


def test_places_of_segments_are_asked_for_before_somebody_reads_them(stage: Make) -> None:
    """A reader holds the volume's lock: it must not be the one who waits for the daemon."""
    one = stage(next_segment=200)
    until(lambda: not one.disk.unasked_groups())
    asked = {call[1] for call in one.leases.calls if call[0] == "group"}
    assert asked == {0, 1, 2, 3}


def test_places_are_not_learned_of_a_volume_that_was_destroyed(stage: Make) -> None:
    """An answer that comes after the keys were dropped brings none of them back (I3)."""
    one = stage()
    assert one.write(0)
    one.disk.forget_keys()
    one.disk.learn(0)
    out = memoryview(bytearray(4096))
    with pytest.raises(Corrupt):
        one.disk.read_into(0, 1, out)


def test_sync_failed_while_the_daemon_is_away_poisons_at_once(
    stage: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I4: the steward waits for a lease without limit, and the failure is told before that."""
    one = stage(slots=100, pace=Pace(retry_s=0.01, idle_s=60))
    lease, sync = one.lessor.lease, one.disk.sync
    syncing, fails, asked, answers = (threading.Event() for _ in range(4))

    def slow_lease(count: int) -> Sequence[Grant]:
        if syncing.is_set():
            asked.set()
            answers.wait()
        return lease(count)

    def slow_sync() -> None:
        syncing.set()
        fails.wait()
        one.medium.inject(Fault.ERROR, kind=IoKind.SYNC)
        sync()

    monkeypatch.setattr(one.lessor, "lease", slow_lease)
    monkeypatch.setattr(one.disk, "sync", slow_sync)
    pieces = iter(range(1 << 20))
    while not syncing.is_set():
        assert one.write(next(pieces) % 400)
    while not one.disk.wants_grants():
        assert one.write(next(pieces) % 400)
    one.steward.kick()
    assert asked.wait(30)
    fails.set()
    until(lambda: bool(one.poisons))
    assert one.disk.poisoned
    answers.set()
    one.thread.join(timeout=30)
    assert not one.lessor.commits


def test_checkpoint_is_synced_where_no_thread_is_to_be_had(
    stage: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system short of threads costs time, not the volume."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "sync":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    one = stage(pace=Pace(retry_s=0.01, idle_s=0.01))
    assert one.write(0)
    until(lambda: bool(one.lessor.commits))


def test_volume_written_a_little_all_the_time_is_cleaned(stage: Make) -> None:
    """A mounted file system never rests; what it holds too much is its neighbours'."""
    one = stage(slots=120, pace=Pace(retry_s=0.01, idle_s=0.1))
    one.disk._cleaner.free_percent = 90  # noqa: SLF001 - a pool with plenty: nobody cleans beside writes
    random = Random(3)
    for _ in range(2500):
        assert one.write(random.randrange(400))
    held = one.disk.counters.held_segments

    def trickle() -> bool:
        one.write(0)
        return one.disk.counters.held_segments < held - 4

    assert held > 16
    until(trickle)


def test_writers_wait_for_a_clogged_map_without_turning(stage: Make) -> None:
    """They sleep until the checkpoint has written pages, and take no processor time."""
    one = stage()
    one.disk._map.dirty.update(range(1 << 15))  # noqa: SLF001 - as of a huge volume
    waiter = threading.Thread(target=one.steward.wait_for_space)
    waiter.start()
    waiter.join(timeout=0.3)
    assert waiter.is_alive()
    one.disk._map.dirty.clear()  # noqa: SLF001 - as a checkpoint does
    one.steward.kick()
    waiter.join(timeout=30)
    assert not waiter.is_alive()


def test_volume_that_nobody_writes_is_given_segments_to_purge_into() -> None:
    """Attached for its purging alone it has none: the first look gets some, and purges."""
    machine = Machine(lbas=256)
    machine.disk.tick(_NOON)
    machine.write((0, 256))
    machine.write((5, 1))
    machine.detach()
    keeper, disk = machine.keeper, machine.disk
    steward = Steward(
        disk,
        keeper.lessor(keeper.epoch),
        poison=pytest.fail,
        end=pytest.fail,  # type: ignore[arg-type] # whatever it is
        complain=pytest.fail,
        now_s=lambda: _NOON + 13 * 3600,
    )
    assert not disk.counters.spare_segments
    steward._look()  # noqa: SLF001 - what its thread does first
    assert keeper.gone
    assert keeper.purged.waiting_since_s == 0
    machine.verify()
