"""Paged maps against a dict: growth, eviction, checkpoints, dropping (docs/format/log.md)."""

# ruff: noqa: SLF001 - what is in memory is counted

from __future__ import annotations

from random import Random

import pytest

from scrubjay.base.errors import Corrupt
from scrubjay.engine.paged import EMPTY, FANOUT, PagedMap, page_address, split_address


class Store:
    """Pages by entry; each opens under its own address alone."""

    def __init__(self) -> None:
        self.pages: dict[int, tuple[int, bytes]] = {}
        self.fetched = 0
        self._next = 1

    def put(self, address: int, page: bytes) -> int:
        """Keep a page; return its entry."""
        self._next += 1
        self.pages[self._next] = address, page
        return self._next

    def fetch(self, address: int, entry: int) -> bytes:
        """Return a page."""
        self.fetched += 1
        kept, page = self.pages[entry]
        assert kept == address, "a page is asked for under the address that it was written under"
        return page


def _checkpoint(pages: PagedMap, store: Store) -> None:
    """Write what is dirty, as the checkpointer does; what is left stays readable until then."""
    for level in range(16):
        for index in pages.dirty_at(level):
            page = pages.page(level, index)
            assert page is not None, "what is dirty is in memory"
            blank = not level and page == EMPTY
            address = page_address(pages.kind, level, index)
            entry = 0 if blank else store.put(address, page.tobytes())
            left = pages.placed(level, index, entry)
            if left:
                del store.pages[left]
    assert pages.dirty_pages == 0


def _span(random: Random) -> int:
    return random.choice([1, FANOUT, FANOUT**2, 1 << 34])


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_paged_map_of_any_history_reads_as_a_dict(kind: int, seed: int) -> None:
    """Growth, eviction, checkpoints and reopening change nothing that a reader sees."""
    random = Random(seed + kind)
    for _ in range(12):
        store, oracle = Store(), dict[int, int]()
        pages = PagedMap(kind, store.fetch, height=0, root=0)
        pages.limit_pages = random.choice([1, 4, 100])
        span = _span(random)
        for _ in range(400):
            key = random.randrange(span) if random.random() < 0.8 else random.randrange(600)
            match random.randrange(20):
                case 0:
                    _checkpoint(pages, store)
                case 1:
                    _checkpoint(pages, store)
                    pages = PagedMap(kind, store.fetch, height=pages.height, root=pages.root)
                    pages.limit_pages = 4
                case 2:
                    pages.evict()
                case 3:
                    pages.drop(key >> 9)
                    for gone in [each for each in oracle if each >> 9 == key >> 9]:
                        del oracle[gone]
                case 4 | 5 | 6:
                    value = random.choice([0, random.randrange(1, 1 << 64)])
                    pages[key] = oracle[key] = value
                case 7:
                    span = max(span, _span(random))
                case _:
                    assert pages[key] == oracle.get(key, 0)
        for key, value in oracle.items():
            assert pages[key] == value


def test_paged_map_with_a_limit_forgets_clean_pages_alone() -> None:
    """Memory is bounded by the limit and what is dirty, whatever the map's size (line 16)."""
    store = Store()
    pages = PagedMap(0, store.fetch, height=0, root=0)
    pages.limit_pages = 64
    for index in range(2000):
        pages[index << 9] = index + 1
        if not index % 50:
            _checkpoint(pages, store)
    _checkpoint(pages, store)
    pages.evict()
    assert len(pages.leaves) <= 64
    assert len(pages._uppers) <= 64 // 4 + 1
    for index in range(2000):
        assert pages[index << 9] == index + 1
        assert len(pages.leaves) <= 64 + (64 >> 3)
    pages[5] = 6
    for index in range(2000):
        assert pages[index << 9] == index + 1
    assert pages[5] == 6, "a dirty page is never evicted"


def test_paged_map_on_opening_reads_no_page() -> None:
    """Attaching costs the same whatever the map's size: pages are loaded when touched."""
    store = Store()
    pages = PagedMap(0, store.fetch, height=0, root=0)
    for index in range(3000):
        pages[index << 9] = 1
    _checkpoint(pages, store)
    again = PagedMap(0, store.fetch, height=pages.height, root=pages.root)
    assert store.fetched == 0
    assert again[7 << 9] == 1
    assert store.fetched == pages.height


def test_paged_map_beyond_its_height_reads_zero_and_loads_nothing() -> None:
    """A key that no page covers is zero."""
    store = Store()
    pages = PagedMap(0, store.fetch, height=0, root=0)
    assert pages[123456] == 0
    pages[3] = 4
    assert pages[1 << 40] == 0
    assert pages.drop(1 << 31) == 0
    assert store.fetched == 0


def test_paged_map_left_blank_gives_its_place_back() -> None:
    """A leaf that became all zero is not written; its old place is named as left."""
    store = Store()
    pages = PagedMap(0, store.fetch, height=0, root=0)
    pages[3] = 4
    pages[600] = 4
    _checkpoint(pages, store)
    place = pages.location(0, 0)
    pages[3] = 0
    assert pages.placed(0, 0, 0) == place
    assert pages.location(0, 0) == 0
    assert pages[3] == 0
    assert pages[600] == 4


def test_paged_map_relocates_pages_of_every_level() -> None:
    """A page that has to leave its place is dirty until it was written elsewhere."""
    store = Store()
    pages = PagedMap(0, store.fetch, height=0, root=0)
    pages[3] = 4
    pages[FANOUT**2] = 5
    _checkpoint(pages, store)
    again = PagedMap(0, store.fetch, height=pages.height, root=pages.root)
    before = {(level, again.location(level, 0)) for level in range(3)}
    for level in range(3):
        again.relocate(level, 0)
    again.relocate(0, 12345)
    assert [again.dirty_at(level) for level in range(3)] == [[0], [0], [0]]
    _checkpoint(again, store)
    assert not before & {(level, again.location(level, 0)) for level in range(3)}
    assert again[FANOUT**2] == 5


def test_paged_map_with_an_unreadable_page_raises_and_stays_as_it_was() -> None:
    """An error of one page is not a page of zeros (I1)."""
    store = Store()
    pages = PagedMap(0, store.fetch, height=0, root=0)
    pages[3] = 4
    pages[600] = 5
    _checkpoint(pages, store)

    def fetch(address: int, entry: int) -> bytes:
        if split_address(address) == (0, 0, 1):
            raise Corrupt("page: does not open")
        return store.fetch(address, entry)

    again = PagedMap(0, fetch, height=pages.height, root=pages.root)
    for _ in range(2):
        with pytest.raises(Corrupt):
            again[600]
        with pytest.raises(Corrupt):
            again[601] = 1
    assert again[3] == 4
    assert again.dirty_pages == 0


def test_page_addresses_differ_from_sectors_and_each_other() -> None:
    """No page is sealed under the address of a sector or of another page."""
    parts = [(kind, level, index) for kind in range(4) for level in range(16) for index in (0, 1)]
    addresses = [page_address(*each) for each in parts]
    assert [split_address(each) for each in addresses] == parts
    assert len(set(addresses)) == len(parts)
    assert all(1 << 46 <= each < 1 << 47 for each in addresses)
