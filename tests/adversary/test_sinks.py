"""Who kept every version of every block: against a file sink he wins, against a TPM he loses.

He has every write that the pool's medium ever saw, and every version of every block of the
home's file that holds the keys, or the credentials for them: flash, snapshots and copy on write
keep as much. Of the TPM he has what it is now, with the authorisation out of that file.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from scrubjay.base.errors import ScrubjayError
from scrubjay.base.ids import BranchNo, Epoch, LineageNo, SegmentId, TenantNo
from scrubjay.engine.lessor import Grant
from scrubjay.keys import path as paths
from scrubjay.sinks.file import FILE_BYTES, FileSink
from scrubjay.sinks.ground import assess
from scrubjay.sinks.locked import LockedFile
from scrubjay.sinks.sink import Grade
from scrubjay.sinks.tpm2 import TpmSink
from tests.control.rig import World, Written
from tests.keys.world import SeededEntropy
from tests.media.remembering import BLOCK_BYTES, History, RememberingFile
from tests.model.thief import Thief, keys_in_sink
from tests.sinks.disks import POOL, SINK, key_of
from tests.sinks.emulator import MISSING, PROGRAM, Emulator

FIRST = Epoch(1)


@pytest.fixture
def tpm() -> Iterator[Path]:
    """A TPM's socket."""
    if shutil.which(PROGRAM) is None:
        pytest.skip(MISSING)
    emulator = Emulator()
    yield emulator.socket
    emulator.close()


def segments(written: Written) -> list[tuple[paths.Path, bytes]]:
    """Return the path and the key of each segment that a volume was given."""
    record = written.volume.record

    def place(grant: Grant) -> paths.Path:
        return paths.segment(
            TenantNo(record.tenant),
            LineageNo(record.lineage),
            BranchNo(record.branch),
            SegmentId(grant.segment),
        )

    return [(place(each), each.key) for each in written.grants]


def lived(world: World) -> tuple[Written, Written]:
    """Write a volume that is destroyed, and one that is not; return both."""
    world.tenants.create("acme")
    doomed, kept = world.written("doomed", tenant="acme"), world.written("kept", tenant="acme")
    world.destroy("doomed")
    world.forget()
    assert world.keeper.epoch == 2
    return doomed, kept


def opened_by(world: World, epoch_keys: Sequence[bytes], written: Written) -> list[bool]:
    """Send in the thief with these keys: which segments he computes the key of."""
    thief = Thief(world.disks.pool.trace)
    for key in epoch_keys:
        thief.take(key)
    return [thief.reaches(path, key) for path, key in segments(written)]


def certified(world: World, written: Written) -> str:
    """Return what the certificate of a volume says that its erasure is worth."""
    (issued,) = world.certificates.page(after=b"", limit=9)
    assert issued.record.volumes == (written.id,)
    return issued.record.worth


def keys_in(history: History) -> list[bytes]:
    """Puzzle together every sink that a file's blocks ever were, the n-th versions together."""
    blocks = [history.versions(at, BLOCK_BYTES) for at in range(0, FILE_BYTES, BLOCK_BYTES)]
    images = (
        b"".join(each[min(number, len(each) - 1)] for each in blocks)
        for number in range(max(map(len, blocks)))
    )
    return sorted(set().union(*map(keys_in_sink, images)))


def test_file_sink_on_a_medium_that_remembers_gives_back_what_was_forgotten(
    tmp_path: Path,
) -> None:
    """He must win: this is why such a sink is CONDITIONAL, and says so."""
    entropy = SeededEntropy(1)
    with closing(LockedFile.create(tmp_path / "sink")) as file:
        io, worth = RememberingFile(file), assess(file.fd)
        FileSink.format(io, entropy, worth, sink_id=SINK, pool_id=POOL, epoch=FIRST)
        world = World.make(tmp_path, sink=FileSink(io, entropy, worth))
        doomed, kept = lived(world)
        assert opened_by(world, keys_in(io.history), doomed) == [True] * 3
        now = [world.sink.key(Epoch(2))]
        assert opened_by(world, now, doomed) == [False] * 3, "it is the old versions that tell"
        assert opened_by(world, now, kept) == [True] * 3
        assert certified(world, doomed) == worth.grade.value
        assert worth.grade is Grade.CONDITIONAL or "rotating" in str(worth)
        world.close()


def test_tpm_sink_gives_nothing_back_whatever_the_home_remembers(tmp_path: Path, tpm: Path) -> None:
    """He must lose, with every byte of the home and the TPM as it is now (I3)."""
    credentials = tmp_path / "tpm2.0"
    sink = TpmSink.create(
        credentials,
        SeededEntropy(1),
        sink_id=SINK,
        pool_id=POOL,
        epoch=FIRST,
        key=(first := key_of(1)),
        device=tpm,
    )
    world = World.make(tmp_path, sink=sink)
    doomed, kept = lived(world)
    assert certified(world, doomed) == sink.worth().grade.value
    assert "emulated" in sink.worth().place, "which is why it is not graded as a chip would be"
    sink.close()
    found = taken_from(credentials)
    assert found, "he is not sent in with nothing"
    assert opened_by(world, found, doomed) == [False] * 3
    assert opened_by(world, found, kept) == [True] * 3, "what lives opens for him"
    assert opened_by(world, [*found, first], doomed) == [True] * 3, "the check can fail"
    world.close()


def taken_from(credentials: Path) -> list[bytes]:
    """Return all that may be a key in the TPM, for who has the credentials, and in these."""
    sink = TpmSink.open(credentials, SeededEntropy(2))
    try:
        found = {sink.key(epoch) for epoch in sink.epochs()}
        slots = [bytes(slot.key) for slot in sink._read()]  # noqa: SLF001 - he reads what is there
        for epoch in (Epoch(1), Epoch(3)):
            with pytest.raises(ScrubjayError):
                sink.key(epoch)
    finally:
        sink.close()
    text = credentials.read_bytes()
    windows = {text[at : at + 32] for at in range(len(text) - 31)}
    return sorted(found | {each for each in slots if len(each) == 32} | windows)
