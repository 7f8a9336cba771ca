"""The ports through which the rooms reach the world: time, randomness, and media.

They are handed in from the first line on, so that a test can play every clock, every
fault and every crash on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["Buffer", "Clock", "Entropy", "Extent", "Medium"]

Buffer = bytes | bytearray | memoryview
Extent = tuple[int, int]
"""(offset, length) on a medium, in bytes."""


class Clock(Protocol):
    """Time."""

    def now_ns(self) -> int:
        """Nanoseconds since 1970 UTC; may jump."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds since some moment; never goes back."""
        ...


class Entropy(Protocol):
    """Randomness that is fit for keys."""

    def token(self, size_bytes: int) -> bytes:
        """Return `size_bytes` unpredictable bytes."""
        ...


class Medium(Protocol):
    """Bytes that survive: a pool file, a block device, a mirror, in tests a dict.

    Offsets and lengths are in bytes. A write is durable only after a `sync` that began
    after it returned. Every method raises `OSError` as the operating system does.
    """

    @property
    def size_bytes(self) -> int:
        """How many bytes it holds; fixed while it is open."""
        ...

    @property
    def waits(self) -> int:
        """How many reads had to wait so far, as well as it knows: a sign to announce more."""
        ...

    def read_into(self, offset_bytes: int, out: memoryview) -> int:
        """Fill `out` from `offset_bytes`; return the bytes read, fewer only at the end."""
        ...

    def write(self, offset_bytes: int, data: Buffer) -> int:
        """Write at `offset_bytes`; return the bytes written, fewer when it came up short."""
        ...

    def sync(self, extents: Sequence[Extent] | None = None) -> None:
        """Make every write that returned before this call durable; with `extents`, those to them.

        To name extents is what keeps one volume's FLUSH from paying for its neighbours.
        After a failure nothing is known about any write since the last success, and
        no later success says anything about them (I4).
        """
        ...

    def advise(self, extents: Sequence[Extent]) -> None:
        """Announce reads of (offset, length) to come; may do nothing."""
        ...

    def close(self) -> None:
        """Give the handle back; nothing is synced by it."""
        ...
