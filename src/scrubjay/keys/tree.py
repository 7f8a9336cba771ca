"""The key tree: looking up, birth, and forgetting (docs/format/keys.md).

I3: after `forget`, once the new root is sealed under a new epoch key and the old epoch key
is gone, nothing that was ever stored opens a forgotten node. I6: a forgotten key never
comes back, because a table gains nothing but fresh random keys.

What Python permits of wiping: the root, opened tables and keys out of them lie in
bytearrays and are overwritten. Keys derived from seeds are `bytes`, which nothing can
overwrite; they are let go at once, and their memory is the interpreter's to reuse. So the
process that holds a tree has no core dumps and no swap (I2), and an attacker who reads
the memory of a live daemon may find what it looked up lately.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Protocol

from scrubjay.base.errors import Corrupt, Invalid
from scrubjay.base.ports import Buffer, Entropy
from scrubjay.base.units import HEADER_KEY
from scrubjay.keys.aead import KEY_BYTES, child, children, segment_seeds
from scrubjay.keys.forgotten import Forgotten
from scrubjay.keys.path import (
    INNER_DEPTH,
    SEGMENT_DEPTH,
    STRIPE_DEPTH,
    Census,
    Path,
    fan_out,
    segment_runs,
    spell,
)
from scrubjay.keys.salts import Salts
from scrubjay.keys.segment import SegmentKey
from scrubjay.keys.table import Children, Kind, Node, open_table, seal_table, wipe

__all__ = ["KeyTree", "NodeStore"]


class NodeStore(Protocol):
    """Where nodes keep what is not in their keys: tables their children, seeds the salts.

    Puts and deletes are staged: the caller commits them.
    """

    def get(self, path: bytes) -> bytes | None:
        """Return what is stored at a path, staged changes included; None if nothing is."""
        ...

    def put(self, path: bytes, stored: bytes) -> None:
        """Stage a table or salts, in place of what is stored at the path."""
        ...

    def delete(self, path: bytes) -> None:
        """Stage the removal of what is stored at a path; fine if nothing is."""
        ...


class KeyTree:
    """The keys of one pool, under one root. Not for several threads at once.

    A method that raises has staged nothing and changed nothing.
    """

    def __init__(self, store: NodeStore, root: Node, entropy: Entropy) -> None:
        self._store = store
        self._root = Node(root.kind, bytearray(root.key))
        self._entropy = entropy

    @staticmethod
    def new_root(entropy: Entropy) -> Node:
        """Return the root of a tree in which nothing was ever forgotten."""
        return Node(Kind.SEED, bytearray(entropy.token(KEY_BYTES)))

    @property
    def root(self) -> Node:
        """The root, to be sealed in the superblock; its key is overwritten by the next forget."""
        return self._root

    def close(self) -> None:
        """Overwrite the root; the tree is of no use any more."""
        wipe(self._root.key)

    # looking up

    def key_of(self, path: Path) -> Node:
        """Return the node at a path; Forgotten for one that was forgotten or never born.

        Under a seed every path above the segments has a key, also of numbers that were
        never given out.
        """
        node = self._root
        for depth, index in enumerate(path):
            if node.kind is Kind.SEED:
                return Node(Kind.SEED, self._derive(node.key, path, depth))
            table = self._open(node, path[:depth])
            found = table.get(index)
            table.wipe()
            if node is not self._root:
                wipe(node.key)
            if found is None:
                raise Forgotten(f"{spell(path)}: has no key, expected one that survives")
            node = found
        return node

    def segment_keys(self, branch: Path, ids: range) -> list[SegmentKey | None]:
        """Return the keys of segments of a branch, in order; None for one without a key.

        64 ids of a group share one walk: 0.1 ms under seeds.
        """
        keys: list[SegmentKey | None] = []
        for inner, indices in segment_runs(branch, ids):
            try:
                node = self.key_of(inner)
            except Forgotten:
                keys += [None] * len(indices)
                continue
            if node.kind is Kind.SEED:
                seeds = self._segments(node.key, inner, indices)
                keys += [SegmentKey(seeds[i]) if i in seeds else None for i in indices]
            else:
                table = self._open(node, inner)
                keys += [self._segment_key(inner, index, table.get(index)) for index in indices]
                table.wipe()
            wipe(node.key)
        return keys

    # birth

    def birth(self, paths: Iterable[Path]) -> bool:
        """Give each path a key where it has none; return whether anything was staged.

        Under a seed a segment gets its salt, and there is nothing else to do. Under a
        table the child is added, with a fresh random key, and the table is sealed anew
        under the same key (safe: see table.py); the root does not change. Whoever calls
        never gives a number twice: a forgotten path would be born again, with another key.
        """
        born = sorted(set(paths))
        _check(born, depth_max=SEGMENT_DEPTH)
        staged: dict[bytes, bytes] = {}
        self._bear(self._root, b"", born, staged)
        for path, stored in staged.items():
            self._store.put(path, stored)
        return bool(staged)

    def _bear(self, node: Node, path: bytes, born: list[Path], staged: dict[bytes, bytes]) -> None:
        if node.kind is Kind.SEED:
            if len(path) <= INNER_DEPTH:
                self._salt(born, staged)
            return
        family = self._family(node, path)
        count_before = len(family)
        for index, below in _by_child(born, path):
            if index not in family:
                family[index] = self._fresh(Kind.SEED)
            self._bear(family[index], path + bytes((index,)), below, staged)
        if len(family) > count_before:
            staged[path] = seal_table(node.key, path, family, entropy=self._entropy)
        _wipe_all(family)

    def _salt(self, born: list[Path], staged: dict[bytes, bytes]) -> None:
        """Draw the salts of the segments among these paths, which lie below a seed."""
        segments = [each for each in born if len(each) == SEGMENT_DEPTH]
        for inner, siblings in groupby(segments, lambda each: each[:INNER_DEPTH]):
            salts = Salts(self._store.get(inner), inner)
            if salts.draw([each[INNER_DEPTH] for each in siblings], self._entropy):
                staged[inner] = salts.pack()

    # forgetting

    def forget(self, paths: Iterable[Path], census: Census) -> Node:
        """Take paths out of the tree, in one pass; return the new root.

        The same root object comes back, and nothing is staged, when none of the paths had a
        key: they were forgotten before. Otherwise the caller commits what is staged together
        with the new root, sealed under a new epoch key, and then has the sink drop the old one.
        What `census` leaves out is lost where a seed becomes a table.

        What is stored beneath a forgotten node stays, and opens with nothing: so forgetting
        costs the same for a small volume and a large one. Who owned it sweeps it away later.
        """
        doomed = sorted(set(paths))
        _check(doomed, depth_max=STRIPE_DEPTH)
        if not doomed:
            return self._root
        staged: dict[bytes, bytes | None] = {}
        root = self._without(self._root, b"", doomed, census, staged)
        if root is None or root is self._root:
            return self._root
        for path, table in staged.items():
            if table is None:
                self._store.delete(path)
            else:
                self._store.put(path, table)
        wipe(self._root.key)
        self._root = root
        return root

    def _without(
        self,
        node: Node,
        path: bytes,
        doomed: list[Path],
        census: Census,
        staged: dict[bytes, bytes | None],
    ) -> Node | None:
        """Return the node that takes this one's place: itself if nothing changed, None for none."""
        if doomed[0] == path:
            staged[path] = None
            return None
        if node.kind is Kind.SEED:
            family = self._expand(node, path, census.born(path))
        else:
            family = self._family(node, path)
        lost = self._take_out(family, path, doomed, census, staged)
        if not lost and node.kind is Kind.TABLE:
            replacement: Node | None = node
        elif path and _is_bare(family, path) and census.born(path).stop == fan_out(path):
            replacement = None  # nothing is left, and nothing will be born here
            staged[path] = None
        else:
            replacement = self._fresh(Kind.TABLE)
            staged[path] = seal_table(replacement.key, path, family, entropy=self._entropy)
        _wipe_all(family)
        return replacement

    def _take_out(
        self,
        family: dict[int, Node],
        path: bytes,
        doomed: list[Path],
        census: Census,
        staged: dict[bytes, bytes | None],
    ) -> bool:
        """Take what is doomed out of a node's children; return whether any of it was there."""
        lost = False
        for index, below in _by_child(doomed, path):
            heir = family.get(index)
            if heir is None:
                continue
            survivor = self._without(heir, path + bytes((index,)), below, census, staged)
            if survivor is heir:
                continue
            lost = True
            wipe(heir.key)
            if survivor is None:
                del family[index]
            else:
                family[index] = survivor
        return lost

    # leaves

    def _derive(self, seed: Buffer, path: Path, depth: int) -> bytes:
        """Return the key at a path out of the seed that stands `depth` levels down the way."""
        key = bytes(seed)
        for at in range(depth, len(path)):
            if at == INNER_DEPTH:
                found = self._segments(key, path[:at], [path[at]]).get(path[at])
                if found is None:
                    raise Forgotten(f"{spell(path)}: was never born, expected a segment that was")
                key = found
            else:
                key = child(key, path[at])
        return key

    def _segments(self, seed: Buffer, inner: bytes, indices: Iterable[int]) -> dict[int, bytes]:
        """Return the seeds of those segments of a node that were born, by their numbers in it."""
        salts = Salts(self._store.get(inner), inner).of(indices)
        return dict(zip((i for i, _ in salts), segment_seeds(seed, salts), strict=True))

    def _expand(self, seed: Node, path: bytes, born: range) -> dict[int, Node]:
        """Return the children of a seed, each with the key that derives from it."""
        if len(path) == INNER_DEPTH:
            keys = self._segments(seed.key, path, born)
        else:
            keys = dict(zip(born, children(seed.key, born), strict=True))
        return {index: Node(Kind.SEED, key) for index, key in keys.items()}

    def _segment_key(self, inner: Path, index: int, node: Node | None) -> SegmentKey | None:
        if node is None:
            return None
        if node.kind is Kind.SEED:
            return SegmentKey(bytes(node.key))
        table = self._open(node, inner + bytes((index,)))
        stripes = tuple((number, bytes(stripe.key)) for number, stripe in table.items())
        table.wipe()
        wipe(node.key)
        return SegmentKey(stripes=stripes)

    def _family(self, node: Node, path: bytes) -> dict[int, Node]:
        table = self._open(node, path)
        family = dict(table.items())
        table.wipe()
        return family

    def _open(self, node: Node, path: bytes) -> Children:
        stored = self._store.get(path)
        if stored is None:
            raise Corrupt(f"key table of {spell(path)}: missing, expected it in the pool")
        return open_table(node.key, path, stored)

    def _fresh(self, kind: Kind) -> Node:
        return Node(kind, bytearray(self._entropy.token(KEY_BYTES)))


def _check(paths: list[Path], *, depth_max: int) -> None:
    for path in paths:
        if not 0 < len(path) <= depth_max:
            raise Invalid(f"{spell(path)}: {len(path)} levels, expected 1 to {depth_max}")


def _by_child(paths: list[Path], path: bytes) -> Iterator[tuple[int, list[Path]]]:
    """Group sorted paths that lie beneath `path` by the child through which they lead."""
    depth = len(path)
    beneath = (each for each in paths if len(each) > depth)
    for index, group in groupby(beneath, lambda each: each[depth]):
        yield index, list(group)


def _is_bare(family: dict[int, Node], path: bytes) -> bool:
    """Tell whether nothing that holds data is left: a segment's headers alone are of no use."""
    return not family or (len(path) == SEGMENT_DEPTH and family.keys() == {HEADER_KEY})


def _wipe_all(family: dict[int, Node]) -> None:
    for node in family.values():
        wipe(node.key)
