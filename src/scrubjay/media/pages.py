"""Sealed pages of metadata (docs/format/pool.md, "Pages").

A pointer names a page and holds its tag, so a page that is old, misdirected or flipped
does not open. A pair of commit id and page number is sealed once.
"""

from __future__ import annotations

import errno
import hmac
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from heapq import heappop, heappush
from typing import NewType

from scrubjay.base.errors import Corrupt, Unavailable
from scrubjay.base.ids import Slot
from scrubjay.base.ports import Extent, Medium
from scrubjay.base.units import PAGE_BYTES, TAG_BYTES
from scrubjay.keys.aead import seal, unseal
from scrubjay.media.geometry import SLOT_PAGES, Geometry

__all__ = [
    "COMMIT_ID_BYTES",
    "NO_POINTER",
    "POINTER_BYTES",
    "TEXT_BYTES",
    "FreePages",
    "Pages",
    "Pointer",
    "Sealer",
    "page_of",
    "write_whole",
]

COMMIT_ID_BYTES = 16
TEXT_BYTES = PAGE_BYTES - COMMIT_ID_BYTES - TAG_BYTES
"""Plaintext of a page."""
POINTER_BYTES = 8 + TAG_BYTES

Pointer = NewType("Pointer", bytes)
"""24 bytes: u64 page number, tag of the page."""
NO_POINTER = Pointer(bytes(POINTER_BYTES))


def page_of(pointer: Pointer) -> int:
    """Return the number of the page that a pointer names."""
    return int.from_bytes(pointer[:8], "little")


class Sealer:
    """Seals the pages of one commit, each page number once."""

    def __init__(self, metadata_key: bytes, commit_id: bytes) -> None:
        self._commit_id = commit_id
        self._key = _page_key(metadata_key, commit_id)

    def seal(self, page: int, text: bytes) -> tuple[Pointer, bytes]:
        """Return the pointer and the 4096 bytes of a page with up to 4064 bytes of text."""
        text = text.ljust(TEXT_BYTES, b"\0")
        sealed = seal(self._key, _nonce(page), text=text, ad=None)
        return Pointer(page.to_bytes(8, "little") + sealed[-TAG_BYTES:]), self._commit_id + sealed


class Pages:
    """The metadata pages of a pool, on all its media."""

    def __init__(self, media: Sequence[Medium], geometry: Geometry, metadata_key: bytes) -> None:
        self.in_flight: Mapping[int, bytes] = {}
        """Pages of a commit that is being written: not to be read from a medium yet."""
        self._media = media
        self._geometry = geometry
        self._metadata_key = metadata_key

    def read(self, pointer: Pointer) -> bytes:
        """Return the text of a page; Corrupt when it is not the one that was written."""
        page = page_of(pointer)
        raw = self.in_flight.get(page) or self._load(page)
        sealed = raw[COMMIT_ID_BYTES:]
        if sealed[-TAG_BYTES:] != pointer[8:]:
            raise Corrupt(f"metadata page {page}: tag is not the one that its parent holds")
        key = _page_key(self._metadata_key, raw[:COMMIT_ID_BYTES])
        what = f"metadata page {page}"
        return bytes(unseal(key, _nonce(page), sealed=sealed, ad=None, what=what))

    def advise(self, pointers: Iterable[Pointer]) -> None:
        """Have the media read these pages ahead."""
        extents: list[list[tuple[int, int]]] = [[] for _ in self._media]
        for pointer in pointers:
            page = page_of(pointer)
            if page < self._geometry.slots * SLOT_PAGES:
                medium, offset_bytes = self._geometry.place_of_page(page)
                extents[medium].append((offset_bytes, PAGE_BYTES))
        for index, wanted in enumerate(extents):
            if wanted:
                self._media[index].advise(wanted)

    def write(self, pages: Mapping[int, bytes]) -> dict[int, list[Extent]]:
        """Write sealed pages, neighbours in one piece; OSError when any comes up short.

        Returns for each medium what to sync: one extent for each slot written into.
        """
        start: tuple[int, int] | None = None
        run: list[bytes] = []
        for page in sorted(pages):
            medium, offset_bytes = self._geometry.place_of_page(page)
            if start is not None and (medium, offset_bytes - len(run) * PAGE_BYTES) != start:
                write_whole(self._media[start[0]], start[1], b"".join(run))
                start, run = None, []
            start = start or (medium, offset_bytes)
            run.append(pages[page])
        if start is not None:
            write_whole(self._media[start[0]], start[1], b"".join(run))
        return self._extents(pages)

    def _extents(self, pages: Iterable[int]) -> dict[int, list[Extent]]:
        slots: dict[int, tuple[int, int]] = {}
        for page in pages:
            first, last = slots.get(page // SLOT_PAGES, (page, page))
            slots[page // SLOT_PAGES] = min(first, page), max(last, page)
        extents: dict[int, list[Extent]] = {}
        for first, last in slots.values():
            medium, offset_bytes = self._geometry.place_of_page(first)
            extents.setdefault(medium, []).append((offset_bytes, (last - first + 1) * PAGE_BYTES))
        return extents

    def _load(self, page: int) -> bytes:
        if page >= self._geometry.slots * SLOT_PAGES:
            raise Corrupt(f"metadata page {page}: outside the pool")
        medium, offset_bytes = self._geometry.place_of_page(page)
        raw = bytearray(PAGE_BYTES)
        try:
            count = self._media[medium].read_into(offset_bytes, memoryview(raw))
        except OSError as error:
            raise Unavailable(f"metadata page {page}: {error.strerror}") from error
        if count < PAGE_BYTES:
            raise Corrupt(f"metadata page {page}: {count} bytes, expected {PAGE_BYTES}")
        return bytes(raw)


class FreePages:
    """The metadata pages that may be written: lowest first, so that few are ever touched.

    What lies behind all used pages is kept as ranges: a slot has 4096 pages, and most
    pools use a few hundred.
    """

    def __init__(self, slots: Iterable[Slot], used: AbstractSet[int]) -> None:
        """Take the slots of the metadata, ascending, and the pages in use."""
        end = max(used, default=-1) + 1
        self._holes: list[int] = []
        self._fresh: deque[range] = deque()
        for slot in slots:
            pages = range(slot * SLOT_PAGES, (slot + 1) * SLOT_PAGES)
            middle = min(max(end, pages.start), pages.stop)
            self._holes += [page for page in range(pages.start, middle) if page not in used]
            self._fresh.append(range(middle, pages.stop))

    def take(self) -> int:
        """Return a free page, which is free no more."""
        if self._holes:
            return heappop(self._holes)
        while not self._fresh[0]:
            self._fresh.popleft()
        page = self._fresh[0].start
        self._fresh[0] = self._fresh[0][1:]
        return page

    def give(self, pages: Iterable[int]) -> None:
        """Have these pages written again."""
        for page in pages:
            heappush(self._holes, page)

    def add(self, slot: Slot) -> None:
        """Have all pages of one more slot."""
        self._fresh.append(range(slot * SLOT_PAGES, (slot + 1) * SLOT_PAGES))


def write_whole(medium: Medium, offset_bytes: int, data: bytes) -> None:
    """Write all of `data`; a short write is an OSError, since a commit is never continued."""
    count = medium.write(offset_bytes, data)
    if count != len(data):
        message = f"wrote {count} bytes at {offset_bytes}, expected {len(data)}"
        raise OSError(errno.EIO, message)


def _page_key(metadata_key: bytes, commit_id: bytes) -> bytes:
    return hmac.digest(metadata_key, b"scrubjay page 1" + commit_id, "sha256")


def _nonce(page: int) -> bytes:
    return page.to_bytes(12, "little")
