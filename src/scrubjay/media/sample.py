"""Which pages to read back, so that nobody can know beforehand.

The first and the last page of every extent are among them, as writes that stop too early or
begin too late show there; the others are drawn. Where a share f of the pages is wrong, n
drawn ones miss it with probability (1 - f)^n.
"""

from __future__ import annotations

from collections.abc import Sequence

from scrubjay.base.ports import Entropy, Extent
from scrubjay.base.units import PAGE_BYTES

__all__ = ["pick_pages"]

_TOKEN_BYTES = 16
"""A remainder of 128 bits prefers no page by more than 2^-80 in any medium."""


def pick_pages(extents: Sequence[Extent], per_extent: int, entropy: Entropy) -> list[int]:
    """Return offsets of pages in these extents, `per_extent` of each (or all), ascending.

    Extents begin and end at pages, in bytes.
    """
    offsets: set[int] = set()
    for offset_bytes, length_bytes in extents:
        pages = length_bytes // PAGE_BYTES
        picked = _pick(pages, min(per_extent, pages), entropy)
        offsets.update(offset_bytes + page * PAGE_BYTES for page in picked)
    return sorted(offsets)


def _pick(pages: int, count: int, entropy: Entropy) -> set[int]:
    """Return the ends, and numbers between them by Floyd's algorithm, each set as likely."""
    ends = {0, pages - 1} if pages else set()
    if count <= len(ends):
        return set(sorted(ends)[:count])
    inner: set[int] = set()
    between = pages - 2
    for top in range(between - (count - 2), between):
        drawn = int.from_bytes(entropy.token(_TOKEN_BYTES), "little") % (top + 1)
        inner.add(top if drawn in inner else drawn)
    return ends | {page + 1 for page in inner}
