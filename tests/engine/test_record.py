"""Records: prefixes and headers, honest and hostile (docs/format/log.md)."""

from __future__ import annotations

import struct
import uuid
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.errors import Corrupt
from scrubjay.base.ids import VolumeId
from scrubjay.base.units import SEGMENT_BYTES
from scrubjay.engine import record

STREAM = record.Stream(3, 4, VolumeId(uuid.UUID(int=5)), 6)
U64 = st.integers(0, (1 << 64) - 1)
EXTENTS = st.tuples(st.integers(0, (1 << 46) - 1), st.integers(1, record.RUN_SECTORS_MAX))


def _header(runs: list[int], origins: list[int] | None = None, kind: int = record.WRITE) -> bytes:
    return record.pack_header(
        STREAM,
        sequence=7,
        previous_tag=bytes(range(16)),
        kind=kind,
        runs=runs,
        origins=origins or [],
    )


@given(st.lists(U64, max_size=50), st.lists(U64, max_size=50), st.sampled_from([1, 2, 3]))
def test_header_packed_comes_back(runs: list[int], origins: list[int], kind: int) -> None:
    """Whose record it is, what came before, runs and origins: all of it is in the header."""
    header = record.unpack_header(_header(runs, origins, kind), "here")
    assert header == record.Header(STREAM, 7, bytes(range(16)), kind, tuple(runs), tuple(origins))


def test_header_bytes_follow_the_format() -> None:
    """Little-endian, in the order of the page, 64 bytes before the runs."""
    text = _header([record.write_run(9, 2)])
    assert text == struct.pack(
        "<II16sQQ16sB3xIQ", 3, 4, uuid.UUID(int=5).bytes, 6, 7, bytes(range(16)), 1, 1, 1 << 47 | 9
    )
    assert record.HEADER_FIXED_BYTES == 32 + 64 + 16


@given(st.binary(min_size=64, max_size=400))
def test_unpack_header_of_anything_is_a_header_or_corrupt(text: bytes) -> None:
    """A header that contradicts itself is Corrupt, and nothing else happens."""
    try:
        header = record.unpack_header(text, "here")
    except Corrupt:
        return
    assert len(text) == 64 + 8 * (len(header.runs) + len(header.origins))


@pytest.mark.parametrize(
    ("at", "value"), [(56, b"\0"), (56, b"\4"), (60, b"\xff\xff\xff\xff"), (60, b"\2\0\0\0")]
)
def test_unpack_header_with_an_impossible_field_is_corrupt(at: int, value: bytes) -> None:
    """A kind that there is not, or more runs than bytes, is Corrupt."""
    text = bytearray(_header([1]))
    text[at : at + len(value)] = value
    with pytest.raises(Corrupt, match=r"^here: "):
        record.unpack_header(bytes(text), "here")


def _prefix(header_bytes: int, record_bytes: int, units_at: int) -> memoryview:
    out = memoryview(bytearray(32))
    record.write_prefix(out, record.Prefix(header_bytes, record_bytes, units_at))
    return out


def test_prefix_written_comes_back() -> None:
    """A prefix that is in order reads as it was written."""
    assert record.read_prefix(_prefix(88, 8192, 128), room_bytes=8192) == record.Prefix(
        88, 8192, 128
    )


@pytest.mark.parametrize(
    "lie",
    [
        (79, 8192, 128),  # no room for a header
        (97, 8192, 128),  # the header runs into the units
        (88, 8192, 8208),  # units behind the record
        (88, 8193, 128),  # not a multiple of 4096
        (88, 12288, 128),  # longer than the segment
        (88, 0, 128),
        (88, 8192, 129),  # units are on steps of 16
        (0xFFFFFFFF, 8192, 128),
        (0xFFFFFFF0, 0xFFFFF000, 0xFFFFFFF0),
    ],
)
def test_prefix_that_lies_about_lengths_starts_no_record(lie: tuple[int, int, int]) -> None:
    """No length leads outside what there is."""
    assert record.read_prefix(_prefix(*lie), room_bytes=8192) is None


@given(
    st.sampled_from([b"SJR1", b"SJR2"]),
    st.binary(min_size=32, max_size=32),
    st.integers(0, SEGMENT_BYTES),
)
def test_prefix_of_anything_stays_in_the_room(magic: bytes, data: bytes, room: int) -> None:
    """Whatever the 32 bytes say, header, units and record lie inside."""
    prefix = record.read_prefix(memoryview(magic + data[4:]), room_bytes=room)
    if prefix is not None:
        assert 32 + prefix.header_bytes <= prefix.units_at <= prefix.record_bytes <= room


def test_prefix_of_another_kind_of_block_starts_no_record() -> None:
    """Zeros, and another magic, are no record."""
    assert record.read_prefix(memoryview(bytes(32)), room_bytes=SEGMENT_BYTES) is None
    other = bytes(_prefix(88, 8192, 128)).replace(b"SJR2", b"SJR3")
    assert record.read_prefix(memoryview(other), room_bytes=8192) is None


@given(st.lists(EXTENTS, max_size=8))
def test_units_of_runs_are_cut_at_multiples_of_four(extents: list[tuple[int, int]]) -> None:
    """Units follow each other, lie in one aligned 16 KiB, and cover each run exactly."""
    extents = [(lba, min(sectors, 40)) for lba, sectors in extents]
    header = record.unpack_header(_header([record.write_run(*each) for each in extents]), "")
    units = list(record.units_of(header, at_bytes=4096, units_at=256, record_bytes=2 << 20))
    wanted = [lba + i for lba, sectors in extents for i in range(sectors)]
    assert [unit.lba + i for unit in units for i in range(unit.sectors)] == wanted
    assert all(unit.lba // 4 == (unit.lba + unit.sectors - 1) // 4 for unit in units)
    assert not units or units[0].offset_bytes == 4096 + 256
    for unit, following in pairwise(units):
        assert following.offset_bytes == unit.offset_bytes + unit.sealed_bytes


@given(st.lists(U64, min_size=1, max_size=8), st.integers(1, 4))
def test_units_of_any_runs_stay_in_the_record(runs: list[int], blocks: int) -> None:
    """Runs that lead out of their record are Corrupt before anything is read there."""
    header = record.unpack_header(_header(runs), "")
    found = []
    try:
        for unit in record.units_of(header, at_bytes=0, units_at=256, record_bytes=blocks * 4096):
            found.append(unit)  # noqa: PERF402 - what came before the error counts as well
    except Corrupt:
        pass
    assert all(unit.offset_bytes + unit.sealed_bytes <= blocks * 4096 for unit in found)


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 22))
def test_drop_runs_cover_exactly_what_was_dropped(lba: int, sectors: int) -> None:
    """However long a trim is, its runs name each of its sectors once, and no unit."""
    header = record.unpack_header(_header(record.drop_runs(lba, sectors)), "")
    at = lba
    for first, count in record.drops_of(header):
        assert first == at
        assert 0 < count <= record.RUN_SECTORS_MAX
        at += count
    assert at == lba + sectors
    assert not list(record.units_of(header, at_bytes=0, units_at=256, record_bytes=4096))


def test_origins_of_moved_units_come_with_the_units() -> None:
    """A moved unit knows where it stood first; one of the main log stood nowhere else."""
    runs = [record.write_run(4, 4), record.write_run(9, 1)]
    moved = record.unpack_header(_header(runs, [77, 88], record.MOVE), "")
    units = record.units_of(moved, at_bytes=0, units_at=256, record_bytes=1 << 20)
    assert [unit.origin for unit in units] == [77, 88]
    main = record.unpack_header(_header(runs), "")
    units = record.units_of(main, at_bytes=0, units_at=256, record_bytes=1 << 20)
    assert [unit.origin for unit in units] == [0, 0]
