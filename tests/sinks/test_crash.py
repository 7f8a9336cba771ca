"""Power loss at every write and sync of the file sink, with torn and reordered sectors."""

import random
from collections.abc import Callable, Iterator

import pytest

from scrubjay.base.errors import Corrupt
from scrubjay.base.ids import Epoch
from scrubjay.sinks.file import FileSink
from scrubjay.sinks.keeper import EpochKeeper
from tests.keys.world import SeededEntropy
from tests.sinks.disks import POOL, SINK, SOMEWHERE, CrashFile, PowerLossError, key_of

OLD, NEW = Epoch(1), Epoch(2)
TEARS = 6
Deed = Callable[[CrashFile], None]


def _format(disk: CrashFile) -> None:
    FileSink.format(disk, SeededEntropy(1), SOMEWHERE, sink_id=SINK, pool_id=POOL, epoch=OLD)


def _open(disk: CrashFile) -> FileSink:
    return FileSink(disk, SeededEntropy(5), SOMEWHERE)


def _crashes(content: bytes, deed: Deed, rng: random.Random) -> Iterator[bytes]:
    """Play `deed` up to each of its steps, and yield what the disk may hold after that."""
    whole = CrashFile(content)
    deed(whole)
    assert whole.steps > 1
    for stop_at in range(whole.steps):
        for _ in range(TEARS):
            disk = CrashFile(content, stop_at=stop_at)
            with pytest.raises(PowerLossError):
                deed(disk)
            yield disk.after_power_loss(rng)
    yield bytes(whole.durable)


def _settle(content: bytes, named: Epoch, rng: random.Random) -> bytes:
    """Recover under the named epoch, itself cut short at times; return the settled file."""
    sink = _open(CrashFile(content))
    kept = sink.key(named)
    for stop_at in (0, 1, 2, 3):
        disk = CrashFile(content, stop_at=stop_at)
        try:
            EpochKeeper(_open(disk), sink_id=SINK, pool_id=POOL, entropy=SeededEntropy(9)).settle(
                named
            )
        except PowerLossError:
            content = disk.after_power_loss(rng)
            assert _open(CrashFile(content)).key(named) == kept
    disk = CrashFile(content)
    EpochKeeper(_open(disk), sink_id=SINK, pool_id=POOL, entropy=SeededEntropy(9)).settle(named)
    settled = _open(CrashFile(bytes(disk.durable)))
    assert settled.epochs() == (named,)
    assert settled.key(named) == kept
    return bytes(disk.durable)


def _assert_only(content: bytes, epoch: Epoch) -> None:
    """One slot holds the epoch, and the other is zero to the last byte."""
    slots = [content[4096 : 4096 + 262_144], content[4096 + 262_144 :]]
    assert sorted(any(slot) for slot in slots) == [False, True]
    assert _open(CrashFile(content)).epochs() == (epoch,)


@pytest.mark.slow
def test_crash_during_prepare_is_undone(seed: int) -> None:
    """Before the commit the superblock names the old epoch: held, kept, the rest erased (I5)."""
    rng = random.Random(seed)
    start = CrashFile()
    _format(start)
    old = _open(start).key(OLD)
    for content in _crashes(
        bytes(start.durable), lambda disk: _open(disk).prepare(NEW, key_of(NEW)), rng
    ):
        settled = _settle(content, OLD, rng)
        _assert_only(settled, OLD)
        sink = _open(CrashFile(settled))
        assert sink.key(OLD) == old
        sink.prepare(NEW, key_of(NEW))


@pytest.mark.slow
def test_crash_during_drop_is_finished(seed: int) -> None:
    """After the commit the superblock names the new epoch: held, kept, the old erased (I3, I6)."""
    rng = random.Random(seed)
    start = CrashFile()
    _format(start)
    _open(start).prepare(NEW, key_of(NEW))
    new = _open(start).key(NEW)
    for content in _crashes(bytes(start.durable), lambda disk: _open(disk).drop(OLD), rng):
        settled = _settle(content, NEW, rng)
        _assert_only(settled, NEW)
        assert _open(CrashFile(settled)).key(NEW) == new


def test_crash_between_prepare_and_drop_goes_either_way() -> None:
    """With both epochs held, the superblock decides."""
    start = CrashFile()
    _format(start)
    _open(start).prepare(NEW, key_of(NEW))
    for named in (OLD, NEW):
        _assert_only(_settle(bytes(start.durable), named, random.Random(1)), named)


def test_crash_during_format_leaves_a_sink_or_none(seed: int) -> None:
    """A sink that is half made says that it is none; one that opens holds its epoch."""
    rng = random.Random(seed)
    outcomes = set()
    for content in _crashes(b"", _format, rng):
        try:
            sink = _open(CrashFile(content))
        except Corrupt:
            outcomes.add("none")
        else:
            assert sink.epochs() == (OLD,)
            outcomes.add("sink")
    assert outcomes == {"none", "sink"}


def test_crash_that_tears_only_the_slot_header_leaves_nothing_to_merge() -> None:
    """A drop whose only durable sector is the header's leaves a whole split: recovery erases it.

    Without scouring, the key of a dropped epoch could be merged from the slot (I3).
    """
    start = CrashFile()
    _format(start)
    _open(start).prepare(NEW, key_of(NEW))
    content = start.durable
    content[4096 : 4096 + 512] = bytes(512)
    assert _open(CrashFile(bytes(content))).epochs() == (NEW,)
    assert any(content[8192 : 8192 + 128_000])
    _assert_only(_settle(bytes(content), NEW, random.Random(1)), NEW)
