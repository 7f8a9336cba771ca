"""A segment's key as an exporter gets it: what opens its stripes, and nothing above."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from scrubjay.base.units import HEADER_KEY
from scrubjay.keys.aead import child, children
from scrubjay.keys.forgotten import Forgotten

__all__ = ["SegmentKey"]


class SegmentKey(NamedTuple):
    """Either the seed of all 64 stripes and the headers, or the keys of those that survive.

    A seed opens every stripe of its segment. So whoever holds one has to hand it back for
    the table, or to end, before the forgetting of a stripe is believed (I3). It never
    shows its keys.
    """

    seed: bytes = b""
    """32 bytes, empty where stripes were forgotten."""
    stripes: tuple[tuple[int, bytes], ...] = ()
    """(number, key) of each stripe that survives, ascending, the headers' key (64) the last;
    empty where there is a seed."""

    def __repr__(self) -> str:
        kept = "all" if self.seed else len(self.stripes)
        return f"SegmentKey({kept} stripes)"

    def without(self, numbers: Iterable[int]) -> SegmentKey:
        """Return what is left once these stripes are forgotten."""
        gone = frozenset(numbers)
        if not gone:
            return self
        born = range(HEADER_KEY + 1)
        every = tuple(zip(born, children(self.seed, born), strict=True)) if self.seed else None
        kept = self.stripes if every is None else every
        return SegmentKey(stripes=tuple(each for each in kept if each[0] not in gone))

    def stripe(self, number: int) -> bytes:
        """Return the key of a stripe; Forgotten if it did not survive."""
        if self.seed:
            return child(self.seed, number)
        key = dict(self.stripes).get(number)
        if key is None:
            raise Forgotten(f"stripe {number}: has no key, expected one that survives")
        return key

    def cipher(self, number: int) -> AESGCM:
        """Return the cipher of a stripe, 2.4 KiB; Forgotten if the stripe did not survive."""
        return AESGCM(self.stripe(number))
