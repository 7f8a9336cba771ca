"""Nodes of the metadata tree, and their bytes (docs/format/pool.md, "Pages").

A leaf keeps its entries as the bytes that stand in the page, so that writing a page is
one join and reading it one pass.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from scrubjay.base.errors import Corrupt
from scrubjay.media.pages import POINTER_BYTES, TEXT_BYTES, Pointer

__all__ = [
    "BLOB_BYTES",
    "KEY_BYTES_MAX",
    "NODE_BYTES_MAX",
    "VALUE_BYTES_MAX",
    "Blob",
    "Branch",
    "Child",
    "Entry",
    "Leaf",
    "Node",
    "blob_pointers",
    "decode",
    "decode_blob",
    "encode",
    "encode_blob",
    "key_of",
    "make_blob_entry",
    "make_entry",
    "value_of",
]

KEY_BYTES_MAX = 255
VALUE_BYTES_MAX = 64 * 1024
BLOB_BYTES = 1024
"""A longer value gets pages of its own, so that a leaf holds at least three entries."""

_LEAF, _BRANCH, _BLOB = 1, 2, 3
_HEAD = struct.Struct("<BBH")
_SIZES = struct.Struct("<BH")
_IS_BLOB = 0x8000
_LENGTH_BYTES = 4
NODE_BYTES_MAX = TEXT_BYTES - _HEAD.size


@dataclass(frozen=True, slots=True)
class Blob:
    """A long value that has no pages yet."""

    key: bytes
    value: bytes

    @property
    def pages(self) -> int:
        """How many pages it will take."""
        return -(-len(self.value) // NODE_BYTES_MAX)

    def __len__(self) -> int:
        """How many bytes its entry will take in the leaf."""
        return _SIZES.size + len(self.key) + _LENGTH_BYTES + self.pages * POINTER_BYTES


Entry: TypeAlias = "bytes | Blob"
"""Of a leaf: `u8 key length, u16 value length, key, value`, or what will become one."""


@dataclass(slots=True)
class Leaf:
    """Keys in order, and the entry of each."""

    keys: list[bytes]
    entries: list[Entry]


@dataclass(slots=True)
class Branch:
    """Child i holds the keys from keys[i] on; keys[0] is empty."""

    keys: list[bytes]
    children: list[Child]


Node: TypeAlias = "Leaf | Branch"
Child: TypeAlias = "Pointer | Leaf | Branch"


def make_entry(key: bytes, value: bytes) -> bytes:
    """Return the entry of a value that stands in the leaf itself."""
    return _SIZES.pack(len(key), len(value)) + key + value


def make_blob_entry(key: bytes, length: int, pointers: Iterable[Pointer]) -> bytes:
    """Return the entry of a value of `length` bytes that stands in pages of its own."""
    value = length.to_bytes(_LENGTH_BYTES, "little") + b"".join(pointers)
    return _SIZES.pack(len(key), len(value) | _IS_BLOB) + key + value


def key_of(entry: bytes) -> bytes:
    """Return the key of an entry."""
    return entry[_SIZES.size : _SIZES.size + entry[0]]


def value_of(entry: bytes) -> bytes:
    """Return the value that stands in an entry; of a blob, its length and pointers."""
    return entry[_SIZES.size + entry[0] :]


def blob_pointers(entry: Entry) -> list[Pointer]:
    """Return the pages of a value that has pages of its own."""
    if isinstance(entry, Blob) or not entry[2] & _IS_BLOB >> 8:
        return []
    start = _SIZES.size + entry[0] + _LENGTH_BYTES
    return [
        Pointer(entry[at : at + POINTER_BYTES]) for at in range(start, len(entry), POINTER_BYTES)
    ]


def encode(node: Node) -> bytes:
    """Return the text of a page; all its children and blobs have pages already."""
    if isinstance(node, Leaf):
        return _HEAD.pack(_LEAF, 0, len(node.entries)) + b"".join(_sealed(node.entries))
    first, *others = _sealed(node.children)
    keys = node.keys[1:]
    parts = [b"%c%b%b" % (len(key), key, child) for key, child in zip(keys, others, strict=True)]
    return _HEAD.pack(_BRANCH, 0, len(keys)) + first + b"".join(parts)


def decode(text: bytes, page: int) -> Node:
    """Return the node in the text of a page; Corrupt when it contradicts itself."""
    kind, _, count = _HEAD.unpack_from(text)
    if kind not in (_LEAF, _BRANCH):
        raise Corrupt(f"metadata page {page}: kind {kind}, expected a leaf or a branch")
    try:
        node = _decode_leaf(text, count) if kind == _LEAF else _decode_branch(text, count)
    except (struct.error, IndexError):
        node = None
    if node is None or any(a >= b for a, b in pairwise(node.keys)):
        raise Corrupt(f"metadata page {page}: entries contradict themselves")
    return node


def encode_blob(value: bytes) -> Iterator[bytes]:
    """Yield the texts of the pages that hold a long value."""
    for at in range(0, len(value), NODE_BYTES_MAX):
        piece = value[at : at + NODE_BYTES_MAX]
        yield _HEAD.pack(_BLOB, 0, len(piece)) + piece


def decode_blob(text: bytes, page: int) -> bytes:
    """Return a page's part of a long value."""
    kind, _, length = _HEAD.unpack_from(text)
    if kind != _BLOB or length > NODE_BYTES_MAX:
        raise Corrupt(f"metadata page {page}: kind {kind}, {length} bytes, expected a blob")
    return text[_HEAD.size : _HEAD.size + length]


def _decode_leaf(text: bytes, count: int) -> Leaf | None:
    keys: list[bytes] = []
    entries: list[Entry] = []
    at = _HEAD.size
    for _ in range(count):
        key_bytes, value_bytes = _SIZES.unpack_from(text, at)
        key_at = at + 3
        value_at = key_at + key_bytes
        end = value_at + (value_bytes & ~_IS_BLOB)
        keys.append(text[key_at:value_at])
        entries.append(text[at:end])
        if value_bytes & _IS_BLOB and (end - value_at) % POINTER_BYTES != _LENGTH_BYTES:
            return None
        at = end
    return Leaf(keys, entries) if at <= TEXT_BYTES else None


def _decode_branch(text: bytes, count: int) -> Branch | None:
    at = _HEAD.size + POINTER_BYTES
    keys = [b""]
    children: list[Child] = [Pointer(text[_HEAD.size : at])]
    for _ in range(count):
        pointer_at = at + 1 + text[at]
        keys.append(text[at + 1 : pointer_at])
        at = pointer_at + POINTER_BYTES
        children.append(Pointer(text[pointer_at:at]))
    return Branch(keys, children) if at <= TEXT_BYTES else None


def _sealed(parts: Iterable[Entry | Child]) -> list[bytes]:
    return [part for part in parts if isinstance(part, bytes)]
