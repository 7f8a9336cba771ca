"""What an audit needs of a storage cloud: to make volumes, to read and write them, to search.

`daemon` does it as every client does, through the API and NBD. Tests do it with their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Disk", "Scan", "Storage"]


@dataclass(frozen=True, slots=True)
class Scan:
    """What a search of the raw media found; `offsets` are the first places only."""

    bytes_scanned: int
    matches: int
    offsets: tuple[int, ...]


class Disk(Protocol):
    """A connection to an attached volume."""

    @property
    def size_bytes(self) -> int:
        """The volume's size when the connection was made."""
        ...

    def write_all(self, pieces: Iterable[tuple[int, bytes | memoryview]]) -> int:
        """Write (offset, data) pieces; return how many bytes that was."""
        ...

    def read_all(self, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, data) of (offset, size) ranges in their order."""
        ...

    def flush(self) -> None:
        """Make durable what was written before."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class Storage(Protocol):
    """Tenants and volumes by name; every method has taken effect when it returns."""

    def make_tenant(self, name: str) -> None:
        """Make a tenant."""
        ...

    def make_volume(self, name: str, *, tenant: str, size_bytes: int) -> None:
        """Make a volume."""
        ...

    def attach(self, name: str) -> Disk:
        """Attach a volume, and connect to it."""
        ...

    def detach(self, name: str) -> None:
        """End serving a volume."""
        ...

    def grow(self, name: str, *, size_bytes: int) -> None:
        """Let a volume grow."""
        ...

    def destroy(self, name: str) -> None:
        """Destroy a volume, attached or not, and return when its key is forgotten."""
        ...

    def scan(self, mark: bytes) -> Scan:
        """Search all raw media for bytes."""
        ...

    def close_tenant(self, name: str) -> bool:
        """Take a tenant away that has no volumes left; False where this cannot be done."""
        ...
