"""Scanning: every place where bytes occur in the raw media, and no other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.errors import Invalid, Unavailable
from scrubjay.base.units import MIB
from scrubjay.control.operations import Progress
from scrubjay.control.scan import Scans, search
from scrubjay.media.simulated import Fault, IoKind, SimulatedMedium
from tests.control.rig import World

MARK = b"marker"


def test_scan_finds_every_place_across_chunks_and_media() -> None:
    """Also where a mark lies across two reads, and offsets go through all media."""
    first, second = SimulatedMedium(9 * MIB), SimulatedMedium(5 * MIB + 4096)
    places = [0, 4 * MIB - 3, 8 * MIB - 1, 9 * MIB - len(MARK)]
    for at in places:
        first.plant(at, MARK)
    second.plant(4 * MIB - 1, MARK)
    progress = Progress()
    found = search([first, second], MARK, progress)
    assert found["offsets"] == [*places, 13 * MIB - 1]
    assert found["matches"] == 5
    assert progress.done == progress.total == found["bytes_scanned"]


@given(st.binary(min_size=1, max_size=3), st.binary(max_size=60))
def test_scan_counts_as_a_plain_search_does(pattern: bytes, text: bytes) -> None:
    """Overlaps count; nothing is found twice or missed."""
    medium = SimulatedMedium(4096)
    medium.plant(100, text)
    raw = medium.peek(0, 4096)
    naive = [at for at in range(4096) if raw.startswith(pattern, at)]
    found = search([medium], pattern, Progress())
    assert found["matches"] == len(naive)
    assert found["offsets"] == naive[:16]


@pytest.mark.parametrize("text", ["", "6", "zz", "00", "0000", "6d" * 4097, "0x6d"])
def test_scan_for_what_is_no_pattern_is_invalid(world: World, text: str) -> None:
    """A scan that could only mislead is refused."""
    scans = Scans(lambda: [world.disks.pool], world.operations)
    with pytest.raises(Invalid):
        scans.start(text)


def test_scan_of_a_medium_that_cannot_be_read_says_where() -> None:
    """A place that was not looked at is not called clean (I8)."""
    medium = SimulatedMedium(9 * MIB)
    medium.inject(Fault.ERROR, after=1, kind=IoKind.READ)
    with pytest.raises(Unavailable, match=str(4 * MIB)):
        search([medium], MARK, Progress())


def test_scan_stops_when_the_daemon_ends() -> None:
    """Nobody waits for a scan of terabytes."""
    progress = Progress()
    progress.stopping.set()
    with pytest.raises(Unavailable):
        search([SimulatedMedium(9 * MIB)], MARK, progress)


def test_scan_runs_as_an_operation_over_handles_of_its_own(world: World) -> None:
    """Its result is in the operation, and its handles are closed."""
    handles = [SimulatedMedium(MIB)]
    handles[0].plant(5000, MARK)
    scans = Scans(lambda: handles, world.operations)
    operation = scans.start(MARK.hex())
    world.operations.stop(30)
    assert '"matches":1' in world.operations.find(operation)[0].result
    with pytest.raises(OSError, match="closed"):
        handles[0].sync()
