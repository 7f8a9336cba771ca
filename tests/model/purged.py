"""What living volumes gave up to be forgotten, and the thief who looks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from scrubjay.base.ids import SegmentId, VolumeId
from scrubjay.control.stripes import ALL_STRIPES
from scrubjay.engine.lessor import Checkpoint, Purged
from scrubjay.keys import path
from scrubjay.keys.aead import child
from tests.model.thief import Thief

__all__ = ["GivenUp", "stripe"]

LOOKED_FOR = (0, 1, 2, 63)
"""Stripes of each segment that the thief looks for."""


@dataclass
class GivenUp:
    """Masks of stripes by segment, of each volume; and what is forgotten of them."""

    masks: dict[VolumeId, dict[int, int]] = field(default_factory=dict)
    """Named in a commit, whatever became of that."""
    forgotten: dict[tuple[VolumeId, int], int] = field(default_factory=dict)
    lost: list[tuple[path.Path, bytes, int]] = field(default_factory=list)
    """Path, key, and since which step nobody should reach it."""

    def note(self, volume: VolumeId, checkpoint: Checkpoint, freed: Sequence[SegmentId]) -> None:
        """Remember what a commit names."""
        masks = self.masks.setdefault(volume, {})
        purged = checkpoint.purged or Purged()
        for segment, mask in (*purged.stripes, *((each, ALL_STRIPES) for each in freed)):
            masks[segment] = masks.get(segment, 0) | mask

    def copied(self) -> dict[VolumeId, dict[int, int]]:
        """Return what has been named so far."""
        return {volume: dict(each) for volume, each in self.masks.items()}

    def forget(
        self,
        volume: VolumeId,
        named: dict[VolumeId, dict[int, int]],
        *,
        seeds: dict[int, bytes],
        where: Callable[[int], path.Path],
        step: int,
    ) -> None:
        """Note that what was named is forgotten by now."""
        for segment, mask in named.get(volume, {}).items():
            fresh = mask & ~self.forgotten.get((volume, segment), 0)
            self.forgotten[volume, segment] = mask
            for number in LOOKED_FOR if segment in seeds else ():
                if fresh >> number & 1:
                    self.lost.append((*stripe(where(segment), seeds[segment], number), step))

    def check(self, thief: Thief, epoch_keys: Iterable[tuple[bytes, int]]) -> None:
        """With all bytes of the pool, and the sink since, nothing of it opens; before, it did."""
        keys = sorted(epoch_keys, key=lambda each: each[1])
        for where, key, since in sorted(self.lost, key=lambda each: -each[2]):
            while keys and keys[-1][1] >= since:
                thief.take(keys.pop()[0])
            assert not thief.reaches(where, key), f"{path.spell(where)}: purged, and opens"
        while keys:
            thief.take(keys.pop()[0])
        assert all(thief.reaches(where, key) for where, key, _ in self.lost), "thief cannot read"


def stripe(segment: path.Path, seed: bytes, number: int) -> tuple[path.Path, bytes]:
    """Return the path and the key of a stripe."""
    return path.stripe(segment, number), child(seed, number)
