"""Checkpoints: the dirty pages go into the log, then the pool names the new root.

Not a moment but a stretch: writes go on between the slices, pages may be newer than the
sequence from which replay starts, and replay in order makes up for it (docs/format/
log.md, "Checkpoint"). What a checkpoint frees is decided before its sync, so that every
record that made a segment empty is durable when the slot goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from scrubjay.base.errors import Corrupt, Invalid
from scrubjay.base.ids import Entry, SegmentId
from scrubjay.base.units import MIB, PAGE_BYTES, SECTOR_BYTES
from scrubjay.engine.lessor import Purged
from scrubjay.engine.log import Appender
from scrubjay.engine.paged import EMPTY, Page, PagedMap, page_address, split_address
from scrubjay.engine.record import PAGE, write_run
from scrubjay.engine.usage import Usage

__all__ = [
    "ROOT_ADDRESS",
    "Checkpointer",
    "MapRoot",
    "Prepared",
    "Root",
    "begun_root",
    "distance_bytes",
    "read_root",
]

CHECKPOINT_BYTES = (64 * MIB, 512 * MIB)
"""Log behind the last checkpoint that asks for the next, at least and at most; half of what
is live in between. Bounds replay, which takes about a second for the most. A checkpoint
syncs all that was written since the last, so a short distance makes the disk the limit."""
USAGE_MAP, ROOT_MAP = 1, 3
ROOT_ADDRESS = page_address(ROOT_MAP, 0, 0)
VERSION = 1
PAGES_PER_SLICE = 24
"""About 200 us under the lock; clients wait for no more than one slice."""


class MapRoot(msgspec.Struct, frozen=True):
    """Where a paged map hangs: levels, and the entry of the topmost page."""

    height: int
    entry: int


class Root(msgspec.Struct, frozen=True):
    """The root page of a checkpoint, as JSON in the log."""

    version: int
    size_bytes: int
    sequence: int
    """Replay starts behind this record."""
    tag: str
    """Of that record's header, in hex."""
    segment: int
    """Where the record behind it would stand; an id that may not be leased yet."""
    offset: int
    written: int
    """Sectors in `segment` before `offset`."""
    sectors: MapRoot
    usage: MapRoot
    moves: MapRoot
    live_sectors: int
    segments: int
    """How many segments have a slot."""
    unopened: tuple[int, ...]
    """Ids that were leased and not opened when the checkpoint began."""
    unknown: int
    """Ids from it on were not leased when the checkpoint began."""
    evacuated: tuple[int, ...]
    """Ids that cleaning was emptying, or had emptied and not yet freed."""
    begun_s: int = 0
    """When the checkpoint began, seconds since 1970: what replay finds dead died later."""
    purge_moved_bytes: int = 0
    """Moved in order to purge, in the volume's life."""
    purge_adopted: bool = False
    """`usage` says of everything dead what is to be purged; an older version did not."""
    moved: int = 0
    """The moved segment in which cleaning was to go on; 0: none."""
    moved_offset: int = 0
    """From where on: what stands behind it, no map names."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checkpoint that is in the log: sync, then have the pool name it."""

    root: Entry
    sequence: int
    live_sectors: int
    freed: tuple[SegmentId, ...]
    filled: tuple[SegmentId, ...]
    purged: Purged


def distance_bytes(live_sectors: int) -> int:
    """Return how much log behind a checkpoint asks for the next one."""
    least, most = CHECKPOINT_BYTES
    return min(max(live_sectors * SECTOR_BYTES // 2, least), most)


def begun_root(
    log: Appender,
    mover: Appender,
    *,
    size_bytes: int,
    segment: int,
    written: int,
    unopened: tuple[int, ...],
    unknown: int,
    begun_s: int,
    purge_adopted: bool,
) -> Root:
    """Return the root of a checkpoint that begins now; where its maps hang is not known yet."""
    no_map = MapRoot(0, 0)
    return Root(
        version=VERSION,
        size_bytes=size_bytes,
        sequence=log.sequence,
        tag=log.tag.hex(),
        segment=segment,
        offset=log.position if log.segment else 0,
        written=written,
        unopened=unopened,
        unknown=unknown,
        evacuated=(),
        live_sectors=0,
        segments=0,
        sectors=no_map,
        usage=no_map,
        moves=no_map,
        begun_s=begun_s,
        purge_adopted=purge_adopted,
        moved=mover.segment,
        moved_offset=mover.position if mover.segment else 0,
    )


def read_root(page: bytes) -> Root:
    """Return the root that a page holds; Corrupt, or Invalid where it is newer than we."""
    try:
        root = msgspec.json.decode(page.rstrip(b"\0"), type=Root)
    except msgspec.DecodeError as error:
        msg = f"checkpoint root: {error}"
        raise Corrupt(msg) from None
    if root.version != VERSION:
        msg = f"checkpoint root: version {root.version}, expected {VERSION}"
        raise Invalid(msg, hint="use the newer Scrubjay that wrote it")
    return root


class Checkpointer:
    """Writes the pages of one volume's maps; the disk's lock is around each step."""

    def __init__(
        self,
        log: Appender,
        usage: Usage,
        *,
        sectors: PagedMap,
        usage_map: PagedMap,
        moves: PagedMap,
    ) -> None:
        self._log = log
        self._usage = usage
        self._maps = {0: sectors, 1: usage_map, 2: moves}
        self._roots: dict[int, MapRoot] = {}
        self.root_entry = 0
        """Of the last root that was written."""
        self.live_sectors = 0
        """As the pages of `usage` have it that were written last."""

    @property
    def dirty_pages(self) -> int:
        """How many pages a checkpoint would write now."""
        return sum(pages.dirty_pages for pages in self._maps.values())

    def pages(self) -> Iterator[None]:
        """Write every page that is dirty now; yields between slices."""
        for kind in (0, 2):
            yield from self._leaves(kind)
        self._usage.settle()
        self._foresee()
        yield from self._leaves(1)
        for kind, pages in self._maps.items():
            for level in range(1, 16):
                if level >= pages.height:
                    break
                dirty = pages.dirty_at(level)
                for first in range(0, len(dirty), PAGES_PER_SLICE):
                    self._write(kind, level, dirty[first : first + PAGES_PER_SLICE])
                    yield
            # Now, and not at the end: a map that grows meanwhile has a top that is not written.
            self._roots[kind] = MapRoot(pages.height, pages.root)

    def write_root(self, root: Root) -> int:
        """Append the root page, with where the maps hung and what was live; return its entry."""
        root = msgspec.structs.replace(
            root,
            live_sectors=self.live_sectors,
            sectors=self._roots[0],
            usage=self._roots[1],
            moves=self._roots[2],
        )
        text = msgspec.json.encode(root).ljust(PAGE_BYTES, b"\0")
        if len(text) > PAGE_BYTES:
            msg = f"checkpoint root: {len(text)} bytes, expected at most {PAGE_BYTES}"
            raise Corrupt(msg)
        (self.root_entry,) = self._append([(ROOT_ADDRESS, memoryview(text))])
        self._usage.wrote(self._log.segment, 1)
        return self.root_entry

    def names(self, address: int, entry: int) -> bool:
        """Tell whether a page lies at `entry`, as far as its parent knows."""
        if address == ROOT_ADDRESS:
            return entry == self.root_entry
        kind, level, index = split_address(address)
        return self._maps[kind].location(level, index) == entry

    def relocate(self, address: int, entry: int) -> None:
        """Have the next checkpoint write a page elsewhere, if it still lies at `entry`."""
        if address != ROOT_ADDRESS and self.names(address, entry):
            kind, level, index = split_address(address)
            self._maps[kind].relocate(level, index)

    def _foresee(self) -> None:
        """Enter as dead all places that pages of `usage`, upper pages and the root leave.

        Were it entered when they leave them, the pages that say so would be written by
        then. Should this checkpoint fail, the next one moves the same pages.
        """
        self._usage.left.append(self.root_entry)
        known: set[tuple[int, int, int]] = set()
        while True:
            self._usage.settle()
            leaving = {
                (kind, level, index)
                for kind, pages in self._maps.items()
                for level, index in pages.leaving(leaves=pages.dirty if kind == USAGE_MAP else ())
            } - known
            if not leaving:
                break
            known |= leaving
            self._usage.left += [
                self._maps[kind].location(level, index) for kind, level, index in leaving
            ]
        self.live_sectors = self._usage.live_sectors

    def _leaves(self, kind: int) -> Iterator[None]:
        dirty = self._maps[kind].dirty_at(0)
        for first in range(0, len(dirty), PAGES_PER_SLICE):
            self._write(kind, 0, dirty[first : first + PAGES_PER_SLICE])
            yield

    def _write(self, kind: int, level: int, indexes: list[int]) -> None:
        pages = self._maps[kind]
        full: list[tuple[int, Page]] = []
        blank: list[tuple[int, Page]] = []
        for index in indexes:
            page = pages.page(level, index)
            if page is None:  # dropped since the slice was planned
                continue
            (blank if not level and page == EMPTY else full).append((index, page))
        addresses = [(page_address(kind, level, index), page.cast("B")) for index, page in full]
        entries = self._append(addresses) if addresses else []
        try:
            left = [
                pages.placed(level, index, entry)
                for (index, _), entry in zip(full, entries, strict=True)
            ]
            left += [pages.placed(level, index, 0) for index, _ in blank]
        finally:  # behind `placed`: one of the pages may be the one that counts these
            if entries:
                self._usage.wrote(self._log.segment, len(entries))
        if not level and kind != USAGE_MAP:  # of the others it was foreseen
            self._usage.left += left

    def _append(self, pages: list[tuple[int, memoryview]]) -> list[int]:
        """Append pages as one record; return their entries. OSError: none of them counts."""
        log = self._log
        log.begin(payload_bytes=len(pages) * PAGE_BYTES, runs=len(pages), keep=0, whole=True)
        entries = [log.seal(address, page) for address, page in pages]
        log.runs.extend(write_run(address, 1) for address, _ in pages)
        log.append(PAGE)
        return entries
