"""The whole stack without processes: pool, sink, catalog, control, and engines that serve.

What a test asks of it is also asked of an oracle; whatever comes back is compared. Power
may fail in the middle of any operation: then everything stops, the disks keep of what was
not synced whatever chance leaves, the next daemon opens them, and the story goes on.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial, update_wrapper
from pathlib import Path
from random import Random
from typing import Concatenate, ParamSpec

from scrubjay.base.errors import NoSpace, NotFound
from scrubjay.base.ids import VolumeId
from scrubjay.sinks.file import FILE_BYTES, FileSink
from tests.control.rig import SOMEWHERE, Seeded, SinkFile
from tests.model.accounting import check_slots
from tests.model.blank import make_blank
from tests.model.daemon import Daemon
from tests.model.exporters import LocalExporters
from tests.model.oracle import MAGIC, Oracle
from tests.model.power import DaemonDiedError, Handle, Power, Powered
from tests.model.purged import GivenUp, stripe
from tests.model.served import Served
from tests.model.tenanted import Dead, Intent, Tenanted, segment_of
from tests.model.thief import Thief, keys_in_sink
from tests.sinks.disks import PowerLossError

__all__ = ["CATALOGS", "House"]


CATALOGS = ("kept", "older", "lost")
"""What the next daemon finds of the catalog."""
_P = ParamSpec("_P")


def operation(
    method: Callable[Concatenate[House, _P], None],
) -> Callable[Concatenate[House, _P], None]:
    """Survive what ends power or daemon during the method, and check everything behind it."""

    def run(self: House, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        self.step += 1
        try:
            try:
                method(self, *args, **kwargs)
            except DaemonDiedError:
                self._revive()
                self._reconcile()
        except PowerLossError:
            self.lose_power()
        self.intent = Intent()
        self.note_sink()
        self.check()

    update_wrapper(run, method)
    return run


@dataclass
class House:
    """One pool, its daemon, its exporters; and the oracles of its volumes."""

    folder: Path
    seed: int = 0
    slots: int = 24
    area_slots: int = 1
    volumes: dict[str, Tenanted] = field(default_factory=dict)
    dead: list[Dead] = field(default_factory=list)
    step: int = 0
    events: Counter[str] = field(default_factory=Counter)
    """What happened so far: a model in which nothing happens finds nothing."""
    intent: Intent = field(default_factory=Intent)
    now_s: int = 1_700_000_000
    given_up: GivenUp = field(default_factory=GivenUp)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.entropy = Seeded(Random(self.seed))
        self.power = Power()
        blank = make_blank(self.folder.parent, self.slots, self.area_slots)
        self.pool = Powered(blank.pool.size_bytes, self.power).holding(blank.pool)
        self.sink = Powered(blank.sink.size_bytes, self.power).holding(blank.sink)
        self.pool.trace = list(blank.trace)
        shutil.copy(blank.catalog, self._catalog)
        self._blank_catalog = blank.catalog
        self._old_catalog = blank.catalog
        self._serial = 0
        self._epoch_keys: dict[bytes, int] = {}
        self.exporters = LocalExporters(
            lambda: self.daemon.leases,
            lambda: self.pool,
            on_slot=self._note_slot,
            revive=self._revive,
            entropy=Seeded(Random(self.seed + 1)),
            on_given_up=self.given_up.note,
            now_s=lambda: self.now_s,
        )
        self._last_owner: dict[int, int] = {}
        self.daemon = self._opened()
        self.note_sink()

    # --- what the API is asked --------------------------------------------------------

    @operation
    def tenant(self, name: str) -> None:
        """Make a tenant."""
        self.intent.tenant = name
        self.daemon.tenants.create(name)

    @operation
    def create(self, name: str, *, tenant: str, size_bytes: int, ephemeral: bool = False) -> None:
        """Make a volume."""
        self.intent.create = name
        self.daemon.volumes.create(name, tenant=tenant, size_bytes=size_bytes, ephemeral=ephemeral)
        self._born(name, size_bytes)

    @operation
    def attach(self, name: str) -> None:
        """Serve a volume, and look at all of it; a full pool may refuse."""
        self._attach(name)
        self._clear()

    @operation
    def detach(self, name: str) -> None:
        """End serving a volume in order."""
        volume, counters = self.volumes[name], self.served(name).exporter.disk.counters
        self.daemon.attachments.detach(name)
        self.events["moved sectors"] += counters.moved_bytes >> 12
        if volume.id in self.exporters.ended_in_order and not volume.ephemeral:
            volume.oracle.synced()
        self._clear()

    @operation
    def kill(self, name: str) -> None:
        """End its exporter with -9."""
        self.exporters.kill(self.volumes[name].id)

    @operation
    def reset(self, name: str) -> None:
        """Return an ephemeral volume to zeros, served or not; what is written from now on stays."""
        volume = self.volumes[name]
        self.daemon.attachments.reset(name)
        self._blank(volume)
        self.events["reset"] += 1
        self._clear()
        if volume.id in self.exporters.served:
            self.served(name).look()

    @operation
    def close_tenant(self, name: str) -> None:
        """End a tenant with all that it has, in one rotation; its name is then another's."""
        number = self.daemon.tenants.find(name).id
        doomed = [each for each, v in self.volumes.items() if v.record.tenant == number]
        self.intent.destroy, self.intent.tenant = frozenset(doomed), name
        before = self.daemon.keeper.epoch
        asked = self.daemon.forgetting.close(name, check=lambda _: None)
        self.daemon.forgetting.carry_out()
        self._clear()
        assert self.daemon.keeper.epoch == before + 1, "one rotation, whatever there was"
        row, _ = self.daemon.operations.find(asked)
        assert row.state == "done", f"closing {name}: {row.state} {row.problem}"
        for each in doomed:
            self._bury(each)
        self.events["tenant closed"] += 1
        self.daemon.tenants.create(name)

    @operation
    def resize(self, name: str, *, size_bytes: int) -> None:
        """Grow a volume."""
        volume = self.volumes[name]
        self.intent.resize = name, size_bytes
        shown = self.daemon.volumes.resize(name, size_bytes=size_bytes, check=lambda _: None)
        self.daemon.attachments.tell_size(shown)
        volume.size_bytes = size_bytes

    @operation
    def destroy(self, *names: str) -> None:
        """Forget volumes in one rotation; done when this returns (I3)."""
        self.intent.destroy = frozenset(names)
        asked = [self.daemon.forgetting.destroy(name, check=lambda _: None) for name in names]
        self.daemon.forgetting.carry_out()
        while self.daemon.forgetting.clear():
            pass
        for each in asked:
            row, _ = self.daemon.operations.find(each)
            assert row.state == "done", f"destroying {names}: {row.state} {row.problem}"
        for name in names:
            self._bury(name)

    @operation
    def restart(self, catalog: str) -> None:
        """Kill the daemon and start another, with a catalog of those in CATALOGS."""
        self._reopen(catalog)

    # --- what clients ask of a volume that is served ----------------------------------

    @operation
    def write(self, name: str, *extents: tuple[int, int]) -> None:
        """Write extents of (offset, size) in bytes, in one batch."""
        self.served(name).write(extents)

    @operation
    def zero(self, name: str, offset: int, size: int, *, exact: bool) -> None:
        """WRITE_ZEROES a range, or TRIM the whole sectors of one."""
        self.served(name).zero(offset, size, exact=exact)

    @operation
    def read(self, name: str, offset: int, size: int) -> None:
        """Read a range, and compare (I1)."""
        self.served(name).read(offset, size)

    @operation
    def flush(self, name: str) -> None:
        """Make durable what was written (I4)."""
        self.served(name).flush()

    # --- upkeep -----------------------------------------------------------------------

    @operation
    def checkpoint(self, name: str) -> None:
        """Checkpoint, unless the pool is too full for it."""
        with self.served(name).tended() as exporter:
            exporter.checkpoint()

    @operation
    def idle(self, name: str) -> None:
        """Leave a volume alone for so long that its steward cleans and checkpoints."""
        with self.served(name).tended() as exporter:
            exporter.idle()

    @operation
    def clean(self, name: str, slices: int) -> None:
        """Do so many slices of cleaning, whether it is worth it or not."""
        self.served(name).clean(slices)

    @operation
    def purge(self, name: str, *, hours: int, forget: bool) -> None:
        """Let hours go by, purge what is due, and forget it; done when this returns (I3)."""
        self.now_s += hours * 3600
        with self.served(name).tended() as exporter:
            exporter.purge()
        named = self.given_up.copied()
        while forget and self.daemon.purge():
            self.events["purged"] += 1
        for volume in self.volumes.values() if forget else ():
            seeds = self.exporters.seeds.get(volume.id, {})
            at = partial(segment_of, volume)
            self.given_up.forget(volume.id, named, seeds=seeds, where=at, step=self.step)

    @operation
    def close_segment(self, name: str) -> None:
        """Go on in other segments, so that few bytes make many of them."""
        self.served(name).close_segment()

    @operation
    def lose_reply(self, name: str) -> None:
        """Have the daemon's next answer to an exporter be lost, and the call be repeated."""
        self.served(name).exporter.lessor.loses_reply = True

    # --- bad luck ---------------------------------------------------------------------

    def fail_power_after(self, ios: int) -> None:
        """Have the power fail during the I/O behind so many more."""
        self.power.left = ios

    def fail_daemon_after(self, ios: int) -> None:
        """Have the daemon be killed during the I/O behind so many more of its own."""
        self.life.left = ios

    @operation
    def crash(self) -> None:
        """Have the power fail now."""
        raise PowerLossError

    def lose_power(self) -> None:
        """Stop everything, and begin anew with whatever is left."""
        self.events["power failed"] += 1
        self.exporters.lose_power()
        self.power.left = None
        for volume in self.volumes.values():
            volume.oracle.certain = volume.ephemeral  # of which nothing is left
        random = Random(self.random.random())
        self.pool, self.sink = self.pool.survivor(random), self.sink.survivor(random)
        self.note_sink()
        self.step += 1
        self._reopen(random.choice(CATALOGS))
        self._reconcile()

    # --- checks -----------------------------------------------------------------------

    def served(self, name: str) -> Served:
        """Return a volume that is served."""
        volume = self.volumes[name]
        exporter = self.exporters.served[volume.id]
        return Served(volume.oracle, exporter, volume.size_bytes, self.events)

    def note_sink(self) -> None:
        """Remember which epoch keys a thief of the sink would find now."""
        content = self.sink.peek(0, FILE_BYTES)
        self._epoch_keys |= dict.fromkeys(_keys_in(content), self.step)

    def check(self) -> None:
        """Compare what the pool says with what should be there."""
        held = check_slots(self.daemon.keeper.pool)
        for volume in self.volumes.values():
            if volume.ephemeral:  # a lineage for each attachment, and zeros between them
                volume.record = self.daemon.volumes.find(volume.name).record
                if volume.id not in self.exporters.served:
                    self._blank(volume)
            if (exporter := self.exporters.served.get(volume.id)) is not None:
                listed, counted = held[volume.record.lineage], exporter.disk.counters.held_segments
                assert listed == counted, f"{volume.name}: {listed} slots, exporter has {counted}"
        named = {each.record.name for each in self.daemon.volumes.page(after="", limit=100)}
        assert named == set(self.volumes), f"volumes: {named}, expected {set(self.volumes)}"

    def finish(self) -> None:
        """Look at every volume a last time, destroy them all, and send in the thief."""
        self.power.left = self.life.left = None
        for name, volume in self.volumes.items():
            if volume.id in self.exporters.served:
                self.detach(name)
        self.check_secrets()
        while self.volumes:
            attachable = [name for name in list(self.volumes) if self._looked_at(name)]
            assert attachable, f"volumes {set(self.volumes)}: none attaches in the end"
            self.destroy(*attachable)
        counts = self.daemon.keeper.pool.counts
        assert counts.leased == 0, f"{counts.leased} slots leased, expected none in the end"
        self.check_forgotten()
        self.close()

    def close(self) -> None:
        """Let go of everything."""
        self.exporters.lose_power()
        self.daemon.close()

    def check_forgotten(self) -> None:
        """With all bytes of the pool, and the sink since, nothing dead opens (I3, I6)."""
        thief = Thief(self.pool.trace)
        keys = sorted(self._epoch_keys.items(), key=lambda each: each[1])
        for dead in sorted(self.dead, key=lambda each: -each.since):
            while keys and keys[-1][1] >= dead.since:
                thief.take(keys.pop()[0])
            for segment, seed in dead.seeds.items():
                opens = thief.reaches(segment_of(dead.volume, segment), seed)
                assert not opens, f"segment {segment} of {dead.volume.name}: forgotten, and opens"
        self.given_up.check(Thief(self.pool.trace), self._epoch_keys.items())
        while keys:
            thief.take(keys.pop()[0])
        for dead in self.dead:
            for segment, seed in dead.seeds.items():
                where = segment_of(dead.volume, segment)
                assert thief.reaches(where, seed), "the thief cannot read"
        for dead in self.dead:
            if dead.volume.ephemeral:  # with every epoch that there ever was
                where = segment_of(dead.volume, 1)
                for key in self.exporters.own:
                    assert not thief.reaches(where, key), "kept in memory alone"

    def check_secrets(self) -> None:
        """What lives opens with the sink; no plaintext and no key is in the clear (I2)."""
        owner = Thief(self.pool.trace)
        for key, last in self._epoch_keys.items():
            if last == self.step:
                owner.take(key)
        for volume in self.volumes.values():
            for segment, seed in self.exporters.seeds.get(volume.id, {}).items():
                where = segment_of(volume, segment)
                given_up = self.given_up.masks.get(volume.id, {}).get(segment, 0)
                left = [stripe(where, seed, each) for each in range(64) if not given_up >> each & 1]
                for at in left if given_up else [(where, seed)]:
                    assert owner.reaches(*at), "what lives must open"
        clear = [MAGIC, *self._epoch_keys, *self.exporters.own[-20:]]
        for io in (*self.pool.trace, *self.sink.trace):
            assert not any(each in io.data for each in clear), f"at {io.offset_bytes}: in the clear"
        catalog = self._catalog.read_bytes()
        assert not any(each in catalog for each in clear), "catalog: in the clear"

    # --- private ------------------------------------------------------------------------

    @property
    def _catalog(self) -> Path:
        return self.folder / "catalog.db"

    def _opened(self) -> Daemon:
        self.life = Power(DaemonDiedError)
        return Daemon.open(
            Handle(self.pool, self.life),
            FileSink(SinkFile(Handle(self.sink, self.life)), self.entropy, SOMEWHERE),
            self.folder,
            exporters=self.exporters,
            entropy=self.entropy,
        )

    def _revive(self) -> None:
        """Start another daemon in place of one that was killed."""
        self.events["daemon killed at work"] += 1
        self._reopen(self.random.choice(CATALOGS))

    def _reopen(self, catalog: str) -> None:
        self.daemon.close()
        found = {"lost": self._blank_catalog, "older": self._old_catalog}.get(catalog)
        if found is not None:
            for suffix in ("-wal", "-shm", ""):
                self._catalog.with_name(self._catalog.name + suffix).unlink(missing_ok=True)
            shutil.copy(found, self._catalog)
        if self.random.random() < 0.5:
            self._old_catalog = self.folder / "older.db"
            shutil.copy(self._catalog, self._old_catalog)
        self.daemon = self._opened()

    def _reconcile(self) -> None:
        """Find out what became of the operation that the power failure cut short."""
        intent, daemon = self.intent, self.daemon
        doomed = daemon.forgetting.pending()
        daemon.forgetting.carry_out()
        while daemon.forgetting.clear():
            pass
        assert daemon.forgetting.pending() == 0, "what was decided is carried out"
        found = {each.record.name: each.record for each in daemon.volumes.page(after="", limit=99)}
        gone = set(self.volumes) - set(found)
        assert gone <= intent.destroy, f"volumes {gone}: gone, expected {intent.destroy} at most"
        assert doomed <= max(len(gone), 1)  # a tenant may have had no volume
        for name in gone:
            self._bury(name)
        if intent.create in found and intent.create not in self.volumes:
            self._born(intent.create, found[intent.create].size_bytes)
        if intent.tenant:
            try:
                daemon.tenants.find(intent.tenant)
            except NotFound:
                daemon.tenants.create(intent.tenant)
        name, size_bytes = intent.resize
        for volume in self.volumes.values():
            sizes = {volume.size_bytes, size_bytes if volume.name == name else volume.size_bytes}
            volume.size_bytes = found[volume.name].size_bytes
            assert volume.size_bytes in sizes, f"{volume.name}: {volume.size_bytes}, not {sizes}"

    def _born(self, name: str, size_bytes: int) -> None:
        shown = self.daemon.volumes.find(name)
        assert shown.record.size_bytes == size_bytes
        self._serial += 1
        oracle = Oracle(tenant=shown.record.tenant, volume=self._serial)
        ephemeral = shown.record.keys == "memory"
        self.volumes[name] = Tenanted(shown.id, name, shown.record, size_bytes, oracle, ephemeral)

    def _blank(self, volume: Tenanted) -> None:
        """Expect an ephemeral volume to hold nothing, wherever it was ever touched."""
        old = volume.oracle
        volume.oracle = Oracle(old.tenant, old.volume, touched=old.touched, writes=old.writes)

    def _clear(self) -> None:
        while self.daemon.forgetting.clear():
            pass

    def _bury(self, name: str) -> None:
        volume = self.volumes.pop(name)
        assert volume.id not in self.exporters.served, f"{name}: destroyed and served"
        seeds = self.exporters.seeds.pop(volume.id, {})
        self.dead.append(Dead(volume, seeds, self.step))

    def _attach(self, name: str) -> bool:
        volume = self.volumes[name]
        try:
            self.daemon.attachments.attach(name)
        except NoSpace:
            return False
        assert self.exporters.served[volume.id].disk.size_bytes == volume.size_bytes
        self.served(name).look()
        volume.oracle.synced()
        return True

    def _looked_at(self, name: str) -> bool:
        """Look at a volume that is not served; False where the pool is too full for that."""
        if not self._attach(name):
            return False
        self.detach(name)
        return True

    def _note_slot(self, volume: VolumeId, slot: int) -> None:
        """Count how often a slot goes to another tenant."""
        owner = next(v.record.tenant for v in self.volumes.values() if v.id == volume)
        before = self._last_owner.get(slot, owner)
        self._last_owner[slot] = owner
        if before != owner:
            self.events["slot went to another tenant"] += 1


@lru_cache(maxsize=8)
def _keys_in(sink: bytes) -> set[bytes]:
    return keys_in_sink(sink)
