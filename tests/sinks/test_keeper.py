"""Which sink belongs to which pool, and which of the two is older."""

from uuid import UUID

import pytest

from scrubjay.base.errors import Corrupt, Denied, Invalid
from scrubjay.base.ids import Epoch
from scrubjay.sinks.file import FileSink
from scrubjay.sinks.keeper import EpochKeeper
from scrubjay.sinks.sink import Sink
from tests.keys.world import SeededEntropy
from tests.sinks.disks import POOL, SINK, SOMEWHERE, CrashFile, MemorySink, key_of


def holding(*epochs: int) -> Sink:
    """Return a sink that holds these epochs."""
    sink = MemorySink(SeededEntropy(1), sink_id=SINK, pool_id=POOL, epoch=Epoch(epochs[0]))
    for epoch in epochs[1:]:
        sink.prepare(Epoch(epoch), key_of(Epoch(epoch)))
    return sink


def keeper(sink: Sink) -> EpochKeeper:
    """Return the keeper of a sink that belongs to its pool."""
    return EpochKeeper(sink, sink_id=SINK, pool_id=POOL, entropy=SeededEntropy(9))


def test_keeper_rotates_from_one_epoch_to_the_next() -> None:
    """Prepare, commit, settle: one epoch after the other, and one held in the end."""
    sink = holding(4)
    old = keeper(sink).key(Epoch(4))
    new = keeper(sink).prepare(Epoch(4))
    assert (new, sink.epochs()) == (5, (4, 5))
    assert keeper(sink).key(new) != old
    assert keeper(sink).settle(new) == (4,)
    assert sink.epochs() == (5,)


def test_epoch_whose_key_was_stored_in_vain_is_not_prepared_again() -> None:
    """So the epoch counts what wore the sink."""
    sink = holding(4)
    one = keeper(sink)
    assert (one.newest(Epoch(4)), one.following(Epoch(4))) == (4, 5)
    assert one.prepare(Epoch(4)) == 5
    one.settle(Epoch(4))
    assert (one.newest(Epoch(4)), one.following(Epoch(4))) == (5, 6)
    assert one.prepare(Epoch(4)) == 6
    one.settle(Epoch(6))
    assert (sink.epochs(), one.newest(Epoch(6))) == ((6,), 6)


def test_epoch_that_the_sink_refused_is_prepared_the_next_time() -> None:
    """Nothing was stored, and nothing is counted."""
    sink = holding(4, 5)
    one = keeper(sink)
    with pytest.raises(Invalid, match="new epoch 5"):
        one.prepare(Epoch(4))
    assert one.newest(Epoch(4)) == 4


@pytest.mark.parametrize(("named", "dropped"), [(4, 5), (5, 4)])
def test_keeper_settles_by_what_the_superblock_names(named: int, dropped: int) -> None:
    """A rotation that was cut is undone or finished, and settling again does nothing."""
    sink = holding(4, 5)
    assert keeper(sink).settle(Epoch(named)) == (dropped,)
    assert sink.epochs() == (named,)
    assert keeper(sink).settle(Epoch(named)) == ()


def test_keeper_of_an_older_pool_refuses_and_drops_nothing() -> None:
    """A medium from before a forgetting opens nothing, and costs the newest state nothing (I6)."""
    sink = holding(4, 5)
    for deed in (keeper(sink).key, keeper(sink).settle, keeper(sink).prepare):
        with pytest.raises(
            Denied, match="holds epoch 4 and 5, expected epoch 3: the pool is older"
        ):
            deed(Epoch(3))
    assert sink.epochs() == (4, 5)


def test_keeper_of_an_older_sink_refuses_and_drops_nothing() -> None:
    """A sink that was put back from a copy says so."""
    sink = holding(4)
    with pytest.raises(
        Denied, match="holds epoch 4, expected epoch 6: the sink is older"
    ) as caught:
        keeper(sink).settle(Epoch(6))
    assert "newest" in caught.value.hint
    assert sink.epochs() == (4,)


def test_keeper_of_a_damaged_sink_stops_and_keeps_the_bytes() -> None:
    """Damage is not taken for age, and nothing is scoured (Corrupt: keep the bytes)."""
    disk = CrashFile()
    sink = FileSink.format(
        disk, SeededEntropy(1), SOMEWHERE, sink_id=SINK, pool_id=POOL, epoch=Epoch(1)
    )
    disk.write(4096 + 9000, b"damage")
    before = disk.read(0, disk.size_bytes)
    with pytest.raises(Corrupt, match="damaged"):
        keeper(sink).settle(Epoch(1))
    assert disk.read(0, disk.size_bytes) == before


def test_keeper_with_a_sink_of_another_pool_refuses() -> None:
    """Another pool's sink is named as such."""
    with pytest.raises(Invalid, match=f"belongs to pool {POOL}, expected pool {UUID(int=1)}"):
        EpochKeeper(holding(1), sink_id=SINK, pool_id=UUID(int=1), entropy=SeededEntropy(9))


def test_keeper_with_a_foreign_sink_refuses() -> None:
    """Another sink of the same pool's id is not the one that the superblock names."""
    with pytest.raises(Invalid, match=f"foreign to pool {POOL}, expected sink {UUID(int=1)}"):
        EpochKeeper(holding(1), sink_id=UUID(int=1), pool_id=POOL, entropy=SeededEntropy(9))
