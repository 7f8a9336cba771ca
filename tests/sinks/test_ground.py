"""What the sink finds out about the place where it lies (I8)."""

from pathlib import Path

import pytest

from scrubjay.sinks.ground import assess, assess_device
from scrubjay.sinks.sink import Grade

FD = 7


class Machine:
    """A made-up /proc and /sys."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.put("proc/self/fdinfo/7", "pos:\t0\nflags:\t02\nmnt_id:\t41\n")
        self.mount("ext4")
        self.disk("pci0000:00/ata1/block/sda", rotational="1")

    def put(self, name: str, text: str) -> None:
        """Write a file."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def mount(self, kind: str, options: str = "rw") -> None:
        """Mount the file system on which the file lies, among others."""
        self.put(
            "proc/self/mountinfo",
            "27 1 8:2 / / rw - btrfs /dev/sdb rw\n"
            f"41 27 8:1 /home /var/lib rw,noatime shared:9 master:1 - {kind} /dev/sda1 {options}\n"
            "42 27 0:9 / /tmp rw - tmpfs tmpfs rw\n",
        )

    def disk(self, place: str, *, rotational: str, zoned: str = "none") -> None:
        """Put partition 8:1 onto a disk."""
        disk = self.root / "sys/devices" / place
        partition = disk / f"{disk.name}1"
        self.put(f"sys/devices/{place}/queue/rotational", f"{rotational}\n")
        self.put(f"sys/devices/{place}/queue/zoned", f"{zoned}\n")
        self.put(f"sys/devices/{place}/{disk.name}1/partition", "1\n")
        link = self.root / "sys/dev/block/8:1"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(partition)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a real machine with a rotating disk."""
    return Machine(tmp_path)


def test_ground_of_a_rotating_disk_is_clear(machine: Machine) -> None:
    """In place on one real rotating disk: "Clear", at best, and it says what remains."""
    worth = assess(FD, machine.root)
    assert worth.grade is Grade.CLEAR
    assert str(worth) == (
        "The sink is on ext4 on sda, a rotating disk: overwriting happens in place, "
        "but for sectors that the drive has replaced. Forgetting is Clear."
    )


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("btrfs", "writes elsewhere"),
        ("zfs", "writes elsewhere"),
        ("bcachefs", "writes elsewhere"),
        ("overlay", "writes elsewhere"),
        ("tmpfs", "gone at the next restart"),
        ("nfs4", "a server"),
        ("fuse.sshfs", "not known"),
        ("newfs", "not known"),
    ],
)
def test_ground_of_other_file_systems_is_conditional(
    machine: Machine, kind: str, said: str
) -> None:
    """Copy-on-write, memory, network and the unknown are told apart, and none is believed."""
    machine.mount(kind)
    worth = assess(FD, machine.root)
    assert (worth.grade, worth.place) == (Grade.CONDITIONAL, kind)
    assert said in worth.reason


@pytest.mark.parametrize(
    ("place", "rotational", "zoned", "said"),
    [
        ("pci0000:00/nvme/nvme0/nvme0n1", "0", "none", "nvme0n1, flash"),
        ("pci0000:00/virtio2/block/vda", "1", "none", "vda, a virtual disk"),
        ("vbd-768/block/xvda", "1", "none", "xvda, a virtual disk"),
        ("virtual/block/dm-0", "1", "none", "dm-0, a device mapped onto others"),
        ("virtual/block/loop3", "1", "none", "loop3, a device mapped onto others"),
        ("pci0000:00/ata1/block/sdc", "1", "host-aware", "sdc, a zoned disk"),
        ("pci0000:00/ata1/block/sdd", "", "none", "device sdd"),
    ],
)
def test_ground_of_other_disks_is_conditional(
    machine: Machine, place: str, rotational: str, zoned: str, said: str
) -> None:
    """Flash, virtual, mapped, zoned and unknown disks may keep what was overwritten."""
    machine.disk(place, rotational=rotational, zoned=zoned)
    worth = assess(FD, machine.root)
    assert (worth.grade, worth.place) == (Grade.CONDITIONAL, f"ext4 on {said}")


def test_ground_inside_a_virtual_machine_is_conditional(machine: Machine) -> None:
    """A disk that looks real is not, where the processor says that the machine is not."""
    machine.put("proc/cpuinfo", "flags\t: fpu sse2 hypervisor lahf_lm\n")
    assert assess(FD, machine.root).place == "ext4 on sda, a virtual disk"


@pytest.mark.parametrize("where", ["mount", "superblock"])
def test_ground_with_a_data_journal_is_conditional(machine: Machine, where: str) -> None:
    """A journal of data keeps copies, whether mount options or the file system say so."""
    if where == "mount":
        machine.mount("ext4", "rw,data=journal")
    else:
        machine.put("proc/fs/ext4/sda1/options", "rw\ndata=journal\n")
    worth = assess(FD, machine.root)
    assert worth.grade is Grade.CONDITIONAL
    assert "journal" in worth.reason


@pytest.mark.parametrize("gone", ["proc/self/fdinfo/7", "proc/self/mountinfo", "sys/dev/block/8:1"])
def test_ground_that_nothing_tells_of_is_conditional(machine: Machine, gone: str) -> None:
    """What cannot be found out is not assumed to be good."""
    (machine.root / gone).unlink()
    worth = assess(FD, machine.root)
    assert worth.grade is Grade.CONDITIONAL
    assert "nothing tells" in worth.reason


def test_ground_of_this_machine_is_assessed(tmp_path: Path) -> None:
    """The real /proc and /sys are read without a stumble, and a memory file system is known."""
    with (tmp_path / "file").open("wb") as file:
        assert str(assess(file.fileno())).startswith("The sink is on ")
    with Path("/proc/self/status").open("rb") as file:
        assert assess(file.fileno()).place == "proc"


def test_ground_of_a_whole_disk_is_that_of_the_disk(machine: Machine) -> None:
    """A medium that is overwritten as a whole has no file system to ask about."""
    worth = assess_device("8:1", machine.root)
    assert (worth.grade, worth.place) == (Grade.CLEAR, "sda, a rotating disk")
    machine.disk("pci0000:00/ata1/block/sdb", rotational="0")
    assert assess_device("8:1", machine.root).grade is Grade.CONDITIONAL
    assert assess_device("8:99", machine.root).grade is Grade.CONDITIONAL
