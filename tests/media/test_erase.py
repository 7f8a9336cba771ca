"""Erasing ranges: what is reported, and what happens where a medium does not do its part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from scrubjay.base.errors import Invalid
from scrubjay.base.ports import Buffer, Extent
from scrubjay.base.units import MIB, PAGE_BYTES
from scrubjay.media.direct import PIECE_BYTES, DirectFile
from scrubjay.media.erase import NOTED_MAX, Technique, erase
from scrubjay.media.simulated import Fault, IoKind, SimulatedMedium
from tests.media import loops
from tests.media.rig import Seeded

SIZE_BYTES = 8 * MIB
OLD = b"tenant's" * (SIZE_BYTES // 8)
EXTENTS = [(MIB - PAGE_BYTES, 2 * MIB), (5 * MIB, PAGE_BYTES)]


def _full() -> SimulatedMedium:
    medium = SimulatedMedium(SIZE_BYTES)
    medium.write(0, OLD)
    medium.sync()
    return medium


class Deaf(SimulatedMedium):
    """Loses every write to some pages, and says it succeeded."""

    lost: frozenset[int] = frozenset()

    def write(self, offset_bytes: int, data: Buffer) -> int:
        """Write page by page, but for the lost ones."""
        for at in range(0, len(data), PAGE_BYTES):
            if offset_bytes + at not in self.lost:
                super().write(offset_bytes + at, bytes(data[at : at + PAGE_BYTES]))
        return len(data)


@dataclass
class Commands:
    """A medium whose commands do what a test says."""

    inner: SimulatedMedium
    answer: bool
    acts: bool
    reads_device: bool = True
    waits: int = 0

    @property
    def size_bytes(self) -> int:
        """As the inner one."""
        return self.inner.size_bytes

    def read_into(self, offset_bytes: int, out: memoryview) -> int:
        """As the inner one."""
        return self.inner.read_into(offset_bytes, out)

    def write(self, offset_bytes: int, data: Buffer) -> int:
        """As the inner one."""
        return self.inner.write(offset_bytes, data)

    def sync(self, extents: Sequence[Extent] | None = None) -> None:
        """As the inner one."""
        self.inner.sync(extents)

    def advise(self, extents: Sequence[Extent]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def zero_range(self, extent: Extent) -> bool:
        """Do it, or not, and say so, or not."""
        if self.acts:
            self.inner.write(extent[0], bytes(extent[1]))
        return self.answer

    punch_hole = discard = zero_range


@pytest.mark.parametrize("sampled_pages", [None, 0, 1, 64])
@pytest.mark.parametrize("technique", [Technique.OVERWRITE, Technique.OVERWRITE_RANDOM])
def test_erase_by_overwriting_changes_the_extents_alone(
    technique: Technique, sampled_pages: int | None
) -> None:
    """Every byte of the extents is another one, durably; every byte beside is what it was."""
    medium = _full()
    done = erase(
        medium, EXTENTS, entropy=Seeded(), technique=technique, sampled_pages=sampled_pages
    )
    after = medium.crash(lambda _: 0)
    expected = bytearray(OLD)
    for offset, length in EXTENTS:
        if technique is Technique.OVERWRITE:
            expected[offset : offset + length] = bytes(length)
        else:
            expected[offset : offset + length] = after.peek(offset, length)
            assert b"tenant's" not in after.peek(offset, length)
    assert after.peek(0, SIZE_BYTES) == expected
    assert (done.asked, done.used, done.clean) == (technique, technique, True)
    assert done.extents == tuple(EXTENTS)
    assert done.pages == 513
    assert done.pages_read == {None: 513, 0: 0, 1: 2, 64: 65}[sampled_pages]
    assert not done.reads_device, "a simulated medium does not say so"


@pytest.mark.parametrize(
    "extent",
    [
        (1, PAGE_BYTES),
        (0, PAGE_BYTES + 512),
        (0, 0),
        (-PAGE_BYTES, PAGE_BYTES),
        (0, 2 * SIZE_BYTES),
    ],
)
def test_erase_of_an_extent_that_is_none_touches_nothing(extent: Extent) -> None:
    """A wrong extent among good ones is refused before anything is lost."""
    medium = _full()
    with pytest.raises(Invalid, match="extent"):
        erase(medium, [(0, PAGE_BYTES), extent], entropy=Seeded())
    assert medium.peek(0, SIZE_BYTES) == OLD


def test_erase_on_a_medium_that_loses_writes_reports_the_pages() -> None:
    """I8: what reads back as anything else is named, and nothing is claimed."""
    medium = Deaf(SIZE_BYTES)
    medium.plant(0, OLD)
    medium.lost = frozenset({2 * MIB, 2 * MIB + 5 * PAGE_BYTES})
    extents = [(MIB, 2 * MIB)]
    done = erase(medium, extents, entropy=Seeded(), sampled_pages=None)
    assert not done.clean
    assert done.mismatches == 2
    assert done.mismatch_offsets == (2 * MIB, 2 * MIB + 5 * PAGE_BYTES)
    medium.lost = frozenset()
    assert erase(medium, extents, entropy=Seeded(), sampled_pages=None).clean, "again is fine"


def test_erase_that_reached_nothing_is_found_by_any_sample() -> None:
    """Where all writes were lost every sampled page shows it; few of them are listed."""
    medium = Deaf(SIZE_BYTES)
    medium.plant(0, OLD)
    medium.lost = frozenset(range(0, SIZE_BYTES, PAGE_BYTES))
    done = erase(medium, [(0, SIZE_BYTES)], entropy=Seeded(), sampled_pages=100)
    assert done.mismatches == done.pages_read == 100
    assert len(done.mismatch_offsets) == NOTED_MAX


def test_erase_with_pages_that_cannot_be_read_is_not_clean() -> None:
    """A page that nobody can read back is told apart, and is no success."""
    medium = _full()
    medium.unreadable = {3}
    done = erase(medium, [(0, 8 * PAGE_BYTES)], entropy=Seeded(), sampled_pages=None)
    assert (done.mismatches, done.unreadable) == (0, 1)
    assert done.unreadable_offsets == (3 * PAGE_BYTES,)
    assert not done.clean


@pytest.mark.parametrize("technique", [t for t in Technique if not t.overwrites])
def test_erase_by_a_command_that_a_medium_does_not_know_overwrites(technique: Technique) -> None:
    """What cannot be done is done by overwriting, and the report says what was used."""
    medium = _full()
    done = erase(medium, EXTENTS, entropy=Seeded(), technique=technique)
    assert (done.asked, done.used, done.clean) == (technique, Technique.OVERWRITE, True)
    refusing = Commands(_full(), answer=False, acts=False)
    assert erase(refusing, EXTENTS, entropy=Seeded(), technique=technique).used is (
        Technique.OVERWRITE
    )
    assert not any(refusing.inner.peek(*EXTENTS[0]))


@pytest.mark.parametrize("technique", [t for t in Technique if not t.overwrites])
def test_erase_by_a_command_that_reads_back_old_bytes_overwrites(technique: Technique) -> None:
    """A disk that says yes and does nothing, as discarding allows, is overwritten."""
    lying = Commands(_full(), answer=True, acts=False)
    done = erase(lying, EXTENTS, entropy=Seeded(), technique=technique)
    assert (done.used, done.clean) == (Technique.OVERWRITE, True)
    assert not any(lying.inner.peek(*EXTENTS[0]))
    honest = Commands(_full(), answer=True, acts=True)
    assert erase(honest, EXTENTS, entropy=Seeded(), technique=technique).used is technique
    assert done.reads_device


@pytest.mark.parametrize("kind", [IoKind.WRITE, IoKind.SYNC])
def test_erase_after_a_failed_write_or_sync_raises(kind: IoKind) -> None:
    """I4: an error of the medium is an error, never a report of success."""
    medium = _full()
    medium.inject(Fault.ERROR, kind=kind)
    with pytest.raises(OSError, match="simulated"):
        erase(medium, EXTENTS, entropy=Seeded())
    assert erase(medium, EXTENTS, entropy=Seeded()).clean


def test_erase_over_short_writes_and_reads_still_does_all_of_it() -> None:
    """A write or read that came up short is gone on with."""
    medium = _full()
    medium.inject(Fault.SHORT, kind=IoKind.WRITE)
    medium.inject(Fault.SHORT, kind=IoKind.READ)
    assert erase(medium, [(0, SIZE_BYTES)], entropy=Seeded(), sampled_pages=None).clean
    assert not any(medium.peek(0, SIZE_BYTES))


def test_erase_pays_for_every_byte_before_it_moves() -> None:
    """The pace sees what is written and what is read back, in pieces of a MiB at most."""
    paid: list[int] = []
    erase(_full(), EXTENTS, entropy=Seeded(), sampled_pages=None, pay=paid.append)
    assert sum(paid) == 2 * (2 * MIB + PAGE_BYTES)
    assert max(paid) == PIECE_BYTES


def test_techniques_in_the_words_of_nist_claim_clear_for_overwriting_alone() -> None:
    """I8: nothing but overwriting is called a technique of Clear, and never Clear of a medium."""
    for technique in Technique:
        assert ("technique of Clear" in technique.term) == technique.overwrites
        assert ("not Clear" in technique.term) == (not technique.overwrites)


@pytest.mark.parametrize("technique", Technique)
def test_erase_of_a_real_file_keeps_size_and_space(technique: Technique, tmp_path: Path) -> None:
    """Every technique but a hole keeps what was preallocated; tenants' cached bytes stay right."""
    medium = DirectFile.create(tmp_path / "pool", size_bytes=SIZE_BYTES)
    medium.write(0, OLD)
    medium.sync()
    done = erase(medium, EXTENTS, entropy=Seeded(), technique=technique, sampled_pages=None)
    assert done.clean
    assert done.used is (Technique.OVERWRITE if technique is Technique.DISCARD else technique)
    status = (tmp_path / "pool").stat()
    assert status.st_size == SIZE_BYTES
    assert (status.st_blocks * 512 < SIZE_BYTES) == (technique is Technique.PUNCH_HOLE)
    out = bytearray(SIZE_BYTES)
    assert medium.read_into(0, memoryview(out)) == SIZE_BYTES
    for offset, length in EXTENTS:
        assert b"tenant's" not in out[offset : offset + length]
    assert out[: EXTENTS[0][0]] == OLD[: EXTENTS[0][0]]
    medium.close()


@pytest.mark.parametrize("technique", Technique)
def test_erase_of_a_real_device_reads_back_as_said(technique: Technique, tmp_path: Path) -> None:
    """On a device every technique is available, and nothing beside the extents changes."""
    with loops.loop(loops.image_of(tmp_path / "disk", SIZE_BYTES), sector_bytes=4096) as device:
        medium = DirectFile.open(device, hold=True)
        medium.write(0, OLD)
        medium.sync()
        done = erase(medium, EXTENTS, entropy=Seeded(), technique=technique, sampled_pages=None)
        assert done.clean
        assert done.used is technique
        assert done.reads_device
        out = bytearray(SIZE_BYTES)
        medium.read_into(0, memoryview(out))
        erased = [range(at, at + length) for at, length in EXTENTS]
        beside = [at for at in range(0, SIZE_BYTES, 512) if not any(at in each for each in erased)]
        assert all(out[at : at + 512] == OLD[at : at + 512] for at in beside)
        medium.close()
