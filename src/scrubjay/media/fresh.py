"""A pool's medium on a block device: refused wherever something would be lost.

Nothing that a device holds is lost by mistake: what is mounted, swap or held by others is
refused always, what holds anything else is refused unless the caller says `overwrite`.
Known formats are found by `wipefs`, libblkid's own program: it knows some 150, among them
partition tables, LVM, RAID and LUKS. Of plain dm-crypt, raw databases and the like nobody
can tell what they are, so unknown bytes in the first MiB are refused as well.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from scrubjay.base.errors import Conflict, Denied, Invalid, ScrubjayError, Unavailable
from scrubjay.base.units import SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.media.device import DeviceFacts, facts_of, tool, uses_of
from scrubjay.media.file import PoolFile, explained
from scrubjay.media.geometry import SLOTS_MIN
from scrubjay.media.superblock import COPY_OFFSETS_BYTES, SUPERBLOCK_BYTES, survey

__all__ = ["contents_of", "create_on_device"]

SIZE_BYTES_MIN = SLOTS_OFFSET_BYTES + SLOTS_MIN * SEGMENT_BYTES
_BLKRRPART = 0x125F
"""linux/fs.h: read the partition table anew."""


class _Signature(msgspec.Struct):
    """What wipefs says of one signature."""

    offset: str = ""
    type: str = ""
    label: str | None = None


class _Signatures(msgspec.Struct):
    signatures: list[_Signature] = []


def create_on_device(path: Path, *, overwrite: bool = False) -> PoolFile:
    """Make a block device ready for a new pool, and hold it.

    Its first MiB is zeros then; the rest keeps its bytes until slots are written. With
    `overwrite` every signature on it is erased first, the ones at its end included, so that
    nothing takes it for what it was.

    Raises Conflict when it is in use or holds something, Denied when it is read-only or
    not ours, Invalid when it is no device, too small or zoned, NotFound or Unavailable.
    """
    facts = facts_of(path)
    _expect_fit(facts)
    _expect_unused(facts)
    with _claimed(facts) as descriptor:
        found = _contents(descriptor, facts)
        if found and not overwrite:
            raise Conflict(
                f"device {_name(facts)}: holds {', '.join(found)}, expected nothing",
                hint="look at it with `wipefs`; if nothing of it is needed: --overwrite-contents",
            )
        _clear(descriptor, facts)
        left = _contents(descriptor, facts)
        if left:
            raise Unavailable(f"device {_name(facts)}: still holds {', '.join(left)}")
    return PoolFile.open(path, hold=True)


def contents_of(path: Path) -> list[str]:
    """Say what a device holds, in words; empty: nothing that anybody would know.

    Raises what `create_on_device` raises where it cannot be looked at.
    """
    facts = facts_of(path)
    with explained(path):
        descriptor = os.open(facts.node, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _contents(descriptor, facts)
        finally:
            os.close(descriptor)


def _expect_fit(facts: DeviceFacts) -> None:
    if facts.read_only:
        message = f"device {_name(facts)}: read-only, expected one that can be written"
        raise Denied(message, hint="`blockdev --getro` and `lsblk -o RO` show it")
    if facts.zoned:
        message = f"device {_name(facts)}: zoned, expected one that is written anywhere"
        raise Invalid(message, hint="superblocks are overwritten in place: take another disk")
    if facts.size_bytes < SIZE_BYTES_MIN:
        message = f"device {_name(facts)}: {facts.size_bytes} bytes, expected {SIZE_BYTES_MIN}"
        raise Invalid(message, hint="take a larger one")


def _expect_unused(facts: DeviceFacts) -> None:
    uses = uses_of(facts)
    if uses:
        raise Conflict(
            f"device {_name(facts)}: {', '.join(uses)}, expected it unused",
            hint="unmount it, `swapoff`, or remove what is built on it; or name another device",
        )


@contextmanager
def _claimed(facts: DeviceFacts) -> Iterator[int]:
    """Open it as the only one who may, and see that it is what was looked at."""
    with explained(facts.path):
        descriptor = os.open(facts.node, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    try:
        now = os.fstat(descriptor).st_rdev
        if f"{os.major(now)}:{os.minor(now)}" != facts.number:
            raise Conflict(f"device {_name(facts)}: became another one meanwhile")
        yield descriptor
    finally:
        os.close(descriptor)


def _contents(descriptor: int, facts: DeviceFacts) -> list[str]:
    """Return what is found, the most telling first."""
    with explained(facts.path):
        head = os.pread(descriptor, SLOTS_OFFSET_BYTES, 0)
    found = _pool_in(head) + _signatures(facts)
    if not found and any(head):
        at = len(head) - len(head.lstrip(b"\0"))
        found = [f"unknown bytes from {at:#x} on"]
    return found


def _pool_in(head: bytes) -> list[str]:
    copies = [("", head[at : at + SUPERBLOCK_BYTES]) for at in COPY_OFFSETS_BYTES]
    try:
        return [f"the Scrubjay pool {survey(copies).pool_id}"]
    except ScrubjayError:
        damaged = any(raw.startswith(b"SCRUBJAY") for _, raw in copies)
        return ["a damaged or newer Scrubjay pool"] if damaged else []


def _signatures(facts: DeviceFacts) -> list[str]:
    printed = tool("wipefs", "--no-act", "--json", str(facts.node))
    if not printed.strip():
        return []
    try:
        signatures = msgspec.json.decode(printed, type=_Signatures).signatures
    except msgspec.DecodeError as error:
        raise Unavailable(f"device {_name(facts)}: wipefs prints no list ({error})") from error
    return [
        f"{each.type}{f' {each.label!r}' if each.label else ''} at {each.offset}"
        for each in signatures
    ]


def _clear(descriptor: int, facts: DeviceFacts) -> None:
    """Erase every signature, and all that a reader of superblocks would look at."""
    tool("wipefs", "--all", "--force", str(facts.node))
    with explained(facts.path):
        os.pwrite(descriptor, bytes(SLOTS_OFFSET_BYTES), 0)
        os.fsync(descriptor)
        try:
            fcntl.ioctl(descriptor, _BLKRRPART)
        except OSError as error:  # a device that has no partitions says EINVAL
            if error.errno not in (errno.EINVAL, errno.ENOTTY):
                raise


def _name(facts: DeviceFacts) -> str:
    return str(facts.path) if facts.path == facts.node else f"{facts.path} ({facts.node})"
