"""Segments as a volume reads them: slot, and the cipher of each stripe, made when needed.

Hot paths look into `places` themselves, by entry >> STRIPE_SHIFT, and call `place` on a
miss. Keys stay in the arena that was handed in; a segment or a stripe that is dropped
leaves it at once, and its ciphers with it (I3). Of a segment that lost a stripe the arena
holds the keys of those that survive in the place of the seed, which would open all.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from scrubjay.base.errors import Corrupt
from scrubjay.base.units import HEADER_KEY, SEGMENT_BYTES, SLOTS_OFFSET_BYTES, STRIPES
from scrubjay.engine.entry import SEGMENT_SHIFT, STRIPE_SHIFT
from scrubjay.engine.lessor import GROUP_SEGMENTS, Grant, Lessor
from scrubjay.keys.aead import KEY_BYTES, child, children

__all__ = ["KeyArena", "Place", "Segments"]

Encrypt = Callable[[bytes, memoryview, bytes | None, memoryview], int]
Place = tuple[Encrypt, int, Encrypt]
"""(decrypt_into of a stripe, where its segment begins on the medium in bytes, encrypt_into)."""

AHEAD_GROUPS = 256
"""Asked for right after attaching: 256 GiB of log, so that no reader has to wait for the
daemon. What is older is asked for when it is read."""
PLACES_MAX = 8192
"""An AESGCM object costs 2.4 KiB (measured): 20 MiB, and 2 GiB of volume at a time."""

_GONE = bytes(KEY_BYTES)
_ALL_KEYS = (1 << HEADER_KEY + 1) - 1
"""Those of the stripes and that of the headers, as a mask."""


class KeyArena(Protocol):
    """Where segment keys lie: locked memory, overwritten when dropped.

    A segment's key is its seed, 32 bytes, or 65 times 32: a key of each stripe and that of the
    headers, zeros for one that is forgotten.
    """

    def put(self, segment: int, key: bytes) -> None:
        """Keep the key of a segment."""
        ...

    def get(self, segment: int) -> bytes | None:
        """Return the key, or None."""
        ...

    def drop(self, segment: int) -> None:
        """Overwrite the key of a segment; none is fine."""
        ...

    def drop_all(self) -> None:
        """Overwrite every key."""
        ...


class Segments:
    """Slots and keys of the segments that this volume may read."""

    def __init__(self, lessor: Lessor, arena: KeyArena) -> None:
        self.places: dict[int, Place] = {}
        self._lessor = lessor
        self._arena = arena
        self._bases: dict[int, int] = {}
        self._withheld: dict[int, int] = {}
        """Keys that a commit under way gives up, a mask of each segment."""
        self._groups: set[int] = set()
        self._dropped = False

    def add(self, grants: Iterable[Grant]) -> None:
        """Learn segments; a grant without a slot is one that has no place any more."""
        for grant in grants:
            segment = grant.segment
            withheld = self._withheld.get(segment, 0)
            if grant.slot is None or withheld == _ALL_KEYS:
                self.drop(segment)
                continue
            self._bases[segment] = SLOTS_OFFSET_BYTES + grant.slot * SEGMENT_BYTES
            key = grant.key or _joined(dict(grant.stripes))
            self._arena.put(segment, _without(key, withheld) if withheld else key)

    def withhold(self, freed: Iterable[int], stripes: Iterable[tuple[int, int]]) -> None:
        """Until this is called anew, take in no key of these, whatever the keeper says (I3).

        A reader that asks for a group while a commit is under way is told what held before it.
        """
        self._withheld = dict(stripes) | dict.fromkeys(freed, _ALL_KEYS)

    def base(self, segment: int) -> int | None:
        """Return where the segment begins on the medium, or None where it has no slot."""
        base = self._bases.get(segment)
        group = segment // GROUP_SEGMENTS
        if base is None and group not in self._groups and not self._dropped:
            self.learn(group, self._lessor.group(group))
            base = self._bases.get(segment)
        return base

    def holds(self, segment: int) -> bool:
        """Tell whether a segment is known to have a slot; asks nobody."""
        return segment in self._bases

    def unasked(self, *, below: int) -> list[int]:
        """Return the newest groups with ids below `below` that were not asked for, in order."""
        groups = range((below - 1) // GROUP_SEGMENTS, -1, -1)
        return [group for group in groups if group not in self._groups][:AHEAD_GROUPS]

    def learn(self, group: int, grants: Iterable[Grant]) -> None:
        """Take in what the keeper says of a group, if it may still be known."""
        if not self._dropped:
            self.add(grants)
            self._groups.add(group)

    def place(self, entry: int) -> Place | None:
        """Return the place of an entry's stripe; None where it has no slot, or no key any more."""
        stripe = entry >> STRIPE_SHIFT
        place = self.places.get(stripe)
        if place is None:
            base = self.base(entry >> SEGMENT_SHIFT)
            if base is None:
                return None
            key = self._key(*divmod(stripe, STRIPES))
            if key is None:
                return None
            cipher = AESGCM(key)
            place = cipher.decrypt_into, base, cipher.encrypt_into
            self._make_room(1)
            self.places[stripe] = place
        return place

    def cipher(self, segment: int, number: int = HEADER_KEY) -> AESGCM:
        """Return the cipher of a stripe, or of the headers; Corrupt if its key is gone."""
        key = self._key(segment, number)
        if key is None:
            what = "the headers have" if number == HEADER_KEY else f"stripe {number} has"
            msg = f"segment {segment}: {what} no key, expected one"
            raise Corrupt(msg)
        return AESGCM(key)

    def prepare(self, segment: int) -> None:
        """Make the ciphers of a segment that is about to be written, all at once."""
        base, key = self.base(segment), self._arena.get(segment)
        assert base is not None, "a segment to be written has a slot"
        assert key is not None, "and a key from which all stripes derive"
        self._make_room(STRIPES)
        for number, stripe_key in enumerate(children(key, range(STRIPES))):
            cipher = AESGCM(stripe_key)
            place = cipher.decrypt_into, base, cipher.encrypt_into
            self.places[segment * STRIPES + number] = place

    def drop_stripes(self, segment: int, gone: int) -> None:
        """Let go of the keys of the stripes in a mask, and of the seed that opens them (I3)."""
        key = self._arena.get(segment)
        if key is None:
            return
        for number in range(STRIPES):
            if gone >> number & 1:
                self.places.pop(segment * STRIPES + number, None)
        self._arena.put(segment, _without(key, gone))

    def drop(self, segment: int) -> None:
        """Let go of a segment: its slot is not ours any more, its key is overwritten."""
        self._bases.pop(segment, None)
        for stripe in range(segment * STRIPES, segment * STRIPES + STRIPES):
            self.places.pop(stripe, None)
        self._arena.drop(segment)

    def drop_but(self, kept: Container[int]) -> list[int]:
        """Let go of all segments with a slot but those `kept`; return them."""
        dropped = [segment for segment in self._bases if segment not in kept]
        self.places.clear()
        for segment in dropped:
            del self._bases[segment]
            self._arena.drop(segment)
        return dropped

    def drop_all(self) -> None:
        """Let go of everything for good (the volume is being destroyed), and ask no more."""
        self._dropped = True
        self.places.clear()
        self._bases.clear()
        self._arena.drop_all()

    def _key(self, segment: int, number: int) -> bytes | None:
        key = self._arena.get(segment)
        if key is None or len(key) == KEY_BYTES:
            return None if key is None else child(key, number)
        survivor = key[number * KEY_BYTES : (number + 1) * KEY_BYTES]
        return None if survivor == _GONE else survivor

    def _make_room(self, count: int) -> None:
        if len(self.places) + count > PLACES_MAX:
            for old in list(self.places)[: PLACES_MAX >> 3]:
                del self.places[old]


def _parted(key: bytes) -> list[bytes]:
    """Return the key of each stripe, and that of the headers behind them."""
    if len(key) == KEY_BYTES:
        return children(key, range(HEADER_KEY + 1))
    return [key[at : at + KEY_BYTES] for at in range(0, len(key), KEY_BYTES)]


def _without(key: bytes, gone: int) -> bytes:
    """Return a segment's key without those in a mask."""
    keys = enumerate(_parted(key))
    return _joined({number: each for number, each in keys if not gone >> number & 1})


def _joined(keys: dict[int, bytes]) -> bytes:
    """Return the keys as the arena holds them, zeros in the place of those that are missing."""
    return b"".join(keys.get(number, _GONE) for number in range(HEADER_KEY + 1))
