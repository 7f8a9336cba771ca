"""What is said of block devices: out of a made-up /sys and /proc, and out of real loops."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from scrubjay.base.errors import Invalid, NotFound, Unavailable
from scrubjay.base.units import MIB
from scrubjay.media.device import (
    DeviceFacts,
    disks_beneath,
    facts_beneath,
    facts_of,
    tool,
    uses_of,
)
from tests.media import loops

PLAIN = DeviceFacts(
    path=Path("/dev/disk/by-id/wwn-0x5"),
    node=Path("/dev/sdx"),
    number="8:240",
    kind="disk",
    size_bytes=MIB,
    logical_sector_bytes=512,
    physical_sector_bytes=4096,
    misaligned_bytes=0,
    rotational=True,
    discards=False,
    zeroes=False,
    zoned=False,
    read_only=False,
    model="",
    serial="",
    wwn="",
)


def _tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("sector_bytes", [512, 4096])
def test_facts_of_a_loop_device_are_what_was_set_up(sector_bytes: int, tmp_path: Path) -> None:
    """Size, sectors and kind come from the system; a link is remembered as it was given."""
    image = loops.image_of(tmp_path / "disk", 64 * MIB)
    with loops.loop(image, sector_bytes=sector_bytes) as device:
        link = tmp_path / "by-id"
        link.symlink_to(device)
        facts = facts_of(link)
        assert (facts.path, facts.node) == (link, device)
        assert (
            facts.number == f"{os.major(device.stat().st_rdev)}:{os.minor(device.stat().st_rdev)}"
        )
        assert facts.size_bytes == 64 * MIB
        assert facts.logical_sector_bytes == sector_bytes
        assert facts.kind == "loop"
        assert not facts.read_only
        assert not facts.zoned
        assert uses_of(facts) == []
        assert facts_beneath(device) == facts_of(device)


def test_facts_of_a_partition_take_the_queue_of_its_disk(tmp_path: Path) -> None:
    """Partitions have no queue of their own; alignment and size are theirs."""
    with loops.loop(loops.image_of(tmp_path / "disk", MIB)) as device:
        status = device.stat()
        number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        disk = "sys/devices/pci/block/sdx"
        _tree(
            tmp_path,
            {
                f"{disk}/queue/logical_block_size": "512\n",
                f"{disk}/queue/physical_block_size": "4096\n",
                f"{disk}/queue/rotational": "0\n",
                f"{disk}/queue/zoned": "host-managed\n",
                f"{disk}/queue/discard_max_bytes": "1048576\n",
                f"{disk}/queue/write_zeroes_max_bytes": "0\n",
                f"{disk}/sdx1/partition": "1\n",
                f"{disk}/sdx1/size": "2048\n",
                f"{disk}/sdx1/alignment_offset": "3584\n",
                f"{disk}/sdx1/ro": "1\n",
            },
        )
        folder = tmp_path / "sys/dev/block"
        folder.mkdir(parents=True)
        (folder / number).symlink_to(tmp_path / disk / "sdx1")
        facts = facts_of(device, root=tmp_path)
    assert (facts.logical_sector_bytes, facts.physical_sector_bytes) == (512, 4096)
    assert (facts.size_bytes, facts.misaligned_bytes) == (MIB, 3584)
    assert (facts.rotational, facts.zoned, facts.read_only) == (False, True, True)
    assert (facts.discards, facts.zeroes) == (True, False)


def test_facts_where_nothing_can_be_found_out_are_empty(tmp_path: Path) -> None:
    """What is not known is not guessed."""
    with loops.loop(loops.image_of(tmp_path / "disk", MIB)) as device:
        facts = facts_of(device, root=tmp_path)
    assert facts.rotational is None
    assert (facts.size_bytes, facts.logical_sector_bytes) == (0, 0)
    assert not facts.discards


def test_facts_of_what_is_no_device_are_refused(tmp_path: Path) -> None:
    """A file or a character device is named, with what to do."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", Path("/dev/null"), tmp_path):
        with pytest.raises(Invalid, match="no block device"):
            facts_of(path)
    with pytest.raises(NotFound, match="missing"):
        facts_of(tmp_path / "missing")


def test_facts_beneath_a_file_are_those_of_its_disk(tmp_path: Path) -> None:
    """A certificate can name the disk on which a pool file lies."""
    image = loops.image_of(tmp_path / "disk", 64 * MIB)
    with loops.mounted("ext4", image, tmp_path / "mnt") as folder:
        (folder / "pool").touch()
        facts = facts_beneath(folder / "pool")
        assert facts is not None
        assert facts.kind == "loop"
        assert facts.path == folder / "pool"
        assert facts.node.is_block_device()
        assert uses_of(facts) == [f"{facts.node} is mounted on {folder}"]


def test_facts_beneath_a_file_without_a_disk_are_none(tmp_path: Path) -> None:
    """Where no device is known to lie beneath, none is made up."""
    (tmp_path / "pool").touch()
    assert facts_beneath(tmp_path / "pool", root=tmp_path) is None


def test_uses_of_a_device_name_all_that_the_system_shows(tmp_path: Path) -> None:
    """Mounts with blanks in their names, swap and holders, of its partitions too."""
    _tree(
        tmp_path,
        {
            "sys/dev/block/8:240/dev": "8:240\n",
            "sys/dev/block/8:240/sdx1/partition": "1\n",
            "sys/dev/block/8:240/sdx1/dev": "8:241\n",
            "sys/dev/block/8:240/sdx2/partition": "2\n",
            "sys/dev/block/8:240/sdx2/dev": "8:242\n",
            "sys/dev/block/8:240/sdx2/holders/dm-3": "",
            "sys/dev/block/8:240/sdx3/partition": "3\n",
            "sys/dev/block/8:240/sdx3/dev": "8:243\n",
            "proc/self/mountinfo": (
                "21 1 8:24 / /other rw - ext4 /dev/sdb8 rw\n"
                r"22 1 8:241 / /mnt/two\040words rw - ext4 /dev/sdx1 rw" + "\nnonsense\n"
            ),
            "proc/swaps": "Filename Type Size Used Priority\n/dev/sdx3 partition 8 0 -2\n",
        },
    )
    assert uses_of(PLAIN, root=tmp_path) == [
        "/dev/sdx1 is mounted on /mnt/two words",
        "/dev/sdx2 is held by dm-3",
        "/dev/sdx3 is swap",
    ]
    assert uses_of(replace(PLAIN, number="8:999"), root=tmp_path) == []


def test_tool_that_fails_or_is_missing_says_so() -> None:
    """Silence of a program that failed is never taken for an answer."""
    assert tool("true") == ""
    with pytest.raises(Unavailable, match="no-such-program: not found"):
        tool("no-such-program")
    with pytest.raises(Unavailable, match="expected it to succeed"):
        tool("false")


def test_disks_beneath_a_mapped_device_are_named_by_what_their_labels_say(tmp_path: Path) -> None:
    """An LVM volume over a partition and a whole disk: two serial numbers leave the building."""
    devices = tmp_path / "sys/devices"
    _tree(
        devices,
        {
            "pci/sda/dev": "8:0\n",
            "pci/sda/device/model": "ST4000NM0035\n",
            "pci/sda/device/serial": "ZC1A2B3C\n",
            "pci/sda/sda1/dev": "8:1\n",
            "pci/sda/sda1/partition": "1\n",
            "pci/nvme0n1/dev": "259:0\n",
            "pci/nvme0n1/wwid": "eui.0025385b71b0a1c2\n",
            "virtual/dm-3/dev": "253:3\n",
        },
    )
    slaves = devices / "virtual/dm-3/slaves"
    slaves.mkdir()
    (slaves / "sda1").symlink_to(devices / "pci/sda/sda1")
    (slaves / "nvme0n1").symlink_to(devices / "pci/nvme0n1")
    links = tmp_path / "sys/dev/block"
    links.mkdir(parents=True)
    for number, place in (
        ("253:3", "virtual/dm-3"),
        ("8:0", "pci/sda"),
        ("8:1", "pci/sda/sda1"),
        ("259:0", "pci/nvme0n1"),
    ):
        (links / number).symlink_to(devices / place)
    found = disks_beneath(replace(PLAIN, number="253:3"), root=tmp_path)
    assert [(each.node.name, each.model, each.serial, each.wwn) for each in found] == [
        ("nvme0n1", "", "", "eui.0025385b71b0a1c2"),
        ("sda", "ST4000NM0035", "ZC1A2B3C", ""),
    ]
    (alone,) = disks_beneath(replace(PLAIN, number="8:1"), root=tmp_path)
    assert alone.serial == "ZC1A2B3C"
