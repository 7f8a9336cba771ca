"""Nodes, and the sealed tables of children (docs/format/keys.md).

    table = nonce (12, random) ‖ SEAL(node key, nonce, "scrubjay table 1" ‖ path, entries)
    entry = u8 index ‖ u8 kind ‖ 32-byte key, ascending

**A table is sealed anew under the same key only to add children.** So all versions that
one key opens list no key that the newest of them does not list, and an older version
tells its finder nothing; to take a child out takes a new key. A key thus seals at most
256 versions, far below the 2^32 that NIST SP 800-38D (8.3) allows for random nonces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from scrubjay.base.errors import Corrupt
from scrubjay.base.ports import Buffer, Entropy
from scrubjay.keys.aead import KEY_BYTES, NONCE_BYTES, seal, unseal
from scrubjay.keys.path import spell

__all__ = ["Children", "Kind", "Node", "open_table", "seal_table", "wipe"]

ENTRY_BYTES = 2 + KEY_BYTES


class Kind(IntEnum):
    """What a node's key is for."""

    SEED = 1
    """All children derive from it; nothing under it was ever forgotten."""
    TABLE = 2
    """It opens the table of the children that are left."""


_KINDS = frozenset(Kind)


@dataclass(frozen=True, slots=True)
class Node:
    """A key and what it is for. It never shows the key."""

    kind: Kind
    key: Buffer = field(repr=False)


class Children:
    """An opened table: the children that are left, in memory that is overwritten by `wipe`."""

    __slots__ = ("_entries", "_indices")

    def __init__(self, entries: bytearray) -> None:
        self._entries = entries
        self._indices = bytes(entries[::ENTRY_BYTES])

    def get(self, index: int) -> Node | None:
        """Return a child, with a key that its user overwrites; None if it is not listed."""
        at = self._indices.find(index)
        return None if at < 0 else self._at(at)

    def items(self) -> Iterator[tuple[int, Node]]:
        """Yield every child with its index, ascending."""
        for at, index in enumerate(self._indices):
            yield index, self._at(at)

    def wipe(self) -> None:
        """Overwrite the keys; the children are gone."""
        wipe(self._entries)
        self._indices = b""

    def _at(self, at: int) -> Node:
        start = at * ENTRY_BYTES
        kind = Kind.SEED if self._entries[start + 1] == Kind.SEED else Kind.TABLE
        return Node(kind, self._entries[start + 2 : start + ENTRY_BYTES])


def seal_table(
    key: Buffer, path: bytes, children: Mapping[int, Node], *, entropy: Entropy
) -> bytes:
    """Return the stored form of a table, sealed under a fresh nonce."""
    entries = bytearray()
    for index in sorted(children):
        node = children[index]
        entries += bytes((index, node.kind))
        entries += node.key
    nonce = entropy.token(NONCE_BYTES)
    sealed = nonce + seal(key, nonce, text=entries, ad=_label(path))
    wipe(entries)
    return sealed


def open_table(key: Buffer, path: bytes, stored: bytes) -> Children:
    """Open the stored table of a node; Corrupt when it is not what was sealed there."""
    nonce, sealed = stored[:NONCE_BYTES], stored[NONCE_BYTES:]
    try:
        entries = unseal(key, nonce, sealed=sealed, ad=_label(path), what="key table")
    except Corrupt as error:
        raise Corrupt(f"key table of {spell(path)}: {error.message}") from None
    indices = bytes(entries[::ENTRY_BYTES])
    kinds = set(entries[1::ENTRY_BYTES])
    if len(entries) % ENTRY_BYTES or bytes(sorted(set(indices))) != indices or not kinds <= _KINDS:
        wipe(entries)
        raise Corrupt(f"key table of {spell(path)}: opens to what is no table, expected entries")
    return Children(entries)


def wipe(key: Buffer) -> None:
    """Overwrite a key that lies in memory of ours; `bytes` cannot be overwritten."""
    if isinstance(key, bytearray):
        key[:] = bytes(len(key))


def _label(path: bytes) -> bytes:
    return b"scrubjay table 1" + path
