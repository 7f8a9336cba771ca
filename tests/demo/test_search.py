"""The search for plaintext finds every block at every place, and nothing where nothing is."""

import random
from pathlib import Path

import pytest

from demo.search import BLOCK_BYTES, CHUNK_BYTES, STRIDE_BYTES, Probes, blocks_of, walk


def text_block(number: int) -> bytes:
    """A block as real files have them: words, with an indentation here and there."""
    chosen = random.Random(number)
    words = (chosen.choice(("def", "return", "\n        ", "name", "value ")) for _ in range(2000))
    return " ".join(f"{word}{chosen.randrange(1000)}" for word in words).encode()[:BLOCK_BYTES]


@pytest.mark.parametrize("offset", [*range(STRIDE_BYTES + 1), CHUNK_BYTES - 17])
def test_search_with_planted_block_finds_it_at_any_offset(tmp_path: Path, offset: int) -> None:
    """I2 is checked by a search that misses no copy: unaligned, or over the edge of a chunk."""
    block = text_block(1)
    path = tmp_path / "pool"
    path.write_bytes(bytes(offset) + block)
    found, size_bytes = Probes.of([text_block(2), block]).search([path])
    assert size_bytes == offset + BLOCK_BYTES
    (place,) = {each.offset_bytes for each in found}
    assert path.read_bytes()[place:].startswith(found[0].probe)
    assert found[0].probe in block


def test_search_of_noise_finds_nothing(tmp_path: Path, seed: int) -> None:
    """What looks like ciphertext, or holds only the common part of blocks, raises no alarm."""
    noise = random.Random(seed).randbytes(1 << 20)
    blocks = [text_block(number) for number in range(50)]
    path = tmp_path / "pool"
    path.write_bytes(noise + bytes(5000) + b"        return value" * 30)
    assert Probes.of(blocks).search([path]) == ([], path.stat().st_size)


def test_search_of_sparse_file_looks_behind_its_holes(tmp_path: Path) -> None:
    """A hole is passed over, what lies behind it is not."""
    block = text_block(3)
    path = tmp_path / "pool"
    with path.open("wb") as file:
        file.seek(5 * CHUNK_BYTES + 777)
        file.write(block)
        file.truncate(9 * CHUNK_BYTES)
    found, _ = Probes.of([block]).search([path])
    assert [each.offset_bytes // CHUNK_BYTES for each in found] == [5]


def test_probes_of_plain_blocks_are_counted_not_looked_for() -> None:
    """Zeros occur in every pool: they are no evidence, and the report says how many they are."""
    probes = Probes.of([bytes(BLOCK_BYTES), b"ab" * (BLOCK_BYTES // 2), text_block(4)])
    assert (len(probes.probes), probes.plain_count) == (1, 2)


def test_blocks_of_file_are_each_told_once(tmp_path: Path) -> None:
    """A block that occurs twice is looked for once; a short last one counts too."""
    path = tmp_path / "image"
    path.write_bytes(text_block(1) + text_block(2) + text_block(1) + b"end")
    assert list(blocks_of(path)) == [text_block(1), text_block(2), b"end"]


def test_walk_finds_hidden_files_too(tmp_path: Path) -> None:
    """The whole home is searched, whatever a file is called."""
    (tmp_path / "run").mkdir()
    for name in ("pool", ".hidden", "run/log"):
        (tmp_path / name).write_text("x")
    assert [path.name for path in walk(tmp_path)] == [".hidden", "pool", "log"]
