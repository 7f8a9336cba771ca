"""Overwriting slots that are claimed for it, and no others, while the claim stands.

A claim is in the memory of one open pool. Once that pool is closed it may be opened anew,
and lease the slot: whoever still overwrote it would destroy what its new owner wrote (I1).
So every write to a claimed slot passes the pool's fence. Closing a pool waits for the write
that is under way, and lets none pass afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

from scrubjay.base.errors import Conflict, Invalid, Unavailable
from scrubjay.base.ids import Slot
from scrubjay.base.ports import Buffer, Extent, Medium
from scrubjay.base.units import SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.media.erase import Deallocating
from scrubjay.media.geometry import Geometry

__all__ = ["Fence", "Fenced"]


class Fence:
    """What stands between those who overwrite slots and those who lease them."""

    def __init__(self, is_claimed: Callable[[Slot], bool]) -> None:
        self._is_claimed = is_claimed
        self._passing = Lock()
        self._closed = False

    @contextmanager
    def passing(self, slot: Slot) -> Iterator[None]:
        """Keep the claim on a slot standing for the time of the block; keep that short.

        Raises Unavailable once the pool was closed, Conflict where the slot is not claimed.
        """
        with self._passing:
            if self._closed:
                raise Unavailable(
                    f"slot {slot}: its pool was closed, expected it open",
                    hint="claims end with it: claim the slot anew",
                )
            if not self._is_claimed(slot):
                raise Conflict(f"slot {slot}: not claimed, expected claimed to be overwritten")
            yield

    def close(self) -> None:
        """Let nobody pass from now on; waits for who is passing."""
        with self._passing:
            self._closed = True


class Fenced:
    """A medium of a pool behind its fence: all that can be written is claimed slots; a Medium."""

    def __init__(self, medium: Medium, fence: Fence, geometry: Geometry, index: int) -> None:
        """Take another handle of the medium that is the pool's number `index`."""
        self._medium = medium
        self._fence = fence
        self._first_slot = geometry.first_slots[index]

    @property
    def size_bytes(self) -> int:
        """How many bytes it holds."""
        return self._medium.size_bytes

    @property
    def waits(self) -> int:
        """How many reads had to wait."""
        return self._medium.waits

    @property
    def reads_device(self) -> bool:
        """Whether reads come from the device for certain."""
        return isinstance(self._medium, Deallocating) and self._medium.reads_device

    def read_into(self, offset_bytes: int, out: memoryview) -> int:
        """Read; what is ciphertext to everybody needs no claim."""
        return self._medium.read_into(offset_bytes, out)

    def write(self, offset_bytes: int, data: Buffer) -> int:
        """Write within one claimed slot; raises what `Fence.passing` raises, Invalid outside."""
        with self._fence.passing(self._slot_of((offset_bytes, len(data)))):
            return self._medium.write(offset_bytes, data)

    def sync(self, extents: Sequence[Extent] | None = None) -> None:
        """Make writes durable."""
        self._medium.sync(extents)

    def advise(self, extents: Sequence[Extent]) -> None:
        """Announce reads."""
        self._medium.advise(extents)

    def zero_range(self, extent: Extent) -> bool:
        """Have a range of one claimed slot read as zeros; False where that cannot be done."""
        with self._fence.passing(self._slot_of(extent)):
            return isinstance(self._medium, Deallocating) and self._medium.zero_range(extent)

    def punch_hole(self, extent: Extent) -> bool:
        """Give blocks of one claimed slot back; False where that cannot be done."""
        with self._fence.passing(self._slot_of(extent)):
            return isinstance(self._medium, Deallocating) and self._medium.punch_hole(extent)

    def discard(self, extent: Extent) -> bool:
        """Discard a range of one claimed slot; False where that cannot be done."""
        with self._fence.passing(self._slot_of(extent)):
            return isinstance(self._medium, Deallocating) and self._medium.discard(extent)

    def close(self) -> None:
        """Give the handle back."""
        self._medium.close()

    def _slot_of(self, extent: Extent) -> Slot:
        """Return the slot in which an extent lies; Invalid where it does not lie in one."""
        offset_bytes, length_bytes = extent
        start = offset_bytes - SLOTS_OFFSET_BYTES
        number, at = divmod(start, SEGMENT_BYTES)
        if start < 0 or not 0 < length_bytes <= SEGMENT_BYTES - at:
            message = f"extent {offset_bytes}+{length_bytes}"
            raise Invalid(f"{message}: not within one slot, expected claimed ones alone")
        return Slot(self._first_slot + number)
