"""Who kept every byte that pool and sink were ever told, and reads the format by himself.

He has the trace of the pool's medium from its first write, and the sink's file at every
moment from some point on. What he needs of the format is written here anew from
docs/format, apart from the tree of keys itself, where tests/keys has its adversary.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from scrubjay.base.units import PAGE_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.media.simulated import Io, IoKind
from scrubjay.sinks.split import SPLIT_BYTES, merge
from tests.keys.world import Adversary, MemoryNodeStore

__all__ = ["Thief", "keys_in_sink"]

_COPIES = (0, 64 << 10)
_SINK_SLOTS = (4096, 4096 + 262144)
_POINTER = struct.Struct("<Q16s")


def keys_in_sink(content: bytes) -> set[bytes]:
    """Return what the slots of a sink merge to, whatever their checksums say."""
    found = set()
    for at in _SINK_SLOTS:
        split = content[at + 4096 : at + 4096 + SPLIT_BYTES]
        if split.strip(b"\0"):
            found.add(bytes(merge(memoryview(split))))
    return found


@dataclass(frozen=True, slots=True)
class _Root:
    """What a superblock gives away to who has its epoch's key."""

    metadata_key: bytes
    node_key: bytes


class Thief:
    """All versions of all superblocks and pages of one pool, and what epoch keys he has got."""

    def __init__(self, trace: Iterable[Io]) -> None:
        self._blocks: set[bytes] = set()
        self._pages: dict[tuple[int, bytes], bytes] = {}
        self._roots: set[_Root] = set()
        self._adversary = Adversary(MemoryNodeStore(), [], [])
        for io in trace:
            if io.kind is IoKind.WRITE:
                self._note(io)

    def take(self, epoch_key: bytes) -> None:
        """Open whatever an epoch's key opens."""
        roots = set(self._opened(epoch_key)) - self._roots
        metadata_keys = {root.metadata_key for root in roots | self._roots}
        if roots and not self._roots:
            (metadata_key,) = metadata_keys
            self._adversary = Adversary(self._tables(metadata_key), [], [])
        assert len(metadata_keys) <= 1, "a pool has one metadata key"
        self._roots |= roots
        for node_key in {root.node_key for root in roots}:
            self._adversary.learn(b"", node_key)

    def reaches(self, path: bytes, key: bytes) -> bool:
        """Whether he can compute this key."""
        return self._adversary.reaches(path, key)

    def _note(self, io: Io) -> None:
        if io.offset_bytes in _COPIES:
            self._blocks.add(io.data)
            return
        for at in range(0, len(io.data) - PAGE_BYTES + 1, PAGE_BYTES):
            number, off = divmod(io.offset_bytes + at - SLOTS_OFFSET_BYTES, PAGE_BYTES)
            if number >= 0 and not off:
                page = io.data[at : at + PAGE_BYTES]
                self._pages[number, page[-16:]] = page

    def _opened(self, epoch_key: bytes) -> Iterator[_Root]:
        for block in self._blocks:
            text = _open(epoch_key, block[1408:1420], block[1420:1532], block[:1408])
            if text is not None:
                yield _Root(text[:32], text[64:96])

    def _tables(self, metadata_key: bytes) -> MemoryNodeStore:
        """Return every version of every table of the key tree, out of all leaves."""
        texts: dict[tuple[int, bytes], bytes] = {}
        for (number, tag), page in self._pages.items():
            key = hmac.digest(metadata_key, b"scrubjay page 1" + page[:16], "sha256")
            text = _open(key, number.to_bytes(12, "little"), page[16:], None)
            if text is not None:
                texts[number, tag] = text
        store = MemoryNodeStore()
        seen: set[tuple[bytes, bytes]] = set()
        for text in texts.values():
            if text[0] == 1:
                seen |= {each for each in _entries(text, texts) if each[0][:1] == b"k"}
        for key, table in seen:
            store.put(key[1:], table)
        return store


def _entries(leaf: bytes, texts: dict[tuple[int, bytes], bytes]) -> Iterator[tuple[bytes, bytes]]:
    at = 4
    for _ in range(int.from_bytes(leaf[2:4], "little")):
        key_bytes, size = struct.unpack_from("<BH", leaf, at)
        key_at, value_at = at + 3, at + 3 + key_bytes
        at = value_at + (size & 0x7FFF)
        value = leaf[value_at:at]
        if size & 0x8000:
            pieces = [texts.get(pointer) for pointer in _POINTER.iter_unpack(value[4:])]
            value = b"".join(p[4 : 4 + int.from_bytes(p[2:4], "little")] for p in pieces if p)
        yield leaf[key_at:value_at], value


def _open(key: bytes, nonce: bytes, sealed: bytes, ad: bytes | None) -> bytes | None:
    try:
        return AESGCM(key).decrypt(nonce, sealed, ad)
    except InvalidTag:
        return None
