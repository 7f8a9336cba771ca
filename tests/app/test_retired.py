"""What may be said of a medium that was erased follows from counts and from what lies beneath."""

from __future__ import annotations

import datetime as dt
import os
import uuid
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from scrubjay.app.retired import Times, describe, expect_same, tell, wiped_of
from scrubjay.base.errors import Conflict, Invalid
from scrubjay.control.retirement_records import ErasedRecord, RetirementRecord
from scrubjay.evidence.statement import DiskBeneath, FailedRange, MediumRetired, Wiped
from scrubjay.media.erase import Erasure, Technique

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
POOL = uuid.UUID(int=6)
ERASED = Erasure(
    extents=((0, 8192),),
    asked=Technique.OVERWRITE,
    used=Technique.OVERWRITE,
    pages=2,
    pages_read=2,
    reads_device=True,
    mismatches=0,
    mismatch_offsets=(),
    unreadable=0,
    unreadable_offsets=(),
)
DISK = DiskBeneath(
    node="/dev/sda",
    kind="disk",
    model="ST4000",
    serial="ZC1",
    wwn=None,
    rotates=True,
    size_bytes=8704,
)
MEDIUM = MediumRetired(
    kind="block device",
    id=uuid.UUID(int=5),
    place="/dev/disk/by-id/ata-ST4000_ZC1",
    size_bytes=8192 + 512,
    disks=(DISK,),
    worth="Clear",
    reason="sda, a rotating disk: overwriting happens in place",
)


def wiped(erasure: Erasure = ERASED, *, tail_clean: bool = True) -> Wiped:
    """Return what an erasing of two pages and half a KiB found."""
    times = Times(NOW, NOW, NOW)
    return wiped_of(erasure, tail_bytes=512, tail_clean=tail_clean, times=times)


def record(found: Wiped, medium: MediumRetired = MEDIUM) -> RetirementRecord:
    """Return what a pool would know."""
    return RetirementRecord(
        medium=medium,
        noted_at=NOW,
        epoch_before=3,
        moved_to="/dev/sdb",
        left_at=NOW,
        epoch_after=4,
        erased=ErasedRecord(wiped=found, looked_at=NOW, superblocks_opened=0),
    )


def test_disk_overwritten_in_place_and_read_back_is_clear() -> None:
    """All of it, by model and serial number, and the epochs on either side."""
    told = tell(record(wiped()), pool=POOL)
    assert (told.method, told.clean, told.technique) == ("Clear", True, "overwrite")
    assert told.disks[0].serial == "ZC1"
    assert (told.epoch_before, told.epoch_after) == (3, 4)
    assert (told.pages, told.pages_read) == (3, 3)
    assert any("8704 bytes" in each for each in told.logged)
    assert not any("No serial" in each for each in told.assumed)
    assert any("nobody read its label" in each for each in told.assumed)


@pytest.mark.parametrize(
    ("found", "medium", "reason"),
    [
        (wiped(replace(ERASED, mismatches=1, mismatch_offsets=(0,))), MEDIUM, "1 pages did not"),
        (wiped(replace(ERASED, unreadable=1, unreadable_offsets=(0,))), MEDIUM, "1 pages did not"),
        (wiped(tail_clean=False), MEDIUM, "1 pages did not"),
        (wiped(replace(ERASED, reads_device=False)), MEDIUM, "from a cache"),
        (
            wiped(),
            msgspec.structs.replace(MEDIUM, worth="CONDITIONAL", reason="it writes elsewhere"),
            "writes elsewhere",
        ),
    ],
)
def test_anything_less_is_conditional_and_says_why(
    found: Wiped, medium: MediumRetired, reason: str
) -> None:
    """Nobody enters that it is clean: it is derived (I8)."""
    told = tell(record(found, medium), pool=POOL)
    assert told.method == "CONDITIONAL"
    assert reason in told.reason
    assert told.clean == (reason in ("from a cache", "writes elsewhere"))


def test_medium_that_was_not_erased_has_nothing_to_be_told() -> None:
    """Noted is not erased."""
    with pytest.raises(Invalid, match="not erased"):
        tell(msgspec.structs.replace(record(wiped()), erased=None), pool=POOL)


def test_ranges_that_failed_are_listed_and_the_tail_is_one_of_them() -> None:
    """In order, whatever failed about them."""
    erasure = replace(
        ERASED, mismatches=1, mismatch_offsets=(4096,), unreadable=1, unreadable_offsets=(0,)
    )
    assert wiped(erasure, tail_clean=False).failed == (
        FailedRange(offset_bytes=0, length_bytes=4096),
        FailedRange(offset_bytes=4096, length_bytes=4096),
        FailedRange(offset_bytes=8192, length_bytes=512),
    )


def test_every_technique_has_a_word_in_evidence() -> None:
    """What is no overwriting is never called so."""
    words = {each: wiped(replace(ERASED, used=each)).technique for each in Technique}
    assert {each for each, word in words.items() if word == "overwrite"} == {
        each for each in Technique if each.overwrites
    }


def test_file_says_that_it_was_one_and_that_no_label_was_read() -> None:
    """The disk beneath a file is shared, and may be unknown."""
    medium = msgspec.structs.replace(MEDIUM, kind="file", disks=())
    told = tell(record(wiped(), medium), pool=POOL)
    assert told.kind == "file"
    assert told.method == "CONDITIONAL"
    assert any("It was a file" in each for each in told.assumed)
    assert any("No serial number" in each for each in told.assumed)
    assert any("spare areas" in each for each in told.assumed)


def test_flash_says_what_no_overwriting_reaches() -> None:
    """Whatever else is clean about it."""
    flash = msgspec.structs.replace(MEDIUM, disks=(msgspec.structs.replace(DISK, rotates=False),))
    assert any("spare areas" in each for each in tell(record(wiped(), flash), pool=POOL).assumed)


def test_description_of_a_file_is_fit_for_evidence(tmp_path: Path) -> None:
    """Also where its name holds what no terminal should see."""
    path = tmp_path / os.fsdecode(b"po\xffol\x1b[2J")
    path.write_bytes(bytes(8192))
    found = describe(path, MEDIUM.id)
    assert (found.kind, found.size_bytes, found.id) == ("file", 8192, MEDIUM.id)
    assert "\x1b" not in found.place
    assert msgspec.json.decode(msgspec.json.encode(found), type=MediumRetired) == found


@pytest.mark.parametrize(
    "other",
    [
        msgspec.structs.replace(MEDIUM, size_bytes=8192),
        msgspec.structs.replace(MEDIUM, kind="file"),
        msgspec.structs.replace(MEDIUM, disks=()),
        msgspec.structs.replace(MEDIUM, disks=(msgspec.structs.replace(DISK, serial="ZC2"),)),
        msgspec.structs.replace(MEDIUM, disks=(msgspec.structs.replace(DISK, model="ST8000"),)),
    ],
)
def test_medium_of_another_label_or_size_is_not_the_one_that_was_noted(
    other: MediumRetired,
) -> None:
    """Its name may be another by now, its label may not."""
    moved = msgspec.structs.replace(DISK, node="/dev/sdz")
    expect_same(msgspec.structs.replace(MEDIUM, place="/dev/sdz", disks=(moved,)), MEDIUM)
    with pytest.raises(Conflict, match="expected block device of 8704 bytes on ST4000 serial ZC1"):
        expect_same(other, MEDIUM)
