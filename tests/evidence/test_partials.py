"""Partial tiles go once no checkpoint needs them, and never one that is needed."""

import contextlib
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from scrubjay.base.errors import Corrupt, Invalid, Unavailable
from scrubjay.evidence.folder import Folder
from scrubjay.evidence.log import CHECKPOINT, Log
from scrubjay.evidence.merkle import Frontier, tree_hash
from scrubjay.evidence.partials import delete_partials
from scrubjay.evidence.tiles import TileReader, tile_path, write_entries
from tests.evidence.test_merkle import grown, leaves
from tests.evidence.world import MemoryFiles, signer


def one_by_one(log: Log, entries: list[bytes], *, first: int = 0) -> None:
    """Publish entry after entry, as births are."""
    frontier = grown(entries[:first])
    for at in range(first, len(entries)):
        frontier = frontier.append(entries[at])
        log.publish(at, entries[at : at + 1], frontier)


def test_log_of_six_hundred_births_published_one_by_one_stays_small(tmp_path: Path) -> None:
    """On disk: what was logged and its hashes, the newest partial tiles and those before them."""
    entries = [b"%d " % at + bytes(400) for at in range(600)]
    one_by_one(Log(Folder(tmp_path), signer()), entries)
    files = [each for each in tmp_path.rglob("*") if each.is_file()]
    size_bytes = sum(each.stat().st_size for each in files)
    assert size_bytes < 2 * sum(len(each) + 34 for each in entries)
    assert sorted(each.relative_to(tmp_path).as_posix() for each in files) == [
        "checkpoint",
        "tile/0/000",
        "tile/0/001",
        "tile/0/002.p/87",
        "tile/0/002.p/88",
        "tile/1/000.p/2",
        "tile/entries/000",
        "tile/entries/001",
        "tile/entries/002.p/87",
        "tile/entries/002.p/88",
    ]


def test_log_with_partial_tiles_deleted_proves_all_it_proved() -> None:
    """Under every checkpoint there ever was, in portions of any size (I8)."""
    rng = random.Random(20260302)
    files, entries, frontier = MemoryFiles(), leaves(0), Frontier()
    log, checkpoints = Log(files, signer()), []
    while len(entries) < 1100:
        more = [b"%d" % rng.randrange(1 << 40) for _ in range(rng.choice([1, 1, 2, 90, 300]))]
        for each in more:
            frontier = frontier.append(each)
        checkpoints.append(log.publish(len(entries), more, frontier))
        entries += more
    newest = checkpoints[-1]
    for known in checkpoints:
        reader = TileReader(files, known.size)
        assert tree_hash(0, known.size, reader.node) == known.root
        assert reader.entries(0, known.size) == entries[: known.size]
        assert bool(log.prove_consistency(known, newest)) == (known != newest)
        assert log.prove_inclusion(0, known) or known.size == 1


class Failing(MemoryFiles):
    """Files of a machine that loses power after so many changes."""

    left = 1 << 30

    def write(self, path: str, data: bytes) -> None:
        """Put a file there, or fail."""
        self._count()
        super().write(path, data)

    def remove(self, folder: str, names: Sequence[str]) -> None:
        """Remove files, or some of them and fail."""
        for each in names:
            self._count()
            super().remove(folder, [each])

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Unavailable("power")


@pytest.mark.parametrize("size", [40, 254, 255, 256])
@pytest.mark.parametrize("changes", range(12))
def test_log_after_a_crash_at_any_change_ends_the_same(size: int, changes: int) -> None:
    """Whatever was deleted, the signed checkpoint has its tiles; what was left goes later."""
    entries = leaves(size + 4)
    files = Failing()
    one_by_one(Log(files, signer()), entries[:size])
    files.left = changes
    with contextlib.suppress(Unavailable):
        one_by_one(Log(files, signer()), entries[: size + 2], first=size)
    files.left = 1 << 30
    log = Log(files, signer())
    known = log.checkpoint()
    assert known is not None
    signed = known[0].size
    reader = TileReader(files, signed)
    assert tree_hash(0, signed, reader.node) == known[0].root
    assert reader.entries(0, signed) == entries[:signed]
    log.publish(signed, [], grown(entries[:signed]))
    one_by_one(log, entries, first=signed)
    whole = MemoryFiles()
    one_by_one(Log(whole, signer()), entries)
    assert files.files == whole.files


def test_partial_tile_stays_until_its_full_one_is_there() -> None:
    """Where the full one is lost, what is left of it is not deleted too."""
    files, entries = MemoryFiles(), leaves(256)
    write_entries(files, 0, entries[:9])
    write_entries(files, 9, entries[9:])
    del files.files[tile_path(0, 0)]
    delete_partials(files, before=9, size=256, everywhere=True)
    assert tile_path(0, 0, 9) in files.files
    assert tile_path(None, 0, 9) not in files.files


def test_partial_tiles_are_deleted_only_once_the_checkpoint_is_signed() -> None:
    """Between the two checkpoints nothing is removed."""
    files, entries = MemoryFiles(), leaves(258)
    one_by_one(Log(files, signer()), entries)
    removed = [at for at, each in enumerate(files.order) if each.startswith("-")]
    assert removed
    for at in removed:
        before = [each for each in files.order[:at] if not each.startswith("-")]
        assert before[-1] == CHECKPOINT


def test_reader_of_an_older_size_takes_a_wider_partial_tile() -> None:
    """A bundle is made while others publish: its tiles may be replaced beneath it."""
    files, entries = MemoryFiles(), leaves(9)
    write_entries(files, 0, entries)
    files.files["tile/entries/000.p/.10.new"] = b"a draft"
    assert TileReader(files, 5).entries(0, 5) == entries[:5]
    assert tree_hash(0, 5, TileReader(files, 5).node) == grown(entries[:5]).root()
    with pytest.raises(Corrupt, match="not there"):
        TileReader(files, 10).entries(0, 10)


def test_folder_removes_beneath_itself_only(tmp_path: Path) -> None:
    """Drafts that a crash left go with the folder; links lead nowhere."""
    folder = Folder(tmp_path / "log")
    folder.write("tile/0/000.p/3", b"x")
    (tmp_path / "log/tile/0/000.p/.4.new").write_bytes(b"draft")
    (tmp_path / "kept").write_bytes(b"kept")
    assert folder.partials() == ["tile/0/000.p"]
    assert folder.names("tile/0/000.p") == [".4.new", "3"]
    assert folder.names("tile/0/001.p") == []
    folder.remove("tile/0/000.p", ["../../../../kept"])
    assert (tmp_path / "kept").exists()
    for bad in ("..", "/etc", "tile/../../kept"):
        with pytest.raises(Invalid):
            folder.remove(bad, ["kept"])
    folder.remove("tile/0/000.p", folder.names("tile/0/000.p"))
    assert not (tmp_path / "log/tile/0/000.p").exists()
