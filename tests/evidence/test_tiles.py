"""The published files: paths, contents, proofs out of them, and what is refused."""

import itertools
import random
from pathlib import Path

import pytest

from scrubjay.base.errors import Conflict, Corrupt, Invalid, Unavailable
from scrubjay.evidence.checkpoint import sign_checkpoint
from scrubjay.evidence.folder import Folder
from scrubjay.evidence.log import CHECKPOINT, Log
from scrubjay.evidence.merkle import Frontier, leaf_hash, node_hash, tree_hash
from scrubjay.evidence.tiles import TileReader, tile_path, write_entries
from tests.evidence.test_merkle import grown, leaves, naive, nodes
from tests.evidence.world import MemoryFiles, cosigned, signer


@pytest.mark.parametrize(
    ("level", "number", "width", "path"),
    [
        (0, 0, 256, "tile/0/000"),
        (3, 1_234_067, 256, "tile/3/x001/x234/067"),
        (1, 1000, 17, "tile/1/x001/000.p/17"),
        (63, 999, 1, "tile/63/999.p/1"),
        (None, 273, 112, "tile/entries/273.p/112"),
    ],
)
def test_path_of_a_tile_is_the_specifications(
    level: int | None, number: int, width: int, path: str
) -> None:
    """Three digits to a part, an x before all but the last, and the width of partial ones."""
    assert tile_path(level, number, width) == path


@pytest.mark.parametrize(
    ("level", "number", "width"), [(64, 0, 1), (-1, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257)]
)
def test_path_of_what_is_no_tile_is_refused(level: int, number: int, width: int) -> None:
    """Levels reach 63, widths 256."""
    with pytest.raises(Invalid, match="expected a tile"):
        tile_path(level, number, width)


def test_tiles_of_seventy_thousand_entries_are_those_of_the_specification() -> None:
    """273 full tiles and one of 112; one full and one of 17 above; one of 1 on top."""
    files = MemoryFiles()
    entries = leaves(70_000)
    write_entries(files, 0, entries)
    hashes = {path: len(data) for path, data in files.files.items() if "entries" not in path}
    assert hashes.pop("tile/0/273.p/112") == 112 * 32
    assert hashes.pop("tile/1/001.p/17") == 17 * 32
    assert hashes.pop("tile/2/000.p/1") == 32
    assert hashes == {"tile/1/000": 8192} | {f"tile/0/{n:03d}": 8192 for n in range(273)}
    first = files.files["tile/entries/000"]
    assert first.startswith(b"\x00\x07entry 0\x00\x07entry 1")
    assert tree_hash(0, 70_000, TileReader(files, 70_000).node) == grown(entries).root()


def test_tiles_written_in_any_portions_lead_to_one_root() -> None:
    """Whatever is appended at once, nodes and entries come back as from a naive tree."""
    rng = random.Random(20260301)
    files, entries, frontier = MemoryFiles(), leaves(0), Frontier()
    while len(entries) < 1500:
        more = [b"%d" % rng.randrange(1 << 40) for _ in range(rng.choice([1, 2, 255, 256, 257]))]
        write_entries(files, len(entries), more)
        entries += more
        for each in more:
            frontier = frontier.append(each)
        node = TileReader(files, len(entries)).node
        assert tree_hash(0, len(entries), node) == frontier.root()
    reader = TileReader(files, len(entries))
    assert frontier.root() == naive(entries)
    assert reader.entries(0, len(entries)) == entries
    assert reader.entries(250, 520) == entries[250:520]
    expected = nodes(entries)
    assert all(reader.node(k, i) == expected(k, i) for k in range(11) for i in range(1500 >> k))


@pytest.mark.parametrize(
    ("first", "end"), [(0, 700), (3, 4), (255, 257), (256, 512), (699, 700), (600, 650)]
)
def test_tiles_written_again_are_the_same_bytes(first: int, end: int) -> None:
    """A range that is published already changes no file of the log as published."""
    files, entries = MemoryFiles(), leaves(700)
    write_entries(files, 0, entries)
    before = dict(files.files)
    write_entries(files, first, entries[first:end], published=700)
    assert {path: files.files[path] for path in before} == before


@pytest.mark.parametrize("index", [0, 3, 255, 256, 600, 699])
def test_tiles_with_another_entry_are_corrupt_and_stay(index: int) -> None:
    """Another entry over an existing one is named, and nothing is written."""
    files, entries = MemoryFiles(), leaves(700)
    write_entries(files, 0, entries)
    before = dict(files.files)
    with pytest.raises(Corrupt, match=f"entry {index} of the log: another one"):
        write_entries(files, index, [b"forged"], published=700)
    changed = [*entries[:index], b"forged!", *entries[index + 1 :]]
    with pytest.raises(Corrupt, match=f"entry {index} of the log: another one"):
        write_entries(files, 0, changed, published=700)
    assert files.files == before


@pytest.mark.parametrize("entry", [b"", bytes(65_536)])
def test_tiles_of_an_entry_without_a_length_are_refused(entry: bytes) -> None:
    """An entry has 1 to 65535 bytes."""
    with pytest.raises(Invalid, match="entry 0"):
        write_entries(MemoryFiles(), 0, [entry])


@pytest.mark.parametrize("damage", [b"", b"\0", b"\x00\x07entry 0", b"\xff\xff"])
def test_tiles_that_are_damaged_are_corrupt(damage: bytes) -> None:
    """A bundle or tile that is cut, longer, or gone is never taken for what it was."""
    for path in ("tile/entries/000.p/5", "tile/0/000.p/5"):
        files = MemoryFiles()
        write_entries(files, 0, leaves(5))
        files.files[path] = damage or files.files[path] + b"\0"
        reader = TileReader(files, 5)
        with pytest.raises(Corrupt, match="damaged"):
            reader.entries(0, 5) if "entries" in path else reader.node(0, 0)
        del files.files[path]
        with pytest.raises(Corrupt, match="not there"):
            TileReader(files, 5).entries(0, 5) if "entries" in path else reader.node(1, 0)


def test_tiles_of_a_full_width_stand_in_for_partial_ones() -> None:
    """A partial tile that was deleted is read from the full one, as the specification allows."""
    files = MemoryFiles()
    write_entries(files, 0, leaves(256))
    assert TileReader(files, 5).entries(0, 5) == leaves(5)
    assert tree_hash(0, 5, TileReader(files, 5).node) == naive(leaves(5))
    with pytest.raises(Corrupt, match="no node"):
        TileReader(files, 5).node(0, 5)


# --- the log ------------------------------------------------------------------------------


def test_log_that_grows_is_consistent_with_itself() -> None:
    """Each checkpoint is proven to continue the one before; every entry to be in."""
    files, entries, frontier = MemoryFiles(), leaves(600), Frontier()
    log = Log(files, signer())
    assert (log.size(), log.checkpoint()) == (0, None)
    checkpoints = []
    for first, end in ((0, 1), (1, 300), (300, 600)):
        frontier = grown(entries[:end])
        checkpoints.append(log.publish(first, entries[first:end], frontier))
    assert [each.size for each in checkpoints] == [1, 300, 600]
    for old, new in itertools.pairwise(checkpoints):
        assert log.prove_consistency(old, new)
    assert log.entry(299, 600) == entries[299]
    assert len(log.prove_inclusion(0, checkpoints[2])) == 10
    assert [each for each in files.order if not each.startswith("-")][-1] == CHECKPOINT


@pytest.mark.parametrize("written", range(9))
def test_log_after_a_crash_at_any_file_is_finished(written: int) -> None:
    """Tiles first, checkpoint last: whatever was written, publishing again ends the same."""
    entries = leaves(700)
    whole = MemoryFiles()
    for files in (whole, torn := MemoryFiles()):
        Log(files, signer()).publish(0, entries[:10], grown(entries[:10]))
    Log(whole, signer()).publish(10, entries[10:], grown(entries))

    class Full(MemoryFiles):
        def write(self, path: str, data: bytes) -> None:
            if len(self.order) == written:
                raise Unavailable("power")
            super().write(path, data)

    failing = Full()
    failing.files = torn.files
    try:
        Log(failing, signer()).publish(10, entries[10:], grown(entries))
    except Unavailable:
        assert failing.files[CHECKPOINT] != whole.files[CHECKPOINT]
    Log(torn, signer()).publish(0, entries, grown(entries))
    assert torn.files == whole.files


def test_log_published_twice_signs_nothing_new() -> None:
    """The same state keeps its checkpoint, a witness's line included."""
    files, entries = MemoryFiles(), leaves(3)
    log = Log(files, signer())
    log.publish(0, entries, grown(entries))
    before = files.files[CHECKPOINT]
    count = len(files.order)
    log.publish(1, entries[1:], grown(entries))
    assert (files.files[CHECKPOINT], len(files.order)) == (before, count)


def test_log_of_another_history_is_not_signed() -> None:
    """A changed entry, a shorter pool, a gap, a frontier of other entries: all refused."""
    files, entries = MemoryFiles(), leaves(300)
    log = Log(files, signer())
    log.publish(0, entries[:20], grown(entries[:20]))
    before = files.files[CHECKPOINT]
    changed = [b"x", *entries[1:]]
    with pytest.raises(Corrupt, match="entry 0 of the log"):
        log.publish(0, changed, grown(changed))
    with pytest.raises(Conflict, match="20 entries published"):
        log.publish(0, entries[:19], grown(entries[:19]))
    with pytest.raises(Conflict, match="20 entries published"):
        log.publish(21, entries[21:], grown(entries))
    with pytest.raises(Invalid, match="expected them to end"):
        log.publish(20, entries[20:30], grown(entries))
    with pytest.raises(Corrupt, match="root of the pool"):
        log.publish(20, entries[20:], grown(changed))
    files.files["tile/0/000.p/20"] = bytes(32 * 20)
    with pytest.raises(Corrupt, match="other bytes"):
        log.publish(0, entries[:20], grown(entries[:20]))
    assert files.files[CHECKPOINT] == before


def test_log_with_tiles_of_another_past_signs_no_future() -> None:
    """Tiles that agree with the pool but not with what was signed are found out."""
    files, entries = MemoryFiles(), leaves(5)
    other = [b"x", *entries[1:]]
    write_entries(files, 0, other[:3])
    files.files[CHECKPOINT] = str(sign_checkpoint(grown(entries[:3]), signer())).encode()
    with pytest.raises(Corrupt, match="root of the last checkpoint"):
        Log(files, signer()).publish(3, other[3:], grown(other))


def test_log_with_the_checkpoint_of_another_key_is_corrupt() -> None:
    """A folder that belongs to another log is left alone."""
    files, entries = MemoryFiles(), leaves(3)
    Log(files, signer(2)).publish(0, entries, grown(entries))
    with pytest.raises(Corrupt, match="checkpoint"):
        Log(files, signer(1)).size()


def test_log_with_a_lost_file_has_it_rewritten() -> None:
    """What is missing comes back byte for byte."""
    files, entries = MemoryFiles(), leaves(600)
    log = Log(files, signer())
    log.publish(0, entries, grown(entries))
    before = dict(files.files)
    for path in ("tile/0/001", "tile/entries/001", "tile/1/000.p/2"):
        del files.files[path]
    log.rewrite(0, entries)
    assert files.files == before


def test_log_with_tiles_that_lead_elsewhere_proves_nothing() -> None:
    """A proof is verified before it is handed out."""
    files, entries = MemoryFiles(), leaves(4)
    log = Log(files, signer())
    one = log.publish(0, entries[:2], grown(entries[:2]))
    two = log.publish(2, entries[2:], grown(entries))
    files.files["tile/0/000.p/4"] = bytes(32 * 4)
    with pytest.raises(Corrupt, match="do not lead"):
        log.prove_inclusion(1, two)
    with pytest.raises(Corrupt, match="does not continue"):
        log.prove_consistency(one, two)


def test_log_cosigned_by_a_witness_keeps_its_line() -> None:
    """The witness's line is added once, and only if it verifies."""
    files, entries = MemoryFiles(), leaves(3)
    log = Log(files, signer())
    line, key = cosigned("", seed=9, name="w.example", time=1)
    with pytest.raises(Conflict, match="no checkpoint yet"):
        log.cosign([line], [key])
    text = log.publish(0, entries, grown(entries)).text
    with pytest.raises(Invalid, match="does not verify"):
        log.cosign([line], [key])
    line, key = cosigned(text, seed=9, name="w.example", time=1)
    stranger = signer(3).sign_note(text).signatures[0]
    log.cosign([line, stranger], [key])
    note = log.cosign([line], [key])
    assert [each.name for each in note.signatures] == [signer().key.name, "w.example"]
    assert log.size() == 3


# --- the folder ---------------------------------------------------------------------------


def test_folder_holds_a_log_as_memory_does(tmp_path: Path) -> None:
    """The same files, and no draft left."""
    memory, folder, entries = MemoryFiles(), Folder(tmp_path / "log"), leaves(300)
    for files in (memory, folder):
        Log(files, signer()).publish(0, entries, grown(entries))
    found = {
        str(path.relative_to(folder.root)): path.read_bytes()
        for path in folder.root.rglob("*")
        if path.is_file()
    }
    assert found == memory.files
    assert folder.read("tile/9/000") is None
    assert (folder.root / CHECKPOINT).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../out",
        "tile/../../out",
        "tile//0",
        "./tile",
        "a/.hidden",
        "tile/0/",
        "a\0b",
        "A",
        "x/" * 20 + "x",
    ],
)
def test_folder_with_a_path_that_escapes_refuses(tmp_path: Path, path: str) -> None:
    """Nothing is read or written but beneath the folder."""
    with pytest.raises(Invalid, match="expected a path beneath"):
        Folder(tmp_path).read(path)
    with pytest.raises(Invalid, match="expected a path beneath"):
        Folder(tmp_path).write(path, b"")


def test_folder_with_links_in_it_follows_none(tmp_path: Path) -> None:
    """A link to a folder is refused, a link in the place of a file replaced or not read."""
    outside, root = tmp_path / "outside", tmp_path / "log"
    outside.mkdir()
    root.mkdir()
    (outside / "000").write_bytes(b"theirs")
    (root / "tile").symlink_to(outside)
    (root / "checkpoint").symlink_to(outside / "000")
    with pytest.raises(Invalid, match="is a link"):
        Folder(root).read("tile/000")
    with pytest.raises(Unavailable):
        Folder(root).read("checkpoint")
    Folder(root).write("checkpoint", b"ours")
    assert (outside / "000").read_bytes() == b"theirs"
    assert Folder(root).read("checkpoint") == b"ours"


def test_folder_that_is_a_file_is_unavailable(tmp_path: Path) -> None:
    """What the system says is said, with what to do."""
    (tmp_path / "log").write_bytes(b"")
    with pytest.raises(Unavailable, match="log file"):
        Folder(tmp_path / "log").write("tile/0/000", b"")


def test_node_hash_is_not_a_leaf_hash_of_the_same_bytes() -> None:
    """Leaves and nodes are told apart, or a node could be shown as an entry."""
    left, right = leaf_hash(b"1"), leaf_hash(b"2")
    assert node_hash(left, right) != leaf_hash(left + right)
