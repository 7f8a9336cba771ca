"""Storage with faults that an audit is there to find, each as some provider once had it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from scrubjay.base.units import SECTOR_BYTES
from tests.audit.storage import LocalDisk, LocalStorage, Memory

__all__ = ["Dropping", "PlainText", "Recycling", "Shuffling", "Stale"]

_ZEROS = bytes(SECTOR_BYTES)


@dataclass
class Faulty(LocalDisk):
    """A disk of which each sector that is read goes through a fault."""

    fault: Callable[[int, bytes], bytes] = field(default=lambda _at, sector: sector)
    wrote: Callable[[int, bytes], None] = field(default=lambda _at, _data: None)

    def write_all(self, pieces: Iterable[tuple[int, bytes | memoryview]]) -> int:
        """Write, and have the fault see it."""

        def seen() -> Iterator[tuple[int, bytes | memoryview]]:
            for offset_bytes, data in pieces:
                self.wrote(offset_bytes, bytes(data))
                yield offset_bytes, data

        return super().write_all(seen())

    def read_all(self, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
        """Read, and spoil."""
        for offset_bytes, data in super().read_all(ranges):
            spoiled = bytearray()
            for at in range(0, len(data), SECTOR_BYTES):
                spoiled += self.fault(offset_bytes + at, data[at : at + SECTOR_BYTES])
            yield offset_bytes, bytes(spoiled)


class Recycling(LocalStorage):
    """Unwritten sectors read as what lies in the slot: whatever anybody wrote there last."""

    def attach(self, name: str) -> LocalDisk:
        """Attach without clearing."""
        left: dict[int, bytes] = self.__dict__.setdefault("left", {})

        def wrote(offset_bytes: int, data: bytes) -> None:
            if offset_bytes % SECTOR_BYTES == 0:
                for at in range(0, len(data), SECTOR_BYTES):
                    left[offset_bytes + at] = data[at : at + SECTOR_BYTES]

        def fault(offset_bytes: int, sector: bytes) -> bytes:
            return left.get(offset_bytes, sector) if sector == _ZEROS else sector

        return Faulty(super().attach(name).engine, fault, wrote)


class Stale(LocalStorage):
    """Half a sector behind a short write is what a buffer held before, of another client."""

    def attach(self, name: str) -> LocalDisk:
        """Attach to a server that clears no buffers."""
        half = SECTOR_BYTES // 2

        def fault(_offset_bytes: int, sector: bytes) -> bytes:
            short = not any(sector[:half]) and any(sector[half:])
            return b"somebody else's " * (half // 16) + sector[half:] if short else sector

        return Faulty(super().attach(name).engine, fault)


class Shuffling(LocalStorage):
    """After a volume was attached again one sector reads as its neighbour's."""

    def attach(self, name: str) -> LocalDisk:
        """Attach with a map that is off by one, but only to volumes that were attached before."""
        seen: set[str] = self.__dict__.setdefault("seen", set())
        again, before = name in seen, [_ZEROS]
        seen.add(name)

        def fault(offset_bytes: int, sector: bytes) -> bytes:
            spoiled = before[0] if again and offset_bytes == 5 * SECTOR_BYTES else sector
            before[0] = sector
            return spoiled

        return Faulty(super().attach(name).engine, fault)


class Dropping(LocalStorage):
    """One sector is lost on its way."""

    def attach(self, name: str) -> LocalDisk:
        """Attach."""

        def fault(offset_bytes: int, sector: bytes) -> bytes:
            return _ZEROS if offset_bytes == 3 * SECTOR_BYTES else sector

        return Faulty(super().attach(name).engine, fault)


class PlainText(LocalStorage):
    """A block reaches the medium as it was written."""

    def attach(self, name: str) -> LocalDisk:
        """Attach to a server that leaves a copy on its disk."""
        medium = self.pool
        assert isinstance(medium, Memory)

        def wrote(offset_bytes: int, data: bytes) -> None:
            if offset_bytes == 0:
                medium.write(medium.size_bytes - SECTOR_BYTES, data[:SECTOR_BYTES])

        return Faulty(super().attach(name).engine, wrote=wrote)
