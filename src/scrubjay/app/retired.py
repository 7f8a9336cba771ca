"""What is known of a medium that a pool has left, for the pool's record of it and for people.

The record in the pool is what a certificate is made of (control/retirements.py). The file in
the home's folder `retired` says the same for people, unsigned: nothing ever reads it.
"""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import UUID

from scrubjay.base.errors import Conflict, Invalid
from scrubjay.base.units import PAGE_BYTES
from scrubjay.control.retirement_records import RetirementRecord
from scrubjay.control.retirements import assumed_of, logged_of, text_of
from scrubjay.evidence.deriving import grade_of_medium
from scrubjay.evidence.retirement import failures_of
from scrubjay.evidence.statement import DiskBeneath, FailedRange, MediumRetired, Wiped
from scrubjay.media.device import DeviceFacts, disks_beneath, facts_beneath
from scrubjay.media.erase import Erasure, Technique
from scrubjay.sinks.ground import assess, assess_device

__all__ = [
    "FORMAT",
    "Certified",
    "Retired",
    "Times",
    "describe",
    "expect_same",
    "tell",
    "wiped_of",
]

FORMAT = "scrubjay retired medium 2"
_TECHNIQUES: dict[Technique, Literal["overwrite", "zero range", "discard"]] = {
    Technique.OVERWRITE: "overwrite",
    Technique.OVERWRITE_RANDOM: "overwrite",
    Technique.ZERO_RANGE: "zero range",
    Technique.PUNCH_HOLE: "discard",
    Technique.DISCARD: "discard",
}


@dataclass(frozen=True, slots=True)
class Times:
    """When an erasing began, had overwritten all, and had read back what it wanted to."""

    begun_at: dt.datetime
    erased_at: dt.datetime
    read_back_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Certified:
    """Which certificate was issued about it, or why there is none yet."""

    digest: str = ""
    bundle: str = ""
    """The file that is verified offline, and the key to verify it by:"""
    key: str = ""
    waits: str = ""


@dataclass(frozen=True, slots=True)
class Retired:
    """A medium that has left a pool, and was erased."""

    format: str
    id: UUID
    """Of the medium, as the pool's superblocks named it."""
    pool: UUID
    kind: Literal["file", "block device"]
    place: str
    size_bytes: int
    disks: tuple[DiskBeneath, ...]
    technique: Literal["overwrite", "zero range", "discard"]
    """As docs/format/evidence.md has it, and what exactly was done:"""
    pattern: str
    method: str
    reason: str
    pages: int
    pages_read: int
    reads: Literal["device", "cache"]
    mismatches: int
    unreadable: int
    failed: tuple[FailedRange, ...]
    clean: bool
    """Whether every page that was read back holds what was written."""
    epoch_before: int
    epoch_after: int
    """The sink's: what the superblocks of this medium were sealed under is gone."""
    moved_to: str
    moved_at: dt.datetime
    begun_at: dt.datetime
    erased_at: dt.datetime
    read_back_at: dt.datetime
    logged: tuple[str, ...]
    assumed: tuple[str, ...]
    certified: Certified | None = None


def describe(path: Path, medium: UUID) -> MediumRetired:
    """Find out what a medium is and what lies beneath it; raises what opening it raises."""
    facts = facts_beneath(path)
    disks = () if facts is None else disks_beneath(facts)
    device = path.is_block_device()
    if device and facts is not None:
        worth, size_bytes = assess_device(facts.number), facts.size_bytes
    else:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            worth, size_bytes = assess(descriptor), os.lseek(descriptor, 0, os.SEEK_END)
        finally:
            os.close(descriptor)
    return MediumRetired(
        kind="block device" if device else "file",
        id=medium,
        place=text_of(path),
        size_bytes=size_bytes,
        disks=tuple(map(_disk, disks)),
        worth=worth.grade.value,
        reason=text_of(f"{worth.place}: {worth.reason}"),
    )


def expect_same(found: MediumRetired, noted: MediumRetired) -> None:
    """Raise Conflict where a medium is not the one that was noted: by kind, size and labels."""
    if _labels(found) != _labels(noted):
        raise Conflict(
            f"medium {found.place}: {_spell(found)}, expected {_spell(noted)}",
            hint="another disk has its name: put the right one into places.json",
        )


def wiped_of(erasure: Erasure, *, tail_bytes: int, tail_clean: bool, times: Times) -> Wiped:
    """Return what an erasing found, the bytes behind the last whole page taken for a page too."""
    whole = erasure.pages * PAGE_BYTES
    tail = 1 if tail_bytes else 0
    wrong = sorted({*erasure.mismatch_offsets, *erasure.unreadable_offsets})
    failed = [FailedRange(offset_bytes=at, length_bytes=PAGE_BYTES) for at in wrong]
    if tail and not tail_clean:
        failed.append(FailedRange(offset_bytes=whole, length_bytes=tail_bytes))
    return Wiped(
        technique=_TECHNIQUES[erasure.used],
        pattern=erasure.used.value,
        begun_at=times.begun_at,
        erased_at=times.erased_at,
        read_back_at=times.read_back_at,
        bytes_erased=whole + tail_bytes,
        pages=erasure.pages + tail,
        pages_read=erasure.pages_read + tail,
        reads="device" if erasure.reads_device else "cache",
        mismatches=erasure.mismatches + (0 if tail_clean else tail),
        unreadable=erasure.unreadable,
        failed=tuple(failed),
    )


def tell(record: RetirementRecord, *, pool: UUID) -> Retired:
    """Return what may be said of a medium that was erased; Invalid of one that was not."""
    medium, erased = record.medium, record.erased
    if erased is None or record.left_at is None:
        raise Invalid(f"medium {medium.id}: not erased, expected one that was")
    wiped, failures = erased.wiped, failures_of(erased.wiped)
    method, reason = grade_of_medium(
        medium, technique=wiped.technique, reads=wiped.reads, failures=failures
    )
    return Retired(
        format=FORMAT,
        id=medium.id,
        pool=pool,
        kind=medium.kind,
        place=medium.place,
        size_bytes=medium.size_bytes,
        disks=medium.disks,
        technique=wiped.technique,
        pattern=wiped.pattern,
        method=method,
        reason=reason,
        pages=wiped.pages,
        pages_read=wiped.pages_read,
        reads=wiped.reads,
        mismatches=wiped.mismatches,
        unreadable=wiped.unreadable,
        failed=wiped.failed,
        clean=not failures,
        epoch_before=record.epoch_before,
        epoch_after=record.epoch_after,
        moved_to=record.moved_to,
        moved_at=record.left_at,
        begun_at=wiped.begun_at,
        erased_at=wiped.erased_at,
        read_back_at=wiped.read_back_at,
        logged=logged_of(record),
        assumed=assumed_of(record),
    )


def _disk(facts: DeviceFacts) -> DiskBeneath:
    return DiskBeneath(
        node=text_of(facts.node),
        kind=text_of(facts.kind or "unknown"),
        model=_label(facts.model),
        serial=_label(facts.serial),
        wwn=_label(facts.wwn),
        rotates=facts.rotational,
        size_bytes=facts.size_bytes,
    )


def _label(text: str) -> str | None:
    return text_of(text.strip()) if text.strip() else None


def _labels(medium: MediumRetired) -> tuple[object, ...]:
    labels = sorted(
        (each.model or "", each.serial or "", each.wwn or "", each.size_bytes)
        for each in medium.disks
    )
    return medium.id, medium.kind, medium.size_bytes, labels


def _spell(medium: MediumRetired) -> str:
    disks = ", ".join(f"{each.model or '?'} serial {each.serial or '?'}" for each in medium.disks)
    return f"{medium.kind} of {medium.size_bytes} bytes on {disks or 'unknown disks'}"
