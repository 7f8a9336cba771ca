"""What is known of a medium that a pool has left: what it was, how it was erased, what was found.

The facts for a certificate. What follows from them (`clean`, `method`) is derived here by the
rules of docs/format/evidence.md, from counts and from what lies beneath; nobody enters it.
"""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import UUID

from scrubjay.app.places import Leaving
from scrubjay.media.device import disks_beneath, facts_beneath
from scrubjay.media.erase import Erasure
from scrubjay.sinks.ground import assess, assess_device
from scrubjay.sinks.sink import Grade, Worth

__all__ = ["Disk", "Ground", "Retired", "Told", "describe", "tell"]

FORMAT = "scrubjay retired medium 1"
_COPIED = "Every slot that held something was copied to another medium, read back and compared."
_KEYS_LIVE = (
    "Volumes that were not destroyed keep their keys, as they go on elsewhere: of their data on "
    "this medium, only overwriting is the end. Blocks that survived it beneath (spare cells, "
    "replaced sectors) open for who has the pool and its sink, and for nobody else."
)
_FILE = (
    "It was a file: of the disks beneath it, only what the file system wrote in place was "
    "overwritten, and other files of theirs were not."
)


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk by what stands on its label; "" where nothing tells."""

    node: str
    kind: str
    model: str
    serial: str
    wwn: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Ground:
    """What a medium is, as found before it was erased."""

    path: str
    device: bool
    size_bytes: int
    disks: tuple[Disk, ...]
    """Of which it is made, or on which its file system lies; empty where nobody can tell."""
    worth: Worth
    """What overwriting is worth there."""


@dataclass(frozen=True, slots=True)
class Told:
    """All that `tell` needs to know."""

    ground: Ground
    leaving: Leaving
    erasure: Erasure
    tail_bytes: int
    """Behind the last whole page, overwritten and read back through the system's cache."""
    tail_clean: bool
    begun_at: dt.datetime
    erased_at: dt.datetime
    pool: UUID
    moved_to: str


@dataclass(frozen=True, slots=True)
class Retired:
    """A medium that has left a pool."""

    format: str
    id: UUID
    """Of the medium, as the pool's superblocks named it."""
    pool: UUID
    kind: Literal["file", "block device"]
    place: str
    size_bytes: int
    disks: tuple[Disk, ...]
    technique: Literal["overwrite", "zero range", "discard"]
    """As docs/format/evidence.md has it, and what exactly was done:"""
    pattern: str
    method: Literal["Clear", "CONDITIONAL"]
    reason: str
    pages: int
    pages_read: int
    read_from_device: bool
    mismatches: int
    mismatch_offsets: tuple[int, ...]
    unreadable: int
    unreadable_offsets: tuple[int, ...]
    clean: bool
    """Whether every page that was read back holds what was written."""
    epoch_before: int
    epoch_after: int
    """The sink's: what the superblocks of this medium were sealed under is gone."""
    moved_to: str
    moved_at: dt.datetime
    begun_at: dt.datetime
    erased_at: dt.datetime
    logged: tuple[str, ...]
    assumed: tuple[str, ...]


def describe(path: Path) -> Ground:
    """Find out what a medium is and what lies beneath it; raises what opening it raises."""
    facts = facts_beneath(path)
    device = path.is_block_device()
    disks = () if facts is None else disks_beneath(facts)
    if device and facts is not None:
        worth, size_bytes = assess_device(facts.number), facts.size_bytes
    else:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            worth, size_bytes = assess(descriptor), os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
    shown = tuple(
        Disk(
            node=str(each.node),
            kind=each.kind,
            model=each.model,
            serial=each.serial,
            wwn=each.wwn,
            size_bytes=each.size_bytes,
        )
        for each in disks
    )
    return Ground(str(path), device, size_bytes, shown, worth)


def tell(told: Told) -> Retired:
    """Return what may be said of a medium that was erased."""
    erasure, ground = told.erasure, told.ground
    clean = erasure.clean and told.tail_clean and erasure.pages_read > 0
    method, reason = _method(told, clean=clean)
    return Retired(
        format=FORMAT,
        id=told.leaving.medium_id,
        pool=told.pool,
        kind="block device" if ground.device else "file",
        place=ground.path,
        size_bytes=ground.size_bytes,
        disks=ground.disks,
        technique="overwrite",
        pattern=erasure.used.value,
        method=method,
        reason=reason,
        pages=erasure.pages,
        pages_read=erasure.pages_read,
        read_from_device=erasure.reads_device,
        mismatches=erasure.mismatches,
        mismatch_offsets=erasure.mismatch_offsets,
        unreadable=erasure.unreadable,
        unreadable_offsets=erasure.unreadable_offsets,
        clean=clean,
        epoch_before=told.leaving.epoch_before,
        epoch_after=told.leaving.epoch_after,
        moved_to=told.moved_to,
        moved_at=dt.datetime.fromisoformat(told.leaving.moved_at),
        begun_at=told.begun_at,
        erased_at=told.erased_at,
        logged=_logged(told),
        assumed=_assumed(ground),
    )


def _method(told: Told, *, clean: bool) -> tuple[Literal["Clear", "CONDITIONAL"], str]:
    ground, erasure = told.ground, told.erasure
    if not clean:
        found = f"{erasure.mismatches} wrong and {erasure.unreadable} unreadable"
        return "CONDITIONAL", f"not everything reads back as it was written: {found} pages"
    if not erasure.reads_device:
        return "CONDITIONAL", "what was read back may have come from a cache"
    reason = f"{ground.worth.place}: {ground.worth.reason}"
    if ground.worth.grade is not Grade.CLEAR:
        return "CONDITIONAL", reason
    return "Clear", reason


def _logged(told: Told) -> tuple[str, ...]:
    leaving, erasure = told.leaving, told.erasure
    moved = (
        f"The pool was committed there under epoch {leaving.epoch_after} of its sink, which then "
        f"dropped epoch {leaving.epoch_before}: no superblock of this medium opens any more."
    )
    erased = (
        f"Every one of {erasure.pages} pages was overwritten ({erasure.used.value}), and "
        f"{erasure.pages_read} of them were read back."
    )
    tail = f"The last {told.tail_bytes} bytes, less than a page, were overwritten too."
    return (_COPIED, moved, erased, *([tail] if told.tail_bytes else []))


def _assumed(ground: Ground) -> tuple[str, ...]:
    assumed = [_KEYS_LIVE]
    if not ground.device:
        assumed.append(_FILE)
    if not ground.disks or not all(each.serial for each in ground.disks):
        assumed.append("No serial number was to be had of what lies beneath: see `place`.")
    return tuple(assumed)
