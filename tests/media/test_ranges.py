"""Syncing parts of a file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from scrubjay.media.file import PoolFile
from scrubjay.media.ranges import EXTENTS_MAX, RangeSync

MIB = 1 << 20


@pytest.fixture
def pool_file(tmp_path: Path) -> PoolFile:
    """A file of 64 MiB."""
    return PoolFile.create(tmp_path / "pool", size_bytes=64 * MIB)


def test_sync_of_extents_writes_back_and_returns(pool_file: PoolFile) -> None:
    """What was written to the named extents is readable, and the handle stays good (I4)."""
    pool_file.write(3 * MIB, b"x" * 8192)
    pool_file.sync([(3 * MIB, 8192), (3 * MIB + 4096, MIB)])
    out = memoryview(bytearray(8192))
    assert pool_file.read_into(3 * MIB, out) == 8192
    assert bytes(out) == b"x" * 8192
    pool_file.close()


def test_sync_of_many_extents_falls_back_to_the_whole_file(tmp_path: Path) -> None:
    """Scattered extents past the limit are left to one sync of everything."""
    path = tmp_path / "file"
    path.write_bytes(bytes(4 * MIB))
    descriptor = os.open(path, os.O_RDWR)
    ranges = RangeSync(descriptor, 4 * MIB)
    scattered = [(i * 65536, 4096) for i in range(EXTENTS_MAX + 1)]
    assert not ranges.sync(scattered)
    assert ranges.sync(scattered[:EXTENTS_MAX])
    assert ranges.sync([(i * 4096, 4096) for i in range(100)]), "neighbours are one extent"
    ranges.close()
    os.close(descriptor)


def test_sync_of_a_range_that_is_gone_raises_oserror(tmp_path: Path) -> None:
    """A range that the system cannot sync is an error, not silence (I4)."""
    path = tmp_path / "file"
    path.write_bytes(bytes(MIB))
    descriptor = os.open(path, os.O_RDWR)
    ranges = RangeSync(descriptor, MIB)
    ranges.sync([(0, 4096)])
    ranges._size_bytes = 1 << 46  # noqa: SLF001 - beyond what is mapped
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is what counts
        ranges.sync([(1 << 45, 4096)])
    assert caught.value.errno == errno.ENOMEM
    ranges.close()
    os.close(descriptor)
