"""Paths, and the census that follows from counters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.errors import Invalid
from scrubjay.base.ids import BranchNo, LineageNo, SegmentId, TenantNo
from scrubjay.keys import path as paths
from scrubjay.keys.path import Numbers, Path

T, L, B = TenantNo(0x010203), LineageNo(0x04050607), BranchNo(0x08090A)


def test_path_of_each_kind_follows_the_format() -> None:
    """A path is big-endian numbers in a row, and each prefix is the node above."""
    segment = paths.segment(T, L, B, SegmentId(0x0B0C0D0E0F))
    assert paths.stripe(segment, 0x10) == bytes(range(1, 17))
    assert segment == bytes(range(1, 16))
    assert paths.branch(T, L, B) == segment[: paths.BRANCH_DEPTH]
    assert paths.lineage(T, L) == segment[: paths.LINEAGE_DEPTH]
    assert paths.tenant(T) == segment[: paths.TENANT_DEPTH]


@pytest.mark.parametrize("number", [-1, 0, 1 << 24])
def test_path_of_a_tenant_outside_its_field_is_invalid(number: int) -> None:
    """Tenants count from 1 within 24 bits."""
    with pytest.raises(Invalid, match=r"tenant -?\d+: expected 1 to 16777215"):
        paths.tenant(TenantNo(number))


def test_path_of_any_number_outside_its_field_is_invalid() -> None:
    """No number runs over into its neighbour's levels."""
    segment = paths.segment(T, L, B, SegmentId((1 << 36) - 1))
    with pytest.raises(Invalid):
        paths.lineage(T, LineageNo(1 << 32))
    with pytest.raises(Invalid):
        paths.branch(T, L, BranchNo(1 << 24))
    with pytest.raises(Invalid):
        paths.segment(T, L, B, SegmentId(1 << 36))
    with pytest.raises(Invalid):
        paths.stripe(segment, 64)
    with pytest.raises(Invalid):
        list(paths.segment_runs(paths.branch(T, L, B), range(1 << 36, (1 << 36) + 1)))


def test_spell_of_a_path_says_its_numbers() -> None:
    """Messages name a node in words; an inner node of a number by its bytes."""
    segment = paths.segment(TenantNo(1), LineageNo(7), BranchNo(2), SegmentId(300))
    assert paths.spell(paths.stripe(segment, 5)) == (
        "tenant 1, lineage 7, branch 2, segment 300, stripe 5"
    )
    assert paths.spell(segment[:-2]) == "tenant 1, lineage 7, branch 2, segments 000000…"
    assert paths.spell(b"") == "root"


@given(st.integers(1, 5000), st.integers(0, 70_000), st.integers(0, 3))
def test_census_of_numbers_covers_exactly_the_given_ones(
    first: int, count: int, inner: int
) -> None:
    """At every level beneath a branch, a child is born exactly if a number given is under it."""
    branch = paths.branch(T, L, B)
    census = Numbers(lambda parent: range(first, first + count))
    numbers = [number.to_bytes(5) for number in range(first, first + count)]
    for prefix in {number[:inner] for number in numbers} | {bytes(inner)}:
        expected = {number[inner] for number in numbers if number.startswith(prefix)}
        assert set(census.born(branch + prefix)) == expected


def test_census_of_a_segment_is_its_stripes() -> None:
    """Stripes and headers' key are born with their segment, and asked of no counter."""
    segment = paths.segment(T, L, B, SegmentId(1))
    assert Numbers(_never).born(segment) == range(65)
    assert paths.fan_out(segment) == 65
    assert paths.fan_out(segment[:-1]) == 256


def test_census_asks_the_counter_of_the_number_above() -> None:
    """An inner node asks the counter of the whole number that it stands beneath."""
    asked: list[Path] = []

    def given_out(parent: Path) -> range:
        asked.append(parent)
        return range(1, 2)

    segment = paths.segment(T, L, B, SegmentId(1))
    for depth in range(paths.SEGMENT_DEPTH):
        Numbers(given_out).born(segment[:depth])
    assert [len(parent) for parent in asked] == [0] * 3 + [3] * 4 + [7] * 3 + [10] * 5


def _never(parent: Path) -> range:
    pytest.fail(f"asked for {parent!r}")


@given(st.integers(0, 1000), st.integers(0, 700))
def test_segment_runs_of_any_range_are_its_paths_in_order(first: int, count: int) -> None:
    """Runs share an inner node, and together are the segments asked for."""
    branch = paths.branch(T, L, B)
    runs = list(paths.segment_runs(branch, range(first, first + count)))
    walked = [inner + bytes([index]) for inner, indices in runs for index in indices]
    assert walked == [branch + number.to_bytes(5) for number in range(first, first + count)]
    assert len({inner for inner, _ in runs}) == len(runs)
