"""Erasing ranges of a medium for good, and saying no more of it than is true.

Only overwriting reaches the old bytes. A file system that is asked to zero a range or to
punch a hole notes that the blocks hold nothing, and leaves the bytes where they are; a disk
that is told to discard does as it likes (measured: docs/format/pool.md, "Erasing"). So
overwriting is the default, and the other techniques say of themselves what they are.

What overwriting is worth depends on what lies beneath, which is not decided here: a
copy-on-write file system, a thin or deduplicating device and flash write elsewhere. Flash
and storage that compresses may not write zeros at all: a random fill is what they take.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, runtime_checkable

from scrubjay.base.errors import Invalid
from scrubjay.base.ports import Entropy, Extent, Medium
from scrubjay.base.units import PAGE_BYTES
from scrubjay.media.direct import PIECE_BYTES
from scrubjay.media.ranges import EXTENTS_MAX
from scrubjay.media.sample import pick_pages

__all__ = ["SAMPLED_PAGES", "Deallocating", "Erasure", "Pay", "Technique", "erase", "unpaced"]

SAMPLED_PAGES = 64
"""Of each extent. Where a tenth of a slot was not erased, they all miss it once in 700 times."""
NOTED_MAX = 64
"""Places of each kind that an Erasure lists: it goes into a certificate."""

Pay = Callable[[int], None]
"""Waits until so many bytes may be read or written (media/pace.py)."""


class Technique(Enum):
    """How a range is erased; the value is its name in evidence."""

    OVERWRITE = "overwrite-zeros"
    OVERWRITE_RANDOM = "overwrite-random"
    """The same MiB of fresh random bytes again and again: no controller can elide it."""
    ZERO_RANGE = "zero-range"
    PUNCH_HOLE = "punch-hole"
    DISCARD = "discard"

    @property
    def overwrites(self) -> bool:
        """Whether other bytes are written over the old ones."""
        return self in (Technique.OVERWRITE, Technique.OVERWRITE_RANDOM)

    @property
    def term(self) -> str:
        """What it is in the words of NIST SP 800-88r2, and what it is not."""
        return _TERMS[self]


_PARTIAL = "of a range: partial sanitization (4.2), never Clear of the medium"
_OVERWRITTEN = (
    f"overwrite by one pass, the technique of Clear (NIST SP 800-88r2, 3.1.1), {_PARTIAL}"
)
_TERMS = {
    Technique.OVERWRITE: f"{_OVERWRITTEN}; a controller may elide zeros",
    Technique.OVERWRITE_RANDOM: _OVERWRITTEN,
    Technique.ZERO_RANGE: "zeros by command, no overwrite: not Clear, old bytes may remain",
    Technique.PUNCH_HOLE: "deallocate, no overwrite: not Clear, old bytes may remain",
    Technique.DISCARD: "deallocate (TRIM), no overwrite: not Clear, old bytes may remain",
}


@runtime_checkable
class Deallocating(Protocol):
    """What a medium offers besides the port, as DirectFile does; False: not here."""

    @property
    def reads_device(self) -> bool:
        """Whether reads come from the device for certain."""
        ...

    def zero_range(self, extent: Extent) -> bool:
        """Have a range read as zeros, kept allocated."""
        ...

    def punch_hole(self, extent: Extent) -> bool:
        """Give blocks back so that zeros are read."""
        ...

    def discard(self, extent: Extent) -> bool:
        """Tell a device that a range is not needed."""
        ...


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was done to ranges of a medium, and what was found when they were read back."""

    extents: tuple[Extent, ...]
    asked: Technique
    used: Technique
    """Another one where the medium could not do what was asked, or did not read as zeros."""
    pages: int
    pages_read: int
    reads_device: bool
    """Whether that came from the device for certain, not from the system's cache."""
    mismatches: int
    mismatch_offsets: tuple[int, ...]
    """Pages that hold something else, the first few."""
    unreadable: int
    unreadable_offsets: tuple[int, ...]

    @property
    def clean(self) -> bool:
        """Whether every page that was read back holds what it should."""
        return self.mismatches == self.unreadable == 0


def unpaced(_size_bytes: int) -> None:
    """Wait for nothing."""


def erase(
    medium: Medium,
    extents: Sequence[Extent],
    *,
    entropy: Entropy,
    technique: Technique = Technique.OVERWRITE,
    sampled_pages: int | None = SAMPLED_PAGES,
    pay: Pay = unpaced,
) -> Erasure:
    """Erase ranges, make that durable, and read pages of it back (None: every page).

    Falls back to overwriting with zeros where the medium cannot do what is asked, or reads
    as anything else afterwards. A page that reads back wrongly is reported, not raised:
    `Erasure.clean` decides what may be claimed. May be done again after any failure.

    Raises Invalid for an extent that is not cut at pages or not on the medium, OSError
    where a write or the sync fails, and whatever `pay` raises.
    """
    _expect_extents(medium, extents)
    random = technique is Technique.OVERWRITE_RANDOM
    fill = entropy.token(PIECE_BYTES) if random else bytes(PIECE_BYTES)
    used = technique
    if technique.overwrites:
        _overwrite(medium, extents, fill, pay)
    elif not _deallocate(medium, extents, technique, pay):
        used = Technique.OVERWRITE
        _overwrite(medium, extents, fill, pay)
    _sync(medium, extents)
    found = _read_back(medium, _places(extents, sampled_pages, entropy), fill, pay)
    if (found.wrong or found.unreadable) and not used.overwrites:
        used = Technique.OVERWRITE
        _overwrite(medium, extents, fill, pay)
        _sync(medium, extents)
        found = _read_back(medium, _places(extents, sampled_pages, entropy), fill, pay)
    return Erasure(
        extents=tuple(extents),
        asked=technique,
        used=used,
        pages=sum(length_bytes for _, length_bytes in extents) // PAGE_BYTES,
        pages_read=found.pages,
        reads_device=isinstance(medium, Deallocating) and medium.reads_device,
        mismatches=len(found.wrong),
        mismatch_offsets=tuple(found.wrong[:NOTED_MAX]),
        unreadable=len(found.unreadable),
        unreadable_offsets=tuple(found.unreadable[:NOTED_MAX]),
    )


@dataclass(slots=True)
class _Found:
    pages: int = 0
    wrong: list[int] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)


def _expect_extents(medium: Medium, extents: Sequence[Extent]) -> None:
    for offset_bytes, length_bytes in extents:
        cut = not (offset_bytes | length_bytes) % PAGE_BYTES
        inside = 0 <= offset_bytes <= medium.size_bytes - length_bytes and length_bytes > 0
        if not cut or not inside:
            raise Invalid(
                f"extent {offset_bytes}+{length_bytes}: expected whole pages of {PAGE_BYTES}"
                f" bytes within {medium.size_bytes}"
            )


def _overwrite(medium: Medium, extents: Sequence[Extent], fill: bytes, pay: Pay) -> None:
    for offset_bytes, length_bytes in _pieces(extents):
        pay(length_bytes)
        start = offset_bytes % PIECE_BYTES
        _write_all(medium, offset_bytes, memoryview(fill)[start : start + length_bytes])


def _write_all(medium: Medium, offset_bytes: int, data: memoryview) -> None:
    while data:
        count = medium.write(offset_bytes, data)
        if count <= 0:
            raise OSError(errno.EIO, f"nothing written at {offset_bytes}")
        offset_bytes += count
        data = data[count:]


def _sync(medium: Medium, extents: Sequence[Extent]) -> None:
    """Sync range by range: a sync of all would write back what tenants have dirty."""
    for first in range(0, len(extents), EXTENTS_MAX):
        medium.sync(extents[first : first + EXTENTS_MAX])


def _deallocate(medium: Medium, extents: Sequence[Extent], technique: Technique, pay: Pay) -> bool:
    """Do it by command, piece by piece: some disks write for it; False where one refuses."""
    if not isinstance(medium, Deallocating):
        return False
    command = {
        Technique.ZERO_RANGE: medium.zero_range,
        Technique.PUNCH_HOLE: medium.punch_hole,
        Technique.DISCARD: medium.discard,
    }[technique]
    for piece in _pieces(extents):
        pay(piece[1])
        if not command(piece):
            return False
    return True


def _places(
    extents: Sequence[Extent], sampled_pages: int | None, entropy: Entropy
) -> Iterator[Extent]:
    """Yield what is to be read back: everything in pieces, or pages that are drawn."""
    if sampled_pages is None:
        return _pieces(extents)
    return ((page, PAGE_BYTES) for page in pick_pages(extents, sampled_pages, entropy))


def _read_back(medium: Medium, places: Iterator[Extent], fill: bytes, pay: Pay) -> _Found:
    found = _Found()
    buffer = memoryview(bytearray(PIECE_BYTES))
    for offset_bytes, length_bytes in places:
        pay(length_bytes)
        found.pages += length_bytes // PAGE_BYTES
        start = offset_bytes % PIECE_BYTES
        expected = memoryview(fill)[start : start + length_bytes]
        if not _reads_as(medium, offset_bytes, buffer[:length_bytes], expected):
            _note_pages(medium, (offset_bytes, length_bytes), expected, found)
    return found


def _note_pages(medium: Medium, place: Extent, expected: memoryview, found: _Found) -> None:
    """Find out which pages of a place are wrong, and which cannot be read."""
    page = memoryview(bytearray(PAGE_BYTES))
    for at in range(0, place[1], PAGE_BYTES):
        good = _reads_as(medium, place[0] + at, page, expected[at : at + PAGE_BYTES])
        if good is None:
            found.unreadable.append(place[0] + at)
        elif not good:
            found.wrong.append(place[0] + at)


def _reads_as(
    medium: Medium, offset_bytes: int, out: memoryview, expected: memoryview
) -> bool | None:
    """Return whether these bytes lie there, None where they cannot be read."""
    try:
        done = 0
        while done < len(out):
            count = medium.read_into(offset_bytes + done, out[done:])
            if count <= 0:
                return None
            done += count
    except OSError:
        return None
    return out == expected


def _pieces(extents: Sequence[Extent]) -> Iterator[Extent]:
    """Cut extents where the fill begins anew: at multiples of a piece."""
    for offset_bytes, length_bytes in extents:
        start, end = offset_bytes, offset_bytes + length_bytes
        while start < end:
            stop = min(end, (start // PIECE_BYTES + 1) * PIECE_BYTES)
            yield start, stop - start
            start = stop
