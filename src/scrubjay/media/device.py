"""What a block device is, for the choice of a pool's medium and for certificates.

Sizes and capabilities come from sysfs, the names of model and serial number from `lsblk`
(util-linux), which asks udev: sysfs itself has the serial number of few kinds of disks.
What cannot be found out is empty or None, never guessed.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import msgspec

from scrubjay.base.errors import Invalid, Unavailable
from scrubjay.media.file import explained

__all__ = ["DeviceFacts", "disks_beneath", "facts_beneath", "facts_of", "tool", "uses_of"]

SYSFS_SECTOR_BYTES = 512
"""The unit of `size` in sysfs, whatever the device's sectors are."""
TOOL_TIMEOUT_S = 20
"""A disk that does not answer must not hold up the daemon for good."""
_ROOTS_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
"""Where util-linux lives, also for users whose PATH does not say so."""
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A block device as the system knows it."""

    path: Path
    """As it was given, e.g. /dev/disk/by-id/...: the name to remember."""
    node: Path
    """What that is now, e.g. /dev/sdb: may be another one after a restart."""
    number: str
    """major:minor"""
    kind: str
    """disk, part, lvm, crypt, raid1, loop ...: as lsblk says; empty: unknown."""
    size_bytes: int
    logical_sector_bytes: int
    physical_sector_bytes: int
    misaligned_bytes: int
    """How far its start lies behind a boundary of the physical sectors; 0 is best."""
    rotational: bool | None
    """As the driver says; virtual disks often claim to rotate."""
    discards: bool
    """Takes TRIM, UNMAP or Deallocate."""
    zeroes: bool
    """Takes WRITE ZEROES, which need not write."""
    zoned: bool
    read_only: bool
    model: str
    serial: str
    wwn: str


class _Listed(msgspec.Struct):
    """What lsblk says of a device; null where it does not know."""

    type: str | None = None
    model: str | None = None
    serial: str | None = None
    wwn: str | None = None


class _Listing(msgspec.Struct):
    blockdevices: list[_Listed] = []


def facts_of(path: Path, *, root: Path = Path("/")) -> DeviceFacts:
    """Describe the block device at `path`, links followed; `root` holds /sys.

    Raises Invalid where it is none, NotFound or Denied as the system says.
    """
    with explained(path):
        status = path.stat()
    if not stat.S_ISBLK(status.st_mode):
        message = f"device {path}: no block device, expected one"
        raise Invalid(message, hint="a pool in a file needs no device: name no device then")
    return _facts(path, path.resolve(), _number(status.st_rdev), root)


def facts_beneath(path: Path, *, root: Path = Path("/")) -> DeviceFacts | None:
    """Describe the device that holds a pool: itself, or the one below its file system.

    None where the file system has no device of its own (tmpfs, overlay, network) or does
    not say which (btrfs). Raises NotFound or Denied as the system says.
    """
    with explained(path):
        status = path.stat()
    if stat.S_ISBLK(status.st_mode):
        return facts_of(path, root=root)
    number = _number(status.st_dev)
    device = _sysfs(number, root)
    return _facts(path, Path("/dev") / device.name, number, root) if device.exists() else None


def disks_beneath(facts: DeviceFacts, *, root: Path = Path("/")) -> tuple[DeviceFacts, ...]:
    """Return the disks of which a device is made: itself, or those beneath LVM, RAID, a partition.

    They are what leaves the building, and bear a serial number.
    """
    found: dict[str, DeviceFacts] = {}
    waiting = [_sysfs(facts.number, root)]
    while waiting:
        device = waiting.pop()
        if (device / "partition").exists():
            waiting.append(device.parent)
        elif slaves := sorted((device / "slaves").glob("*")):
            waiting += [each.resolve() for each in slaves]
        elif (number := _text(device / "dev")) not in found:
            node = root / "dev" / device.name.replace("!", "/")
            found[number] = _facts(node, node, number, root)
    return tuple(each for _, each in sorted(found.items()))


def uses_of(facts: DeviceFacts, *, root: Path = Path("/")) -> list[str]:
    """Say who uses a device or a partition of it, as far as this process may see.

    The kernel knows of more (other mount namespaces): opening with O_EXCL decides.
    """
    device = _sysfs(facts.number, root)
    parts = [device, *(each.parent for each in sorted(device.glob("*/partition")))]
    swaps = {line.split()[0] for line in _text(root / "proc/swaps").splitlines()[1:]}
    uses = []
    for part in parts:
        name = f"/dev/{part.name}"
        uses += [f"{name} is mounted on {where}" for where in _mounts(_text(part / "dev"), root)]
        uses += [f"{name} is swap"] if name in swaps else []
        uses += [f"{name} is held by {each.name}" for each in sorted(part.glob("holders/*"))]
    return uses


def tool(name: str, *arguments: str) -> str:
    """Run a program of util-linux and return what it prints.

    Raises Unavailable where it is missing, fails, or does not end: silence of a program
    that failed must not pass for "nothing found".
    """
    program = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_ROOTS_PATH}")
    if program is None:
        raise Unavailable(f"{name}: not found, expected util-linux", hint="install util-linux")
    try:
        ran = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TOOL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{name}: no answer within {TOOL_TIMEOUT_S} s") from error
    if ran.returncode:
        said = ran.stderr.strip() or f"exit status {ran.returncode}"
        raise Unavailable(f"{name}: {said}, expected it to succeed")
    return ran.stdout


def _facts(path: Path, node: Path, number: str, root: Path) -> DeviceFacts:
    device = _sysfs(number, root)
    whole = device.parent if (device / "partition").exists() else device
    queue = whole / "queue"
    rotational = _text(queue / "rotational")
    listed = _listed(node)
    return DeviceFacts(
        path=path,
        node=node,
        number=number,
        kind=listed.type or "",
        size_bytes=_integer(device / "size") * SYSFS_SECTOR_BYTES,
        logical_sector_bytes=_integer(queue / "logical_block_size"),
        physical_sector_bytes=_integer(queue / "physical_block_size"),
        misaligned_bytes=_integer(device / "alignment_offset"),
        rotational=rotational == "1" if rotational else None,
        discards=_integer(queue / "discard_max_bytes") > 0,
        zeroes=_integer(queue / "write_zeroes_max_bytes") > 0,
        zoned=_text(queue / "zoned") not in {"", "none"},
        read_only=_text(device / "ro") == "1",
        model=(listed.model or _text(whole / "device/model")).strip(),
        serial=(listed.serial or _text(whole / "device/serial") or _text(whole / "serial")).strip(),
        wwn=(listed.wwn or _text(whole / "device/wwid") or _text(whole / "wwid")).strip(),
    )


def _listed(node: Path) -> _Listed:
    """Ask lsblk; a system without it has no names to give."""
    try:
        printed = tool("lsblk", "--json", "--nodeps", "-o", "TYPE,MODEL,SERIAL,WWN", str(node))
        devices = msgspec.json.decode(printed, type=_Listing).blockdevices
    except (Unavailable, msgspec.DecodeError):
        return _Listed()
    return devices[0] if devices else _Listed()


def _mounts(number: str, root: Path) -> list[str]:
    lines = [line.split() for line in _text(root / "proc/self/mountinfo").splitlines()]
    return [
        _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
        for fields in lines
        if len(fields) > 4 and fields[2] == number  # noqa: PLR2004 - proc(5): the mount point
    ]


def _number(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


def _sysfs(number: str, root: Path) -> Path:
    return (root / "sys/dev/block" / number).resolve()


def _integer(path: Path) -> int:
    text = _text(path)
    return int(text) if text.lstrip("-").isdigit() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
