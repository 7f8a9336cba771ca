"""Who belongs to a home's sink: a single one becomes a mirror, members come and go.

All of it is done while no daemon serves the home, under its lock. A daemon holds the sink open
from its first moment to its last, and every destroy hangs on it; to exchange the root of all
keys under a running rotation would be a second way to lose them. Attached volumes need not
notice: `serve --leave-attached` ends without detaching them. And a TPM's owner authorisation
then goes from the terminal to the TPM, and through no socket.

A mirror's making is written down first (`mirror.plan`), so that one which was cut short leaves
no key where nobody looks: the next command that opens the home finishes or undoes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from scrubjay.app.home import Home, sync_folder
from scrubjay.app.places import open_pool_medium
from scrubjay.app.sinks import (
    HomeSinks,
    SinkPlace,
    TpmWords,
    open_sink,
    place_in,
    shared_disk,
    single_member,
    sink_path,
)
from scrubjay.base.errors import Conflict, Invalid, NotFound, ScrubjayError, Unavailable
from scrubjay.base.ports import Clock, Entropy
from scrubjay.control.opening import open_pool
from scrubjay.control.records import at
from scrubjay.control.sink_status import SinkStatus, sink_status
from scrubjay.control.view import View
from scrubjay.keys.table import wipe
from scrubjay.media.pool import Pool
from scrubjay.sinks.keeper import EpochKeeper
from scrubjay.sinks.membership import (
    Expelled,
    Member,
    Membership,
    RecordFile,
    decode,
    encode,
    first_record,
    member_id,
)
from scrubjay.sinks.mirrored import MirroredSink
from scrubjay.sinks.sink import Sink

__all__ = ["SinkChange", "Sinks", "settle_plan"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SinkChange:
    """Who came, who went, and whether what went is destroyed."""

    added: list[str]
    removed: str
    """"" where nobody went."""
    destroyed: bool
    """Whether the one that went was seen to hold nothing any more."""
    why_not: str
    shared: str
    """Which of them would be lost together; "" where each lies on a disk of its own."""
    sink: SinkStatus


class Sinks:
    """The sinks of a home that no daemon serves."""

    def __init__(
        self, home: Home, *, clock: Clock, entropy: Entropy, words: TpmWords | None = None
    ) -> None:
        self._home = home
        self._clock = clock
        self._entropy = entropy
        self._sinks = HomeSinks(home, entropy, words=words)

    def show(self) -> SinkStatus:
        """Return how the sink is; Conflict where a daemon serves the home."""
        with self._opened() as (sink, pool):
            return self._status(sink, pool)

    def add(self, place: SinkPlace) -> SinkChange:
        """Put one more sink beside what there is; a single one becomes a mirror of two.

        Then two new ones are made, of which one takes the place of the single one: that is
        overwritten. Conflict during a rotation, or where something lies there already.
        """
        with self._opened() as (sink, pool):
            if isinstance(sink, MirroredSink):
                kind, where = place_in(self._home, place)
                self._sinks.check_vacant(Member(-1, kind, where))
                member = sink.add(kind=kind, where=where)
                return self._changed(sink, pool, added=[member])
            record, key = self._planned(sink, pool, place), sink.key(pool.epoch)
            sink.close()
            self._make(record, pool, key)
            settle_plan(self._home, self._entropy, sinks=self._sinks)
            mirror = MirroredSink(RecordFile(self._home.mirror), self._sinks)
            try:
                self._rotate(mirror, pool)
                return self._changed(mirror, pool, added=record.members)
            finally:
                mirror.close()

    def expel(self, number: int, *, destroyed: bool = False) -> SinkChange:
        """End a membership, and destroy the sink if it can be reached.

        `destroyed` is an operator's word that one which cannot be reached is no more.
        """
        with self._mirror() as (mirror, pool):
            gone = _remaining(mirror)
            if number not in gone:
                member, reached = self._within_reach(mirror, number)
                mirror.expel(number)
            elif destroyed:
                member, reached = gone[number], False
            else:
                raise NotFound(
                    f"sink {number}: no member, it was expelled, expected one of its own",
                    hint=f"if it is destroyed: scrubjay sink expel {number} --destroyed",
                )
            why_not = self._destroy(mirror, member, reached=reached, said=destroyed)
            self._settle(mirror, pool)
            self._rotate(mirror, pool)
            return self._changed(mirror, pool, removed=member, why_not=why_not)

    def replace(self, number: int, place: SinkPlace) -> SinkChange:
        """Put a new sink in the place of a member; the old one is destroyed if it is there."""
        with self._mirror() as (mirror, pool):
            gone = _remaining(mirror)
            if number in gone:
                old, reached = gone[number], False
            else:
                old, reached = self._within_reach(mirror, number)
            kind, where = place_in(self._home, place)
            if (kind, where) == (old.kind, old.where) and kind == "file" and reached:
                raise Conflict(f"sink {where}: is there and sound, expected another place for one")
            self._sinks.check_vacant(Member(-1, kind, where))
            why_not = None
            if number not in gone and (mirror.owed() or (kind, where) == (old.kind, old.where)):
                mirror.expel(number)  # what is owed ends with it, and its place is free
                why_not = self._destroy(mirror, old, reached=reached)
                self._settle(mirror, pool)
            member = mirror.replace(number, kind=kind, where=where)
            if why_not is None:
                why_not = self._destroy(mirror, old, reached=reached)
            self._rotate(mirror, pool)
            return self._changed(mirror, pool, added=[member], removed=old, why_not=why_not)

    # --- leaves -----------------------------------------------------------------------

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[Sink, Pool]]:
        """Open sink and pool under the home's lock: each is the other's, and settled."""
        self._home.check()
        with self._home.held(), contextlib.ExitStack() as parts:
            settle_plan(self._home, self._entropy)
            sink = open_sink(self._home, self._entropy, sinks=self._sinks)
            parts.callback(sink.close)
            medium = open_pool_medium(self._home, hold=True)
            parts.callback(medium.close)
            pool = open_pool([medium], sink, clock=self._clock, entropy=self._entropy)
            parts.callback(pool.close)
            yield sink, pool

    @contextlib.contextmanager
    def _mirror(self) -> Iterator[tuple[MirroredSink, Pool]]:
        with self._opened() as (sink, pool):
            if not isinstance(sink, MirroredSink):
                raise Invalid(
                    f"sink {sink.sink_id}: a single one, expected a mirror",
                    hint="add another one first: scrubjay sink add",
                )
            yield sink, pool

    def _planned(self, single: Sink, pool: Pool, place: SinkPlace) -> Membership:
        """Write down which two sinks are about to be made; return the record they will have."""
        old = single_member(self._home)
        first = SinkPlace(old.kind, old.where if old.kind == "tpm2" else "")
        if old.kind == "file" and (self._home.path / old.where).parent != self._home.path:
            first = SinkPlace("file", f"{old.where}.1")  # on the disk where it was
        places = [place_in(self._home, first)]
        places.append(place_in(self._home, place, besides=[places[0][1]]))
        record = first_record(
            single.sink_id, pool.pool_id, places, formerly=Expelled(old, [pool.epoch])
        )
        for member in record.members:
            self._sinks.check_vacant(member)
        RecordFile(self._home.mirror_plan).create(encode(record))
        return record

    def _make(self, record: Membership, pool: Pool, key: bytes) -> None:
        """Make the mirror of a plan; what fails is undone."""
        try:
            MirroredSink.create(
                RecordFile(self._home.mirror),
                self._sinks,
                mirror_id=record.mirror,
                pool_id=record.pool,
                places=[(each.kind, each.where) for each in record.members],
                epoch=pool.epoch,
                key=key,
                formerly=record.expelled[0],
            ).close()
        except ScrubjayError:
            if not self._home.mirror.exists():
                settle_plan(self._home, self._entropy, sinks=self._sinks)
            raise

    def _within_reach(self, mirror: MirroredSink, number: int) -> tuple[Member, bool]:
        members = mirror.members()
        for each in members:
            if each.member.number == number:
                return each.member, not each.away
        numbers = " or ".join(str(each.member.number) for each in members)
        raise NotFound(f"sink {number}: no member, expected {numbers}", hint="scrubjay sink show")

    def _destroy(
        self, mirror: MirroredSink, old: Member, *, reached: bool, said: bool = False
    ) -> str:
        """Destroy a sink that was just expelled; return why it could not be, "" if it was."""
        if reached:
            try:
                self._sinks.destroy(old)
            except ScrubjayError as error:
                return error.message
        elif not said:
            return "it is out of reach"
        mirror.mark_destroyed(old.number)
        return ""

    def _settle(self, mirror: MirroredSink, pool: Pool) -> None:
        """End what was owed; where another member is away too, it stays owed."""
        epochs = EpochKeeper(
            mirror, sink_id=pool.sink_id, pool_id=pool.pool_id, entropy=self._entropy
        )
        try:
            epochs.settle(pool.epoch)
        except Unavailable as error:
            _log.warning("sink.unsettled", epoch=pool.epoch, error=error.message)

    def _rotate(self, mirror: MirroredSink, pool: Pool) -> None:
        """Seal the pool under an epoch that the sink which went never held.

        Where a member is away that waits for the next destroy.
        """
        epochs = EpochKeeper(
            mirror, sink_id=pool.sink_id, pool_id=pool.pool_id, entropy=self._entropy
        )
        try:
            following = epochs.prepare(pool.epoch)
            root = pool.root
            try:
                with pool.change(frees=True) as change:
                    change.rotate(following, epoch_key=epochs.key(following), root=root)
            finally:
                wipe(root.key)
            epochs.settle(pool.epoch)
        except (Conflict, Unavailable) as error:
            _log.warning("sink.not_rotated", epoch=pool.epoch, error=error.message)

    def _changed(
        self,
        sink: Sink,
        pool: Pool,
        *,
        added: list[Member] | None = None,
        removed: Member | None = None,
        why_not: str = "",
    ) -> SinkChange:
        members = [each.member for each in sink.members()] if isinstance(sink, MirroredSink) else []
        return SinkChange(
            added=[each.place for each in added or []],
            removed=removed.place if removed else "",
            destroyed=removed is not None and not why_not,
            why_not=why_not,
            shared=shared_disk(self._sinks, members),
            sink=self._status(sink, pool),
        )

    def _status(self, sink: Sink, pool: Pool) -> SinkStatus:
        return sink_status(
            sink,
            where=sink_path(self._home),
            epoch=pool.epoch,
            created_at=View(pool).pool().created_at,
            now=at(self._clock.now_ns()),
        )


def _remaining(mirror: MirroredSink) -> dict[int, Member]:
    """Return those that were expelled and may still hold a key, by their numbers."""
    return {each.member.number: each.member for each in mirror.expelled() if not each.destroyed}


def settle_plan(home: Home, entropy: Entropy, *, sinks: HomeSinks | None = None) -> None:
    """Finish or undo a mirror whose making was cut short; the home is held by the caller.

    Unavailable where a sink of it may hold a key and cannot be reached.
    """
    if not home.mirror_plan.exists():
        return
    record = decode(RecordFile(home.mirror_plan).read())
    sinks = sinks or HomeSinks(home, entropy)
    if home.mirror.exists():
        _end_single(home, sinks)
    else:
        for member in record.members:
            _undo(home, record, member, sinks)
    home.mirror_plan.unlink()
    sync_folder(home.path)


def _end_single(home: Home, sinks: HomeSinks) -> None:
    """Destroy the single sink that became a mirror, and note that.

    Before the mirror is opened: an emulated TPM speaks to one at a time.
    """
    record = decode(RecordFile(home.mirror).read())
    if all(each.destroyed for each in record.expelled if each.member.number == 0):
        return
    with contextlib.suppress(NotFound):  # overwritten already, and not yet noted
        sinks.destroy(single_member(home))
    mirror = MirroredSink(RecordFile(home.mirror), sinks)
    try:
        mirror.mark_destroyed(0)
    finally:
        mirror.close()


def _undo(home: Home, record: Membership, member: Member, sinks: HomeSinks) -> None:
    """Destroy a member of a mirror that never came to be."""
    with contextlib.suppress(ScrubjayError):
        sink = sinks.open(member)
        sink.close()
        if sink.sink_id != member_id(record.mirror, member.number):
            return  # somebody else's
    try:
        sinks.destroy(member)
        _log.warning("sink.undone", place=member.place)
    except NotFound:
        if not sinks.path_of(member).parent.is_dir():
            raise Unavailable(
                f"sink {member.place}: its folder is not there, and it may hold a key",
                hint=f"bring it back; if it is destroyed, remove {home.mirror_plan}",
            ) from None
    except ScrubjayError as error:
        raise Unavailable(
            f"sink {member.place}: a mirror was not made, and this one may hold its key "
            f"({error.message})",
            hint=f"bring it back; if it is destroyed, remove {home.mirror_plan}",
        ) from error
