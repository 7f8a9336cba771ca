"""The file sink: its bytes, who may read it, and files that are no sink or not whole."""

import errno
import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from scrubjay.base.errors import Conflict, Corrupt, Denied, Invalid, NotFound, Unavailable
from scrubjay.base.ids import Epoch
from scrubjay.sinks.file import FILE_BYTES, FileSink
from scrubjay.sinks.locked import LockedFile
from scrubjay.sinks.split import merge
from tests.keys.world import SeededEntropy
from tests.sinks.disks import POOL, SINK, SOMEWHERE, CrashFile, key_of

SLOTS = (4096, 4096 + 262_144)


def formatted() -> CrashFile:
    """Return the file of a new sink that holds epoch 1 in slot 0."""
    disk = CrashFile()
    FileSink.format(disk, SeededEntropy(1), SOMEWHERE, sink_id=SINK, pool_id=POOL, epoch=Epoch(1))
    return disk


def opened(content: bytes) -> FileSink:
    """Open a file of these bytes."""
    return FileSink(CrashFile(content), SeededEntropy(2), SOMEWHERE)


def create(path: Path) -> FileSink:
    """Create a sink in a real file."""
    return FileSink.create(path, SeededEntropy(1), sink_id=SINK, pool_id=POOL, epoch=Epoch(1))


def test_file_sink_follows_the_format_byte_by_byte() -> None:
    """Header, slot header, split and checksums lie where docs/format/keys.md says."""
    content = bytes(formatted().durable)
    assert len(content) == FILE_BYTES == 4096 + 2 * 262_144
    assert content[:40] == b"SJSINK1\0" + SINK.bytes + POOL.bytes
    assert not any(content[40:4064])
    assert content[4064:4096] == hashlib.sha256(content[:4064]).digest()
    slot = content[SLOTS[0] : SLOTS[1]]
    assert slot[:20] == b"SJEPOCH\0" + struct.pack("<QI", 1, 4000)
    assert not any(slot[52:4096])
    key = merge(slot[4096:132_096])
    assert slot[20:52] == hashlib.sha256(key + struct.pack("<Q", 1)).digest()
    assert slot[132_096:132_128] == hashlib.sha256(slot[:132_096]).digest()
    assert not any(slot[132_128:])
    assert not any(content[SLOTS[1] :])
    assert opened(content).key(Epoch(1)) == key


def test_file_sink_never_stores_a_key_in_the_clear() -> None:
    """Only the split of a key lies in the file (I2)."""
    disk = formatted()
    key = opened(bytes(disk.durable)).key(Epoch(1))
    assert key not in disk.durable


def test_file_sink_after_a_drop_holds_zeros_there() -> None:
    """The slot of a dropped epoch reads back as zeros, all of it (I3)."""
    disk = formatted()
    sink = FileSink(disk, SeededEntropy(2), SOMEWHERE)
    sink.prepare(Epoch(2), key_of(Epoch(2)))
    sink.drop(Epoch(1))
    assert not any(disk.durable[SLOTS[0] : SLOTS[1]])
    assert opened(bytes(disk.durable)).epochs() == (2,)


class Deaf(CrashFile):
    """A disk that says yes to every write, and keeps what it has."""

    def write(self, offset_bytes: int, data: bytes) -> None:
        """Keep nothing."""


def test_file_sink_on_a_disk_that_does_not_write_says_so() -> None:
    """Every prepare and drop is read back, and nothing is believed that does not show (I8)."""
    disk = formatted()
    sink = FileSink(Deaf(bytes(disk.durable)), SeededEntropy(2), SOMEWHERE)
    with pytest.raises(Corrupt, match="expected the new key"):
        sink.prepare(Epoch(2), key_of(Epoch(2)))
    FileSink(disk, SeededEntropy(3), SOMEWHERE).prepare(Epoch(2), key_of(Epoch(2)))
    sink = FileSink(Deaf(bytes(disk.durable)), SeededEntropy(2), SOMEWHERE)
    with pytest.raises(Corrupt, match="slot 0 is not zero"):
        sink.drop(Epoch(1))


@pytest.mark.parametrize("position", [0, 9, 4000, 4095])
def test_file_sink_with_a_flipped_header_is_corrupt(position: int) -> None:
    """No bit of the header may differ."""
    content = formatted().durable
    content[position] ^= 0x80
    with pytest.raises(Corrupt):
        opened(bytes(content))


@pytest.mark.parametrize("position", [0, 8, 16, 20, 4095, 4096, 100_000, 132_095, 132_127])
def test_file_sink_with_a_flipped_slot_is_corrupt_and_kept(position: int) -> None:
    """A damaged key is not given out, and nothing overwrites it: stop, keep the bytes."""
    content = formatted().durable
    content[SLOTS[0] + position] ^= 1
    sink = opened(bytes(content))
    assert sink.epochs() == ()
    with pytest.raises(Corrupt, match="slot 0 is damaged"):
        sink.key(Epoch(1))
    with pytest.raises(Corrupt):
        sink.scour()


def test_file_sink_with_a_forged_split_is_corrupt() -> None:
    """Right checksums around another key do not pass for it."""
    content = formatted().durable
    slot = SLOTS[0]
    content[slot + 5000] ^= 1
    text = bytes(content[slot : slot + 132_096])
    content[slot + 132_096 : slot + 132_128] = hashlib.sha256(text).digest()
    with pytest.raises(Corrupt, match="merges wrongly"):
        opened(bytes(content)).key(Epoch(1))


def test_file_sink_with_an_epoch_twice_is_corrupt() -> None:
    """Two slots with one epoch are nobody's doing but a forger's."""
    content = formatted().durable
    content[SLOTS[1] :] = content[SLOTS[0] : SLOTS[1]]
    with pytest.raises(Corrupt, match="epoch 1 twice"):
        opened(bytes(content)).epochs()


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, FILE_BYTES - 1, FILE_BYTES + 1])
def test_file_sink_of_another_length_is_corrupt(size: int) -> None:
    """A truncated or lengthened file is refused."""
    content = bytes(formatted().durable).ljust(size, b"\0")[:size]
    with pytest.raises(Corrupt, match=rf"{size} bytes, expected {FILE_BYTES}"):
        opened(content)


def test_file_sink_out_of_something_else_is_corrupt() -> None:
    """A file that is no sink is refused, whatever it is."""
    with pytest.raises(Corrupt, match="expected SJSINK1"):
        opened(bytes(FILE_BYTES))


def test_file_sink_of_a_newer_version_is_invalid() -> None:
    """A newer format is named as such, and not taken for damage."""
    content = formatted().durable
    content[6:7] = b"2"
    with pytest.raises(Invalid, match="version") as caught:
        opened(bytes(content))
    assert "newer" in caught.value.hint


def test_file_sink_on_disk_opens_again_with_its_keys(tmp_path: Path) -> None:
    """What was created is there after closing, mode 0600."""
    sink = create(tmp_path / "sink")
    sink.prepare(Epoch(2), key_of(Epoch(2)))
    keys = [sink.key(epoch) for epoch in sink.epochs()]
    sink.close()
    assert (tmp_path / "sink").stat().st_mode & 0o7777 == 0o600
    again = FileSink.open(tmp_path / "sink", SeededEntropy(3))
    assert [again.key(epoch) for epoch in again.epochs()] == keys
    assert again.sink_id == SINK
    again.close()


def test_file_sink_in_use_is_a_conflict(tmp_path: Path) -> None:
    """Two daemons never have one sink open; once the first is gone, it opens."""
    sink = create(tmp_path / "sink")
    with pytest.raises(Conflict, match="in use"):
        FileSink.open(tmp_path / "sink", SeededEntropy(3))
    sink.close()
    FileSink.open(tmp_path / "sink", SeededEntropy(3)).close()


def test_file_sink_over_a_file_that_exists_is_a_conflict(tmp_path: Path) -> None:
    """Creating overwrites nothing."""
    (tmp_path / "sink").write_bytes(b"precious")
    with pytest.raises(Conflict, match="exists"):
        create(tmp_path / "sink")
    assert (tmp_path / "sink").read_bytes() == b"precious"


def _readable_by_others(path: Path) -> None:
    path.chmod(0o640)


def _symbolic_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to(path.with_name("moved"))


def _second_name(path: Path) -> None:
    path.with_name("second").hardlink_to(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    "spoil", [_readable_by_others, _symbolic_link, _second_name, _folder, _fifo]
)
def test_file_sink_spoiled_is_denied(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    """A sink is a regular file of its owner's, alone and under one name."""
    path = tmp_path / "sink"
    create(path).close()
    spoil(path)
    with pytest.raises(Denied):
        FileSink.open(path, SeededEntropy(3))


def test_file_sink_of_another_owner_is_denied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that another user owns may be written by him at any time."""
    path = tmp_path / "sink"
    create(path).close()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(Denied, match="owned by uid"):
        FileSink.open(path, SeededEntropy(3))


def test_file_sink_missing_is_not_found(tmp_path: Path) -> None:
    """A sink that is not there is asked for, with what to do."""
    with pytest.raises(NotFound, match="no such file") as caught:
        FileSink.open(tmp_path / "sink", SeededEntropy(3))
    assert caught.value.hint


def test_file_sink_whose_creation_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A creation that ran out of space can be tried again."""

    def full(fd: int, data: memoryview, offset: int) -> int:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(Unavailable, match="no space left"):
            create(tmp_path / "sink")
    create(tmp_path / "sink").close()


def test_locked_file_after_a_failed_sync_is_of_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the cache shows after a failed sync is not believed, nor a later sync (I4)."""
    sink = create(tmp_path / "sink")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", _eio)
        with pytest.raises(Unavailable, match="input/output"):
            sink.prepare(Epoch(2), key_of(Epoch(2)))
    for deed in (sink.epochs, sink.scour, lambda: sink.prepare(Epoch(3), key_of(Epoch(3)))):
        with pytest.raises(Unavailable, match="opened anew"):
            deed()
    sink.close()
    again = FileSink.open(tmp_path / "sink", SeededEntropy(3))
    assert Epoch(1) in again.epochs()
    again.close()


def test_locked_file_written_in_pieces_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short writes and reads are gone on with."""
    pwrite, pread = os.pwrite, os.pread

    def short_write(fd: int, data: memoryview, offset: int) -> int:
        return pwrite(fd, data[:7], offset)

    def short_read(fd: int, size: int, offset: int) -> bytes:
        return pread(fd, min(size, 5), offset)

    io = LockedFile.create(tmp_path / "file")
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", short_write)
        patched.setattr(os, "pread", short_read)
        io.write(3, bytes(range(100)))
        assert io.read(3, 200) == bytes(range(100))
    io.close()
    io.close()


def test_file_sink_ids_are_those_it_was_given(tmp_path: Path) -> None:
    """Any ids come back as they were."""
    sink_id, pool_id = UUID(int=2**128 - 1), UUID(int=1)
    sink = FileSink.create(
        tmp_path / "sink", SeededEntropy(1), sink_id=sink_id, pool_id=pool_id, epoch=Epoch(9)
    )
    assert (sink.sink_id, sink.pool_id, sink.epochs()) == (sink_id, pool_id, (9,))
    sink.close()


def _eio(fd: int) -> None:
    raise OSError(errno.EIO, "input/output error")


def test_sink_file_that_is_wiped_leaves_nothing_whole_or_torn(tmp_path: Path) -> None:
    """One whose header was never written may hold a key behind it (I3)."""
    entropy = SeededEntropy(3)
    for keep in (0, 4096):
        path = tmp_path / f"sink{keep}"
        FileSink.create(path, entropy, sink_id=SINK, pool_id=POOL, epoch=Epoch(1)).close()
        seen = path.open("rb")
        with path.open("r+b") as file:
            file.write(bytes(keep))
        FileSink.wipe(path, entropy)
        with seen:
            assert not any(seen.read()), "the blocks that it had are zeros"
        assert not path.exists()
    with pytest.raises(NotFound):
        FileSink.wipe(tmp_path / "none", entropy)
