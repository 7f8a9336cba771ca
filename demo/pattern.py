"""What the second tenant writes: a piece here and there; most of his disk stays unwritten."""

import random
from collections.abc import Iterator

from demo.disk import Disk
from demo.report import MIB, prove

__all__ = ["EMPTY", "Pattern"]

STRIDE_BYTES = 4 * MIB
PIECES_MAX = 1 << 16
START_BYTES = 3 * 4096 + 512
"""Pieces begin and end within a sector, whose rest must read as zeros as well."""


class Pattern:
    """A disk's content that can be told again from its name."""

    def __init__(self, name: str, *, piece_bytes: int) -> None:
        self.name = name
        self._piece_bytes = piece_bytes
        self._noise = random.Random(name).randbytes(piece_bytes + PIECES_MAX)

    def write(self, disk: Disk) -> int:
        """Write all pieces, durably; return how many bytes that were."""
        written = 0
        for start in range(START_BYTES, disk.size_bytes - self._piece_bytes, STRIDE_BYTES):
            disk.write(start, self._piece(start))
            written += self._piece_bytes
        disk.flush()
        return written

    def check(self, disk: Disk) -> int:
        """Read the whole disk; Unproven unless it is the pieces, and zeros between them."""

        def take(offset: int, data: memoryview) -> None:
            expected = bytearray(len(data))
            for start, piece in self._overlapping(offset, disk.size_bytes, len(data)):
                first, last = max(start, offset), min(start + len(piece), offset + len(data))
                expected[first - offset : last - offset] = piece[first - start : last - start]
            prove(
                data.tobytes() == expected,
                f"volume {self.name}: reads what nobody wrote there, near byte {offset}",
            )

        disk.read(take, start=0, end=disk.size_bytes)
        return disk.size_bytes

    def _overlapping(
        self, offset: int, size_bytes: int, length: int
    ) -> Iterator[tuple[int, bytes]]:
        if not self._piece_bytes:
            return
        first = max(0, offset - START_BYTES - self._piece_bytes) // STRIDE_BYTES * STRIDE_BYTES
        end = min(offset + length, size_bytes - self._piece_bytes)
        for start in range(START_BYTES + first, end, STRIDE_BYTES):
            if start + self._piece_bytes > offset:
                yield start, self._piece(start)

    def _piece(self, start: int) -> bytes:
        shift = start // STRIDE_BYTES  # making noise takes longer than writing it
        return self._noise[shift : shift + self._piece_bytes]


EMPTY = Pattern("never written", piece_bytes=0)
"""A disk that nobody wrote to."""
