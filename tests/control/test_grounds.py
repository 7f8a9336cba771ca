"""What overwriting a pool's medium is worth, by what lies beneath it (I8)."""

from __future__ import annotations

from pathlib import Path

import pytest

from scrubjay.base.errors import NotFound
from scrubjay.control.grounds import ground_of
from scrubjay.sinks.ground import assess_device
from scrubjay.sinks.sink import Grade


def test_ground_of_a_file_names_it_and_gives_a_reason(tmp_path: Path) -> None:
    """Whatever this machine is: a grade that overwriting can have."""
    path = tmp_path / "pool"
    path.write_bytes(b"pool")
    ground = ground_of(path)
    assert (ground.kind, ground.place) == ("file", str(path))
    assert ground.grade in (Grade.CLEAR, Grade.CONDITIONAL)
    assert ground.reason.partition(": ")[2]


def test_ground_of_a_file_on_copy_on_write_is_conditional(tmp_path: Path) -> None:
    """Old bytes lie elsewhere there, whatever is written."""
    path = tmp_path / "pool"
    path.write_bytes(b"pool")
    for number in range(3, 100):
        entry = tmp_path / f"proc/self/fdinfo/{number}"
        entry.parent.mkdir(parents=True, exist_ok=True)
        entry.write_text("mnt_id:\t41\n")
    (tmp_path / "proc/self/mountinfo").write_text("41 27 8:1 / / rw - btrfs /dev/sda1 rw\n")
    ground = ground_of(path, root=tmp_path)
    assert ground.grade is Grade.CONDITIONAL
    assert ground.reason.startswith("btrfs: it writes elsewhere")


def test_ground_of_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    """As opening the pool says."""
    with pytest.raises(NotFound):
        ground_of(tmp_path / "none")


@pytest.mark.parametrize(
    ("place", "rotational", "grade", "said"),
    [
        ("pci0000:00/ata1/block/sda", "1", Grade.CLEAR, "in place"),
        ("pci0000:00/nvme0/block/nvme0n1", "0", Grade.CONDITIONAL, "writes elsewhere"),
        ("virtual/block/dm-3", "1", Grade.CONDITIONAL, "beneath it"),
    ],
)
def test_ground_of_a_device_is_that_of_its_disk(
    tmp_path: Path, place: str, rotational: str, grade: Grade, said: str
) -> None:
    """No file system stands between; what the disk does decides."""
    disk = tmp_path / "sys/devices" / place
    (disk / "queue").mkdir(parents=True)
    (disk / "queue/rotational").write_text(f"{rotational}\n")
    link = tmp_path / "sys/dev/block/8:0"
    link.parent.mkdir(parents=True)
    link.symlink_to(disk)
    worth = assess_device("8:0", tmp_path)
    assert worth.grade is grade
    assert said in worth.reason
    assert disk.name in worth.place
