"""Exporters without processes: the engine, its steward and the real leases service."""

# ruff: noqa: SLF001 - the steward's look is what its thread would do, without the thread

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from scrubjay.base.errors import NotFound, ScrubjayError
from scrubjay.base.ids import SegmentId, VolumeId
from scrubjay.base.ports import Entropy, Medium
from scrubjay.control.attachments import Start
from scrubjay.control.leases import Leases
from scrubjay.engine.disk import Disk
from scrubjay.engine.ephemeral import EphemeralDisk, OwnKeys
from scrubjay.engine.lessor import Checkpoint, Grant
from scrubjay.export.arena import Arena
from scrubjay.export.steward import Steward
from tests.model.power import DaemonDiedError

__all__ = ["Exporter", "LocalExporters", "LocalLessor"]

_ReplyT = TypeVar("_ReplyT")


@dataclass
class LocalLessor:
    """`Lessor` by plain calls; whichever daemon there is now answers."""

    leases: Callable[[], Leases]
    volume: VolumeId
    epoch: int
    highest: int
    seeds: dict[int, bytes]
    """The key of every segment that was ever granted, for the thief to look for."""
    on_slot: Callable[[VolumeId, int], None]
    revive: Callable[[], None]
    """Starts another daemon."""
    on_given_up: Callable[[VolumeId, Checkpoint, Sequence[SegmentId]], None]
    loses_reply: bool = False
    """The daemon's next answer is lost: the call is sent again."""

    def lease(self, count: int) -> Sequence[Grant]:
        """Lease segments."""
        above = SegmentId(self.highest)
        grants = self._asked(
            lambda leases: leases.lease(self.volume, self.epoch, count=count, above=above)
        )
        self.highest = max([self.highest, *(grant.segment for grant in grants)])
        for grant in grants:
            if grant.slot is not None:
                self.on_slot(self.volume, grant.slot)
        return self._noted(grants)

    def group(self, group: int) -> Sequence[Grant]:
        """Return the grants of a group."""
        return self._noted(self._asked(lambda leases: leases.group(self.volume, self.epoch, group)))

    def commit(self, checkpoint: Checkpoint, *, freed: Sequence[SegmentId]) -> int:
        """Name a checkpoint."""
        self.on_given_up(self.volume, checkpoint, freed)
        return self._asked(
            lambda leases: leases.commit(self.volume, self.epoch, checkpoint, freed=freed)
        )

    def _asked(self, call: Callable[[Leases], _ReplyT]) -> _ReplyT:
        """Ask whichever daemon there is, and again where its answer was lost."""
        while True:
            try:
                reply = call(self.leases())
            except DaemonDiedError:
                self.revive()
                continue
            if not self.loses_reply:
                return reply
            self.loses_reply = False

    def _noted(self, grants: Sequence[Grant]) -> Sequence[Grant]:
        self.seeds.update((grant.segment, grant.key) for grant in grants if grant.key)
        return grants


@dataclass
class Exporter:
    """A volume being served."""

    lock: int
    lessor: LocalLessor
    disk: Disk
    arena: Arena
    now_s: Callable[[], int]
    steward: Steward = field(init=False)
    troubles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.steward = Steward(
            self.disk,
            self.disk._lessor,
            poison=self.troubles.append,
            end=_raise,
            complain=self.troubles.append,
            first=self.disk.give_back if isinstance(self.disk, EphemeralDisk) else None,
            now_s=self.now_s,
        )

    def look(self) -> None:
        """Have the steward look after the disk once, because somebody asked."""
        self.steward.kick()
        self.steward._look()

    def idle(self) -> None:
        """Have the steward look as often as it takes until it sees that nothing is going on."""
        self.steward._look()
        self.steward._look()

    def feed(self) -> None:
        """Wait for space, as a connection does: until there are segments, or none to be had."""
        if self.disk.starved or self.disk.full:
            self.disk.starving = True
            self.look()

    def purge(self) -> None:
        """Have the steward purge what is due, and checkpoint where that gives something up."""
        with self.disk.lock:
            self.disk.tick(self.now_s())
        self.steward._purge()

    def checkpoint(self) -> None:
        """Checkpoint now, as the steward does when it is due."""
        self.feed()
        self.steward._checkpoint()


@dataclass
class LocalExporters:
    """`Exporters` whose processes are objects; each holds its lock for as long as it lives."""

    leases: Callable[[], Leases]
    medium: Callable[[], Medium]
    on_slot: Callable[[VolumeId, int], None]
    revive: Callable[[], None]
    entropy: Entropy
    on_given_up: Callable[[VolumeId, Checkpoint, Sequence[SegmentId]], None] = lambda *_: None
    now_s: Callable[[], int] = lambda: 1
    seeds: dict[VolumeId, dict[int, bytes]] = field(default_factory=dict)
    served: dict[VolumeId, Exporter] = field(default_factory=dict)
    ended_in_order: set[VolumeId] = field(default_factory=set)
    """Whose last exporter committed a last checkpoint."""
    own: list[bytes] = field(default_factory=list)
    """Every key that an ephemeral volume ever drew."""

    def start(self, start: Start) -> None:
        """Take the lock, attach, recover."""
        start.lock.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(start.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.ended_in_order.discard(start.volume)
            attachment = self.leases().attachment(start.volume, start.epoch)
            seeds = self.seeds.setdefault(start.volume, {})
            lessor = LocalLessor(
                self.leases,
                start.volume,
                start.epoch,
                highest=attachment.next_segment - 1,
                seeds=seeds,
                on_slot=self.on_slot,
                revive=self.revive,
                on_given_up=self.on_given_up,
            )
            arena = Arena()
            if start.ephemeral:
                own = OwnKeys(lessor, self)
                disk: Disk = EphemeralDisk(self.medium(), own, arena, attachment)
            else:
                disk = Disk(self.medium(), lessor, arena, attachment)
            disk.tick(self.now_s())
            disk.attach()
            self.served[start.volume] = Exporter(lock, lessor, disk, arena, self.now_s)
        except BaseException:
            os.close(lock)
            raise

    def detach(self, volume: VolumeId) -> None:
        """Commit a last checkpoint, and end."""
        exporter = self._of(volume)
        exporter.steward.close()
        if not isinstance(exporter.disk, EphemeralDisk):
            exporter.steward.finish()
            exporter.disk.detach()
        self.ended_in_order.add(volume)
        self._die(volume)

    def kill(self, volume: VolumeId) -> bool:
        """End at once; what was written stays in the page cache."""
        if volume in self.served:
            self._die(volume)
        return True

    def connected(self) -> set[VolumeId]:
        """Return the volumes that are served."""
        return set(self.served)

    def resize(self, volume: VolumeId, *, size_bytes: int) -> None:
        """Grow."""
        self._of(volume).disk.resize(size_bytes)

    def purge_within(self, volume: VolumeId, *, within_s: int) -> None:
        """Purge by another deadline."""
        self._of(volume).disk.purger.within_s = within_s

    def reset(self, volume: VolumeId) -> None:
        """Return an ephemeral volume to zeros."""
        disk = self._of(volume).disk
        assert isinstance(disk, EphemeralDisk)
        disk.reset()

    def token(self, size_bytes: int) -> bytes:
        """Draw a key for an ephemeral volume, and note it for the thief to look for."""
        self.own.append(self.entropy.token(size_bytes))
        return self.own[-1]

    def lose_power(self) -> None:
        """End everything."""
        for volume in list(self.served):
            self._die(volume)

    def _of(self, volume: VolumeId) -> Exporter:
        if volume not in self.served:
            raise NotFound(f"volume {volume}: no exporter")
        return self.served[volume]

    def _die(self, volume: VolumeId) -> None:
        exporter = self.served.pop(volume)
        exporter.arena.drop_all()
        os.close(exporter.lock)


def _raise(error: ScrubjayError) -> None:
    raise error
