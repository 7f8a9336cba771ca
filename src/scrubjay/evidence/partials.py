"""Partial tiles that nobody needs any more: without this, a log grew by the square of its tiles.

Only what a signed checkpoint made needless is deleted: a partial tile once its full one is
there, and of a tile that is still partial the widths that neither the newest checkpoint nor
the one before it needs. A crash in between leaves files too many, never one too few.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from scrubjay.evidence.tiles import TILE_WIDTH, Files, tile_path

__all__ = ["delete_partials"]

_HEIGHT = 8
_FOLDER = re.compile(r"tile/(entries|[0-9]{1,2})/((?:x[0-9]{3}/)*[0-9]{3})\.p")


def delete_partials(files: Files, *, before: int, size: int, everywhere: bool) -> None:
    """Delete the partial tiles that a log of `size` entries, signed, no longer needs.

    `before` is the size of the checkpoint before it, or the same where that is not known:
    then no tile that is partial still is touched. `everywhere` looks at all tiles, for what
    a crash left, instead of at those between the two sizes.
    """
    for folder in files.partials() if everywhere else _changed(before, size):
        found = _FOLDER.fullmatch(folder)
        if found is None:
            continue
        kind, groups = found.groups()
        level = None if kind == "entries" else int(kind)
        number = int(re.sub(r"\D", "", groups))
        if gone := _needless(files, level, number, before=before, size=size):
            files.remove(folder, gone)


def _needless(files: Files, level: int | None, number: int, *, before: int, size: int) -> list[str]:
    """Return which files of a partial tile's folder are to go."""
    names = files.names(_folder(level, number))
    if not names:
        return []
    old, new = (_width(each, level, number) for each in (before, size))
    if new == TILE_WIDTH:
        return names if files.read(tile_path(level, number)) is not None else []
    if before == size:
        return []
    return [each for each in names if each.isdecimal() and int(each) < new and int(each) != old]


def _changed(before: int, size: int) -> Iterable[str]:
    """Yield the folders of partial tiles that these two sizes have."""
    level, shift = 0, 0
    while size >> shift:
        for number in sorted({(each >> shift) // TILE_WIDTH for each in (before, size)}):
            yield _folder(level, number)
            if level == 0:
                yield _folder(None, number)
        level, shift = level + 1, shift + _HEIGHT


def _folder(level: int | None, number: int) -> str:
    return tile_path(level, number, 1).rpartition("/")[0]


def _width(size: int, level: int | None, number: int) -> int:
    """Return how wide a tile is in a log of this size; 0 or less where there is none."""
    return min(TILE_WIDTH, (size >> (_HEIGHT * (level or 0))) - number * TILE_WIDTH)
