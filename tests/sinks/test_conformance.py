"""What every sink promises; each implementation is put through all of it."""

import itertools
import random
from collections.abc import Callable, Iterator
from functools import partial
from uuid import UUID

import pytest

from scrubjay.base.errors import Conflict, Invalid, NotFound, Unavailable
from scrubjay.base.ids import Epoch
from scrubjay.sinks.keeper import EpochKeeper
from scrubjay.sinks.sink import Grade, Sink
from tests.keys.world import SeededEntropy
from tests.sinks.disks import POOL, SINK, PowerLossError, key_of
from tests.sinks.emulator import PROGRAM
from tests.sinks.rigs import FIRST, FileRig, MemoryRig, MirrorRig, MixedRig, Rig, TpmRig

NEW = Epoch(2)


class Drawn:
    """Entropy that notes the keys it gave."""

    def __init__(self) -> None:
        self._entropy = SeededEntropy(9)
        self.keys: list[bytes] = []

    def token(self, size_bytes: int) -> bytes:
        """Return the next bytes."""
        self.keys.append(self._entropy.token(size_bytes))
        return self.keys[-1]


@pytest.fixture(
    params=[
        MemoryRig,
        FileRig,
        MirrorRig,
        pytest.param(TpmRig, marks=pytest.mark.real(PROGRAM)),
        pytest.param(MixedRig, marks=pytest.mark.real(PROGRAM)),
    ],
)
def make_rig(request: pytest.FixtureRequest) -> Callable[[], Rig]:
    """Return what makes a machine for one kind of sink."""
    make: Callable[[], Rig] = request.param
    return make


@pytest.fixture
def rig(make_rig: Callable[[], Rig]) -> Iterator[Rig]:
    """Return such a machine."""
    made = make_rig()
    yield made
    made.close()


@pytest.fixture
def sink(rig: Rig) -> Iterator[Sink]:
    """Make a new sink that holds epoch 1."""
    made = rig.make()
    yield made
    made.close()


def test_sink_when_new_holds_its_first_epoch(sink: Sink) -> None:
    """A new sink knows who it is, and holds one key of 32 bytes."""
    assert (sink.sink_id, sink.pool_id, sink.epochs()) == (SINK, POOL, (FIRST,))
    key = sink.key(FIRST)
    assert len(key) == 32
    assert any(key)
    assert sink.key(FIRST) == key


def test_sink_prepared_holds_both_epochs(sink: Sink) -> None:
    """A new epoch has a fresh key, and the old one keeps its own."""
    old = sink.key(FIRST)
    sink.prepare(Epoch(2), key_of(2))
    assert sink.epochs() == (1, 2)
    assert sink.key(FIRST) == old
    assert sink.key(Epoch(2)) != old


def test_sink_dropped_epoch_is_gone_and_the_other_stays(sink: Sink) -> None:
    """After a drop the key is not to be had, and the new one opens as before (I3)."""
    sink.prepare(Epoch(2), key_of(2))
    new = sink.key(Epoch(2))
    sink.drop(FIRST)
    assert sink.epochs() == (2,)
    assert sink.key(Epoch(2)) == new
    with pytest.raises(NotFound):
        sink.key(FIRST)


def test_sink_undoes_a_prepared_epoch_by_dropping_it(sink: Sink) -> None:
    """A rotation that was not committed is undone, and the epoch's next key is another (I6)."""
    old = sink.key(FIRST)
    sink.prepare(Epoch(2), key_of(2))
    undone = sink.key(Epoch(2))
    sink.drop(Epoch(2))
    assert (sink.epochs(), sink.key(FIRST)) == ((1,), old)
    sink.prepare(Epoch(2), key_of(2, draw=1))
    assert sink.key(Epoch(2)) != undone


def test_sink_refuses_to_drop_its_last_epoch(sink: Sink) -> None:
    """No call leaves a pool that nothing opens."""
    with pytest.raises(Conflict, match="epoch 1 is the last one"):
        sink.drop(FIRST)
    assert sink.epochs() == (1,)


def test_sink_asked_to_drop_what_it_does_not_hold_does_nothing(sink: Sink) -> None:
    """Dropping is idempotent."""
    sink.prepare(Epoch(2), key_of(2))
    sink.drop(Epoch(7))
    assert sink.epochs() == (1, 2)


@pytest.mark.parametrize("epoch", [0, 1])
def test_sink_refuses_an_epoch_that_is_not_newer(sink: Sink, epoch: int) -> None:
    """An epoch's key is never replaced."""
    key = sink.key(FIRST)
    with pytest.raises(Invalid):
        sink.prepare(Epoch(epoch), key_of(epoch))
    assert sink.key(FIRST) == key


def test_sink_refuses_a_third_epoch(sink: Sink) -> None:
    """A rotation begins when the last one has ended."""
    sink.prepare(Epoch(2), key_of(2))
    with pytest.raises(Conflict):
        sink.prepare(Epoch(3), key_of(3))
    assert sink.epochs() == (1, 2)


def test_sink_scoured_keeps_what_it_holds(sink: Sink) -> None:
    """Scouring touches no key."""
    sink.prepare(Epoch(2), key_of(2))
    keys = [sink.key(epoch) for epoch in sink.epochs()]
    sink.scour()
    assert [sink.key(epoch) for epoch in sink.epochs()] == keys


def test_sink_rotated_often_holds_the_newest_alone(sink: Sink) -> None:
    """Rotation upon rotation: one epoch is left, and no key comes twice (I6)."""
    keys = {sink.key(FIRST)}
    for epoch in range(2, 7):
        sink.prepare(Epoch(epoch), key_of(epoch))
        sink.drop(Epoch(epoch - 1))
        keys.add(sink.key(Epoch(epoch)))
    assert sink.epochs() == (6,)
    assert len(keys) == 6


def test_sink_says_what_it_is_worth(sink: Sink) -> None:
    """The assessment is a grade and a sentence (I8)."""
    worth = sink.worth()
    assert isinstance(worth.grade, Grade)
    assert str(worth).endswith(f"Forgetting is {worth.grade.value}.")


def test_sink_refuses_a_key_that_it_holds(sink: Sink) -> None:
    """An epoch's key is fresh; one that serves another epoch is not (I6)."""
    with pytest.raises(Invalid, match="fresh"):
        sink.prepare(Epoch(2), sink.key(FIRST))
    assert sink.epochs() == (1,)


@pytest.mark.parametrize("size_bytes", [0, 16, 31, 33])
def test_sink_refuses_a_key_of_another_size(sink: Sink, size_bytes: int) -> None:
    """A key has 32 bytes."""
    with pytest.raises(Invalid, match=f"key of {size_bytes} bytes, expected 32"):
        sink.prepare(Epoch(2), bytes(size_bytes))
    assert sink.epochs() == (1,)


def test_sink_rotated_by_its_keeper_never_repeats_a_key(sink: Sink) -> None:
    """Each epoch's key is drawn anew, an undone one too, and the sink holds that one (I6)."""
    drawn = Drawn()
    keeper = EpochKeeper(sink, sink_id=SINK, pool_id=POOL, entropy=drawn)
    held, named = [], FIRST
    for turn in range(6):
        after = keeper.prepare(named)
        held.append(sink.key(after))
        named = named if turn % 3 == 2 else after
        keeper.settle(named)
    assert held == drawn.keys
    assert len(set(held)) == 6


def test_sink_opened_anew_holds_what_it_held(rig: Rig) -> None:
    """A sink is what it was before it was closed."""
    first = rig.make()
    first.prepare(Epoch(2), key_of(2))
    keys = [first.key(epoch) for epoch in first.epochs()]
    first.close()
    again = rig.open()
    assert (again.sink_id, again.pool_id) == (SINK, POOL)
    assert [again.key(epoch) for epoch in again.epochs()] == keys
    again.close()


def test_sink_of_another_pool_is_refused(sink: Sink) -> None:
    """No pool takes another's sink, and no sink serves two."""
    other = UUID(int=77)
    with pytest.raises(Invalid, match="belongs to pool"):
        EpochKeeper(sink, sink_id=SINK, pool_id=other, entropy=Drawn())
    with pytest.raises(Invalid, match="foreign"):
        EpochKeeper(sink, sink_id=other, pool_id=POOL, entropy=Drawn())


def test_sink_states_a_budget(sink: Sink) -> None:
    """What it affords within a year is some, and it says how sure that is."""
    budget = sink.budget()
    assert budget.rotations(365 * 86_400) > 365
    assert budget.wait_s(rotations=0, age_s=0) == 0
    assert budget.reason


def _rotated(sink: Sink) -> None:
    sink.prepare(NEW, key_of(NEW))


def _dropped(sink: Sink) -> None:
    sink.drop(FIRST)


@pytest.mark.slow
@pytest.mark.parametrize(("deed", "named"), [(_rotated, FIRST), (_dropped, NEW)])
def test_sink_cut_at_every_step_settles(
    make_rig: Callable[[], Rig], deed: Callable[[Sink], None], named: Epoch, seed: int
) -> None:
    """Power lost at any step: the named epoch keeps its key, and settling leaves it alone.

    The settling is cut as well, at a step that chance picks (I3, I5, I6).
    """
    rng = random.Random(seed)
    for cut in itertools.count():
        rig = make_rig()
        done = _cut_and_settle(rig, cut, deed, named=named, rng=rng)
        rig.close()
        if done:
            break


def _cut_and_settle(
    rig: Rig, cut: int, deed: Callable[[Sink], None], *, named: Epoch, rng: random.Random
) -> bool:
    """Play it with the power lost before step `cut`; True if it came to its end before that."""
    sink = rig.make()
    if named == NEW:
        sink.prepare(NEW, key_of(NEW))
    kept = sink.key(named)
    done = _cut(rig, cut, partial(deed, sink))
    rig.restart(rng)
    if not done:
        _cut(rig, rng.randrange(8), partial(_settle, rig, named))
        rig.restart(rng)
    settled = _settle(rig, named)
    assert settled.epochs() == (named,)
    assert settled.key(named) == kept
    for gone in {FIRST, NEW} - {named}:
        with pytest.raises(NotFound):
            settled.key(gone)
    following = Epoch(named + 1)
    settled.prepare(following, key_of(following, draw=1))
    assert settled.key(following) == key_of(following, draw=1)
    settled.close()
    return done


def _cut(rig: Rig, at: int, deed: Callable[[], object]) -> bool:
    """Do it with the power lost before its step `at`; True if it came to its end."""
    rig.power.steps, rig.power.stop_at = 0, at
    try:
        deed()
    except (PowerLossError, Unavailable):
        return False
    finally:
        rig.power.stop_at = -1
    return True


def _settle(rig: Rig, named: Epoch) -> Sink:
    """Recover as an opened pool does."""
    sink = rig.open()
    EpochKeeper(sink, sink_id=SINK, pool_id=POOL, entropy=Drawn()).settle(named)
    return sink
