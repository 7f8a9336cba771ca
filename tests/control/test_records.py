"""Records: what the pool keeps as JSON, and nothing else decodes."""

from __future__ import annotations

import datetime as dt
import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.errors import Corrupt
from scrubjay.base.ids import BranchNo, LineageNo, VolumeId
from scrubjay.control import records
from scrubjay.control.records import (
    CheckpointRecord,
    PoolRecord,
    VolumeRecord,
    decode,
    encode,
)

VOLUME = VolumeRecord(
    name="db0",
    tenant=1,
    lineage=2,
    branch=1,
    size_bytes=1 << 20,
    created_at=records.at(1_700_000_000_123_456_789),
    state="ready",
    attach_epoch=0,
    checkpoint=CheckpointRecord(root=2**64 - 1, flushed=0, clean=True, live_sectors=0),
)
GOOD = json.loads(encode(VOLUME))


def test_record_encoded_reads_back_as_sorted_json() -> None:
    """A record is JSON with sorted keys and no blanks, and reads back as it was."""
    text = encode(VOLUME)
    assert decode(VolumeRecord, text, where="here") == VOLUME
    assert text == json.dumps(GOOD, sort_keys=True, separators=(",", ":")).encode()


def test_moment_of_nanoseconds_keeps_microseconds_in_utc() -> None:
    """Nothing is rounded up into the future, and no zone is lost."""
    moment = records.at(1_700_000_000_999_999_999)
    assert moment == dt.datetime(2023, 11, 14, 22, 13, 20, 999_999, dt.UTC)


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": 1},
        {"size_bytes": 4095},
        {"size_bytes": (1 << 20) + 1},
        {"size_bytes": 1 << 47},
        {"tenant": 0},
        {"tenant": 1 << 24},
        {"lineage": 1 << 32},
        {"attach_epoch": -1},
        {"attach_epoch": 1.5},
        {"state": "lost"},
        {"created_at": "2023-11-14T22:13:20"},
        {"checkpoint": None},
        {"name": None},
    ],
)
def test_record_with_a_field_that_no_version_wrote_is_corrupt(change: dict[str, object]) -> None:
    """A value is exactly what this version writes, or it is refused and kept."""
    with pytest.raises(Corrupt, match="volume 7"):
        decode(VolumeRecord, json.dumps(GOOD | change).encode(), where="volume 7")


@given(st.binary(max_size=200))
def test_record_of_arbitrary_bytes_is_corrupt(data: bytes) -> None:
    """Garbage raises Corrupt and nothing else."""
    with pytest.raises(Corrupt):
        decode(PoolRecord, data, where="pool")


def test_keys_of_one_kind_sort_as_their_numbers() -> None:
    """A scan runs in the order of lineages and groups."""
    lineages = [records.lineage_key(LineageNo(each)) for each in (1, 255, 256, 1 << 24)]
    groups = [records.directory_key(LineageNo(1), each) for each in (0, 1, 256, 70_000)]
    assert lineages == sorted(lineages)
    assert groups == sorted(groups)
    branch = records.branch_key(LineageNo(9), BranchNo(1))
    assert branch.startswith(records.branch_prefix(LineageNo(9)))


def test_volume_key_of_wrong_length_is_corrupt() -> None:
    """A key that is not a letter and an id names no volume."""
    volume = VolumeId(uuid.UUID(int=5))
    assert records.volume_of(records.volume_key(volume)) == volume
    with pytest.raises(Corrupt):
        records.volume_of(b"v" + bytes(15))
