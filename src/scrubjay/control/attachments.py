"""Attaching and detaching: which volumes are served, under which epoch, where.

A volume is attached while an exporter holds its lock, which the kernel frees however the
exporter ends. Each attachment gets an epoch of its own, committed before the exporter is
started; whatever an older one still asks for is refused (leases.py).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import quote

import msgspec
import structlog

from scrubjay.base.errors import Conflict, NotFound, ScrubjayError
from scrubjay.base.ids import VolumeId
from scrubjay.control.keeper import Keeper
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
        self._busy: set[VolumeId] = set()
        self._idle = threading.Condition()

    def attach(self, reference: str, *, socket_group: str | None = None) -> Served:
        """Serve a volume; Conflict where it is served already, or is being destroyed."""
        with self._keeper.reading() as view:
            volume = resolve_volume(self._keeper, view, reference)
        with self._alone(volume):
            served = self._next_epoch(volume)
            if socket_group is not None:
                self._liveness.let_groups_pass()
            start = Start(
                volume, served.epoch, served.socket, self._liveness.lock_path(volume), socket_group
            )
            try:
                self._exporters.start(start)
            except ScrubjayError:
                self._exporters.kill(volume)
                raise
        _log.info("volume.attached", volume=str(volume), epoch=served.epoch)
        return served

    def detach(self, reference: str) -> None:
        """End serving a volume; in order if it can, else by force, which loses no flush (I4)."""
        served = self.find(reference)
        with self._alone(served.volume):
            try:
                self._exporters.detach(served.volume)
            except ScrubjayError as error:
                _log.warning("volume.detach_forced", volume=str(served.volume), error=error.message)
                self._exporters.kill(served.volume)
        _log.info("volume.detached", volume=str(served.volume))

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

    def end(self, volume: VolumeId, name: str) -> Ending:
        """End whatever serves a volume that is to be forgotten; return when no key is left.

        The volume is withheld already, so nothing begins to serve it afterwards.
        """
        ending: Ending = "not attached"
        with self._alone(volume):
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

    def _next_epoch(self, volume: VolumeId) -> Served:
        """Commit the epoch of a new attachment."""
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
            attached = msgspec.structs.replace(record, attach_epoch=record.attach_epoch + 1)
            change.put(volume_key(volume), encode(attached))
        return self._served(volume, attached)

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
