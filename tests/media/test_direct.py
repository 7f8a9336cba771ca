"""Past the page cache: what goes there, what cannot, and what is given back."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from scrubjay.base.units import MIB, PAGE_BYTES
from scrubjay.media.direct import PIECE_BYTES, DirectFile
from scrubjay.media.file import PoolFile
from tests.media import loops

SIZE_BYTES = 4 * MIB + 512


@pytest.mark.real("fincore")
def test_direct_file_leaves_the_page_cache_to_tenants(tmp_path: Path) -> None:
    """Writing and reading back put nothing into the cache, where a PoolFile fills it."""
    path = tmp_path / "pool"
    direct = DirectFile.create(path, size_bytes=SIZE_BYTES)
    if not direct.reads_device:
        pytest.skip("needs a file system that takes O_DIRECT")
    data = bytes(range(256)) * (MIB // 64)
    for _ in range(2):
        assert direct.write(0, data) == 4 * MIB
        direct.sync([(0, 4 * MIB)])
        out = bytearray(4 * MIB)
        assert direct.read_into(0, memoryview(out)) == 4 * MIB
        assert out == data
    assert _cached_bytes(path) == 0
    cached = PoolFile.open(path, hold=False)
    cached.write(0, data)
    assert _cached_bytes(path) == 4 * MIB
    cached.close()
    direct.close()


def test_direct_file_and_cached_handles_see_each_others_bytes(tmp_path: Path) -> None:
    """The kernel keeps both ways of access coherent, what is dirty included."""
    path = tmp_path / "pool"
    direct = DirectFile.create(path, size_bytes=SIZE_BYTES)
    cached = PoolFile.open(path, hold=False)
    out = memoryview(bytearray(PAGE_BYTES))
    for turn in range(1, 4):
        cached.write(0, bytes([turn]) * PAGE_BYTES)
        direct.read_into(0, out)
        assert bytes(out) == bytes([turn]) * PAGE_BYTES
        direct.write(0, bytes([turn + 100]) * PAGE_BYTES)
        cached.read_into(0, out)
        assert bytes(out) == bytes([turn + 100]) * PAGE_BYTES
    cached.close()
    direct.close()


def test_direct_file_where_direct_io_is_taken_back_goes_through_the_cache(tmp_path: Path) -> None:
    """EINVAL from a file system means: not like this. Any other error is an error."""
    medium = DirectFile.create(tmp_path / "pool", size_bytes=SIZE_BYTES)
    with pytest.raises(OSError, match="broken"):
        medium._give_up_direct(OSError(errno.EIO, "broken"))  # noqa: SLF001 - no disk does it here
    if medium.reads_device:
        medium._give_up_direct(OSError(errno.EINVAL, "not aligned"))  # noqa: SLF001 - as above
    assert not medium.reads_device
    data = b"cached" * (MIB // 2)
    assert medium.write(PIECE_BYTES, data) == len(data)
    medium.sync([(PIECE_BYTES, len(data))])
    out = bytearray(len(data))
    assert medium.read_into(PIECE_BYTES, memoryview(out)) == len(data)
    assert out == data
    medium.close()


def test_direct_file_after_a_failed_sync_refuses_everything(tmp_path: Path) -> None:
    """I4: neither direct access nor a command goes past a failed sync."""
    with (
        loops.mounted("ext4", loops.image_of(tmp_path / "small", 32 * MIB), tmp_path / "mnt") as at,
        loops.loop(loops.image_of(at / "thin", 64 * MIB)) as device,
    ):
        medium = DirectFile.open(device, hold=True)
        for number in range(64):
            PoolFile.write(medium, number * MIB, b"x" * MIB)
        with pytest.raises(OSError, match=r"put error|No space"):
            medium.sync()
        page = memoryview(bytearray(PAGE_BYTES))
        calls: list[Callable[[], object]] = [
            lambda: medium.write(0, page),
            lambda: medium.read_into(0, page),
            lambda: medium.zero_range((0, MIB)),
            lambda: medium.punch_hole((0, MIB)),
            lambda: medium.discard((0, MIB)),
        ]
        for call in calls:
            with pytest.raises(OSError, match="a sync failed before"):
                call()
        medium.close()


def test_direct_file_given_back_in_part_reads_as_zeros_there(tmp_path: Path) -> None:
    """Commands change what they name alone; files know no discard."""
    path = tmp_path / "pool"
    medium = DirectFile.create(path, size_bytes=SIZE_BYTES)
    medium.write(0, b"x" * 4 * MIB)
    assert not medium.discard((0, MIB))
    assert medium.zero_range((0, MIB))
    assert medium.punch_hole((2 * MIB, MIB))
    out = bytearray(SIZE_BYTES)
    assert medium.read_into(0, memoryview(out)) == SIZE_BYTES
    assert out == bytes(MIB) + b"x" * MIB + bytes(MIB) + b"x" * MIB + bytes(512)
    assert path.stat().st_size == SIZE_BYTES
    medium.close()


def test_direct_file_when_closed_leaves_no_handle_open(tmp_path: Path) -> None:
    """Both handles are given back, the one past the cache too."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    medium = DirectFile.create(tmp_path / "pool", size_bytes=SIZE_BYTES)
    medium.close()
    medium.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def _cached_bytes(path: Path) -> int:
    listed = json.loads(loops.run("fincore", "--json", "--bytes", str(path)))
    return int(listed["fincore"][0]["res"])
