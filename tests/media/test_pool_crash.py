"""Power loss at every point of every commit: before or after, never anything else.

A workload is recorded once. At each cut of its trace the medium may hold any subset of the
sectors written since the last sync; each such outcome is opened, compared, committed to,
and opened again. The last tests plant a bug and expect the same check to find it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import pytest

from scrubjay.base.errors import ScrubjayError
from scrubjay.base.ids import Epoch, LineageNo, Slot
from scrubjay.base.ports import Extent
from scrubjay.base.units import MIB
from scrubjay.keys.table import Kind, Node
from scrubjay.media.change import Change
from scrubjay.media.pool import Pool
from scrubjay.media.simulated import Fault, Io, IoKind, SimulatedMedium, replay
from tests.media.rig import Sink, create, reopen, size_of, state_of

SLOTS = 12
LINEAGES = (LineageNo(1), LineageNo(2))


@dataclass(frozen=True)
class Moment:
    """What was acknowledged when the trace had so many steps."""

    steps: int
    state: dict[bytes, bytes]
    epoch: int


class Violation(AssertionError):
    """A crash led to a state that nobody committed."""


def test_crash_at_any_point_of_commits_leaves_before_or_after(seed: int) -> None:
    """I5: the tree is the one before or the one after the commit at hand, whole."""
    trace, moments = _record(_blank(), seed, commits=8)
    assert _check(trace, moments, Random(seed)) > 300


@pytest.mark.slow
def test_crash_at_any_point_of_long_workloads_leaves_before_or_after(seed: int) -> None:
    """I5, over more commits, sectors of 512 and of 4096 bytes, and other seeds."""
    for round_, sector_bytes in enumerate((512, 4096)):
        medium = _blank()
        trace, moments = _record(medium, seed + round_, commits=10)
        _check(trace, moments, Random(seed), sector_bytes=sector_bytes)


def test_crash_while_recovering_from_a_crash_stays_with_what_was_opened(seed: int) -> None:
    """Opening mends superblocks; a power loss then, at any point, must do no harm either."""
    trace, moments = _record(_blank(), seed, commits=3)
    mended = 0
    for cut, _ in _cuts(trace, moments, 512):
        for first in cut.crashes():
            again = first.crash(lambda _: 0)
            opened = state_of(reopen([again], sink=_sink()))
            mended += any(step.kind is IoKind.WRITE for step in again.trace)
            for second in replay(again.trace, first):
                for third in second.crashes():
                    assert state_of(reopen([third], sink=_sink())) == opened
    assert mended


def test_power_loss_after_a_kill_stays_with_what_was_opened(seed: int) -> None:
    """I4: a killed daemon leaves writes in the cache; what a restart shows is durable."""
    trace, moments = _record(_blank(), seed, commits=3)
    _check_kills(trace, moments, deaf=False)


def test_power_loss_after_a_kill_without_the_sync_at_opening_shows(seed: int) -> None:
    """The same check fails on a medium that does not do the sync with which opening begins."""
    trace, moments = _record(_blank(), seed, commits=3)
    with pytest.raises((Violation, ScrubjayError)):
        _check_kills(trace, moments, deaf=True)


def test_crash_while_creating_never_looks_like_another_pool(seed: int) -> None:
    """A pool that was never finished either opens with its records or does not open at all."""
    medium = _blank()
    state = state_of(create([medium]))
    opened = 0
    for cut in replay(medium.trace, _blank()):
        for crashed in cut.crashes():
            try:
                pool = reopen([crashed])
            except ScrubjayError:
                continue
            opened += 1
            assert state_of(pool) == state
    assert opened


def test_crash_during_a_rotation_opens_under_old_or_new_and_needs_one_key(seed: int) -> None:
    """I6: after any crash of a rotation, what opening names is durable in both copies."""
    medium = _blank()
    pool = create([medium])
    begun = len(medium.trace)
    with pool.change() as change:
        change.put(b"k", b"table" * 500)
        root = Node(Kind.TABLE, b"anew" * 8)
        change.rotate(Epoch(2), epoch_key=_sink().keys[2], root=root)
    done = len(medium.trace)
    seen = set()
    for step, cut in enumerate(replay(medium.trace, _blank())):
        if step < begun:
            continue
        for crashed in cut.crashes():
            epoch = reopen([crashed], sink=_sink()).epoch
            seen.add(epoch)
            assert epoch == 2 or step < done
            alone = Sink({epoch: _sink().keys[epoch]})  # recovery drops the other one
            for copy in (0, 65536):
                again = crashed.crash(lambda _: 0)
                again.plant(copy, bytes(4096))
                assert reopen([again], sink=alone).epoch == epoch
    assert seen == {1, 2}


def test_failed_sync_then_crash_leaves_before_or_after(seed: int) -> None:
    """I4: a pool that stopped at a failed sync opens as before or after, whatever landed."""
    for after in range(4):
        medium = SimulatedMedium(size_of(SLOTS))
        pool = create([medium])
        states = [state_of(pool)]
        medium.inject(Fault.ERROR, after=after, kind=IoKind.SYNC)
        random = Random(seed)
        try:
            for _ in range(4):
                _commit(pool, random)
                states.append(state_of(pool))
        except ScrubjayError:
            pass
        expected = states[-1]
        for _ in range(40):
            found = reopen([medium.crash(random.randrange)], sink=_sink())
            found_state = state_of(found)
            if after % 2 == 0:  # the pages failed, and no superblock was written
                assert found_state == expected
            else:
                assert found_state == expected or found_state.items() - expected.items()


# --- planted bugs: the check can fail ---------------------------------------------------


class Deaf(SimulatedMedium):
    """Hears no sync while it is deaf, and says that all is well."""

    deaf = False

    def sync(self, extents: Sequence[Extent] | None = None) -> None:
        """Do it, or say so."""
        if not self.deaf:
            super().sync(extents)


class DropsSyncs(SimulatedMedium):
    """Acknowledges every other sync without doing it."""

    syncs = 0

    def sync(self, extents: Sequence[Extent] | None = None) -> None:
        """Do it, or say so."""
        self.syncs += 1
        if self.syncs % 2 == 0:
            super().sync(extents)


class SuperblockFirst(SimulatedMedium):
    """Writes superblocks before the pages that they name, as if commit order were wrong."""

    def __init__(self, size_bytes: int, *, record: bool) -> None:
        super().__init__(size_bytes, record=record)
        self.held: list[tuple[int, bytes]] = []

    def write(self, offset_bytes: int, data: bytes | bytearray | memoryview) -> int:
        """Hold pages back until a superblock has passed."""
        if offset_bytes >= MIB:
            self.held.append((offset_bytes, bytes(data)))
            return len(data)
        count = super().write(offset_bytes, data)
        super().sync()
        for held in self.held:
            super().write(*held)
        self.held.clear()
        return count


@pytest.mark.parametrize("medium", [DropsSyncs, SuperblockFirst])
def test_check_on_a_medium_that_breaks_its_promise_finds_it(
    medium: Callable[..., SimulatedMedium], seed: int
) -> None:
    """Without one of the syncs, or with the order reversed, some crash shows."""
    trace, moments = _record(medium(size_of(SLOTS), record=True), seed, commits=6)
    with pytest.raises((Violation, ScrubjayError)):
        _check(trace, moments, Random(seed))


def test_check_on_a_pool_that_reuses_pages_at_once_finds_it(seed: int) -> None:
    """Overwriting a page that the last durable superblock reaches is what must not happen."""

    class Hasty(Pool):
        """Takes freed pages back before the commit that freed them is durable."""

        def _stage(self, change: Change, *, frees: bool) -> None:
            super()._stage(change, frees=frees)
            self._free.give(self._edit.freed)
            self._edit.freed.clear()

    medium = _blank()
    pool = create([medium])
    pool.__class__ = Hasty
    trace, moments = _workload(medium, pool, seed, commits=6)
    with pytest.raises((Violation, ScrubjayError)):
        _check(trace, moments, Random(seed))


# --- the workload, and the check ----------------------------------------------------------


def _record(medium: SimulatedMedium, seed: int, *, commits: int) -> tuple[list[Io], list[Moment]]:
    return _workload(medium, create([medium]), seed, commits=commits)


def _workload(
    medium: SimulatedMedium, pool: Pool, seed: int, *, commits: int
) -> tuple[list[Io], list[Moment]]:
    """Commit at random; return the trace, and what was acknowledged when."""
    random = Random(seed)
    moments = [Moment(len(medium.trace), state_of(pool), pool.epoch)]
    for number in range(commits):
        _commit(pool, random, rotate=number % 4 == 3)
        moments.append(Moment(len(medium.trace), state_of(pool), pool.epoch))
    return medium.trace, moments


def _commit(pool: Pool, random: Random, *, rotate: bool = False) -> None:
    """Put, delete, lease, release; sometimes long values, sometimes a new epoch."""
    with pool.change() as change:
        for _ in range(random.randrange(1, 25)):
            key = b"v%02d" % random.randrange(60)
            if random.random() < 0.3:
                change.delete(key)
            else:
                change.put(key, random.randbytes(random.choice((10, 200, 900, 3000, 9000))))
        lineage = random.choice(LINEAGES)
        leased = _leased(change.scan(b"a"), lineage)
        if leased and random.random() < 0.5:
            change.release_slots(lineage, leased[:2])
        elif len(leased) < 4:
            change.lease_slots(lineage, 2)
        if rotate:
            epoch = Epoch(change.epoch + 1)
            root = Node(Kind.TABLE, random.randbytes(32))
            change.rotate(epoch, epoch_key=_sink().keys[epoch], root=root)


def _check(
    trace: list[Io], moments: list[Moment], random: Random, *, sector_bytes: int = 512
) -> int:
    """Open every outcome of every cut; return how many there were. Raises Violation."""
    count = 0
    for cut, allowed in _cuts(trace, moments, sector_bytes):
        for crashed in (*cut.crashes(), *(cut.crash(random.randrange) for _ in range(5))):
            count += 1
            pool = reopen([crashed], sink=_sink(), seed=count)
            found = state_of(pool)
            if not any(found == moment.state and pool.epoch == moment.epoch for moment in allowed):
                raise Violation(f"outcome {count}: neither before nor after")
            if count % 8 == 0:  # it works on, and frees and fills as if nothing had been
                _commit(pool, random)
                again = reopen([crashed.crash(lambda _: 0)], sink=_sink())
                if state_of(again) != state_of(pool) or again.verify() != again.pages[0]:
                    raise Violation(f"outcome {count}: the next commit went wrong")
    return count


def _check_kills(trace: list[Io], moments: list[Moment], *, deaf: bool) -> None:
    """Kill at every step, open with the cache as it is, lose power. Raises Violation."""
    for steps in range(moments[0].steps, len(trace) + 1):
        killed = Deaf(size_of(SLOTS))
        for _ in replay(trace[:steps], killed):
            pass
        killed.deaf = deaf
        opened = state_of(reopen([killed], sink=_sink()))
        for crashed in killed.crashes():
            if state_of(reopen([crashed], sink=_sink())) != opened:
                raise Violation(f"step {steps}: what was opened went back")


def _cuts(
    trace: list[Io], moments: list[Moment], sector_bytes: int
) -> Iterator[tuple[SimulatedMedium, list[Moment]]]:
    """Yield the medium after each step, with the states that may be found there."""
    medium = SimulatedMedium(size_of(SLOTS), sector_bytes=sector_bytes, record=True)
    for step, cut in enumerate(replay(trace, medium)):
        done = [moment for moment in moments if moment.steps <= step]
        if done:
            yield cut, [done[-1], *moments[len(done) : len(done) + 1]]


def _leased(areas: list[tuple[bytes, bytes]], lineage: int) -> list[Slot]:
    """Return the slots that a lineage holds, in a pool whose areas have one slot."""
    owned = ((key, value) for key, value in areas if value[:4] == lineage.to_bytes(4, "little"))
    return [Slot(int.from_bytes(key[1:], "big")) for key, value in owned if value[4] == 2]


def _blank() -> SimulatedMedium:
    return SimulatedMedium(size_of(SLOTS), record=True)


def _sink() -> Sink:
    sink = Sink()
    for epoch in range(2, 10):
        sink.prepare(epoch)
    return sink
