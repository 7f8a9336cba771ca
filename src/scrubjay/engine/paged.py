"""Paged maps: u64 -> u64, in pages of 512, on the medium, loaded when touched.

A radix tree of variable height (docs/format/log.md, "Three paged maps"). Pages are
copy-on-write: a changed page stays in memory, dirty, until a checkpoint seals it
elsewhere and enters the new place in its parent. Clean pages beyond the limit are
evicted, oldest first, so memory does not grow with the volume.

Hot paths look into `leaves` themselves and call a method only on a miss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from scrubjay.base.units import PAGE_BYTES

__all__ = [
    "EMPTY",
    "FANOUT",
    "LEAF_BYTES_SHIFT",
    "LEAF_SHIFT",
    "PAGE_ADDRESS",
    "Page",
    "PagedMap",
    "page_address",
    "split_address",
]

LEAF_SHIFT = 9
FANOUT = 1 << LEAF_SHIFT
LEAF_BYTES_SHIFT = LEAF_SHIFT + 12
"""A leaf of a volume's map tells of 2 MiB."""
PAGE_ADDRESS = 1 << 46
_MAP_SHIFT, _LEVEL_SHIFT = 44, 40
_INDEX_MASK = (1 << _LEVEL_SHIFT) - 1
_ZEROS = bytes(PAGE_BYTES)

Page = memoryview
"""512 u64 (format Q)."""
EMPTY: Page = memoryview(_ZEROS).cast("Q")
"""What a page that does not exist reads as; read-only."""

Fetch = Callable[[int, int], bytes]
"""(page address, entry) -> 4096 bytes; raises Corrupt or OSError."""


def page_address(kind: int, level: int, index: int) -> int:
    """Return the pseudo-LBA under which a page is sealed."""
    return PAGE_ADDRESS | kind << _MAP_SHIFT | level << _LEVEL_SHIFT | index


def split_address(address: int) -> tuple[int, int, int]:
    """Return (map, level, index) of a page address."""
    return address >> _MAP_SHIFT & 3, address >> _LEVEL_SHIFT & 15, address & _INDEX_MASK


CLOGGED_PAGES_MIN = 4096
"""16 MiB of dirty pages may always be."""


class PagedMap:
    """One paged map; not thread-safe, the disk's lock is around it."""

    def __init__(self, kind: int, fetch: Fetch, *, height: int, root: int) -> None:
        self.kind = kind
        self.height = height
        """Levels of pages, the leaves included; 0: no key was ever set."""
        self.root = root
        """The entry of the topmost page as last written; 0: none."""
        self.leaves: dict[int, Page] = {}
        self.dirty: set[int] = set()
        self.limit_pages = 16384
        self._uppers: dict[tuple[int, int], Page] = {}
        self._dirty_uppers: set[tuple[int, int]] = set()
        self._fetch = fetch

    def __getitem__(self, key: int) -> int:
        leaf = self.leaves.get(key >> LEAF_SHIFT)
        if leaf is None:
            leaf = self.leaf(key >> LEAF_SHIFT)
        return leaf[key & FANOUT - 1]

    def __setitem__(self, key: int, value: int) -> None:
        index = key >> LEAF_SHIFT
        self.writable(index)[key & FANOUT - 1] = value

    def leaf(self, index: int) -> Page:
        """Return a leaf for reading: EMPTY where nothing was ever set."""
        page = self.leaves.get(index)
        if page is None:
            page = self._load(0, index)
            if page is not None:
                self._remember(index, page)
        return EMPTY if page is None else page

    def writable(self, index: int) -> Page:
        """Return a leaf for changing, made if need be, and note that it is dirty."""
        page = self.leaves.get(index)
        if page is None:
            page = self._load(0, index)
            if page is None:
                self._grow(index)
                page = _blank()
            self._remember(index, page)
        self.dirty.add(index)
        return page

    def location(self, level: int, index: int) -> int:
        """Return the entry of a page as its parent names it; 0: not written, or absent."""
        if level + 1 >= self.height:
            return self.root if level + 1 == self.height and not index else 0
        parent = self._upper(level + 1, index >> LEAF_SHIFT)
        return 0 if parent is None else parent[index & FANOUT - 1]

    def relocate(self, level: int, index: int) -> None:
        """Have the next checkpoint write this page elsewhere."""
        if level:
            if self._upper(level, index) is not None:
                self._dirty_uppers.add((level, index))
        elif self.leaf(index) is not EMPTY:
            self.dirty.add(index)

    def drop(self, index: int) -> int:
        """Forget a leaf and all that it says; return the entry that is dead now, or 0."""
        self.leaves.pop(index, None)
        self.dirty.discard(index)
        old = self.location(0, index)
        if old:
            self._place(0, index, 0)
        return old

    @property
    def dirty_pages(self) -> int:
        """How many pages a checkpoint would write now."""
        return len(self.dirty) + len(self._dirty_uppers)

    def page(self, level: int, index: int) -> Page | None:
        """Return a page that is in memory, or None."""
        return self._uppers.get((level, index)) if level else self.leaves.get(index)

    def dirty_at(self, level: int) -> list[int]:
        """Return the indexes of the dirty pages of one level, ascending."""
        if not level:
            return sorted(self.dirty)
        return sorted(index for at, index in self._dirty_uppers if at == level)

    def leaving(self, *, leaves: Iterable[int]) -> set[tuple[int, int]]:
        """Return (level, index) of each page that leaves its place when these leaves do.

        Those are the leaves, the dirty upper pages, and all above them.
        """
        found = {(0, index) for index in leaves} | self._dirty_uppers
        for level, index in list(found):
            found |= {(up, index >> LEAF_SHIFT * (up - level)) for up in range(level, self.height)}
        return found

    def placed(self, level: int, index: int, entry: int) -> int:
        """Note that the page was written at `entry` (0: it is all zero); return the old entry."""
        if level:
            self._dirty_uppers.discard((level, index))
        else:
            self.dirty.discard(index)
            if not entry:
                self.leaves.pop(index, None)
        return self._place(level, index, entry)

    @property
    def clogged(self) -> bool:
        """Whether a checkpoint has to write pages before more may be made."""
        return len(self.dirty) >= max(self.limit_pages, CLOGGED_PAGES_MIN)

    def evict(self) -> None:
        """Let go of the oldest clean pages while there are more than the limit."""
        excess = len(self.leaves) - self.limit_pages
        if len(self.leaves) - len(self.dirty) > self.limit_pages >> 4 and excess > 0:
            excess += self.limit_pages >> 4
            for index in [i for i in self.leaves if i not in self.dirty][:excess]:
                del self.leaves[index]
        excess = len(self._uppers) - (self.limit_pages >> 2)
        if excess > 0:
            clean = [at for at in self._uppers if at not in self._dirty_uppers]
            for at in clean[: excess + (self.limit_pages >> 6)]:
                del self._uppers[at]

    def _remember(self, index: int, page: Page) -> None:
        if len(self.leaves) >= self.limit_pages + (self.limit_pages >> 3):
            self.evict()
        self.leaves[index] = page

    def _load(self, level: int, index: int) -> Page | None:
        entry = self.location(level, index)
        if not entry:
            return None
        return memoryview(
            bytearray(self._fetch(page_address(self.kind, level, index), entry))
        ).cast("Q")

    def _upper(self, level: int, index: int) -> Page | None:
        page = self._uppers.get((level, index))
        if page is None:
            page = self._load(level, index)
            if page is not None:
                self._uppers[level, index] = page
        return page

    def _place(self, level: int, index: int, entry: int) -> int:
        """Enter a page's new place in its parent; return the old one."""
        if level + 1 == self.height:
            old, self.root = self.root, entry
            return old
        at = (level + 1, index >> LEAF_SHIFT)
        parent = self._upper(*at)
        if parent is None:
            parent = self._uppers[at] = _blank()
        self._dirty_uppers.add(at)
        old, parent[index & FANOUT - 1] = parent[index & FANOUT - 1], entry
        return old

    def _grow(self, index: int) -> None:
        """Add levels until a leaf of this index has a place."""
        self.height = self.height or 1
        while index >> LEAF_SHIFT * (self.height - 1):
            self.height += 1
            at = (self.height - 1, 0)
            top = self._uppers[at] = _blank()
            top[0], self.root = self.root, 0
            self._dirty_uppers.add(at)


def _blank() -> Page:
    return memoryview(bytearray(PAGE_BYTES)).cast("Q")
