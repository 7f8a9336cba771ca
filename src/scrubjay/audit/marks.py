"""Marks: sectors that say of themselves whose they are, wherever they turn up.

A sector is 128 times the same 32 bytes: the run's mark (16 random bytes), the volume's number
within the run, the version of what was written, the sector's place. So half a sector, a
sector at a wrong place and one from another volume all tell where they come from, and a search
for the run's mark finds any of them in the raw media.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from scrubjay.base.errors import Invalid
from scrubjay.base.units import SECTOR_BYTES

__all__ = ["MARK_BYTES", "Marks", "Origin"]

MARK_BYTES = 16
_CELL = struct.Struct(">16sIIQ")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a marked sector was once written."""

    volume: int
    version: int
    sector: int


class Marks:
    """The marks of one run."""

    def __init__(self, mark: bytes) -> None:
        """`mark` is random: nobody else's data has it by chance."""
        if len(mark) != MARK_BYTES or len(set(mark)) < 4:  # noqa: PLR2004 - random bytes have more
            raise Invalid(f"mark of {len(mark)} bytes: expected {MARK_BYTES} random ones")
        self.mark = mark

    def sector(self, origin: Origin) -> bytes:
        """Return the 4096 bytes of a sector."""
        cell = _CELL.pack(self.mark, origin.volume, origin.version, origin.sector)
        return cell * (SECTOR_BYTES // _CELL.size)

    def origin(self, data: bytes) -> Origin | None:
        """Return whose mark bytes carry, wherever in them it begins; None for no mark."""
        at = data.find(self.mark)
        if at < 0:
            return None
        whole = data[at : at + _CELL.size].ljust(_CELL.size, b"\0")
        _, volume, version, sector = _CELL.unpack(whole)
        return Origin(volume, version, sector)
