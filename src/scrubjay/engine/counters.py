"""What one attachment of a volume has done so far."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Counters"]


@dataclass(frozen=True, slots=True)
class Counters:
    """What one attachment did so far; bytes, and counts."""

    written_bytes: int
    appended_bytes: int
    moved_bytes: int
    live_sectors: int
    held_segments: int
    spare_segments: int
    checkpoints: int
    map_pages: int
    purge_moved_bytes: int
    """In the volume's life, in order to purge."""
