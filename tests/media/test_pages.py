"""Pages: what is not the very page that was written does not open."""

from __future__ import annotations

from random import Random

import pytest

from scrubjay.base.errors import Corrupt, Unavailable
from scrubjay.media.geometry import SLOT_PAGES, Geometry
from scrubjay.media.pages import Pages, Pointer, Sealer, page_of
from scrubjay.media.simulated import SimulatedMedium
from tests.media.rig import size_of

KEY = b"metadata" * 4


def _pages(media: int = 1) -> tuple[list[SimulatedMedium], Pages]:
    devices = [SimulatedMedium(size_of(4)) for _ in range(media)]
    return devices, Pages(devices, Geometry.of([each.size_bytes for each in devices]), KEY)


def _write(pages: Pages, page: int, text: bytes, commit: bytes) -> Pointer:
    pointer, raw = Sealer(KEY, commit * 16).seal(page, text)
    pages.write({page: raw})
    return pointer


def test_page_with_any_byte_flipped_does_not_open(seed: int) -> None:
    """A flipped bit is Corrupt and names the page; in clear nothing is seen of it (I2)."""
    (medium,), pages = _pages()
    pointer = _write(pages, 5, b"the text", b"a")
    at = Geometry(4, 1).place_of_page(5)[1]
    assert pages.read(pointer).rstrip(b"\0") == b"the text"
    assert b"text" not in medium.peek(at, 4096)
    random = Random(seed)
    for byte in range(4096):
        bit = (at + byte) * 8 + random.randrange(8)
        medium.flip(bit)
        with pytest.raises(Corrupt, match="metadata page 5"):
            pages.read(pointer)
        medium.flip(bit)
    assert pages.read(pointer).rstrip(b"\0") == b"the text"


def test_old_page_replayed_in_its_place_does_not_open() -> None:
    """An older version of a page is as good as sealed, and still is not the one meant."""
    (medium,), pages = _pages()
    at = Geometry(4, 1).place_of_page(5)[1]
    old = _write(pages, 5, b"old", b"a")
    old_bytes = medium.peek(at, 4096)
    new = _write(pages, 5, b"new", b"b")
    with pytest.raises(Corrupt, match="tag"):
        pages.read(old)
    medium.plant(at, old_bytes)
    with pytest.raises(Corrupt, match="tag"):
        pages.read(new)


def test_page_that_landed_elsewhere_does_not_open() -> None:
    """A misdirected write shows at both places, even when the tag is the one expected."""
    (medium,), pages = _pages()
    geometry = Geometry(4, 1)
    pointer = _write(pages, 5, b"five", b"a")
    other = _write(pages, 6, b"six", b"a")
    medium.plant(geometry.place_of_page(6)[1], medium.peek(geometry.place_of_page(5)[1], 4096))
    with pytest.raises(Corrupt, match="page 6: tag"):
        pages.read(other)
    with pytest.raises(Corrupt, match="page 6: does not open"):
        pages.read(Pointer((6).to_bytes(8, "little") + pointer[8:]))


def test_page_outside_the_pool_or_unreadable_is_an_error() -> None:
    """A wild pointer is Corrupt, a failing medium Unavailable; neither is another error."""
    (medium,), pages = _pages()
    pointer = _write(pages, 5, b"five", b"a")
    for wild in (4 * SLOT_PAGES, (1 << 64) - 1):
        with pytest.raises(Corrupt, match="outside the pool"):
            pages.read(Pointer(wild.to_bytes(8, "little") + pointer[8:]))
        pages.advise([Pointer(wild.to_bytes(8, "little") + pointer[8:])])
    assert medium.advised == []
    medium.unreadable.add(Geometry(4, 1).place_of_page(5)[1] // 4096)
    with pytest.raises(Unavailable, match="metadata page 5"):
        pages.read(pointer)


def test_pages_on_several_media_land_where_slots_are_numbered() -> None:
    """Slots run on through all media, and neighbours are written in one piece."""
    devices, pages = _pages(media=2)
    last, first = 4 * SLOT_PAGES - 1, 4 * SLOT_PAGES
    sealer = Sealer(KEY, b"a" * 16)
    sealed = {page: sealer.seal(page, b"%d" % page) for page in (last - 1, last, first, first + 2)}
    writes_before = [len(each._unsynced) for each in devices]  # noqa: SLF001 - counts writes
    pages.write({page: raw for page, (_, raw) in sealed.items()})
    assert writes_before == [0, 0]
    assert [len(each._unsynced) for each in devices] == [1, 2]  # noqa: SLF001 - counts writes
    for page, (pointer, _) in sealed.items():
        assert page_of(pointer) == page
        assert pages.read(pointer).rstrip(b"\0") == b"%d" % page
