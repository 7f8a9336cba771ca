"""Opening a pool with its sink and its catalog: which of the three may be older.

The pool and the sink must be of one moment: a pool from before a forgetting does not open,
and a sink from before one neither (I6). A catalog that is older than the pool is brought
forward; a pool that is older than the catalog is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from scrubjay.base.errors import Conflict, Unavailable
from scrubjay.base.ports import Clock, Entropy, Medium
from scrubjay.catalog.database import Database
from scrubjay.catalog.index import Index
from scrubjay.control.keeper import Keeper, bring_forward, differences
from scrubjay.control.records import POOL_KEY, PoolRecord, at, encode
from scrubjay.keys.table import wipe
from scrubjay.keys.tree import KeyTree
from scrubjay.media.pool import Pool
from scrubjay.sinks.keeper import EpochKeeper
from scrubjay.sinks.sink import Sink

__all__ = ["create_pool", "open_keeper", "open_pool"]

_SHOWN_MAX = 20
_log = structlog.get_logger(__name__)


def create_pool(
    media: Sequence[Medium], sink: Sink, *, label: str, clock: Clock, entropy: Entropy
) -> Pool:
    """Make the pool of a sink that was just made, on empty media."""
    (epoch,) = sink.epochs()
    root = KeyTree.new_root(entropy)
    record = PoolRecord(label=label, created_at=at(clock.now_ns()), next_tenant=1, next_lineage=1)
    try:
        return Pool.create(
            media,
            clock=clock,
            entropy=entropy,
            pool_id=sink.pool_id,
            sink_id=sink.sink_id,
            epoch=epoch,
            epoch_key=sink.key(epoch),
            root=root,
            records={POOL_KEY: encode(record)},
        )
    finally:
        wipe(root.key)


def open_pool(
    media: Sequence[Medium],
    sink: Sink,
    *,
    clock: Clock,
    entropy: Entropy,
    generation_at_least: int = 0,
) -> Pool:
    """Open a pool, and have the sink hold its epoch alone: rotations end or never were.

    Invalid where the sink is another pool's, Denied where one of the two is older. Where a
    sink cannot drop now, the pool serves nevertheless: no destroy is done until it could.
    """
    epochs = _named(media, sink, entropy)
    pool = Pool.open(
        media,
        clock=clock,
        entropy=entropy,
        epoch_keys=epochs.key,
        generation_at_least=generation_at_least,
    )
    # The seal has opened: only now is it believed what the superblock says.
    epochs = EpochKeeper(sink, sink_id=pool.sink_id, pool_id=pool.pool_id, entropy=entropy)
    try:
        if dropped := epochs.settle(pool.epoch):
            _log.warning("sink.settled", epoch=pool.epoch, dropped=list(dropped))
    except Unavailable as error:
        _log.error("sink.unsettled", epoch=pool.epoch, error=error.message, hint=error.hint)
    return pool


def open_keeper(
    open_media: Callable[[], Sequence[Medium]],
    sink: Sink,
    database: Database,
    *,
    clock: Clock,
    entropy: Entropy,
    in_place: Callable[[], None] = lambda: None,
) -> Keeper:
    """Open a pool with its catalog; `open_media` is called again where the pool has stopped.

    `in_place` raises Unavailable where the media's paths name others by now.
    Conflict where the catalog is another pool's, Corrupt where the pool is older than it.
    """
    index = Index(database)

    def open_known() -> Pool:
        media = open_media()
        try:
            _named(media, sink, entropy)
            return open_pool(
                media,
                sink,
                clock=clock,
                entropy=entropy,
                generation_at_least=_known_generation(index, sink),
            )
        except BaseException:
            for medium in media:
                medium.close()
            raise

    keeper = Keeper(open_known, index, clock=clock, entropy=entropy, in_place=in_place)
    known = index.identity()
    if known is None or known.generation < keeper.pool.generation:
        bring_forward(keeper.pool, index)
        if known is not None:
            _log.info("catalog.brought_forward", since=known.generation, to=keeper.pool.generation)
    elif edited := differences(keeper.pool, index):
        bring_forward(keeper.pool, index)
        _log.error("catalog.edited", rows=edited[:_SHOWN_MAX], count=len(edited))
    return keeper


def _known_generation(index: Index, sink: Sink) -> int:
    """Return how far the catalog has seen the pool; Conflict where it is of another one."""
    known = index.identity()
    if known is None:
        return 0
    if known.pool != sink.pool_id:
        raise Conflict(
            f"catalog: of pool {known.pool}, expected of pool {sink.pool_id}",
            hint="bring the catalog of this pool, or make it anew with: scrubjay home rebuild",
        )
    return known.generation


def _named(media: Sequence[Medium], sink: Sink, entropy: Entropy) -> EpochKeeper:
    """Return the epochs of the pool that the media name; Invalid where the sink is another's."""
    block = Pool.survey(media)
    return EpochKeeper(sink, sink_id=block.sink_id, pool_id=block.pool_id, entropy=entropy)
