"""From one epoch to the next, and out of a crash in between (docs/format/keys.md).

    new = keeper.prepare(old)      the sink holds both
    ...commit the new tables and the superblock that names `new`, in both copies...
    keeper.settle(new)             the sink holds `new` alone

Recovery is `settle` with the epoch that the superblock names: it finishes the rotation or
undoes it. An epoch whose key a sink stored in vain is not prepared again: so the epoch counts
what wore the sink, as far as one keeper knows of it.
"""

from __future__ import annotations

from uuid import UUID

from scrubjay.base.errors import Denied, Invalid, NotFound
from scrubjay.base.ids import Epoch
from scrubjay.base.ports import Entropy
from scrubjay.keys.aead import KEY_BYTES
from scrubjay.sinks.sink import Sink

__all__ = ["EpochKeeper"]


class EpochKeeper:
    """One pool's epochs in its sink."""

    def __init__(self, sink: Sink, *, sink_id: UUID, pool_id: UUID, entropy: Entropy) -> None:
        """Invalid unless the sink is the one that the pool's superblock names."""
        if sink.pool_id != pool_id:
            raise Invalid(
                f"sink {sink.sink_id}: belongs to pool {sink.pool_id}, expected pool {pool_id}",
                hint="give this pool its own sink; no other opens it",
            )
        if sink.sink_id != sink_id:
            raise Invalid(
                f"sink {sink.sink_id}: foreign to pool {pool_id}, expected sink {sink_id}",
                hint="give this pool its own sink; no other opens it",
            )
        self._sink = sink
        self._entropy = entropy
        self._stored = Epoch(0)
        """The newest whose key this keeper had the sink store."""

    def key(self, named: Epoch) -> bytes:
        """Return the key of the epoch that a superblock names.

        Denied when the sink does not hold it: one of the two is older than the other.
        """
        try:
            return self._sink.key(named)
        except NotFound:
            raise self._stale(named) from None

    def newest(self, named: Epoch) -> Epoch:
        """Return the newest epoch of which a key was stored: the named one, or one in vain."""
        return max(named, self._stored)

    def following(self, named: Epoch) -> Epoch:
        """Return the epoch that `prepare` would prepare."""
        return Epoch(self.newest(named) + 1)

    def prepare(self, named: Epoch) -> Epoch:
        """Have the sink store a key for the next epoch beside the named one; return the epoch.

        The only place that draws an epoch's key (I6): nothing else made it, or kept it.
        """
        self._expect_held(named)
        following = self.following(named)
        self._sink.prepare(following, self._entropy.token(KEY_BYTES))
        self._stored = following
        return following

    def settle(self, named: Epoch) -> tuple[Epoch, ...]:
        """Have the sink hold the named epoch and nothing else; return the epochs it dropped.

        `named` is **durable in both superblock copies of every medium**. At recovery that is
        not so by itself: a superblock that was read may have come out of a cache, and the
        other copy may still name the old epoch. So recovery commits once more, under
        `named`, and then settles; else a power loss could leave a pool that nothing opens.
        """
        self._expect_held(named)
        others = tuple(epoch for epoch in self._sink.epochs() if epoch != named)
        for epoch in others:
            self._sink.drop(epoch)
        self._sink.scour()
        return others

    def _expect_held(self, named: Epoch) -> None:
        """Raise what `key` raises, where the sink does not hold an epoch.

        That it is held is known by its checksum. Its key is not put together for that: who
        seals or opens with it has it from `key`, and a sink may take milliseconds for it.
        """
        if named not in self._sink.epochs():
            self.key(named)

    def _stale(self, named: Epoch) -> Denied:
        held = self._sink.epochs()
        listed = " and ".join(map(str, held)) or "none"
        message = f"sink {self._sink.sink_id}: holds epoch {listed}, expected epoch {named}"
        if held and held[-1] > named:
            return Denied(
                f"{message}: the pool is older than the sink",
                hint="the pool was put back from before a forgetting: bring its newest state; "
                "what the older one held stays forgotten",
            )
        return Denied(
            f"{message}: the sink is older than the pool",
            hint="the sink was put back from an older copy: bring its newest state",
        )
