"""The metadata tree: a copy-on-write B+tree of sealed pages (docs/format/pool.md).

A page on a medium is never changed, and neither is a node in memory that stands for one:
an `Edit` makes new nodes along the way to what changes, keeps the old root valid for
readers, and can be rewound. What it replaced is freed once its commit is durable.

A child is a `Pointer` while it is clean, and the node itself while it is dirty.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from threading import RLock

from scrubjay.base.errors import Corrupt, Invalid
from scrubjay.media.nodes import (
    BLOB_BYTES,
    KEY_BYTES_MAX,
    NODE_BYTES_MAX,
    VALUE_BYTES_MAX,
    Blob,
    Branch,
    Child,
    Entry,
    Leaf,
    Node,
    blob_pointers,
    decode,
    decode_blob,
    encode,
    encode_blob,
    key_of,
    make_blob_entry,
    make_entry,
    value_of,
)
from scrubjay.media.pages import NO_POINTER, POINTER_BYTES, Pages, Pointer, page_of

__all__ = ["Edit", "Mark", "Nodes", "Root", "read_blob", "successor"]

NODES_MAX = 2048
"""Clean decoded nodes kept: about 6 MiB."""
UNDERFULL_BYTES = NODE_BYTES_MAX // 4
JOINED_BYTES_MAX = NODE_BYTES_MAX * 3 // 4
"""Below the first a node is joined to its neighbour, if together they leave room to grow."""


@dataclass(frozen=True, slots=True)
class Root:
    """Where a tree begins; height 0: it is empty."""

    height: int = 0
    child: Child = NO_POINTER


@dataclass(frozen=True, slots=True)
class Mark:
    """A state of an `Edit` to which it can be rewound."""

    root: Root
    dirty_pages: int
    freed: int


class Nodes:
    """Loads nodes, and keeps the clean ones used last. Safe for threads."""

    def __init__(self, pages: Pages, *, limit: int = NODES_MAX) -> None:
        self.pages = pages
        self.lock = RLock()
        """Held by whoever must not see a page change hands while reading."""
        self._limit = limit
        self._clean: OrderedDict[int, tuple[Pointer, Node]] = OrderedDict()

    def load(self, child: Child) -> Node:
        """Return the node that a child is or points to; it is not to be changed."""
        if not isinstance(child, bytes):
            return child
        page = page_of(child)
        with self.lock:
            kept = self._clean.get(page)
            if kept is not None and kept[0] == child:
                self._clean.move_to_end(page)
                return kept[1]
            node = decode(self.pages.read(child), page)
            self.remember(child, node)
            return node

    def remember(self, pointer: Pointer, node: Node) -> None:
        """Keep a node that is clean from now on."""
        with self.lock:
            self._clean[page_of(pointer)] = (pointer, node)
            if len(self._clean) > self._limit:
                self._clean.popitem(last=False)

    def get(self, root: Root, key: bytes) -> bytes | None:
        """Return the value of a key, or None."""
        if not root.height:
            return None
        node = self.load(root.child)
        while isinstance(node, Branch):
            node = self.load(node.children[bisect_right(node.keys, key) - 1])
        at = bisect_left(node.keys, key)
        if at == len(node.keys) or node.keys[at] != key:
            return None
        return self.value(node.entries[at])

    def value(self, entry: Entry) -> bytes:
        """Return the value of an entry, from its own pages if it has some."""
        if isinstance(entry, Blob):
            return entry.value
        pointers = blob_pointers(entry)
        return read_blob(self.pages, entry, pointers) if pointers else value_of(entry)

    def items(self, root: Root, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, Entry]]:
        """Yield (key, entry) for start <= key < end, in order; no end: to the last."""
        if root.height:
            yield from self._items(self.load(root.child), start, end)

    def _items(self, node: Node, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, Entry]]:
        stop = len(node.keys) if end is None else bisect_left(node.keys, end)
        if isinstance(node, Leaf):
            first = bisect_left(node.keys, start)
            yield from zip(node.keys[first:stop], node.entries[first:stop], strict=True)
            return
        for child in node.children[bisect_right(node.keys, start) - 1 : stop]:
            yield from self._items(self.load(child), start, end)

    def walk(self, root: Root) -> set[int]:
        """Read every node; return the numbers of all pages that the tree reaches.

        Raises Corrupt when a page does not open, is reached twice, or holds keys that
        belong elsewhere. Blobs are found but not opened: see `read_blob`.
        """
        reached: set[int] = set()
        if root.height:
            self._walk(root.child, root.height, (b"", None), reached)
        return reached

    def verify(self, root: Root) -> int:
        """Open every page, those of long values too; return how many there are."""
        for _, entry in self.items(root, b"", None):
            self.value(entry)
        return len(self.walk(root))

    def _walk(
        self, child: Child, level: int, bounds: tuple[bytes, bytes | None], reached: set[int]
    ) -> None:
        assert isinstance(child, bytes), "only a committed tree is walked"
        _reach(child, reached)
        node = self.load(child)
        if isinstance(node, Leaf) != (level == 1):
            raise Corrupt(f"metadata page {page_of(child)}: wrong kind for level {level}")
        low, high = bounds
        keys = node.keys if isinstance(node, Leaf) else node.keys[1:]
        if keys and (keys[0] < low or (high is not None and keys[-1] >= high)):
            raise Corrupt(f"metadata page {page_of(child)}: keys outside its parent's bounds")
        if isinstance(node, Leaf):
            for entry in node.entries:
                for pointer in blob_pointers(entry):
                    _reach(pointer, reached)
            return
        if level == 2:  # noqa: PLR2004 - the parents of leaves
            self.pages.advise(each for each in node.children if isinstance(each, bytes))
        ends = [*node.keys[1:], high]
        starts = [low, *node.keys[1:]]
        for index, below in enumerate(node.children):
            self._walk(below, level - 1, (starts[index], ends[index]), reached)


class Edit:
    """A tree on its way to the next commit; one at a time, under its owner's lock."""

    def __init__(self, nodes: Nodes, root: Root) -> None:
        self.root = root
        self.dirty_pages = 0
        """How many pages `seal` would write now."""
        self.freed: list[int] = []
        """Pages of the last sealed tree that this one does not reach."""
        self._nodes = nodes

    def mark(self) -> Mark:
        """Return the state to which `rewind` leads back."""
        return Mark(self.root, self.dirty_pages, len(self.freed))

    def rewind(self, mark: Mark) -> None:
        """Undo everything since the mark."""
        self.root, self.dirty_pages = mark.root, mark.dirty_pages
        del self.freed[mark.freed :]

    def apply(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Set keys to values, delete those whose value is None; an equal value costs nothing."""
        items = sorted(changes.items())
        root = self.root
        if not items:
            return
        if root.height:
            grown = self._update(root.child, items)
        else:
            fresh = {
                key: self._count_blob(_entry(key, value))
                for key, value in items
                if value is not None
            }
            grown = self._leaves(fresh, at_end=True)
        height = max(root.height, 1)
        while len(grown) > 1:
            grown = self._branches([key for key, _ in grown], [child for _, child in grown])
            height += 1
        while grown and height > 1:  # a root with one child is no root
            top = self._nodes.load(grown[0][1])
            if not isinstance(top, Branch) or len(top.children) > 1:
                break
            self._replace(grown[0][1])
            grown = [(b"", top.children[0])]
            height -= 1
        self.root = Root(height, grown[0][1]) if grown else Root()

    def seal(self, seal: Callable[[bytes], Pointer]) -> list[int]:
        """Seal every dirty page, children first; return what is freed. The edit starts anew.

        `seal` finds a free page for a text and returns the pointer to it.
        """
        self.root = Root(self.root.height, self._seal(self.root.child, seal))
        freed, self.freed, self.dirty_pages = self.freed, [], 0
        return freed

    # --- private ------------------------------------------------------------------

    def _update(
        self, child: Child, items: list[tuple[bytes, bytes | None]]
    ) -> list[tuple[bytes, Child]]:
        """Return (low key, child) of what takes the place of a child: itself, others, none."""
        node = self._nodes.load(child)
        if isinstance(node, Leaf):
            return self._update_leaf(child, node, items)
        keys, children = node.keys.copy(), node.children.copy()
        touched: list[Child] = []
        stop = len(items)
        while stop:  # from the end, so that indices stay right
            at = bisect_right(node.keys, items[stop - 1][0]) - 1
            start = bisect_left(items, (node.keys[at],), hi=stop) if at else 0
            below = self._update(children[at], items[start:stop])
            if len(below) != 1 or below[0][1] is not children[at]:
                low = keys[at]
                keys[at : at + 1] = [low, *(key for key, _ in below[1:])][: len(below)]
                children[at : at + 1] = new = [each for _, each in below]
                touched += new or [child]
            stop = start
        if not touched:
            return [(b"", child)]
        self._replace(child)
        self._join_underfull(keys, children, touched)
        return self._branches(keys, children) if keys else []

    def _update_leaf(
        self, child: Child, leaf: Leaf, items: list[tuple[bytes, bytes | None]]
    ) -> list[tuple[bytes, Child]]:
        merged = dict(zip(leaf.keys, leaf.entries, strict=True))
        changed = False
        at_end = bool(leaf.keys) and items[0][0] > leaf.keys[-1]
        for key, value in items:
            old = merged.get(key)
            if value is None:
                if old is None:
                    continue
                del merged[key]
            else:
                if old is not None and self._nodes.value(old) == value:
                    continue
                merged[key] = self._count_blob(_entry(key, value))
            if old is not None:
                self._drop_blob(old)
            changed = True
        if not changed:
            return [(b"", child)]
        self._replace(child)
        return self._leaves(merged, at_end=at_end)

    def _leaves(self, merged: dict[bytes, Entry], *, at_end: bool) -> list[tuple[bytes, Child]]:
        keys = sorted(merged)
        entries = [merged[key] for key in keys]
        made: list[tuple[bytes, Child]] = [
            (keys[start], Leaf(keys[start:stop], entries[start:stop]))
            for start, stop in _cuts(list(map(len, entries)), fill=at_end)
        ]
        self.dirty_pages += len(made)
        return made

    def _branches(self, keys: list[bytes], children: list[Child]) -> list[tuple[bytes, Child]]:
        sizes = [size + 1 + POINTER_BYTES for size in map(len, keys)]
        made: list[tuple[bytes, Child]] = [
            (keys[start], Branch([b"", *keys[start + 1 : stop]], children[start:stop]))
            for start, stop in _cuts(sizes, fill=False)
        ]
        self.dirty_pages += len(made)
        return made

    def _join_underfull(
        self, keys: list[bytes], children: list[Child], touched: list[Child]
    ) -> None:
        """Join small nodes among those touched to a neighbour, in place."""
        for small in touched:
            if self._bytes_of(small) >= UNDERFULL_BYTES or len(children) == 1:
                continue
            at = next((i for i, each in enumerate(children) if each is small), -1)
            if at < 0:
                continue
            left = max(at - 1, 0)
            a, b, middle = children[left], children[left + 1], keys[left + 1]
            if self._bytes_of(a) + self._bytes_of(b) + len(middle) <= JOINED_BYTES_MAX:
                self._replace(a)
                self._replace(b)
                self.dirty_pages += 1
                joined = _joined(self._nodes.load(a), self._nodes.load(b), middle)
                children[left : left + 2] = [joined]
                del keys[left + 1]
                touched.append(joined)  # it may be small still

    def _bytes_of(self, child: Child) -> int:
        node = self._nodes.load(child)
        if isinstance(node, Leaf):
            return sum(map(len, node.entries))
        return sum(map(len, node.keys)) + (1 + POINTER_BYTES) * len(node.keys)

    def _replace(self, child: Child) -> None:
        """Note that the tree reaches a child no more."""
        if isinstance(child, bytes):
            self.freed.append(page_of(child))
        else:
            self.dirty_pages -= 1

    def _count_blob(self, entry: Entry) -> Entry:
        if isinstance(entry, Blob):
            self.dirty_pages += entry.pages
        return entry

    def _drop_blob(self, entry: Entry) -> None:
        if isinstance(entry, Blob):
            self.dirty_pages -= entry.pages
        else:
            self.freed += map(page_of, blob_pointers(entry))

    def _seal(self, child: Child, seal: Callable[[bytes], Pointer]) -> Pointer:
        if isinstance(child, bytes):
            return child
        if isinstance(child, Branch):
            child.children = [
                below if isinstance(below, bytes) else self._seal(below, seal)
                for below in child.children
            ]
        else:
            for at, entry in enumerate(child.entries):
                if isinstance(entry, Blob):
                    pointers = [seal(text) for text in encode_blob(entry.value)]
                    child.entries[at] = make_blob_entry(entry.key, len(entry.value), pointers)
        pointer = seal(encode(child))
        self._nodes.remember(pointer, child)
        return pointer


def read_blob(pages: Pages, entry: bytes, pointers: Iterable[Pointer]) -> bytes:
    """Return the value that an entry keeps in pages of its own."""
    value = b"".join(decode_blob(pages.read(each), page_of(each)) for each in pointers)
    expected = int.from_bytes(value_of(entry)[:4], "little")
    if len(value) != expected:
        message = f"metadata key {key_of(entry).hex()}: {len(value)} bytes, expected {expected}"
        raise Corrupt(message)
    return value


def successor(prefix: bytes) -> bytes | None:
    """Return the first key behind all keys with a prefix; None when none is."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else None


def _entry(key: bytes, value: bytes) -> Entry:
    if not 0 < len(key) <= KEY_BYTES_MAX or len(value) > VALUE_BYTES_MAX:
        sizes = f"key of {len(key)}, value of {len(value)} bytes"
        raise Invalid(f"metadata: {sizes}, expected up to {KEY_BYTES_MAX} and {VALUE_BYTES_MAX}")
    return Blob(key, value) if len(value) > BLOB_BYTES else make_entry(key, value)


def _joined(a: Node, b: Node, middle: bytes) -> Node:
    if isinstance(a, Leaf) and isinstance(b, Leaf):
        return Leaf(a.keys + b.keys, a.entries + b.entries)
    assert isinstance(a, Branch), "siblings are of one kind"
    assert isinstance(b, Branch), "siblings are of one kind"
    return Branch([*a.keys, middle, *b.keys[1:]], a.children + b.children)


def _cuts(sizes: list[int], *, fill: bool) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of the fewest nodes that hold entries of these sizes.

    They come out about even; with `fill` each is filled up, as suits keys that only
    ever grow at the end.
    """
    total = sum(sizes)
    if 0 < total <= NODE_BYTES_MAX:
        yield 0, len(sizes)
        return
    nodes = -(-total // NODE_BYTES_MAX)
    wanted = NODE_BYTES_MAX if fill else total // max(nodes, 1)
    start = size = 0
    cuts = [0]
    for at, each in enumerate(sizes):
        if at > start and (size + each > NODE_BYTES_MAX or size >= wanted):
            cuts.append(at)
            start, size = at, 0
        size += each
    if sizes:
        cuts.append(len(sizes))
    yield from pairwise(cuts)


def _reach(pointer: Pointer, reached: set[int]) -> None:
    page = page_of(pointer)
    if page in reached:
        raise Corrupt(f"metadata page {page}: reached twice")
    reached.add(page)
