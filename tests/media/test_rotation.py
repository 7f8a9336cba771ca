"""Rotation to a new epoch: no copy is left that the old key opens, and none that nothing opens."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scrubjay.base.errors import Conflict, Corrupt, Denied, Invalid, Unavailable
from scrubjay.base.ids import Epoch
from scrubjay.base.units import MIB
from scrubjay.keys.table import Kind, Node
from scrubjay.media.change import Change
from scrubjay.media.simulated import SimulatedMedium
from tests.media.rig import ROOT, Sink, create, reopen, size_of

NEW_ROOT = Node(Kind.TABLE, b"anew" * 8)


def test_rotation_leaves_no_copy_under_the_old_epoch() -> None:
    """I3: once it returned, both copies on the medium open with the new key alone."""
    medium, sink = SimulatedMedium(size_of(4)), Sink()
    pool = create([medium], sink=sink)
    generation = pool.generation
    with pool.change() as change:
        change.delete(b"p")
        change.put(b"k", b"table")
        change.rotate(Epoch(2), epoch_key=sink.prepare(2), root=NEW_ROOT)
        assert (change.epoch, change.root) == (2, NEW_ROOT)
    assert (pool.epoch, pool.root, pool.generation) == (2, NEW_ROOT, generation + 2)
    with pytest.raises(Denied, match="epoch 2, which the sink does not hold"):
        reopen([medium], sink=Sink())
    del sink.keys[1]
    for damaged in (0, 65536):
        medium.flip(8 * damaged)
        assert reopen([medium.crash(lambda _: 0)], sink=sink).root == NEW_ROOT
        medium.flip(8 * damaged)


def test_rotation_overwrites_the_old_keys_in_memory() -> None:
    """I3: the process keeps neither the old epoch key nor the old root."""
    pool, sink = create(), Sink()
    old = pool._crown  # noqa: SLF001 - the memory under test
    with pool.change() as change:
        change.set_root(NEW_ROOT)
    assert old.node.key == bytes(32)
    assert any(old.epoch_key), "it is still in use"
    old = pool._crown  # noqa: SLF001 - the memory under test
    with pool.change() as change:
        change.rotate(Epoch(2), epoch_key=sink.prepare(2), root=ROOT)
    assert bytes(old.epoch_key) + bytes(old.node.key) == bytes(64)
    last = pool._crown  # noqa: SLF001 - the memory under test
    pool.close()
    assert bytes(last.epoch_key) + bytes(last.node.key) == bytes(64)


def test_root_of_a_dropped_change_is_overwritten() -> None:
    """Keys that came with a change go with it; the pool's own stay."""
    pool = create()

    def attempt(dropped: list[Change]) -> None:
        with pool.change() as change:
            change.set_root(NEW_ROOT)
            dropped.append(change)
            raise Conflict("dropped")

    dropped: list[Change] = []
    with pytest.raises(Conflict, match="dropped"):
        attempt(dropped)
    assert dropped[0].crown.node.key == bytes(32)
    assert any(dropped[0].crown.epoch_key)
    assert pool.root == ROOT


def test_rotation_to_an_epoch_that_is_not_later_is_invalid() -> None:
    """Epochs only go forward."""
    pool = create()
    with pytest.raises(Invalid, match="not later than 1"), pool.change() as change:
        change.rotate(Epoch(1), epoch_key=b"x" * 32, root=ROOT)
    assert pool.epoch == 1


def test_change_that_is_stopped_once_it_fits_leaves_no_trace() -> None:
    """Neither values nor the new root nor the slots that metadata would have grown by."""

    def stop() -> None:
        raise Conflict("it fits")

    pool = create()
    before = (pool.epoch, pool.root, pool.counts, pool.pages)
    with pytest.raises(Conflict, match="it fits"), pool.change() as change:
        _stage_much(change, stop)
    assert (pool.epoch, pool.root, pool.counts, pool.pages) == before
    assert pool.get(b"big1") is None
    with pool.change() as change:
        change.put(b"big", bytes(60_000))
    assert pool.epoch == before[0]


def test_rotation_whose_superblocks_read_back_wrong_stops_the_pool() -> None:
    """The old epoch key is dropped only after both copies were seen on the medium."""

    class Lying(SimulatedMedium):
        """Drops superblocks under way, and says that all is well."""

        lies = False

        def write(self, offset_bytes: int, data: bytes | bytearray | memoryview) -> int:
            if self.lies and offset_bytes < MIB:
                return len(data)
            return super().write(offset_bytes, data)

    medium, sink = Lying(size_of(4)), Sink()
    pool = create([medium], sink=sink)
    medium.lies = True
    with pytest.raises(Corrupt, match="read back"), pool.change() as change:
        change.rotate(Epoch(2), epoch_key=sink.prepare(2), root=NEW_ROOT)
    with pytest.raises(Unavailable, match="stopped"):
        pool.get(b"p")
    assert reopen([medium], sink=sink).epoch == 1


def _stage_much(change: Change, step: Callable[[], None]) -> None:
    for number in range(200):
        change.put(b"big%d" % number, bytes(60_000))
    change.rotate(Epoch(2), epoch_key=b"x" * 32, root=NEW_ROOT)
    change.on_fit(step)
