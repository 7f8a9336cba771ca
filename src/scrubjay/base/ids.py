"""Names for the numbers that go from room to room, so that mypy keeps them apart."""

from __future__ import annotations

import uuid
from typing import NewType

__all__ = ["BranchNo", "Entry", "Epoch", "LineageNo", "SegmentId", "Slot", "TenantNo", "VolumeId"]

TenantNo = NewType("TenantNo", int)
"""From 1, u24, never given twice in a pool."""
LineageNo = NewType("LineageNo", int)
"""From 1, u32, never given twice in a pool."""
BranchNo = NewType("BranchNo", int)
"""From 1, u24, never given twice in a lineage."""
SegmentId = NewType("SegmentId", int)
"""From 1, u36, never given twice in a lineage."""
Slot = NewType("Slot", int)
"""The place of a segment, counted through all media of the pool."""
Epoch = NewType("Epoch", int)
"""Which key of the sink; one more at each rotation."""
Entry = NewType("Entry", int)
"""Where a sector lies, as docs/format/log.md packs it; 0: nowhere."""
VolumeId = NewType("VolumeId", uuid.UUID)
