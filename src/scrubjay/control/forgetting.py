"""Destroying volumes: withheld at once, forgotten within seconds, gone for good (I3, I6).

    decided     one commit: the volume is `destroying`, a record under `f` says so
    ended       its exporter has dropped its keys, or was killed
    prepared    the sink holds the next epoch beside the old one
    committed   one commit: the volume has no key and no record any more; the new epoch
    dropped     the sink has destroyed the old epoch: only now it is forgotten
    certified   everything was looked at, and a certificate says so (certificates.py)
    cleared     its slots are free, and nothing of it is left in the pool (clearing.py)

A crash at any point is finished at the next start: opening the pool settles the sink by
the superblock, and what `f` still names is queued again. What is queued while a rotation
runs shares the next one; rotations begin at most four times a second, and where the sink
wears out no more often than its budget allows: what is decided then waits, withheld, for the
next. A sink that cannot drop now leaves it at `committed`: the operation goes on until it
could. Up to `dropped` nothing depends on how much the volume held.
"""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec
import structlog

from scrubjay.base.errors import NotFound, ScrubjayError, Unavailable
from scrubjay.base.ids import Epoch, LineageNo, TenantNo, VolumeId
from scrubjay.base.ports import Clock
from scrubjay.control.attachments import Attachments
from scrubjay.control.certificates import Certificates, enter_due
from scrubjay.control.clearing import Clearing
from scrubjay.control.closing import Closings
from scrubjay.control.crowd import Crowd
from scrubjay.control.keeper import Change, Keeper
from scrubjay.control.ledger import read_frontier
from scrubjay.control.looking import ended
from scrubjay.control.operations import Operations
from scrubjay.control.purge_status import dead_since
from scrubjay.control.purge_totals import add_ended
from scrubjay.control.records import (
    ClosingRecord,
    DestructionRecord,
    ForgettingRecord,
    RemainsRecord,
    TenantRecord,
    birth_key,
    decode,
    encode,
    forgetting_key,
    remains_key,
    volume_key,
)
from scrubjay.control.rotating import Rotating
from scrubjay.control.view import View
from scrubjay.control.volumes import Volume, Volumes, resolve_volume
from scrubjay.keys import path

__all__ = ["Forgetting"]

_KIND = "volume.destroy"
_INTERVAL_NS = 250_000_000
_RETRY_S = 5.0
_ENDS_AT_ONCE = 8
_WAIT_MAX_S = 60.0
"""Volumes decided meanwhile are ended within this time, though they are forgotten later."""
_BATCH_MAX = 1024
"""Volumes per rotation: a commit that fits in memory, and others wait for."""
_Undropped = tuple[uuid.UUID, VolumeId, DestructionRecord]
"""An operation, its volume, and how that ended."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Wish:
    """A volume that somebody wants to be destroyed, on a condition."""

    reference: str
    check: Callable[[Volume], None]
    scrub_first: bool


@dataclass(frozen=True, slots=True)
class _Doomed:
    """A volume about which is to be decided, and what its operation says of it."""

    volume: VolumeId
    subject: str
    scrub_first: bool


class Forgetting:
    """The queue of decided destructions, and the thread that carries them out."""

    def __init__(
        self,
        keeper: Keeper,
        rotating: Rotating,
        *,
        volumes: Volumes,
        attachments: Attachments,
        operations: Operations,
        certificates: Certificates,
        clock: Clock,
    ) -> None:
        self._keeper = keeper
        self._certificates = certificates
        self._volumes = volumes
        self._attachments = attachments
        self._operations = operations
        self._clock = clock
        self._rotating = rotating
        self._clearing = Clearing(keeper)
        self._deciding = Crowd(self._decide_all)
        self._closings = Closings(
            keeper, attachments, operations, certificates=certificates, take_out=_take_out
        )
        self._undropped: list[_Undropped] = []
        """Committed (by operation), but the sink has not yet dropped the old epoch."""
        self.trouble = ""
        """Why what is pending has to wait; "" where nothing is known to be wrong."""
        self._unreported = True
        """Certificates may be due: of an earlier daemon, or some that were refused."""
        self._wake = threading.Event()
        attachments.on_left = rotating.on_asked = self._wake.set
        rotating.on_dropped.append(self._closings.dropped)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="forgetting")
        self._last_ns = clock.monotonic_ns() - _INTERVAL_NS

    # --- what the API asks ------------------------------------------------------------

    def destroy(
        self, reference: str, *, check: Callable[[Volume], None], scrub_first: bool = False
    ) -> uuid.UUID:
        """Decide a volume's end, and return the operation that reports about it.

        From here on nothing serves it, and nothing takes the decision back. Deciding
        again returns the same operation; `check` may raise before anything changes.
        `scrub_first` changes when its bytes are overwritten, and nothing else.
        """
        return self._deciding.ask(_Wish(reference, check, scrub_first))

    def withheld_at(self, volume: VolumeId) -> dt.datetime:
        """Return when a volume's end was decided; NotFound where it was not."""
        with self._keeper.reading() as view:
            birth = view.birth_record(volume)
            closing = view.closing(TenantNo(birth.tenant))
            for decision in (birth.destruction, view.forgetting(volume), closing):
                if decision is not None:
                    return decision.decided_at
        raise NotFound(f"volume {volume}: its end is not decided")

    def close(self, reference: str, *, check: Callable[[TenantRecord], None]) -> uuid.UUID:
        """Decide the end of a tenant and of all that it has; see `Closings.decide`."""
        operation = self._closings.decide(reference, check=check)
        self._wake.set()
        return operation

    def pending(self) -> int:
        """Return how many volumes and tenants are decided to be forgotten and are not yet."""
        with self._keeper.reading() as view:
            undone = len(self._closings.undone(view))
            return len(view.forgettings()) + len(self._undropped) + undone

    # --- carrying it out --------------------------------------------------------------

    def recover(self) -> None:
        """Take up what a dead daemon left, or a pool that had to be opened anew.

        An operation whose volume is gone is done, once the sink is settled. One whose
        volume is `ready` was never decided, and is left to whoever ends what else was left.
        """
        with self._keeper.rotating:
            self._bring_forward()
            with self._keeper.reading() as view:
                decided = view.forgettings()
                self._adopt(view, decided)
                self._attachments.sweep(view)
                self._closings.recover(view)
                undone = bool(self._closings.undone(view))
            try:
                self._rotating.settle()
                self._report()
            except Unavailable as error:
                _log.error("forgetting.waits", error=error.message, hint=error.hint)
        if decided or self._undropped or undone:
            self._wake.set()

    def _bring_forward(self) -> None:
        """Put decisions of earlier versions, which were numbered, under their volumes' ids."""
        with self._keeper.changing(frees=True) as change:
            for key, value in change.scan(b"f"):
                record = decode(ForgettingRecord, value, where=f"pool key {key.hex()}")
                if key != (right := forgetting_key(VolumeId(record.volume))):
                    change.delete(key)
                    change.put(right, value)

    def _adopt(self, view: View, decided: Sequence[ForgettingRecord]) -> None:
        """Go on with the operations of a dead daemon, also where its database is lost."""
        known = {operation for operation, _, _ in self._undropped}
        waiting = {uuid.UUID(each.operation): each for each in decided}
        for row in self._operations.running():
            if row.kind != _KIND or row.id in known:
                continue
            if waiting.pop(row.id, None) is not None:
                self._operations.adopt(row.id)
            elif (end := _destruction(view, row.subject)) is not None:
                self._operations.adopt(row.id)
                self._undropped.append((row.id, *end))
        for operation, each in waiting.items():
            name = view.volume(VolumeId(each.volume)).name
            self._operations.adopt(operation, _KIND, f"volume {name} ({each.volume})")
        lost = [volume for _, volume, end in self._undropped if not end.certificate]
        self._certificates.enter_missing(lost)

    def start(self) -> None:
        """Begin to carry out what is decided."""
        self._thread.start()

    def stop(self) -> None:
        """End after the rotation under way; what is left is finished at the next start."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def carry_out(self) -> None:
        """Forget everything that is decided, in one rotation or none; what is purged as well."""
        with self._keeper.rotating:
            with self._keeper.reading() as view:  # raises where the pool has stopped
                doomed = view.forgettings()
            ended = self._end_all(doomed[:_BATCH_MAX])
            closing = self._closings.ended()
            due = _Ends(self._keeper, self._closings, ended, closing) if ended or closing else None
            known = self.pending()
            try:
                self._rotating.carry_out(due, is_urgent=lambda: self._is_urgent(known))
            finally:
                self._undropped += due.done if due else []
            self._report()

    def _is_urgent(self, known: int) -> bool:
        """Tell whether a rotation is to go on now: one more is decided, or the daemon ends."""
        return self._stopping.is_set() or self.pending() > known

    def clear(self) -> bool:
        """Enter some ends of closed tenants' volumes, or free some slots; whether there is more."""
        if self._closings.step():
            self._unreported = True  # a closing may have a certificate due that was refused
            return True
        return self._clearing.step()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            self._wake.wait(self._turn())

    def _turn(self) -> float | None:
        """Do what is due; return for how many seconds to wait, None until there is more."""
        try:
            waiting = self._unreported or self._rotating.asked or self.pending() > 0
            pause_s = max(0, self._last_ns + _INTERVAL_NS - self._clock.monotonic_ns()) / 1e9
            if waiting and not pause_s:
                self._last_ns = self._clock.monotonic_ns()
                self.carry_out()
                waiting = self._unreported or self.pending() > 0
                wait_s = min(self._rotating.wait_s(), _WAIT_MAX_S)
                pause_s = _RETRY_S if self._unreported else wait_s
            if self.clear():
                return 0
        except ScrubjayError as error:
            self.trouble = error.message
            _log.error("forgetting.failed", error=error.message, hint=error.hint)
            return _RETRY_S
        except Exception as error:  # noqa: BLE001 - a bug in one destroy must not end all others
            self.trouble = f"{type(error).__name__}, see the daemon's log"
            _log.exception("forgetting.broke")
            return _RETRY_S
        self.trouble = self._certificates.trouble or self._rotating.trouble
        return pause_s if waiting else None

    def _decide_all(self, wishes: Sequence[_Wish]) -> list[uuid.UUID | ScrubjayError]:
        """Decide what was asked for at once in one commit; one that is refused harms no other."""
        begun: list[uuid.UUID] = []
        try:
            with self._keeper.naming(frees=True) as change:
                answers = [self._known(change, wish) for wish in wishes]
                doomed = {each: None for each in answers if isinstance(each, _Doomed)}
                begun = self._operations.begin_all(_KIND, [each.subject for each in doomed])
                decided = dict(zip(doomed, begun, strict=True))
                for each, operation in decided.items():
                    self._decide(change, each.volume, operation, scrub_first=each.scrub_first)
        except ScrubjayError as error:
            # A commit of which nobody knows is looked up at the next start.
            if begun and type(error) is not Unavailable:
                self._operations.fail(begun, error)
            raise
        for each in decided:
            _log.info("volume.destruction_decided", volume=str(each.volume))
        self._wake.set()
        return [decided[each] if isinstance(each, _Doomed) else each for each in answers]

    def _known(self, change: Change, wish: _Wish) -> _Doomed | uuid.UUID | ScrubjayError:
        """Return which volume is to be decided about; or the operation of what is decided."""
        try:
            volume = resolve_volume(self._keeper, change, wish.reference)
            known = change.forgetting(volume)
            if known is not None:
                return uuid.UUID(known.operation)
            wish.check(self._volumes.shown(change, volume))
            closing = change.closing(TenantNo(change.volume(volume).tenant))
            if closing is not None:  # of everything that its tenant has
                return uuid.UUID(closing.operation)
            subject = f"volume {change.volume(volume).name} ({volume})"
            return _Doomed(volume, subject, wish.scrub_first)
        except ScrubjayError as error:
            return error

    def _decide(
        self, change: Change, volume: VolumeId, operation: uuid.UUID, *, scrub_first: bool
    ) -> None:
        """Stage the decision."""
        record = change.volume(volume)
        decided = ForgettingRecord(
            volume=volume,
            lineage=record.lineage,
            decided_at=self._keeper.now(),
            operation=str(operation),
            scrub_first=scrub_first,
        )
        change.put(volume_key(volume), encode(msgspec.structs.replace(record, state="destroying")))
        change.put(forgetting_key(volume), encode(decided))

    def _end_all(self, doomed: Sequence[ForgettingRecord]) -> list[ForgettingRecord]:
        """Have no process hold a key of these volumes; return those of which that is so.

        How a process ended is written down at once: the rotation may have to wait.
        """
        with ThreadPoolExecutor(_ENDS_AT_ONCE) as threads:
            ended = [each for each in threads.map(self._ended, doomed) if each is not None]
        news = [
            each
            for each, before in zip(ended, _by_volume(ended, doomed), strict=True)
            if each is not before
        ]
        if news:
            with self._keeper.changing(frees=True) as change:
                for each in news:
                    change.put(forgetting_key(VolumeId(each.volume)), encode(each))
        return ended

    def _ended(self, doomed: ForgettingRecord) -> ForgettingRecord | None:
        """Have no process hold a key of the volume; None where one does not let go."""
        volume = VolumeId(doomed.volume)
        try:
            with self._keeper.reading() as view:
                name = view.volume(volume).name
            ending = self._attachments.end(volume, name)
        except ScrubjayError as error:
            _log.error("exporter.goes_on", volume=str(volume), error=error.message)
            return None
        if ending == "not attached":
            return doomed
        return msgspec.structs.replace(doomed, exporter=ending, exporter_at=self._keeper.now())

    def _report(self) -> None:
        """Have certificates issued for what is forgotten, and end the operations of those.

        Where the evidence is not there, the operation goes on, and is looked at again.
        """
        if not self._undropped and not self._unreported:
            return
        self._unreported = not self._certificates.issue()
        left, results = [], {}
        with self._keeper.reading() as view:
            for operation, volume, _ in self._undropped:
                end = ended(view.birth_record(volume))
                if end.certificate:
                    results[operation] = self._result(volume, end)
                    _log.info("volume.forgotten", volume=str(volume), epoch=end.epoch_after)
                else:
                    left.append((operation, volume, end))
            self._operations.succeed_each(results)
            self._undropped = left
            if results:
                self._attachments.sweep(view)

    def _result(self, volume: VolumeId, end: DestructionRecord) -> dict[str, object]:
        return {
            "certificate": end.certificate,
            "volume": str(volume),
            "forgotten_at": self._keeper.now().isoformat(),
            "epoch_before": end.epoch_before,
            "epoch_after": end.epoch_after,
            "segments": end.segments,
            "ledger_root": end.ledger_root,
        }


class _Ends:
    """What is ended, and due to be forgotten."""

    def __init__(
        self,
        keeper: Keeper,
        closings: Closings,
        doomed: Sequence[ForgettingRecord],
        closing: Sequence[ClosingRecord],
    ) -> None:
        self._keeper = keeper
        self._closings = closings
        self._doomed = doomed
        self._closing = closing
        self._staged: list[_Undropped] = []
        self.done: list[_Undropped] = []
        """How volumes ended, as of a commit."""

    def stage(self, change: Change, *, before: Epoch, after: Epoch) -> list[path.Path]:
        """Stage that volumes and tenants end; return what is to be forgotten."""
        now, self._staged, paths = self._keeper.now(), [], []
        for each in self._doomed:
            lost, end = _take_out(change, each, now, before=before, after=after)
            paths.append(lost)
            self._staged.append((uuid.UUID(each.operation), VolumeId(each.volume), end))
        paths += [
            self._closings.take_out(change, tenant, before=before, after=after)
            for tenant in self._closing
        ]
        gone = [volume for _, volume, _ in self._staged]
        enter_due(change, gone, before=before, after=after, now=now)
        change.index_as(lambda index, generation: index.remove_volumes(gone, generation=generation))
        return paths

    def committed(self) -> None:
        """Hear that it is durable."""
        self.done = self._staged


def _by_volume(
    wanted: Sequence[ForgettingRecord], records: Sequence[ForgettingRecord]
) -> list[ForgettingRecord]:
    """Return the records of the same volumes, in that order."""
    found = {each.volume: each for each in records}
    return [found[each.volume] for each in wanted]


def _take_out(
    change: Change, doomed: ForgettingRecord, now: dt.datetime, *, before: Epoch, after: Epoch
) -> tuple[path.Path, DestructionRecord]:
    """Stage the end of a volume, of which the birth record stays; return the path to forget."""
    gone = VolumeId(doomed.volume)
    volume, birth = change.volume(gone), change.birth_record(gone)
    lineage = LineageNo(volume.lineage)
    decided_at = max(doomed.decided_at, birth.created_at)  # the clock may have been set back
    ledger = read_frontier(change, lineage)
    end = DestructionRecord(
        decided_at=decided_at,
        epoch_before=before,
        epoch_after=after,
        segments=ledger.size,
        ledger_root=ledger.root().hex(),
        exporter=doomed.exporter or "not attached",
        exporter_at=doomed.exporter_at and max(doomed.exporter_at, decided_at),
        dead_since=dead_since(change, volume, attached=bool(doomed.exporter), now=now),
        purges_missed=volume.purge.missed if volume.purge else 0,
        slots_since=volume.slots_since,
    )
    remains = RemainsRecord(
        tenant=volume.tenant, volume=gone, forgotten_at=now, scrub_first=doomed.scrub_first
    )
    if volume.purge is not None:
        moved_bytes, missed = volume.purge.moved_bytes, volume.purge.missed
        add_ended(change, TenantNo(volume.tenant), moved_bytes=moved_bytes, missed=missed)
    change.put(birth_key(gone), encode(msgspec.structs.replace(birth, destruction=end)))
    change.put(remains_key(lineage), encode(remains))
    change.delete(volume_key(gone))
    change.delete(forgetting_key(gone))
    return path.lineage(TenantNo(volume.tenant), lineage), end


def _destruction(view: View, subject: str) -> tuple[VolumeId, DestructionRecord] | None:
    """Return how the volume of an operation's subject ended; None if it did not."""
    try:
        volume = VolumeId(uuid.UUID(subject.rpartition("(")[2].rstrip(")")))
        end = view.birth_record(volume).destruction
    except (ValueError, NotFound):  # nobody wrote that here
        return None
    return None if end is None else (volume, end)
