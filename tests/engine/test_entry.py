"""Entries: where a sector lies, in one u64 (docs/format/log.md)."""

from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.units import SECTOR_BYTES, SEGMENT_BYTES, TAG_BYTES
from scrubjay.engine import entry as entries


@given(
    segment=st.integers(1, (1 << 36) - 1),
    step=st.integers(0, (1 << 20) - 1),
    sectors=st.integers(1, 16),
    data=st.data(),
)
def test_entry_packed_says_what_was_packed(
    segment: int, step: int, sectors: int, data: st.DataObject
) -> None:
    """Every field comes back, in 64 bits, at the places that the format gives them."""
    index = data.draw(st.integers(0, sectors - 1))
    entry = entries.pack(segment=segment, offset_bytes=16 * step, sectors=sectors, index=index)
    assert entry == segment << 28 | step << 8 | (sectors - 1) << 4 | index
    assert 0 < entry < 1 << 64
    assert entries.segment_of(entry) == segment
    assert entries.offset_of(entry) == 16 * step
    assert entries.sectors_of(entry) == sectors
    assert entries.unit_bytes_of(entry) == sectors * SECTOR_BYTES + TAG_BYTES
    assert entries.index_of(entry) == index
    assert entry >> entries.STRIPE_SHIFT == segment * 64 + 16 * step // (256 << 10)
    assert entry >> 4 & entries.OFFSET_MASK == 16 * step


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 300)), max_size=200))
def test_positions_of_a_segment_are_never_shared(units: list[tuple[int, int]]) -> None:
    """However units and gaps follow each other, each sector has a position of its own."""
    offset, met = 0, set()
    for sectors, gap in units:
        offset += 16 * gap
        if offset + sectors * SECTOR_BYTES + TAG_BYTES > SEGMENT_BYTES:
            break
        for index in range(sectors):
            entry = entries.pack(segment=1, offset_bytes=offset, sectors=sectors, index=index)
            position = entries.position_of(entry)
            assert 0 <= position < entries.POSITIONS
            assert position not in met
            met.add(position)
        offset += sectors * SECTOR_BYTES + TAG_BYTES


def test_position_of_the_last_sector_fits() -> None:
    """The last unit of a full segment has positions below 4096."""
    offset = SEGMENT_BYTES - 4 * SECTOR_BYTES - TAG_BYTES
    entry = entries.pack(segment=1, offset_bytes=offset, sectors=4, index=3)
    assert entries.position_of(entry) == 4094
