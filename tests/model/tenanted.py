"""The volumes of a house: living, dead, and what was asked when the power failed."""

from __future__ import annotations

from dataclasses import dataclass

from scrubjay.base.ids import BranchNo, LineageNo, SegmentId, TenantNo, VolumeId
from scrubjay.control.records import VolumeRecord
from scrubjay.keys import path
from tests.model.oracle import Oracle

__all__ = ["Dead", "Intent", "Tenanted", "segment_of"]


@dataclass
class Tenanted:
    """A volume, and what it should hold."""

    id: VolumeId
    name: str
    record: VolumeRecord
    size_bytes: int
    oracle: Oracle
    ephemeral: bool = False

    @property
    def branch(self) -> path.Path:
        """Where its segments stand in the tree of keys."""
        record = self.record
        return path.branch(
            TenantNo(record.tenant), LineageNo(record.lineage), BranchNo(record.branch)
        )


@dataclass(frozen=True)
class Dead:
    """A volume that is no more, and what should open it no more."""

    volume: Tenanted
    seeds: dict[int, bytes]
    since: int


@dataclass
class Intent:
    """What the operation under way was asked, should the power fail during it."""

    create: str = ""
    tenant: str = ""
    resize: tuple[str, int] = ("", 0)
    destroy: frozenset[str] = frozenset()


def segment_of(volume: Tenanted, segment: int) -> path.Path:
    """Return where a segment of a volume stands in the tree of keys."""
    record = volume.record
    return path.segment(
        TenantNo(record.tenant),
        LineageNo(record.lineage),
        BranchNo(record.branch),
        SegmentId(segment),
    )
