"""Purging as the pool does it: what volumes give up is forgotten, in batches, in time (I3, I8).

    given up    one commit of a checkpoint: a record under `o`; its exporter has no key of it
                any more, and from here on nobody is granted one
    cut         slices, a commit each: the tree of keys without them, under the old epoch
    rotated     the sink has destroyed that epoch (rotating.py): only now they are forgotten
    cleared     one commit: they leave `o`

A crash at any point is finished by forgetting again, which changes nothing where it was
done. A rotation is asked for an hour after the last, or sooner as a deadline nears; a sink
that wears out sets the pace, and what is late does not change it. A deadline that is missed is
told once to `on_missed` (purge_deadlines.py), and shown for as long as it lasts. A volume that
nobody has attached is served for its purging alone.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Container, Iterator
from contextlib import suppress

import structlog

from scrubjay.base.errors import NoSpace, NotFound, ScrubjayError
from scrubjay.base.ids import Epoch, LineageNo, SegmentId, TenantNo, VolumeId
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
from scrubjay.control.rotating import Rotating
from scrubjay.control.stripes import ALL_STRIPES, every_waiting, read_waiting
from scrubjay.control.view import View
from scrubjay.keys import path

__all__ = ["Purging"]

_LOOK_S, _LOOKS = 60.0, 24
"""Looks are this far apart at most, and there are so many within a deadline at least."""
_BATCH = dt.timedelta(hours=1)
"""Between two rotations, unless a deadline is nearer than a sixth of `purge_within`."""
_PACES = 96
"""So many rotations within a deadline at most, however much is late: a quarter of an hour."""
_SEGMENTS_MAX = 1024
"""In a slice, of those that lose stripes: others wait for its commit (docs/performance.md)."""
_EVERY = 1 << 63
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
        rotating: Rotating,
        *,
        attachments: Attachments,
        liveness: Liveness,
        on_missed: OnPurgeMissed = tell_nobody,
    ) -> None:
        self.status = PurgeStatus(keeper, liveness)
        self._keeper = keeper
        self._attachments = attachments
        self._liveness = liveness
        self._on_missed = on_missed
        self._rotating = rotating
        self._cut: _Batch = {}
        """Out of the tree of keys, but not known to be forgotten."""
        self._cut_under = keeper.epoch
        """The newest epoch under which any of it was cut."""
        self._tended: dict[VolumeId, dt.datetime] = {}
        """Served for their purging alone, since when."""
        self._tried: dict[VolumeId, dt.datetime] = {}
        """Served so, or tried to be, when last; of those that are still due."""
        self._told: dict[VolumeId, tuple[int, int]] = {}
        """(attach epoch, `purge_within` in seconds) of which each exporter was told."""
        self._adopted = False
        self._began = keeper.now()
        self._rotated: dt.datetime | None = None
        """When something was forgotten last, by this daemon."""
        rotating.join(self)
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
            if self._is_due():
                self._rotating.ask()
        finally:
            try:
                self._tend()
            finally:  # whatever keeps the rest from being done, what is late is told
                note_missed_purges(self._keeper, self.status, self._on_missed)
                self._tell_within()

    # --- a passenger of rotations ----------------------------------------------------------

    @property
    def is_cut(self) -> bool:
        """Whether something is out of the tree of keys that is not forgotten yet."""
        return any(map(any, self._cut.values()))

    def cut(self) -> bool:
        """Take a slice out of the tree of keys, durably; return whether there may be more.

        It leaves the reserve of pages alone, which is for destroys. Where there is no room
        for stripes, which take some, segments go that are forgotten as a whole.
        """
        with self._keeper.reading() as view:
            batch = _batch(view, but=self._cut, segments_max=_SEGMENTS_MAX)
        if not batch:
            return False
        try:
            self._take_out(batch)
        except NoSpace as error:
            _log.warning("purging.full", error=error.message)
            with self._keeper.reading() as view:
                self._take_out(_whole(_batch(view, but=self._cut, segments_max=_EVERY)))
            return False
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

    def dropped(self, epoch: Epoch) -> None:
        """Hear that the sink holds this epoch alone; let go of what is forgotten by that."""
        if not self._cut or epoch <= self._cut_under:
            return
        with self._keeper.changing(frees=True) as change:
            for (lineage, group), masks in self._cut.items():
                waiting = read_waiting(change, lineage, group)
                if waiting is None:  # its volume was destroyed
                    continue
                both = zip(waiting.masks, masks, strict=True)
                waiting.masks = [left & ~gone for left, gone in both]
                if any(waiting.masks):
                    change.put(stripes_key(lineage, group), waiting.pack())
                else:
                    change.delete(stripes_key(lineage, group))
        _log.info("stripes.forgotten", groups=len(self._cut), epoch=epoch)
        self._cut = {}
        self._rotated = self._keeper.now()

    def _take_out(self, batch: _Batch) -> None:
        with self._keeper.changing() as change:
            change.take_out(
                each
                for (lineage, group), masks in batch.items()
                for each in _paths(change, lineage, group, masks)
            )
        self._cut = self._cut | batch  # another one, for the other thread reads it
        self._cut_under = self._keeper.epoch

    def _is_due(self) -> bool:
        """Tell whether to ask for a rotation now.

        A sink that wears out is asked for as often as it bears it on average. Near a deadline that
        may be a third more often; so near that an ordinary day's purging stays with the average.
        """
        if self.is_cut:
            return True
        now, rest = self._keeper.now(), dt.timedelta(seconds=self._rotating.interval_s)
        with self._keeper.reading() as view:
            limit = within(view)
            oldest = min(given_up(view, now).values(), default=None)
            if oldest is None and (rest or next(every_waiting(view), None) is None):
                return False  # segments that were never written hurt nobody, and go along
        if _has_passed(max(_BATCH, rest), self._rotated or self._began, now):
            return True
        near, pace = (limit * 23 / 24, rest * 3 / 4) if rest else (limit * 5 / 6, limit / _PACES)
        hurried = self._rotated is None or _has_passed(pace, self._rotated, now)
        return oldest is not None and oldest + near <= now and hurried

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


def _has_passed(pause: dt.timedelta, since: dt.datetime, now: dt.datetime) -> bool:
    """Tell whether a pause is over; it is where the clock was set back behind its beginning."""
    return not dt.timedelta(0) <= now - since < pause


def _whole(batch: _Batch) -> _Batch:
    """Return a batch without segments that lose single stripes."""
    return {
        at: [mask if mask == ALL_STRIPES else 0 for mask in masks]
        for at, masks in batch.items()
        if ALL_STRIPES in masks
    }


def _batch(view: View, *, but: Container[tuple[LineageNo, int]], segments_max: int) -> _Batch:
    """Return what one slice takes, the oldest first: none of these groups, nor of dead volumes."""
    found = sorted(every_waiting(view), key=lambda each: each[2].since_s or 1 << 63)
    gone = {lineage for lineage, _ in view.remains()}
    batch: _Batch = {}
    segments = 0
    for lineage, group, waiting in found:
        if segments >= segments_max:
            break
        if (lineage, group) in but or lineage in gone:
            continue
        if not _is_sound(view, lineage, group):
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
