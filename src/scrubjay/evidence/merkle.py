"""The Merkle tree of the log: hashes, frontier, proofs and their checks (RFC 9162, section 2.1).

A proof is computed from *perfect* subtrees alone, each named by (level, index): level 0 are
the leaves' hashes, and node (level, index) covers leaves [index << level, (index + 1) << level).
Whoever keeps those (a list, tiles) hands in a `Node`. Checks take nothing on trust but the root.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scrubjay.base.errors import Corrupt, Invalid

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "SIZE_MAX",
    "Frontier",
    "Node",
    "consistency_proof",
    "inclusion_proof",
    "is_consistent",
    "is_included",
    "leaf_hash",
    "node_hash",
    "tree_hash",
]

HASH_BYTES = 32
SIZE_MAX = (1 << 63) - 1
"""Leaves in a tree at most: sizes stay signed 64-bit numbers for everybody."""
EMPTY_ROOT = hashlib.sha256(b"").digest()
_SIZE = struct.Struct(">Q")

Node = Callable[[int, int], bytes]
"""(level, index) of a perfect subtree -> its hash."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node with two children."""
    return hashlib.sha256(b"\1" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """All that appending needs: the size, and the roots of the perfect subtrees, left to right."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def append(self, entry: bytes) -> Frontier:
        """Return the frontier with one leaf more."""
        peaks, node, size = list(self.peaks), leaf_hash(entry), self.size
        if size >= SIZE_MAX:
            raise Invalid(f"log: {size} entries, expected fewer than {SIZE_MAX}")
        while size & 1:
            node = node_hash(peaks.pop(), node)
            size >>= 1
        return Frontier(self.size + 1, (*peaks, node))

    def root(self) -> bytes:
        """Return the tree's root hash."""
        if not self.peaks:
            return EMPTY_ROOT
        *rest, node = self.peaks
        for left in reversed(rest):
            node = node_hash(left, node)
        return node

    def serialise(self) -> bytes:
        """Return u64be size, then 32 bytes for each peak: at most 2024 bytes."""
        return _SIZE.pack(self.size) + b"".join(self.peaks)

    @classmethod
    def parse(cls, stored: bytes) -> Frontier:
        """Return what `serialise` made; Corrupt when it is anything else."""
        size = int.from_bytes(stored[: _SIZE.size])
        expected = _SIZE.size + HASH_BYTES * size.bit_count()
        if len(stored) != expected or size > SIZE_MAX:
            raise Corrupt(
                f"frontier of the log: {len(stored)} bytes for {size} entries, expected {expected}"
            )
        return cls(
            size,
            tuple(
                stored[at : at + HASH_BYTES] for at in range(_SIZE.size, len(stored), HASH_BYTES)
            ),
        )


def tree_hash(first: int, end: int, node: Node) -> bytes:
    """Return the Merkle tree hash over leaves [first, end), as RFC 9162 splits them.

    `first` is where such a split can begin: a multiple of the largest power of two that
    is smaller than the range.
    """
    count = end - first
    if count == 0:
        return EMPTY_ROOT
    if count.bit_count() == 1:
        level = count.bit_length() - 1
        return node(level, first >> level)
    middle = first + _split(count)
    return node_hash(tree_hash(first, middle, node), tree_hash(middle, end, node))


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """Return the path from leaf `index` to the root of a tree of `size` leaves, leaf first.

    Invalid where the tree has no such leaf.
    """
    if not 0 <= index < size:
        raise Invalid(f"entry {index}: not in a log of {size} entries")
    path: list[bytes] = []
    first, end = 0, size
    while end - first > 1:
        middle = first + _split(end - first)
        if index < middle:
            path.append(tree_hash(middle, end, node))
            end = middle
        else:
            path.append(tree_hash(first, middle, node))
            first = middle
    return path[::-1]


def consistency_proof(old: int, new: int, node: Node) -> list[bytes]:
    """Return the proof that the tree of `new` leaves begins with the one of `old`.

    Invalid unless 0 <= old <= new. From an empty tree, or to itself, the proof is empty.
    """
    if not 0 <= old <= new:
        raise Invalid(f"logs of {old} and {new} entries: expected the older one first")
    if old in {0, new}:
        return []
    path: list[bytes] = []
    first, end, whole = 0, new, True
    while end != old:
        middle = first + _split(end - first)
        if old <= middle:
            path.append(tree_hash(middle, end, node))
            end = middle
        else:
            path.append(tree_hash(first, middle, node))
            first, whole = middle, False
    if not whole:
        path.append(tree_hash(first, end, node))
    return path[::-1]


def is_included(leaf: bytes, *, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the leaf with this hash is number `index` of the tree (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    number, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if number & 1 or number == last:
            node = node_hash(sibling, node)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        number, last = number >> 1, last >> 1
    return last == 0 and node == root


def is_consistent(
    *, old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the tree of `new` leaves begins with that of `old` (RFC 9162, 2.1.4.2)."""
    if not 0 <= old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    rest = list(proof)
    if old.bit_count() == 1:
        rest.insert(0, old_root)
    if not rest:
        return False
    number, last = old - 1, new - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    before = after = rest[0]
    for sibling in rest[1:]:
        if last == 0:
            return False
        if number & 1 or number == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        number, last = number >> 1, last >> 1
    return last == 0 and before == old_root and after == new_root


def _split(count: int) -> int:
    """Return the largest power of two smaller than `count`, which is at least 2."""
    return 1 << ((count - 1).bit_length() - 1)
