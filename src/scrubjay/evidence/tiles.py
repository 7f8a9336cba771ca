"""The log as files that any web server serves (c2sp.org/tlog-tiles): names, contents, proofs.

Tiles are written once. A file that is there already has to hold what would be written, so
publishing again after a crash changes nothing, and another entry over an existing one is
Corrupt, never a second history.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from scrubjay.base.errors import Corrupt, Invalid
from scrubjay.evidence.merkle import HASH_BYTES, SIZE_MAX, leaf_hash, node_hash

__all__ = ["ENTRY_BYTES_MAX", "TILE_WIDTH", "Files", "TileReader", "tile_path", "write_entries"]

TILE_WIDTH = 256
ENTRY_BYTES_MAX = 0xFFFF
_HEIGHT = 8
_LEVEL_MAX = 63
_LENGTH = struct.Struct(">H")
_WIDTH = re.compile("[1-9][0-9]{0,2}")
_HINT = "publish the log anew, from the pool, into an empty folder"


class Files(Protocol):
    """Where the published files lie, by paths with slashes, relative to the log's folder."""

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes; None where there is none."""
        ...

    def write(self, path: str, data: bytes) -> None:
        """Put a file there, durably, and whole at every moment; over an older one."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, none where there is none."""
        ...

    def partials(self) -> list[str]:
        """Return the paths of all folders of partial tiles: those that end in ".p"."""
        ...

    def remove(self, folder: str, names: Sequence[str]) -> None:
        """Remove files, and the folder once it is empty; what lies beside it is durable first."""
        ...


def tile_path(level: int | None, number: int, width: int = TILE_WIDTH) -> str:
    """Return the path of a tile of hashes, or of entries where the level is None.

    Invalid unless 0 <= level <= 63, 0 <= number and 1 <= width <= 256.
    """
    if not (0 <= (level or 0) <= _LEVEL_MAX and number >= 0 and 1 <= width <= TILE_WIDTH):
        raise Invalid(f"tile {level}/{number}: {width} wide, expected a tile of a log")
    digits = f"{number:03d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    name = "/".join([*(f"x{each}" for each in groups[:-1]), groups[-1]])
    kind = "entries" if level is None else str(level)
    return f"tile/{kind}/{name}" + ("" if width == TILE_WIDTH else f".p/{width}")


def write_entries(
    files: Files, first: int, entries: Sequence[bytes], *, published: int = 0
) -> None:
    """Write all tiles that appending `entries` at index `first` changes.

    A log of `published` entries is known to be there. What lies before `first` in the same
    tiles is read from the files: Corrupt where it is not there (begin at an earlier entry),
    and where another entry, or another tile, stands in the place of one of these.
    """
    for at, entry in enumerate(entries, first):
        if not 0 < len(entry) <= ENTRY_BYTES_MAX:
            raise Invalid(f"entry {at}: {len(entry)} bytes, expected 1 to {ENTRY_BYTES_MAX}")
    if not entries:
        return
    end = first + len(entries)
    if not 0 <= first <= end <= SIZE_MAX:
        raise Invalid(f"entry {first}: expected an index of a log")
    start = first - first % TILE_WIDTH
    known = TileReader(files, max(first, published)).entries(start, first)
    whole = [*known, *entries]
    for number in range(start // TILE_WIDTH, -(-end // TILE_WIDTH)):
        some = whole[number * TILE_WIDTH - start :][:TILE_WIDTH]
        _put_entries(files, number, some, widths=(len(some), TILE_WIDTH, published % TILE_WIDTH))
    hashes = [leaf_hash(entry) for entry in whole]
    level = 0
    while hashes:
        _put_hashes(files, level, start, hashes)
        full = len(hashes) // TILE_WIDTH
        parents = [_root(hashes[n * TILE_WIDTH :][:TILE_WIDTH]) for n in range(full)]
        level, above = level + 1, start // TILE_WIDTH
        start = above - above % TILE_WIDTH
        hashes = parents
        if parents and above > start:
            there = TileReader(files, max(above << (_HEIGHT * level), published))
            hashes = there.tile(level, start // TILE_WIDTH)[: above - start] + parents


class TileReader:
    """The tiles of a log of `size` entries, and what can be computed from them."""

    def __init__(self, files: Files, size: int) -> None:
        self._files = files
        self.size = size
        self._tiles: dict[tuple[int, int], list[bytes]] = {}

    def node(self, level: int, index: int) -> bytes:
        """Return the hash of a perfect subtree, for merkle.py; Corrupt where tiles lack it."""
        rows, above = divmod(level, _HEIGHT)[::-1]
        first, count = index << rows, 1 << rows
        number, at = divmod(first, TILE_WIDTH)
        hashes = self.tile(above, number)[at : at + count]
        if len(hashes) != count:
            raise Corrupt(f"log: no node {index} of level {level} among {self.size} entries")
        return _root(hashes)

    def tile(self, level: int, number: int) -> list[bytes]:
        """Return the hashes of one tile, as many as this size gives it, or none."""
        known = self._tiles.get((level, number))
        if known is None:
            width = min(TILE_WIDTH, (self.size >> (_HEIGHT * level)) - number * TILE_WIDTH)
            known = self._hashes(level, number, width) if width > 0 else []
            self._tiles[level, number] = known
        return known

    def entries(self, first: int, end: int) -> list[bytes]:
        """Return the entries [first, end); Corrupt where a bundle is not there, or damaged."""
        found: list[bytes] = []
        for number in range(first // TILE_WIDTH, -(-end // TILE_WIDTH)):
            start = number * TILE_WIDTH
            bundle = self._bundle(number)
            found += bundle[max(0, first - start) : end - start]
        return found

    def _hashes(self, level: int, number: int, width: int) -> list[bytes]:
        data, found = self._read(level, number, width)
        if len(data) != HASH_BYTES * found:
            raise _damaged(tile_path(level, number, width))
        return [data[at : at + HASH_BYTES] for at in range(0, width * HASH_BYTES, HASH_BYTES)]

    def _bundle(self, number: int) -> list[bytes]:
        width = min(TILE_WIDTH, self.size - number * TILE_WIDTH)
        data, found = self._read(None, number, width) if width > 0 else (b"", width)
        entries: list[bytes] = []
        at = 0
        while len(entries) < width and at + _LENGTH.size <= len(data):
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size + length
            entries.append(data[at - length : at])
        if len(entries) < width or at > len(data) or (found == width and at != len(data)):
            raise _damaged(tile_path(None, number, max(width, 1)))
        return entries

    def _read(self, level: int | None, number: int, width: int) -> tuple[bytes, int]:
        """Return a file, or a wider one in its place, and how wide it is."""
        path = tile_path(level, number, width)
        if (data := self._files.read(path)) is not None:
            return data, width
        for wider in self._wider(level, number, width):
            if (data := self._files.read(tile_path(level, number, wider))) is not None:
                return data, wider
        raise Corrupt(f"log file {path}: not there", hint=_HINT)

    def _wider(self, level: int | None, number: int, width: int) -> Iterator[int]:
        """Yield the widths that may stand in for a partial tile which is deleted by now."""
        if width == TILE_WIDTH:
            return
        names = self._files.names(tile_path(level, number, width).rpartition("/")[0])
        widths = sorted(int(each) for each in names if _WIDTH.fullmatch(each))
        yield from (each for each in widths if width < each < TILE_WIDTH)
        yield TILE_WIDTH


def _put_entries(
    files: Files, number: int, entries: Sequence[bytes], *, widths: Iterable[int]
) -> None:
    """Write a bundle, unless one of these widths stands there and tells of other entries."""
    data = b"".join(_LENGTH.pack(len(entry)) + entry for entry in entries)
    for width in sorted(set(widths) - {0}):
        standing = files.read(tile_path(None, number, width))
        common = min(width, len(entries))
        if standing is not None and (differs := _differs(standing, entries[:common])) < common:
            raise _other(number * TILE_WIDTH + differs)
    _put(files, tile_path(None, number, len(entries)), data)


def _put_hashes(files: Files, level: int, start: int, hashes: Sequence[bytes]) -> None:
    for at in range(0, len(hashes), TILE_WIDTH):
        some = hashes[at : at + TILE_WIDTH]
        _put(files, tile_path(level, (start + at) // TILE_WIDTH, len(some)), b"".join(some))


def _put(files: Files, path: str, data: bytes) -> None:
    standing = files.read(path)
    if standing is None:
        files.write(path, data)
    elif standing != data:
        raise Corrupt(f"log file {path}: holds other bytes, expected what the pool says")


def _differs(standing: bytes, entries: Sequence[bytes]) -> int:
    """Return which of the entries is the first that does not stand there."""
    at = 0
    for number, entry in enumerate(entries):
        here = _LENGTH.pack(len(entry)) + entry
        if standing[at : at + len(here)] != here:
            return number
        at += len(here)
    return len(entries)


def _other(index: int) -> Corrupt:
    return Corrupt(
        f"entry {index} of the log: another one is published already, expected the same",
        hint="the pool or the published folder was put back from a copy: keep both, and compare",
    )


def _damaged(path: str) -> Corrupt:
    return Corrupt(f"log file {path}: damaged, expected a tile", hint=_HINT)


def _root(hashes: Sequence[bytes]) -> bytes:
    """Return the root over a power of two of hashes."""
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]
