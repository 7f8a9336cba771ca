"""What may be said of a medium that was erased follows from counts and from what lies beneath."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import replace

import pytest

from scrubjay.app.places import Leaving
from scrubjay.app.retired import Disk, Ground, Told, tell
from scrubjay.media.erase import Erasure, Technique
from scrubjay.sinks.sink import Grade, Worth

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
IN_PLACE = Worth(Grade.CLEAR, "sda, a rotating disk", "overwriting happens in place")
FLASH = Worth(Grade.CONDITIONAL, "nvme0n1, flash", "it writes elsewhere")
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
TOLD = Told(
    ground=Ground(
        path="/dev/disk/by-id/ata-ST4000_ZC1",
        device=True,
        size_bytes=8192 + 512,
        disks=(Disk("/dev/sda", "disk", "ST4000", "ZC1", "", 8704),),
        worth=IN_PLACE,
    ),
    leaving=Leaving("/dev/sda", True, uuid.UUID(int=5), 3, 4, NOW.isoformat()),
    erasure=ERASED,
    tail_bytes=512,
    tail_clean=True,
    begun_at=NOW,
    erased_at=NOW,
    pool=uuid.UUID(int=6),
    moved_to="/dev/sdb",
)


def test_disk_overwritten_in_place_and_read_back_is_clear() -> None:
    """All of it, by model and serial number, and the epochs on either side."""
    told = tell(TOLD)
    assert (told.method, told.clean, told.technique) == ("Clear", True, "overwrite")
    assert told.disks[0].serial == "ZC1"
    assert (told.epoch_before, told.epoch_after) == (3, 4)
    assert any("512 bytes" in each for each in told.logged)
    assert not any("No serial" in each for each in told.assumed)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (replace(TOLD, erasure=replace(ERASED, mismatches=1)), "not everything reads back"),
        (replace(TOLD, erasure=replace(ERASED, unreadable=1)), "not everything reads back"),
        (replace(TOLD, erasure=replace(ERASED, pages_read=0)), "not everything reads back"),
        (replace(TOLD, tail_clean=False), "not everything reads back"),
        (replace(TOLD, erasure=replace(ERASED, reads_device=False)), "from a cache"),
        (replace(TOLD, ground=replace(TOLD.ground, worth=FLASH)), "writes elsewhere"),
    ],
)
def test_anything_less_is_conditional_and_says_why(told: Told, reason: str) -> None:
    """Nobody enters that it is clean: it is derived (I8)."""
    found = tell(told)
    assert found.method == "CONDITIONAL"
    assert reason in found.reason
    assert found.clean == (reason in ("from a cache", "writes elsewhere"))


def test_file_says_that_it_was_one_and_that_no_label_was_read() -> None:
    """The disk beneath a file is shared, and may be unknown."""
    told = tell(replace(TOLD, ground=replace(TOLD.ground, device=False, disks=())))
    assert told.kind == "file"
    assert any("It was a file" in each for each in told.assumed)
    assert any("No serial number" in each for each in told.assumed)
