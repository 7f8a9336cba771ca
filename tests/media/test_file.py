"""Pool files: who may open them, what they promise about space, how a failed sync ends."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from scrubjay.base.errors import Conflict, Invalid, NoSpace, NotFound
from scrubjay.base.units import MIB, TIB
from scrubjay.media.file import PoolFile


def test_pool_file_when_created_is_private_and_allocated(tmp_path: Path) -> None:
    """I2: nobody else reads it; and all of its space is promised, so that no write fails later."""
    path = tmp_path / "pool"
    old = os.umask(0)
    try:
        PoolFile.create(path, size_bytes=8 * MIB).close()
    finally:
        os.umask(old)
    status = path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_size == 8 * MIB
    assert status.st_blocks * 512 >= 8 * MIB


def test_pool_file_when_sparse_takes_no_space_yet(tmp_path: Path) -> None:
    """Who asks for a sparse file gets one."""
    path = tmp_path / "pool"
    PoolFile.create(path, size_bytes=8 * MIB, sparse=True).close()
    assert path.stat().st_size == 8 * MIB
    assert path.stat().st_blocks * 512 < MIB


def test_pool_file_where_something_is_leaves_it_alone(tmp_path: Path) -> None:
    """Creating never touches what is there, a dangling link included."""
    path = tmp_path / "pool"
    path.write_bytes(b"precious")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for taken in (path, link):
        with pytest.raises(Conflict, match="exists"):
            PoolFile.create(taken, size_bytes=MIB)
    assert path.read_bytes() == b"precious"
    assert not (tmp_path / "elsewhere").exists()


def test_pool_file_larger_than_the_file_system_leaves_nothing(tmp_path: Path) -> None:
    """Where the space cannot be promised there is a clear error and no file."""
    path = tmp_path / "pool"
    with pytest.raises(NoSpace, match="pool file"):
        PoolFile.create(path, size_bytes=4_000_000 * TIB)
    assert not path.exists()


def test_pool_file_held_by_one_daemon_refuses_the_next(tmp_path: Path) -> None:
    """Two daemons on one pool are refused; exporters are not, and come and go."""
    path = tmp_path / "pool"
    first = PoolFile.create(path, size_bytes=MIB)
    with pytest.raises(Conflict, match="held by another") as caught:
        PoolFile.open(path, hold=True)
    assert "stop that one" in caught.value.hint
    exporter = PoolFile.open(path, hold=False)
    first.write(0, b"seen by all")
    out = bytearray(11)
    exporter.read_into(0, memoryview(out))
    assert out == b"seen by all"
    first.close()
    second = PoolFile.open(path, hold=True)
    with pytest.raises(Conflict, match="held by another"):
        PoolFile.open(path, hold=True)
    second.close()
    exporter.close()


def test_pool_file_that_is_none_says_so(tmp_path: Path) -> None:
    """What is no pool file is named in a clear error, not in a traceback of the system."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    for name, error in (
        ("missing", NotFound),
        ("folder", Invalid),
        ("folder/../missing/pool", NotFound),
        ("pipe", Invalid),
        ("device", Invalid),
    ):
        with pytest.raises(error, match="pool file"):
            PoolFile.open(tmp_path / name, hold=False)


def test_pool_file_is_not_inherited_by_programs(tmp_path: Path) -> None:
    """A program that is started gets no handle on everybody's data."""
    created = PoolFile.create(tmp_path / "pool", size_bytes=MIB)
    opened = PoolFile.open(tmp_path / "pool", hold=False)
    listing = "import os; print([os.readlink(f'/proc/self/fd/{n}') for n in range(3, 64)"
    listing += " if os.path.exists(f'/proc/self/fd/{n}')])"
    ran = subprocess.run(  # every handle that may be inherited is
        [sys.executable, "-c", listing], close_fds=False, capture_output=True, check=True, text=True
    )
    assert str(tmp_path) not in ran.stdout
    created.close()
    opened.close()


def test_pool_file_reread_comes_from_the_medium(tmp_path: Path) -> None:
    """I4: reading anew shows what the medium holds, and loses nothing that was written well."""
    path = tmp_path / "pool"
    first = PoolFile.create(path, size_bytes=4 * MIB)
    first.write(MIB, b"kept" * 1000)
    second = PoolFile.open(path, hold=False, reread=True)
    out = bytearray(4000)
    assert second.read_into(MIB, memoryview(out)) == 4000
    assert out == b"kept" * 1000
    first.close()
    second.close()


def test_failed_sync_of_a_pool_file_poisons_the_handle() -> None:
    """I4: after a failed sync nothing is believed any more, not even a later success."""
    path = Path("/dev/zero")  # a file that can be written and whose fdatasync fails
    medium = PoolFile(os.open(path, os.O_RDWR), path)
    out = bytearray(4)
    medium.read_into(0, memoryview(out))
    with pytest.raises(OSError, match="Invalid argument"):
        medium.sync()
    for call in (
        lambda: medium.read_into(0, memoryview(out)),
        lambda: medium.write(0, b""),
        medium.sync,
        lambda: medium.advise([(0, 1)]),
    ):
        with pytest.raises(OSError, match="a sync failed before"):
            call()
    medium.close()
