"""What the pool itself records of the medium that it leaves, and the certificate about it.

`places.json` and the folder `retired` can be edited by whoever owns the home's files; the
pool's records are sealed with it. So the certificate is made of these alone, by the process
that erased the medium, or by the next daemon where that could not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import msgspec

from scrubjay.app.evidence import open_offline
from scrubjay.app.home import Home
from scrubjay.app.places import Leaving, open_pool_medium
from scrubjay.app.retired import Certified, describe
from scrubjay.app.sinks import open_sink
from scrubjay.base.errors import ScrubjayError
from scrubjay.base.ports import Clock, Entropy, Medium
from scrubjay.control.opening import open_pool
from scrubjay.control.records import at
from scrubjay.control.retirement_records import RetirementRecord
from scrubjay.control.retirements import find_retirement, put_retirement, text_of
from scrubjay.evidence.retirement import failures_of
from scrubjay.keys.table import wipe
from scrubjay.media.pool import Pool
from scrubjay.media.superblock import parse, read_copies, unseal
from scrubjay.sinks.keeper import EpochKeeper
from scrubjay.sinks.sink import Sink

__all__ = [
    "certify",
    "count_openable",
    "is_done",
    "note_erased",
    "note_leaving",
    "note_left",
    "opened_pool",
]


@contextlib.contextmanager
def opened_pool(home: Home, *, clock: Clock, entropy: Entropy) -> Iterator[tuple[Pool, Sink]]:
    """Open a home's pool with its sink, and have the sink drop every other epoch.

    Unavailable where it cannot: nothing is erased before it has.
    """
    with contextlib.ExitStack() as parts:
        sink = open_sink(home, entropy)
        parts.callback(sink.close)
        medium = open_pool_medium(home, hold=True)
        parts.callback(medium.close)
        pool = open_pool([medium], sink, clock=clock, entropy=entropy)
        parts.callback(pool.close)
        EpochKeeper(sink, sink_id=pool.sink_id, pool_id=pool.pool_id, entropy=entropy).settle(
            pool.epoch
        )
        yield pool, sink


def note_leaving(pool: Pool, path: Path, *, moved_to: Path, clock: Clock) -> None:
    """Write down in a pool that it is to leave the medium on which it lies.

    While that is its medium this says nothing; where the pool is opened from another one,
    it had left: the superblocks that make it so are written later.
    """
    record = RetirementRecord(
        medium=describe(path, pool.media[0].medium_id),
        noted_at=at(clock.now_ns()),
        epoch_before=pool.epoch,
        moved_to=text_of(moved_to),
    )
    put_retirement(pool, record)


def note_left(pool: Pool, leaving: Leaving, *, clock: Clock) -> RetirementRecord | None:
    """Note when a pool was first opened elsewhere; return what it knows of its former medium.

    None where it knows nothing: a version without certificates of media moved it.
    """
    record = find_retirement(pool, leaving.medium_id)
    here = {each.medium_id for each in pool.media}
    if record is None or leaving.medium_id in here or record.left_at is not None:
        return record
    left = msgspec.structs.replace(
        record, left_at=max(at(clock.now_ns()), record.noted_at), epoch_after=pool.epoch
    )
    put_retirement(pool, left)
    return left


def count_openable(medium: Medium, sink: Sink) -> int:
    """Return how many superblocks of a medium open with a key that the sink holds."""
    return sum(_opens(raw, where, sink) for where, raw in read_copies([medium]))


def note_erased(home: Home, record: RetirementRecord, *, clock: Clock, entropy: Entropy) -> None:
    """Write down in the pool what an erasing found; a certificate about it is due then."""
    with opened_pool(home, clock=clock, entropy=entropy) as (pool, _):
        put_retirement(pool, record)


def is_done(record: RetirementRecord) -> bool:
    """Whether a medium was erased already, and read back as it should."""
    return record.erased is not None and not failures_of(record.erased.wiped)


def certify(home: Home, medium: UUID, *, clock: Clock, entropy: Entropy) -> Certified:
    """Issue the certificate here and now, and write its bundle beside the facts, where possible."""
    if not home.catalog.exists():
        return Certified(waits="the home has no catalog: scrubjay home rebuild")
    bundle = home.retired / f"{medium}.certificate.json"
    try:
        with open_offline(home, clock=clock, entropy=entropy) as (keeper, retirements):
            retirements.issue()
            found = find_retirement(keeper.pool, medium)
            if found is None or not found.certificate:
                return Certified(waits=retirements.trouble or "it is not due")
            bundle.write_bytes(retirements.bundle(found.certificate))
    except (ScrubjayError, OSError) as error:
        return Certified(waits=str(error))
    key = home.evidence / "log.pub"
    return Certified(found.certificate, str(bundle), str(key))


def _opens(raw: bytes, where: str, sink: Sink) -> bool:
    try:
        key = sink.key(parse(raw, where).epoch)
        wipe(unseal(raw, key, where).root_node.key)
    except ScrubjayError:
        return False
    return True
