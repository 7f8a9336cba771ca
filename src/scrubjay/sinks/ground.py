"""What a file lies on, and what overwriting it there is worth (NIST SP 800-88r2).

Overwriting destroys the old bytes where the file system writes in place and the disk
beneath is one real, rotating disk that we can name. That is "Clear" at best. Everywhere
else, and wherever we cannot tell, old bytes may survive: CONDITIONAL. So this module
lists what is known to be good, and takes everything else for bad.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from scrubjay.sinks.sink import Grade, Worth

__all__ = ["assess", "assess_device"]

_IN_PLACE = frozenset({"ext2", "ext3", "ext4", "xfs", "jfs", "vfat", "exfat"})
_COPY_ON_WRITE = frozenset(
    {"btrfs", "zfs", "bcachefs", "f2fs", "nilfs2", "overlay", "aufs", "ubifs", "apfs"}
)
_MEMORY = frozenset({"tmpfs", "ramfs", "hugetlbfs"})
_NETWORK = frozenset(
    {"9p", "afs", "ceph", "cifs", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "virtiofs"}
)
_VIRTUAL_DISKS = ("vd", "xvd", "nbd", "rbd")
_GOOD = "overwriting happens in place, but for sectors that the drive has replaced"
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class _Mount:
    device: str
    """major:minor"""
    kind: str
    options: frozenset[str]


def assess(fd: int, root: Path = Path("/")) -> Worth:
    """Assess the open file `fd`, from what /proc and /sys beneath `root` say of it."""
    mount = _mount(fd, root)
    if mount is None:
        return Worth(Grade.CONDITIONAL, "an unknown file system", "nothing tells what it does")
    if mount.kind not in _IN_PLACE:
        return Worth(Grade.CONDITIONAL, mount.kind, _why_not(mount.kind))
    device = (root / "sys/dev/block" / mount.device).resolve()
    disk, flaw = _disk(device, root)
    # Where data=journal is the default of the file system itself, only /proc/fs tells.
    journal = mount.options | set(_text(root / "proc/fs/ext4" / device.name / "options").split())
    if "data=journal" in journal:
        flaw = "its journal keeps copies of what is written"
    if flaw:
        return Worth(Grade.CONDITIONAL, f"{mount.kind} on {disk}", flaw)
    return Worth(Grade.CLEAR, f"{mount.kind} on {disk}", _GOOD)


def assess_device(number: str, root: Path = Path("/")) -> Worth:
    """Assess a block device that is used without a file system, by its "major:minor"."""
    device = (root / "sys/dev/block" / number).resolve()
    disk, flaw = _disk(device, root)
    return Worth(Grade.CONDITIONAL, disk, flaw) if flaw else Worth(Grade.CLEAR, disk, _GOOD)


def _why_not(kind: str) -> str:
    if kind in _COPY_ON_WRITE:
        return "it writes elsewhere instead of overwriting, so old bytes survive"
    if kind in _MEMORY:
        return "it is gone at the next restart, and the pool with it"
    if kind in _NETWORK:
        return "what a server keeps of overwritten bytes is not seen from here"
    return "it is not known to overwrite in place"


def _mount(fd: int, root: Path) -> _Mount | None:
    """Find the mount by its id: device numbers mislead on btrfs and overlays (proc(5))."""
    info = re.search(r"^mnt_id:\s*(\d+)$", _text(root / f"proc/self/fdinfo/{fd}"), re.MULTILINE)
    if info is None:
        return None
    for line in _text(root / "proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, beyond = left.split(), right.split(" ")
        if fields and fields[0] == info[1]:
            kind = _OCTAL.sub(lambda match: chr(int(match[1], 8)), beyond[0])
            return _Mount(fields[2], kind, frozenset(beyond[-1].split(",")))
    return None


def _disk(device: Path, root: Path) -> tuple[str, str]:
    """Return a disk in words, and what is wrong with overwriting it: nothing, for a real one."""
    disk = device.parent if (device / "partition").exists() else device
    name = disk.name
    elsewhere = "it writes elsewhere instead of overwriting, so old bytes survive"
    if "virtual" in disk.parts:
        return f"{name}, a device mapped onto others", "old bytes may survive beneath it"
    if name.startswith(_VIRTUAL_DISKS) or "hypervisor" in _text(root / "proc/cpuinfo"):
        return f"{name}, a virtual disk", "whoever provides it may keep overwritten bytes"
    if _text(disk / "queue/zoned").strip() not in {"", "none"}:
        return f"{name}, a zoned disk", elsewhere
    rotational = _text(disk / "queue/rotational").strip()
    if rotational == "1":
        return f"{name}, a rotating disk", ""
    if rotational == "0":
        return f"{name}, flash", elsewhere
    return f"device {name}", "nothing tells what kind of disk that is"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
