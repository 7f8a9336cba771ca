"""What an adversary may have kept: every version of every block that was ever written.

`History` is the memory; `RememberingMedium` puts it around a Medium, `RememberingFile` around
the file of a sink. What was overwritten, discarded, refused half-way or never synced stays:
flash, snapshots and journals keep all of that. So whoever searches here, and finds nothing,
has searched more than any disk could hold.

    medium = RememberingMedium(SimulatedMedium(GIB))
    ...                                             the workload
    assert not list(medium.history.find(key))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from threading import Lock

from scrubjay.base.ports import Buffer, Extent, Medium
from scrubjay.media.simulated import SimulatedMedium
from scrubjay.sinks.locked import FileIo

__all__ = ["BLOCK_BYTES", "History", "RememberingFile", "RememberingMedium"]

BLOCK_BYTES = 4096
VERSIONS_MAX = 10_000
"""Combinations that `versions` returns at most: a range of many blocks has more than anybody
wants to see."""

Peek = Callable[[int, int], bytes]
"""(offset, length) -> what lies there now, fewer bytes at the end."""


class History:
    """Versions of blocks, each once, in the order in which they came up."""

    def __init__(self, peek: Peek) -> None:
        self._peek = peek
        self._versions: dict[int, dict[bytes, None]] = {}
        self._lock = Lock()

    def look_at(self, peek: Peek) -> None:
        """Go on with what lies there from now on, as after a crash."""
        self._peek = peek

    def note(self, offset_bytes: int, data: Buffer) -> None:
        """Remember the blocks as they are, and as they are with `data` in them.

        Call it before the write is tried: a write that fails may have happened.
        """
        if not len(data) or offset_bytes < 0:
            return
        with self._lock:
            first = offset_bytes // BLOCK_BYTES
            last = (offset_bytes + len(data) - 1) // BLOCK_BYTES
            for number in range(first, last + 1):
                start = number * BLOCK_BYTES
                before = self._peek(start, BLOCK_BYTES).ljust(BLOCK_BYTES, b"\0")
                piece = bytes(
                    data[max(0, start - offset_bytes) : start + BLOCK_BYTES - offset_bytes]
                )
                at = max(0, offset_bytes - start)
                after = before[:at] + piece + before[at + len(piece) :]
                self._versions.setdefault(number, {before: None})[after] = None

    def versions(self, offset_bytes: int, length_bytes: int) -> list[bytes]:
        """Return all that this range may have held, in any combination of its blocks.

        Raises ValueError where that are more than VERSIONS_MAX.
        """
        first, at = divmod(offset_bytes, BLOCK_BYTES)
        blocks = [
            self._of(number)
            for number in range(first, (offset_bytes + length_bytes - 1) // BLOCK_BYTES + 1)
        ]
        count = 1
        for each in blocks:
            count *= len(each)
        if count > VERSIONS_MAX:
            raise ValueError(f"{count} combinations, expected at most {VERSIONS_MAX}")
        whole = (b"".join(chosen)[at : at + length_bytes] for chosen in product(*blocks))
        return list(dict.fromkeys(whole))

    def every_byte(self) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, 4 KiB) for every version of every block that was ever written to."""
        for number, versions in sorted(self._versions.items()):
            for version in versions:
                yield number * BLOCK_BYTES, version

    def find(self, needle: bytes) -> Iterator[int]:
        """Yield the offsets at which some combination of versions holds `needle`, ascending.

        Also across two blocks, whichever of their versions: an adversary may puzzle. Raises
        ValueError where the needle is longer than a block.
        """
        if not 0 < len(needle) <= BLOCK_BYTES:
            raise ValueError(f"needle of {len(needle)} bytes, expected 1 to {BLOCK_BYTES}")
        found: set[int] = set()
        for number in sorted(self._versions):
            for version in self._versions[number]:
                found.update(number * BLOCK_BYTES + at for at in _all(version, needle))
            found.update(self._across(number, needle))
            if number - 1 not in self._versions:
                found.update(self._across(number - 1, needle))
        yield from sorted(found)

    def _of(self, number: int) -> list[bytes]:
        if number not in self._versions:
            return [self._peek(number * BLOCK_BYTES, BLOCK_BYTES).ljust(BLOCK_BYTES, b"\0")]
        return list(self._versions[number])

    def _across(self, number: int, needle: bytes) -> Iterator[int]:
        """Yield where the needle begins in one block and ends in the next."""
        if number < 0:
            return
        here, there = self._of(number), self._of(number + 1)
        for size in range(1, len(needle)):
            head, tail = needle[:size], needle[size:]
            if any(each.endswith(head) for each in here) and any(
                each.startswith(tail) for each in there
            ):
                yield (number + 1) * BLOCK_BYTES - size


class RememberingMedium:
    """A Medium that forgets nothing; around any other, which it hands everything on to."""

    def __init__(self, medium: Medium, *, history: History | None = None) -> None:
        """Go on with the `history` of the medium before a crash, if there is one."""
        self._medium = medium
        self.history = history or History(self._peek)
        self.history.look_at(self._peek)

    @property
    def size_bytes(self) -> int:
        """How many bytes it holds."""
        return self._medium.size_bytes

    @property
    def waits(self) -> int:
        """How many reads had to wait so far."""
        return self._medium.waits

    @property
    def reads_device(self) -> bool:
        """Nothing beneath is to be seen from here."""
        return False

    def read_into(self, offset_bytes: int, out: memoryview) -> int:
        """Read what was written last."""
        return self._medium.read_into(offset_bytes, out)

    def write(self, offset_bytes: int, data: Buffer) -> int:
        """Remember, then write; what is refused counts as written where it would fit."""
        if 0 <= offset_bytes <= self.size_bytes - len(data):
            self.history.note(offset_bytes, data)
        return self._medium.write(offset_bytes, data)

    def sync(self, extents: Sequence[Extent] | None = None) -> None:
        """Make writes durable."""
        self._medium.sync(extents)

    def advise(self, extents: Sequence[Extent]) -> None:
        """Announce reads."""
        self._medium.advise(extents)

    def close(self) -> None:
        """Close what is beneath; the history stays."""
        self._medium.close()

    def zero_range(self, extent: Extent) -> bool:
        """Read as zeros from now on, and remember what was there."""
        return self._drop(extent)

    def punch_hole(self, extent: Extent) -> bool:
        """Read as zeros from now on, and remember what was there."""
        return self._drop(extent)

    def discard(self, extent: Extent) -> bool:
        """Read as zeros from now on, and remember what was there."""
        return self._drop(extent)

    def _drop(self, extent: Extent) -> bool:
        offset_bytes, length_bytes = extent
        self.write(offset_bytes, bytes(length_bytes))
        return True

    def _peek(self, offset_bytes: int, length_bytes: int) -> bytes:
        if isinstance(self._medium, SimulatedMedium):
            return self._medium.peek(offset_bytes, length_bytes)  # plays no faults
        out = bytearray(max(0, min(length_bytes, self.size_bytes - offset_bytes)))
        try:
            count = self._medium.read_into(offset_bytes, memoryview(out)) if out else 0
        except OSError:
            return b""  # nobody reads it now; what was written there is in the history
        return bytes(out[:count])


class RememberingFile:
    """A FileIo of a sink that forgets nothing; around any other."""

    def __init__(self, io: FileIo) -> None:
        self._io = io
        self.history = History(io.read)

    @property
    def size_bytes(self) -> int:
        """How long the file is."""
        return self._io.size_bytes

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return what was written last."""
        return self._io.read(offset_bytes, size_bytes)

    def write(self, offset_bytes: int, data: bytes) -> None:
        """Remember, then write."""
        self.history.note(offset_bytes, data)
        self._io.write(offset_bytes, data)

    def sync(self) -> None:
        """Make writes durable."""
        self._io.sync()

    def expect_in_place(self) -> None:
        """Ask what is beneath."""
        self._io.expect_in_place()

    def close(self) -> None:
        """Close what is beneath; the history stays."""
        self._io.close()


def _all(text: bytes, needle: bytes) -> Iterator[int]:
    at = text.find(needle)
    while at >= 0:
        yield at
        at = text.find(needle, at + 1)
