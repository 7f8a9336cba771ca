"""Attaching and detaching: which volumes are served, under which epoch, where.

A volume is attached while an exporter holds its lock, which the kernel frees however the
exporter ends. Each attachment gets an epoch of its own, committed before the exporter is
started; whatever an older one still asks for is refused (leases.py).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import quote

import msgspec
import structlog

from scrubjay.base.errors import Conflict, NotFound, ScrubjayError, Unavailable
from scrubjay.base.ids import TenantNo, VolumeId
from scrubjay.control.keeper import Keeper
from scrubjay.control.lineages import blank
from scrubjay.control.liveness import Liveness
from scrubjay.control.records import VolumeRecord, encode, volume_key
from scrubjay.control.view import View
from scrubjay.control.volumes import Volume, resolve_volume, withheld

__all__ = ["Attachments", "Ending", "Exporters", "Served", "Start"]

Ending = Literal["acknowledged", "killed", "not attached"]
"""How the process ended that held a volume's keys: whether it said that they are overwritten."""

_BUSY_TIMEOUT_S = 60.0
_PAGE = 1000
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """What an exporter is to be started with."""

    volume: VolumeId
    epoch: int
    socket: Path
    lock: Path
    group: str | None
    """Who may connect besides the owner."""
    ephemeral: bool = False
    """Its keys are to be the exporter's own."""


class Exporters(Protocol):
    """The processes that serve volumes. Each method is bounded in time."""

    def start(self, start: Start) -> None:
        """Start an exporter; return when it listens, raise what kept it from that."""
        ...

    def detach(self, volume: VolumeId) -> None:
        """Have an exporter checkpoint and end; Unavailable if it does not in time."""
        ...

    def kill(self, volume: VolumeId) -> bool:
        """End an exporter, its keys with it; return when it is gone, however it was.

        True where it said that it had overwritten its keys.
        """
        ...

    def resize(self, volume: VolumeId, *, size_bytes: int) -> None:
        """Tell an exporter that its volume has grown."""
        ...

    def purge_within(self, volume: VolumeId, *, within_s: int) -> None:
        """Tell an exporter by when to purge what is overwritten from now on, or was before."""
        ...

    def reset(self, volume: VolumeId) -> None:
        """Have the exporter of an ephemeral volume drop every key, and go on with zeros."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """A volume that is being served."""

    volume: VolumeId
    name: str
    epoch: int
    socket: Path

    @property
    def uri(self) -> str:
        """What NBD clients take (the NBD URI specification)."""
        return f"nbd+unix:///{quote(self.name)}?socket={quote(str(self.socket))}"


class Attachments:
    """What the API does to attachments."""

    def __init__(self, keeper: Keeper, liveness: Liveness, exporters: Exporters) -> None:
        self._keeper = keeper
        self._liveness = liveness
        self._exporters = exporters
        self.on_left: Callable[[], None] = lambda: None
        """Called when an ephemeral volume has left something to be cleared away."""
        self._busy: set[VolumeId] = set()
        self._tended: set[VolumeId] = set()
        """Served for their upkeep alone: who attaches one takes it over."""
        self._idle = threading.Condition()

    def attach(self, reference: str, *, socket_group: str | None = None) -> Served:
        """Serve a volume; Conflict where it is served already, or is being destroyed."""
        with self._keeper.reading() as view:
            volume = resolve_volume(self._keeper, view, reference)
        with self._alone(volume):
            if volume in self._tended:
                self._tended.discard(volume)
                if socket_group is None and self._liveness.attached(volume):
                    return self.find(reference)
                self._leave(volume)
            served = self._start(volume, socket_group)
        _log.info("volume.attached", volume=str(volume), epoch=served.epoch)
        return served

    def tend(self, volume: VolumeId) -> None:
        """Serve a volume for its upkeep alone, until `rest`; Conflict where it is served."""
        with self._alone(volume):
            self._start(volume, None)
            self._tended.add(volume)

    def rest(self, volume: VolumeId) -> None:
        """End what `tend` began, unless somebody has attached the volume since."""
        with self._alone(volume):
            if volume in self._tended:
                self._tended.discard(volume)
                self._leave(volume)

    def detach(self, reference: str) -> None:
        """End serving a volume; in order if it can, else by force, which loses no flush (I4)."""
        served = self.find(reference)
        with self._keeper.reading() as view:
            ephemeral = view.volume(served.volume).keys == "memory"
        with self._alone(served.volume):
            self._tended.discard(served.volume)
            self._leave(served.volume)
            if ephemeral:
                self._give_back_soon(served.volume)
        _log.info("volume.detached", volume=str(served.volume))

    def reset(self, reference: str) -> Volume:
        """Return an ephemeral volume to zeros, attached or not; Conflict for any other."""
        with self._keeper.reading() as view:
            volume = resolve_volume(self._keeper, view, reference)
        with self._alone(volume):
            with self._keeper.reading() as view:
                record = view.volume(volume)
                tenant = view.tenant(TenantNo(record.tenant)).name
            if record.state != "ready":
                raise withheld(record)
            if record.keys != "memory":
                raise Conflict(
                    f"volume {record.name}: keeps its data, expected an ephemeral volume",
                    hint="destroy it and make another, or write zeros to it",
                )
            attached = self._liveness.attached(volume)
            if attached:
                try:
                    self._exporters.reset(volume)
                except Unavailable:
                    attached = self._liveness.attached(volume)
                    if attached:
                        raise
            if not attached:
                self._give_back(volume)
        _log.info("volume.reset", volume=str(volume), attached=attached)
        with self._keeper.reading() as view:
            return Volume(volume, view.volume(volume), tenant, attached)

    def give_back_all(self) -> None:
        """Give back the slots of ephemeral volumes whose exporters died while nobody looked."""
        with self._keeper.reading() as view:
            lost = [volume for volume, record in view.volumes() if record.keys == "memory"]
        for volume in lost:
            with self._alone(volume):
                if not self._liveness.attached(volume):
                    self._give_back_soon(volume)

    def find(self, reference: str) -> Served:
        """Return where a volume is served; NotFound where it is not."""
        with self._keeper.reading() as view:
            volume = resolve_volume(self._keeper, view, reference)
            record = view.volume(volume)
        if not self._liveness.attached(volume):
            raise NotFound(f"volume {record.name}: not attached", hint="see: scrubjay volume list")
        return self._served(volume, record)

    def page(self, *, after: str, limit: int) -> list[Served]:
        """Return up to `limit` of what is being served, by name, from behind `after` on."""
        found: list[Served] = []
        with self._keeper.reading() as view:
            while len(found) < limit:
                rows = self._keeper.index.volumes(after=after, limit=_PAGE)
                for row in rows:
                    if self._liveness.attached(row.id):
                        with contextlib.suppress(NotFound):  # gone since the index was asked
                            found.append(self._served(row.id, view.volume(row.id)))
                if len(rows) < _PAGE:
                    break
                after = rows[-1].name
        return found[:limit]

    def tell_size(self, volume: Volume) -> None:
        """Tell the exporter, if there is one, that its volume has grown."""
        with self._alone(volume.id):
            if self._liveness.attached(volume.id):
                self._exporters.resize(volume.id, size_bytes=volume.record.size_bytes)

    def tell_purge_within(self, volume: VolumeId, *, within_s: int) -> None:
        """Tell the exporter of a volume, if there is one, by when to purge."""
        with self._alone(volume):
            if self._liveness.attached(volume):
                self._exporters.purge_within(volume, within_s=within_s)

    def end(self, volume: VolumeId, name: str) -> Ending:
        """End whatever serves a volume that is to be forgotten; return when no key is left.

        The volume is withheld already, so nothing begins to serve it afterwards.
        """
        ending: Ending = "not attached"
        with self._alone(volume):
            self._tended.discard(volume)
            if self._liveness.attached(volume):
                ending = "acknowledged" if self._exporters.kill(volume) else "killed"
            with self._liveness.withheld(volume) as gone:
                if not gone:
                    raise Conflict(f"volume {name}: still served, expected its exporter to end")
                self._liveness.close_socket(volume, name)
        return ending

    def sweep(self, view: View) -> None:
        """Remove the locks of volumes that are no more."""
        self._liveness.sweep({volume for volume, _ in view.volumes()})

    def detach_all(self) -> None:
        """End serving every volume, in order."""
        for served in self.page(after="", limit=1 << 31):
            with contextlib.suppress(NotFound):
                self.detach(str(served.volume))

    def _start(self, volume: VolumeId, socket_group: str | None) -> Served:
        served, ephemeral = self._next_epoch(volume)
        if socket_group is not None:
            self._liveness.let_groups_pass()
        lock = self._liveness.lock_path(volume)
        start = Start(volume, served.epoch, served.socket, lock, socket_group, ephemeral)
        try:
            self._exporters.start(start)
        except ScrubjayError:
            self._exporters.kill(volume)
            raise
        return served

    def _leave(self, volume: VolumeId) -> None:
        """End serving, in order if it can."""
        try:
            self._exporters.detach(volume)
        except ScrubjayError as error:
            _log.warning("volume.detach_forced", volume=str(volume), error=error.message)
            self._exporters.kill(volume)

    def _give_back_soon(self, volume: VolumeId) -> None:
        """Have its slots be cleared away; where the pool cannot now, the next attachment does."""
        try:
            self._give_back(volume)
        except ScrubjayError as error:
            _log.warning("volume.not_given_back", volume=str(volume), error=error.message)

    def _give_back(self, volume: VolumeId) -> None:
        """Have the slots of an ephemeral volume, which nobody serves, be cleared away."""
        with contextlib.suppress(NotFound), self._keeper.changing(frees=True) as change:
            record = change.volume(volume)
            if record.keys == "memory" and record.state == "ready":
                emptied = blank(change, volume, record, now=self._keeper.now())
                if emptied != record:
                    change.put(volume_key(volume), encode(emptied))
        self.on_left()

    def _next_epoch(self, volume: VolumeId) -> tuple[Served, bool]:
        """Commit the epoch of a new attachment; return it, and whether it is ephemeral."""
        self._keeper.expect_in_place()  # else its exporter would open what lies there
        with self._keeper.changing() as change:
            record = change.volume(volume)
            if record.state != "ready":
                raise withheld(record)
            if self._liveness.attached(volume):
                at = self._served(volume, record)
                raise Conflict(
                    f"volume {record.name}: attached already",
                    hint=f"it is served at {at.uri}",
                )
            ephemeral = record.keys == "memory"
            if ephemeral:
                record = blank(change, volume, record, now=self._keeper.now())
            begun = _begun(record, self._keeper.now())
            attached = msgspec.structs.replace(begun, attach_epoch=record.attach_epoch + 1)
            change.put(volume_key(volume), encode(attached))
        if ephemeral:
            self.on_left()
        return self._served(volume, attached), ephemeral

    def _served(self, volume: VolumeId, record: VolumeRecord) -> Served:
        socket = self._liveness.socket_path(volume, record.name)
        return Served(volume, record.name, record.attach_epoch, socket)

    @contextlib.contextmanager
    def _alone(self, volume: VolumeId) -> Iterator[None]:
        """Attach, detach and end one volume one after the other."""
        with self._idle:
            if not self._idle.wait_for(lambda: volume not in self._busy, _BUSY_TIMEOUT_S):
                raise Conflict(
                    f"volume {volume}: another attach or detach is under way",
                    hint="wait a moment, then retry",
                )
            self._busy.add(volume)
        try:
            yield
        finally:
            with self._idle:
                self._busy.discard(volume)
                self._idle.notify_all()


def _begun(record: VolumeRecord, now: dt.datetime) -> VolumeRecord:
    """Return the record of a volume of which, from now on, the log may know more than it says.

    Until its next checkpoint: should its exporter be killed before, nothing is clean (I8).
    """
    if not record.checkpoint.clean:
        return record
    return msgspec.structs.replace(
        record,
        checkpoint=msgspec.structs.replace(record.checkpoint, clean=False),
        purge=record.purge and msgspec.structs.replace(record.purge, told_at=now),
    )
