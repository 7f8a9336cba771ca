"""What every sink promises; each implementation is put through all of it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scrubjay.base.errors import Conflict, Invalid, NotFound
from scrubjay.base.ids import Epoch
from scrubjay.sinks.file import FileSink
from scrubjay.sinks.sink import Grade, Sink
from tests.keys.world import SeededEntropy
from tests.sinks.disks import POOL, SINK, SOMEWHERE, CrashFile, MemorySink, key_of

FIRST = Epoch(1)


def _memory(folder: Path) -> Sink:
    return MemorySink(SeededEntropy(1), sink_id=SINK, pool_id=POOL, epoch=FIRST)


def _file(folder: Path) -> Sink:
    return FileSink.create(
        folder / "sink", SeededEntropy(1), sink_id=SINK, pool_id=POOL, epoch=FIRST
    )


def _file_on_a_port(folder: Path) -> Sink:
    return FileSink.format(
        CrashFile(), SeededEntropy(1), SOMEWHERE, sink_id=SINK, pool_id=POOL, epoch=FIRST
    )


@pytest.fixture(params=[_memory, _file, _file_on_a_port])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sink]:
    """Make a new sink that holds epoch 1."""
    make: Callable[[Path], Sink] = request.param
    made = make(tmp_path)
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
