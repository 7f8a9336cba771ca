"""A volume whose keys are in this process alone, and which can be returned to zeros at once.

`OwnKeys` draws a key for each segment that the pool's keeper leases, and tells nobody. So a
segment's key is gone as soon as the arena drops it: when the segment is freed, at a reset,
when the process ends however it ends (I3). Nothing is ever replayed, and whoever attaches the
volume next begins in a lineage in which nothing was leased (control/lineages.py).

Nonces stay unique under a key (docs/rfcs/0003): a key is random, is given to one segment of one
attachment, and of a segment no offset is sealed twice (log.py). A reset keeps what was leased
and never opened, and opens none of what was.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

from scrubjay.base.errors import Unavailable
from scrubjay.base.ids import Entry, SegmentId
from scrubjay.base.ports import Entropy
from scrubjay.engine.disk import Disk
from scrubjay.engine.lessor import Checkpoint, Grant, Lessor, Purged
from scrubjay.keys.aead import KEY_BYTES

__all__ = ["EphemeralDisk", "OwnKeys"]

GIVEN_BACK = 4096
"""Segments in one commit: 64 GiB, and a message of 20 KiB."""


class OwnKeys:
    """A lessor whose segments have keys that nobody else ever had."""

    def __init__(self, lessor: Lessor, entropy: Entropy) -> None:
        self._lessor = lessor
        self._entropy = entropy

    def lease(self, count: int) -> Sequence[Grant]:
        """Lease segments, each with a key that was drawn just now."""
        grants = self._lessor.lease(count)
        return [replace(each, key=self._entropy.token(KEY_BYTES), stripes=()) for each in grants]

    def group(self, group: int) -> Sequence[Grant]:
        """Return nothing: what this attachment did not lease itself, it cannot read."""
        del group
        return []

    def commit(self, checkpoint: Checkpoint, *, freed: Sequence[SegmentId]) -> int:
        """Name a checkpoint, which nobody will ever read, and free segments."""
        return self._lessor.commit(checkpoint, freed=freed)


class EphemeralDisk(Disk):
    """A disk over `OwnKeys`."""

    _abandoned: Sequence[int] = ()

    def reset(self) -> None:
        """Drop every key that ever sealed anything, and go on as a volume never written.

        Waits for the batch at hand and for nobody else. A checkpoint under way comes to
        nothing, and raises Unavailable where it is written.
        """
        with self.lock:
            opened = self._segments.drop_but(set(self._spares))
            leaving = self._prepared.freed if self._prepared else ()
            sequence = self._log.sequence
            self._prepared = None
            now_s, within_s = self._usage.now_s, self.purger.within_s
            self._build(None)
            self.purger.within_s = within_s  # which may be another than when we attached
            self.tick(now_s)
            self._log.sequence = sequence  # checkpoints only ever go forward
            self._checkpoint_at_bytes = 0
            self._abandoned = (*self._abandoned, *opened, *leaving)
            self._held = len(self._spares) + len(self._abandoned)

    def give_back(self) -> None:
        """Have the pool free what resets left; without the lock, by who commits checkpoints."""
        while self._abandoned:
            with self.lock:
                part = [SegmentId(each) for each in self._abandoned[:GIVEN_BACK]]
                live, sequence = self._usage.live_sectors, self._log.sequence
            at = Entry(0), sequence
            nothing = Checkpoint(*at, clean=False, live_sectors=live, purged=Purged())
            self._lessor.commit(nothing, freed=part)
            with self.lock:
                self._abandoned = self._abandoned[len(part) :]
                self._held -= len(part)

    def checkpoint(
        self, *, release: Sequence[int] = (), keep_spares: int | None = None
    ) -> Generator[None, None, None]:
        """Write a checkpoint, slice by slice, unless a reset comes in between."""
        log = self._log
        slices = super().checkpoint(release=release, keep_spares=keep_spares)
        try:
            for _ in slices:
                yield
                if self._log is not log:
                    msg = "checkpoint: the volume was reset meanwhile, expected the same one"
                    raise Unavailable(msg)
        finally:
            slices.close()
