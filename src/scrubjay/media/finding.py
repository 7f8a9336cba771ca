"""Finding a pool's device again: by a name that stays, and never another one in its place.

/dev/sdb may be another disk after a restart. So a device is remembered by a name that
follows from what it is, and before anything is written somebody looks whose pool is on it.
"""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

from scrubjay.base.errors import Conflict, ScrubjayError
from scrubjay.base.ports import Medium
from scrubjay.media.file import explained
from scrubjay.media.superblock import (
    COPY_OFFSETS_BYTES,
    SUPERBLOCK_BYTES,
    read_copies,
    survey,
)

__all__ = ["devices_with", "expect_pool", "pool_at", "stable_name"]

_BY_ID = Path("dev/disk/by-id")
_NUMBERS = ("wwn-", "nvme-eui.", "nvme-nvme.", "dm-uuid-", "lvm-pv-uuid-", "md-uuid-")
"""Names that stay as well as the others, but that nobody reads on a label."""


def stable_name(path: Path, *, root: Path = Path("/")) -> Path:
    """Return the name of a device to remember: in /dev/disk/by-id where there is one.

    A name below /dev/disk, and one of LVM or device mapper, stays as it was given.
    """
    given = path.absolute()
    if (root / "dev/disk") in given.parents:
        return given
    node = given.resolve()
    if node.name.startswith("dm-") and given != node:
        return given
    links = [each for each in (root / _BY_ID).glob("*") if each.resolve() == node]
    links.sort(key=lambda each: (each.name.startswith(_NUMBERS), each.name))
    return links[0] if links else given


def pool_at(path: Path) -> UUID | None:
    """Return the pool whose superblock lies there; None where nothing of the kind is to be read.

    What it says may be forged.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            copies = [os.pread(descriptor, SUPERBLOCK_BYTES, at) for at in COPY_OFFSETS_BYTES]
        finally:
            os.close(descriptor)
        whole = [(str(path), each) for each in copies if len(each) == SUPERBLOCK_BYTES]
        return survey(whole).pool_id
    except (OSError, ScrubjayError):
        return None


def expect_pool(medium: Medium, pool_id: UUID, path: Path) -> None:
    """Raise Conflict where an open medium holds another pool, or none: a name that moved on."""
    found = survey(read_copies([medium])).pool_id
    if found != pool_id:
        raise Conflict(f"{path}: holds pool {found}, expected pool {pool_id}")


def devices_with(pool_id: UUID, *, root: Path = Path("/")) -> list[Path]:
    """Return the block devices of this machine that hold this pool, what is built on left out."""
    found = []
    with explained(root / "sys/class/block"):
        names = sorted((root / "sys/class/block").iterdir())
    for each in names:
        node = root / "dev" / each.name.replace("!", "/")
        if not any((each / "holders").glob("*")) and pool_at(node) == pool_id:
            found.append(node)
    return found
