"""Purging as the pool does it: what volumes give up is forgotten, in batches, in time (I3, I8).

    given up    one commit of a checkpoint: a record under `o`; its exporter has no key of it
                any more, and from here on nobody is granted one
    prepared    the sink holds the next epoch beside the old one
    committed   one commit: the tree of keys without these stripes, under the new epoch
    dropped     the sink has destroyed the old epoch: only now they are forgotten
    cleared     one commit: they leave `o`

A crash at any point is finished by forgetting again, which changes nothing where it was
done. Batches are an hour apart, or as a deadline nears; a sink that rations its rotations
makes them wait. A deadline that is missed is told once to `on_missed` (purge_deadlines.py), and
shown for as long as it lasts. A volume that nobody has attached is served for its purging alone.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Container, Iterator
from contextlib import suppress

import structlog

from scrubjay.base.errors import NotFound, ScrubjayError
from scrubjay.base.ids import LineageNo, SegmentId, TenantNo, VolumeId
from scrubjay.base.units import STRIPES
from scrubjay.control.adopting import adopt_freed
from scrubjay.control.attachments import Attachments
from scrubjay.control.deadlines import OnPurgeMissed, tell_nobody
from scrubjay.control.directory import read_group, segment_range
from scrubjay.control.keeper import Keeper
from scrubjay.control.liveness import Liveness
from scrubjay.control.purge_deadlines import note_missed_purges
from scrubjay.control.purge_status import PurgeStatus, given_up, within
from scrubjay.control.records import stripes_key
from scrubjay.control.stripes import ALL_STRIPES, every_waiting, read_waiting
from scrubjay.control.view import View
from scrubjay.keys import path
from scrubjay.sinks.keeper import EpochKeeper
from scrubjay.sinks.sink import Sink

__all__ = ["Purging"]

_LOOK_S, _LOOKS = 60.0, 24
"""Looks are this far apart at most, and there are so many within a deadline at least."""
_BATCH = dt.timedelta(hours=1)
"""Between two batches, unless a deadline is nearer than a sixth of `purge_within`."""
_SEGMENTS_MAX = 1024
"""Per rotation, of those that lose stripes: others wait for its commit (docs/performance.md)."""
_TENDED_MAX = 4
"""Volumes served at a time for their purging alone."""
_TURNS = 8
"""An eighth of the deadline is how long one is served while others wait, and how long one that
could not be served, or had to make room, is left alone."""
_NEVER = dt.datetime.min.replace(tzinfo=dt.UTC)
_log = structlog.get_logger(__name__)

_Batch = dict[tuple[LineageNo, int], list[int]]
"""(lineage, group) -> masks of stripes, one for each segment of the group."""


class Purging:
    """Forgets what volumes give up; `start` and `stop` its thread, or call `turn`."""

    def __init__(
        self,
        keeper: Keeper,
        sink: Sink,
        *,
        attachments: Attachments,
        liveness: Liveness,
        on_missed: OnPurgeMissed = tell_nobody,
    ) -> None:
        self.status = PurgeStatus(keeper, liveness)
        self._keeper = keeper
        self._sink = sink
        self._attachments = attachments
        self._liveness = liveness
        self._on_missed = on_missed
        self._epochs = EpochKeeper(
            sink,
            sink_id=keeper.pool.sink_id,
            pool_id=keeper.pool.pool_id,
            entropy=keeper.entropy,
        )
        self._undropped: _Batch = {}
        """Committed, but not known to be dropped by the sink."""
        self._tended: dict[VolumeId, dt.datetime] = {}
        """Served for their purging alone, since when."""
        self._tried: dict[VolumeId, dt.datetime] = {}
        """Served so, or tried to be, when last; of those that are still due."""
        self._told: dict[VolumeId, tuple[int, int]] = {}
        """(attach epoch, `purge_within` in seconds) of which each exporter was told."""
        self._adopted = False
        self._last = keeper.now()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="purging")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what waits goes on waiting for the next start."""
        self._stopping.set()
        self._thread.join()
        for volume in list(self._tended):
            self._attempt(self._rest, volume)

    def turn(self) -> None:
        """Do what is due now."""
        try:
            self._adopt()
            while self._is_due() and self.carry_out():
                pass
        finally:
            try:
                self._tend()
            finally:  # whatever keeps the rest from being done, what is late is told
                note_missed_purges(self._keeper, self.status, self._on_missed)
                self._tell_within()

    def carry_out(self) -> bool:
        """Forget a batch of what was given up, in one rotation; return whether that was done."""
        with self._keeper.rotating:
            self._settle()
            with self._keeper.reading() as view:
                batch = _batch(view)
            if not batch:
                self._last = self._keeper.now()
                return False
            if self._wait_s():
                return False
            after = self._epochs.prepare(self._keeper.epoch)
            with self._keeper.changing(frees=True) as change:
                paths = [
                    each
                    for (lineage, group), masks in batch.items()
                    for each in _paths(change, lineage, group, masks)
                ]
                change.forget(paths, epoch=after, epoch_key=self._epochs.key(after))
            self._undropped = batch
            self._settle()
        _log.info("stripes.forgotten", groups=len(batch), paths=len(paths), epoch=after)
        return True

    def _adopt(self) -> None:
        """Enter what earlier versions freed; where the pool cannot now, the next turn does."""
        if self._adopted:
            return
        try:
            adopt_freed(self._keeper)
        except ScrubjayError as error:
            _log.warning("stripes.not_adopted", error=error.message)
        else:
            self._adopted = True

    # --- forgetting ------------------------------------------------------------------------

    def _settle(self) -> None:
        """Have the sink hold the pool's epoch alone, and let go of what is forgotten by that."""
        self._epochs.settle(self._keeper.epoch)
        if not self._undropped:
            return
        with self._keeper.changing(frees=True) as change:
            for (lineage, group), masks in self._undropped.items():
                waiting = read_waiting(change, lineage, group)
                if waiting is None:  # its volume was destroyed
                    continue
                both = zip(waiting.masks, masks, strict=True)
                waiting.masks = [left & ~gone for left, gone in both]
                if any(waiting.masks):
                    change.put(stripes_key(lineage, group), waiting.pack())
                else:
                    change.delete(stripes_key(lineage, group))
        self._undropped = {}

    def _is_due(self) -> bool:
        """Tell whether a batch is to be forgotten now."""
        now = self._keeper.now()
        if self._undropped or now - self._last >= _BATCH:
            return True
        with self._keeper.reading() as view:
            oldest = min(given_up(view, now).values(), default=None)
            return oldest is not None and oldest + within(view) * 5 / 6 <= now

    def _wait_s(self) -> float:
        """Return for how long the sink cannot afford a rotation; the epoch counts them."""
        with self._keeper.reading() as view:
            age = self._keeper.now() - view.pool().created_at
        rotations = self._keeper.epoch - 1
        return self._sink.budget().wait_s(rotations=rotations, age_s=age.total_seconds())

    def _run(self) -> None:
        while not self._stopping.wait(self._pause_s()):
            try:
                self.turn()
            except ScrubjayError as error:
                _log.error("purging.failed", error=error.message, hint=error.hint)
            except Exception:  # noqa: BLE001 - one volume's trouble must not end it for all others
                _log.exception("purging.broke")

    def _pause_s(self) -> float:
        """Return when to look again: often enough that a short deadline is not missed by it."""
        with suppress(ScrubjayError), self._keeper.reading() as view:
            return min(_LOOK_S, within(view).total_seconds() / _LOOKS)
        return _LOOK_S

    # --- exporters, and volumes that nobody has attached -----------------------------------

    def _tend(self) -> None:
        """Serve those that are due for as long as it takes, a few at a time, each in its turn."""
        now = self._keeper.now()
        due, turn = self._due(now)
        for volume in [each for each in self._tended if self._is_done(each, due)]:
            self._attempt(self._rest, volume)
        self._tried = {volume: last for volume, last in self._tried.items() if volume in due}
        rested = {each for each, last in self._tried.items() if abs(now - last) < turn}
        queue = sorted(
            (each for each in due.keys() - rested if not self._liveness.attached(each)),
            key=lambda each: (self._tried.get(each, _NEVER), due[each]),
        )
        wanted = len(queue) - (_TENDED_MAX - len(self._tended))
        long = [each for each, began in self._tended.items() if abs(now - began) > turn]
        for volume in long[: max(0, wanted)]:
            self._tried[volume] = now
            self._attempt(self._rest, volume)
        for volume in queue[: _TENDED_MAX - len(self._tended)]:
            self._tried[volume] = now
            self._attempt(self._serve, volume)

    def _due(self, now: dt.datetime) -> tuple[dict[VolumeId, dt.datetime], dt.timedelta]:
        """Return in which volumes something is half as old as it may get; how long a turn is."""
        due: dict[VolumeId, dt.datetime] = {}
        with self._keeper.reading() as view:
            limit = within(view)
            for volume, record in view.volumes():
                since = self.status.inside(view, volume, record)
                if record.state == "ready" and since and since + limit / 2 <= now:
                    due[volume] = since
        return due, limit / _TURNS

    def _is_done(self, volume: VolumeId, due: Container[VolumeId]) -> bool:
        """Whether one that is served has nothing due any more, or its exporter ended."""
        return volume not in due or not self._liveness.attached(volume)

    def _serve(self, volume: VolumeId) -> None:
        self._attachments.tend(volume)
        self._tended[volume] = self._keeper.now()
        _log.info("volume.tended", volume=str(volume))

    def _rest(self, volume: VolumeId) -> None:
        del self._tended[volume]
        self._attachments.rest(volume)

    def _tell_within(self) -> None:
        """Tell exporters by when to purge: each once by this daemon, and where that changed.

        They heard it when they attached, perhaps from another daemon, and it may be another now.
        """
        with self._keeper.reading() as view:
            within_s = view.policy().purge_within_s
            wanted = {
                volume: (record.attach_epoch, within_s)
                for volume, record in view.volumes()
                if record.state == "ready" and self._liveness.attached(volume)
            }
        self._told = {v: each for v, each in self._told.items() if wanted.get(v) == each}
        for volume in wanted.keys() - self._told.keys():
            if self._stopping.is_set():
                return
            try:
                self._attachments.tell_purge_within(volume, within_s=within_s)
            except (ScrubjayError, OSError) as error:  # it is told at the next turn
                _log.warning("exporter.not_told", volume=str(volume), error=str(error))
            else:
                self._told[volume] = wanted[volume]

    def _attempt(self, step: Callable[[VolumeId], None], volume: VolumeId) -> None:
        try:
            step(volume)
        except (ScrubjayError, OSError) as error:
            _log.warning("volume.not_tended", volume=str(volume), error=str(error))


def _batch(view: View) -> _Batch:
    """Return what one rotation takes, the oldest first; nothing of volumes that are no more."""
    found = sorted(every_waiting(view), key=lambda each: each[2].since_s or 1 << 63)
    gone = {lineage for lineage, _ in view.remains()}
    batch: _Batch = {}
    segments = 0
    for lineage, group, waiting in found:
        if segments >= _SEGMENTS_MAX:
            break
        if lineage in gone or not _is_sound(view, lineage, group):
            continue
        batch[lineage, group] = waiting.masks
        segments += sum(mask not in (0, ALL_STRIPES) for mask in waiting.masks)
    return batch


def _is_sound(view: View, lineage: LineageNo, group: int) -> bool:
    """Tell whether a group can be forgotten; one that cannot keeps no other from it."""
    try:
        view.lineage(lineage)
        read_group(view, lineage, group)
    except ScrubjayError as error:
        _log.error("stripes.passed_over", lineage=lineage, group=group, error=error.message)
        return False
    return True


def _paths(view: View, lineage: LineageNo, group: int, masks: list[int]) -> Iterator[path.Path]:
    """Yield what is to be forgotten of a group; nothing where its lineage is gone.

    Nor of segments that were never leased, of which earlier versions believed what was said.
    """
    with suppress(NotFound):
        owner = view.lineage(lineage)
        tenant, leased = TenantNo(owner.tenant), range(1, owner.next_segment)
        listed = read_group(view, lineage, group)
        for segment, mask in zip(segment_range(group), masks, strict=True):
            if listed is None or not mask or segment not in leased:
                continue
            above = path.segment(tenant, lineage, listed.branch, SegmentId(segment))
            if mask == ALL_STRIPES:
                yield above
            else:
                yield from (path.stripe(above, i) for i in range(STRIPES) if mask >> i & 1)
