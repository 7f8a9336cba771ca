"""Pools on block devices: what is refused, what is erased, and that they work."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from scrubjay.base.errors import Conflict, Corrupt, Denied, Invalid, Unavailable
from scrubjay.base.units import MIB
from scrubjay.media.file import PoolFile
from scrubjay.media.fresh import SIZE_BYTES_MIN, contents_of, create_on_device
from tests.media import loops
from tests.media.rig import create, reopen, size_of, state_of

SIZE_BYTES = size_of(4)


@pytest.fixture(params=[512, 4096], ids=["512 byte sectors", "4096 byte sectors"])
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """An empty loop device."""
    with loops.loop(
        loops.image_of(tmp_path / "disk", SIZE_BYTES), sector_bytes=request.param
    ) as path:
        yield path


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Path]:
    """An empty loop device of 512-byte sectors that can have partitions."""
    image = loops.image_of(tmp_path / "disk", SIZE_BYTES)
    with loops.loop(image, options=("--partscan",)) as path:
        yield path


def test_pool_on_a_device_is_made_opened_and_read_by_exporters(device: Path) -> None:
    """A device serves as a pool's medium as a file does, sectors of either size."""
    medium = create_on_device(device)
    assert medium.size_bytes == SIZE_BYTES
    pool = create([medium])
    state = state_of(pool)
    exporter = PoolFile.open(device, hold=False)
    exporter.write(SIZE_BYTES - 5000, b"unaligned, at the end")
    exporter.sync([(SIZE_BYTES - 5000, 21)])
    out = bytearray(21)
    medium.read_into(SIZE_BYTES - 5000, memoryview(out))
    assert out == b"unaligned, at the end"
    exporter.close()
    medium.close()
    again = PoolFile.open(device, hold=True)
    assert state_of(reopen([again])) == state
    again.close()


def test_device_held_by_a_daemon_refuses_the_next_and_a_mount(plain: Path, tmp_path: Path) -> None:
    """One holder at a time, by whichever name of the device he comes; exporters are welcome."""
    held = create_on_device(plain)
    other = tmp_path / "other-node"
    os.mknod(other, 0o600 | 0o060000, plain.stat().st_rdev)
    for path in (plain, other):
        with pytest.raises(Conflict, match="held by another process") as caught:
            PoolFile.open(path, hold=True)
        assert "lsblk" in caught.value.hint
        with pytest.raises(Conflict, match="held by another process"):
            create_on_device(path, overwrite=True)
        PoolFile.open(path, hold=False).close()
    held.close()
    PoolFile.open(other, hold=True).close()


def test_device_by_a_link_is_followed_and_named_as_given(plain: Path, tmp_path: Path) -> None:
    """/dev/disk/by-id and /dev/vg/lv are links: they work, and errors name them and their end."""
    link = tmp_path / "by-id"
    link.symlink_to(plain)
    create([create_on_device(link)]).close()
    with pytest.raises(Conflict) as caught:
        create_on_device(link)
    assert f"{link} ({plain})" in caught.value.message


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (("mkfs.ext4", "-q", "-F", "-L", "precious"), r"ext4 'precious' at 0x438"),
        (("mkswap", "-q"), "swap"),
    ],
)
def test_device_with_a_known_format_is_refused_until_told(
    make: tuple[str, ...], found: str, plain: Path
) -> None:
    """What is on it is named, and every byte is kept; told so, its signatures are gone."""
    if shutil.which(make[0]) is None:
        pytest.skip(f"needs {make[0]}")
    loops.run(*make, str(plain))
    before = plain.read_bytes()
    with pytest.raises(Conflict, match=found) as caught:
        create_on_device(plain)
    assert "overwrite" in caught.value.hint
    assert plain.read_bytes() == before
    create_on_device(plain, overwrite=True).close()
    assert contents_of(plain) == []


@pytest.mark.real("sfdisk")
def test_device_with_partitions_is_refused_until_told_and_loses_both_tables(plain: Path) -> None:
    """A GPT stands at both ends of a disk: its copy at the end goes too, and its partitions."""
    table = "label: gpt\nsize=16M\n"
    subprocess.run(
        ["sfdisk", "-q", str(plain)], input=table, text=True, check=True, capture_output=True
    )
    with pytest.raises(Conflict, match=r"gpt at 0x200, gpt at 0x.*, PMBR at 0x1fe"):
        create_on_device(plain)
    create_on_device(plain, overwrite=True).close()
    assert contents_of(plain) == []
    assert not list(Path("/sys/block", plain.name).glob("*/partition"))


@pytest.mark.real("addpart")
def test_device_with_an_mbr_is_refused_until_told_and_loses_its_partitions(tmp_path: Path) -> None:
    """A partition that the kernel still knew would lead into the pool."""
    image = loops.image_of(tmp_path / "disk", SIZE_BYTES)
    entry = struct.pack("<B3xB3xII", 0, 0x83, 2048, 4096)
    with image.open("r+b") as file:
        file.seek(446)
        file.write(entry + bytes(48) + b"\x55\xaa")
    with loops.loop(image, options=("--partscan",)) as device:
        parts = Path("/sys/block", device.name)
        if not list(parts.glob("*/partition")):  # this kernel reads no MBR
            loops.run("addpart", str(device), "1", "2048", "4096")
        assert list(parts.glob("*/partition"))
        part = PoolFile.open(Path(f"{device}p1"), hold=True)
        with pytest.raises(Conflict, match="held by another"):
            create_on_device(device, overwrite=True)
        part.close()
        with pytest.raises(Conflict, match="dos at 0x1fe"):
            create_on_device(device)
        create_on_device(device, overwrite=True).close()
        assert not list(parts.glob("*/partition"))


def test_device_with_a_pool_is_refused_until_told(plain: Path) -> None:
    """A second `init` does not destroy the pool; a damaged pool is known as one, too."""
    medium = create_on_device(plain)
    pool_id = create([medium]).pool_id
    medium.close()
    with pytest.raises(Conflict, match=f"holds the Scrubjay pool {pool_id}"):
        create_on_device(plain)
    with plain.open("r+b") as file:
        for offset in (100, 64 * 1024 + 100):
            file.seek(offset)
            file.write(b"damage")
    with pytest.raises(Conflict, match="damaged or newer Scrubjay pool"):
        create_on_device(plain)
    create_on_device(plain, overwrite=True).close()
    with pytest.raises(Corrupt, match="begins with 0000"):
        reopen([PoolFile.open(plain, hold=False)])


def test_device_with_unknown_bytes_in_front_is_refused_until_told(plain: Path) -> None:
    """Nobody knows a plain dm-crypt or a raw database by its bytes: ask before it is lost."""
    with plain.open("r+b") as file:
        file.seek(0x3000)
        file.write(b"\x17" * 100)
    with pytest.raises(Conflict, match="unknown bytes from 0x3000 on"):
        create_on_device(plain)
    create_on_device(plain, overwrite=True).close()
    assert plain.read_bytes()[:MIB] == bytes(MIB)


def test_device_that_is_mounted_is_refused_whatever_is_said(tmp_path: Path) -> None:
    """No word makes Scrubjay write beneath a mounted file system."""
    image = loops.image_of(tmp_path / "disk", SIZE_BYTES)
    with loops.mounted("ext4", image, tmp_path / "mnt") as folder:
        node = next(
            Path(line.split()[0])
            for line in Path("/proc/mounts").read_text().splitlines()
            if line.split()[1] == str(folder)
        )
        for overwrite in (False, True):
            with pytest.raises(Conflict, match=f"{node} is mounted on {folder}"):
                create_on_device(node, overwrite=overwrite)
        with pytest.raises(Conflict, match="held by another"):
            PoolFile.open(node, hold=True)


def test_device_that_is_swap_is_refused_whatever_is_said(plain: Path) -> None:
    """Swap holds other programs' memory."""
    loops.run("mkswap", "-q", str(plain))
    try:
        loops.run("swapon", str(plain))
    except (subprocess.CalledProcessError, FileNotFoundError):
        pytest.skip("needs swapon")
    try:
        with pytest.raises(Conflict, match="is swap"):
            create_on_device(plain, overwrite=True)
    finally:
        loops.run("swapoff", str(plain))


def test_device_that_is_read_only_is_denied(tmp_path: Path) -> None:
    """A device that cannot be written is told apart from one that may not be."""
    image = loops.image_of(tmp_path / "disk", SIZE_BYTES)
    with (
        loops.loop(image, options=("--read-only",)) as device,
        pytest.raises(Denied, match="read-only"),
    ):
        create_on_device(device)


def test_device_that_is_too_small_is_refused(tmp_path: Path) -> None:
    """A pool has at least three slots, and the message says how many bytes that is."""
    image = loops.image_of(tmp_path / "disk", SIZE_BYTES_MIN - 4096)
    with (
        loops.loop(image) as device,
        pytest.raises(Invalid, match=f"{SIZE_BYTES_MIN - 4096} bytes, expected {SIZE_BYTES_MIN}"),
    ):
        create_on_device(device)


def test_file_is_no_device_and_is_left_alone(tmp_path: Path) -> None:
    """Who names a file is told so, before anything is touched."""
    path = tmp_path / "file"
    path.write_bytes(b"precious")
    for call in (create_on_device, contents_of):
        with pytest.raises(Invalid, match="no block device"):
            call(path)
    assert path.read_bytes() == b"precious"


def test_device_whose_contents_cannot_be_told_is_refused(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without wipefs nobody knows what a device holds: refused, and it is left alone."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("scrubjay.media.device._ROOTS_PATH", "/nonexistent")
    with pytest.raises(Unavailable, match="wipefs: not found"):
        create_on_device(plain)


def test_sync_of_extents_on_a_device_reaches_the_disk_and_flushes_it(
    plain: Path, tmp_path: Path
) -> None:
    """I4: a synced range is on the disk beneath, and the disk was told to empty its cache."""
    medium = create_on_device(plain)
    before = _flushes(plain)
    medium.write(5 * MIB, b"durable" * 1000)
    medium.sync([(5 * MIB, 7000)])
    assert _flushes(plain) > before
    with (tmp_path / "disk").open("rb") as beneath:
        beneath.seek(5 * MIB)
        assert beneath.read(7000) == b"durable" * 1000
    medium.close()


@pytest.mark.parametrize("extents", [[(0, SIZE_BYTES)], None])
def test_failed_sync_on_a_device_poisons_the_handle(
    extents: list[tuple[int, int]] | None, tmp_path: Path
) -> None:
    """I4: a disk that fails a write-back is told by the sync of the range, as by one of all."""
    small = loops.image_of(tmp_path / "small", 32 * MIB)
    with loops.mounted("ext4", small, tmp_path / "mnt") as folder:
        thin = loops.image_of(folder / "thin", SIZE_BYTES)  # larger than what holds it
        with loops.loop(thin) as device, closing(PoolFile.open(device, hold=True)) as medium:
            for at in range(0, SIZE_BYTES, MIB):
                medium.write(at, b"x" * MIB)
            with pytest.raises(OSError, match=r"put error|No space"):
                medium.sync(extents)
            with pytest.raises(OSError, match="a sync failed before"):
                medium.write(0, b"x")


def _flushes(device: Path) -> int:
    """Count the flushes that a device has completed (Documentation/block/stat.rst)."""
    return int(Path("/sys/block", device.name, "stat").read_text().split()[15])
