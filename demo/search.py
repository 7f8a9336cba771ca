"""Looking for plaintext in raw bytes: every block of a volume, at any alignment.

From each block one run of bytes is taken, its probe. All 8-byte windows of all probes go
into one set. A copy of a block, wherever it begins, then has one of these windows at a
multiple of STRIDE_BYTES: looking there alone misses none, and costs one look-up in 64
bytes. A hit is compared with the whole probe, which chance does not equal.
"""

import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from demo.report import MIB

__all__ = ["BLOCK_BYTES", "Found", "Probes", "blocks_of", "walk"]

BLOCK_BYTES = 4096
WINDOW_BYTES = 8
STRIDE_BYTES = 64
PROBE_BYTES = STRIDE_BYTES - 1 + WINDOW_BYTES
WINDOWS = struct.Struct(f"={STRIDE_BYTES // WINDOW_BYTES}Q")
GRAIN_BYTES = 32
"""Where in a block a probe may begin."""
KINDS_MIN = 12
"""So many different bytes a probe has: fewer occur anywhere."""
DULL = re.compile(rb"(.)\1{6}", re.DOTALL)
"""A run of zeros or blanks, as in a window that occurs anywhere."""
CHUNK_BYTES = 4 * MIB
ZEROS = bytes(CHUNK_BYTES)
FOUND_MAX = 16
"""Places that are told: one is too many already."""


@dataclass(frozen=True, slots=True)
class Found:
    """A place where plaintext lies."""

    path: Path
    offset_bytes: int
    probe: bytes


@dataclass(slots=True)
class Probes:
    """What is looked for."""

    probes: list[bytes] = field(default_factory=list)
    plain_count: int = 0
    """Blocks too plain to look for: nothing but zeros and the like."""
    _windows: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, blocks: Iterable[bytes]) -> "Probes":
        """Take a probe from each block."""
        made = cls()
        taken: set[bytes] = set()
        for block in blocks:
            probe = _probe(block)
            if probe is None:
                made.plain_count += 1
            else:
                taken.add(probe)
        made.probes = sorted(taken)
        for probe in made.probes:
            for start in range(WINDOW_BYTES):
                made._windows.update(WINDOWS.unpack_from(probe, start))
        return made

    def search(
        self, paths: Sequence[Path], advance: Callable[[int, int], None] = lambda *_: None
    ) -> tuple[list[Found], int]:
        """Return places in these files where plaintext lies, and how many bytes they hold.

        `advance` is told how many bytes are done, and of how many. Holes, which the file
        system itself says to read as zeros, are passed over.
        """
        total = sum(path.stat().st_size for path in paths)
        found: list[Found] = []
        done = 0
        for path in paths:
            for offset_bytes, chunk in _chunks(path):
                advance(done + offset_bytes, total)
                if chunk == ZEROS or self._windows.isdisjoint(_samples(chunk)):
                    continue
                for at in self._hits(chunk):
                    found += self._compare(path, offset_bytes + at)
                    if len(found) == FOUND_MAX:
                        return found, total
            done += path.stat().st_size
        return found, total

    def _hits(self, chunk: bytearray) -> Iterator[int]:
        for index, sample in enumerate(_samples(chunk)):
            if sample in self._windows:
                yield index * STRIDE_BYTES

    def _compare(self, path: Path, at: int) -> Iterator[Found]:
        """Yield it if a whole probe lies around the window at byte `at`."""
        before = min(at, STRIDE_BYTES)
        with path.open("rb") as file:
            around = os.pread(file.fileno(), before + PROBE_BYTES + STRIDE_BYTES, at - before)
        window = around[before : before + WINDOW_BYTES]
        for probe in self.probes:
            if window in probe and (start := around.find(probe)) >= 0:
                yield Found(path, at - before + start, probe)
                return


def blocks_of(path: Path) -> Iterator[bytes]:
    """Yield the different blocks of a file, each once."""
    seen: set[int] = set()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            if (digest := hash(block)) not in seen:
                seen.add(digest)
                yield block


def walk(folder: Path) -> list[Path]:
    """Return every regular file below a folder, hidden ones too."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _probe(block: bytes) -> bytes | None:
    """Return a run of bytes of a block that is nothing ordinary; None where all of it is."""
    for start in range(0, len(block) - PROBE_BYTES + 1, GRAIN_BYTES):
        probe = block[start : start + PROBE_BYTES]
        if len(set(probe)) >= KINDS_MIN and not DULL.search(probe):
            return probe
    return None


def _samples(chunk: bytearray) -> memoryview:
    """Return the window at every multiple of the stride, as numbers."""
    return memoryview(chunk).cast("Q")[:: STRIDE_BYTES // WINDOW_BYTES]


def _chunks(path: Path) -> Iterator[tuple[int, bytearray]]:
    """Yield (offset, bytes) of what a file holds, offsets at multiples of the chunk's size."""
    chunk = bytearray(CHUNK_BYTES)
    with path.open("rb", buffering=0) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        at = 0
        while at < size_bytes:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA) // CHUNK_BYTES * CHUNK_BYTES
            except OSError:  # ENXIO: nothing but a hole up to the end
                return
            file.seek(at)
            length = 0
            while got := file.readinto(memoryview(chunk)[length:]):
                length += got
            chunk[length:] = bytes(CHUNK_BYTES - length)
            yield at, chunk
            at += CHUNK_BYTES
