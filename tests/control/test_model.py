"""Several tenants making, leasing, freeing and destroying, against an oracle (I1, I6)."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from scrubjay.base.errors import Conflict, NoSpace, NotFound
from scrubjay.base.ids import Entry, SegmentId, VolumeId
from scrubjay.base.units import GIB
from scrubjay.engine.lessor import Checkpoint, Grant
from tests.control.rig import Disks, World

TENANTS = ("acme", "zeta")


@dataclass
class Known:
    """What the oracle knows of a volume."""

    id: VolumeId
    name: str
    epoch: int = 0
    flushed: int = 0
    grants: dict[int, Grant] = field(default_factory=dict)


class Tenants(RuleBasedStateMachine):
    """The control plane, and what it must remember."""

    volumes: Bundle[Known] = Bundle("volumes")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="sj-"))
        self.world = World.make(self.folder, slots=24)
        self.alive: dict[str, Known] = {}
        self.ever: dict[bytes, str] = {}
        """Every segment key that was ever granted, and to which volume."""
        self.gone: list[Known] = []
        self.made = 0
        self.starts = 1

    @initialize()
    def begin(self) -> None:
        """Make the tenants."""
        for name in TENANTS:
            self.world.tenants.create(name)

    @rule(target=volumes, tenant=st.sampled_from(TENANTS), fresh=st.booleans())
    def make(self, tenant: str, *, fresh: bool) -> Known:
        """Make a volume, under a new name or the last one that is free again."""
        free = [each.name for each in self.gone if each.name not in self.alive]
        self.made += fresh or not free
        name = f"v{self.made}" if fresh or not free else free[-1]
        if name in self.alive:
            with pytest.raises(Conflict):
                self.world.volumes.create(name, tenant=tenant, size_bytes=GIB)
            return self.alive[name]
        made = self.world.volumes.create(name, tenant=tenant, size_bytes=GIB)
        self.alive[name] = Known(made.id, name)
        return self.alive[name]

    @rule(volume=volumes)
    def attach(self, volume: Known) -> None:
        """Attach a volume, unless it is."""
        if volume.name not in self.alive or volume.id in self.world.exporters.locks:
            return
        volume.epoch = self.world.attachments.attach(volume.name).epoch

    @rule(volume=volumes)
    def kill(self, volume: Known) -> None:
        """Kill an exporter."""
        self.world.exporters.die(volume.id)

    @rule(volume=volumes, count=st.integers(1, 5))
    def lease(self, volume: Known, count: int) -> None:
        """Lease segments, with keys that nobody ever had."""
        if volume.name not in self.alive or not volume.epoch:
            return
        above = SegmentId(max(volume.grants, default=0))
        try:
            grants = self.world.leases.lease(volume.id, volume.epoch, count=count, above=above)
        except NoSpace:
            return
        for grant in grants:
            assert grant.key not in self.ever
            self.ever[grant.key] = volume.name
            volume.grants[grant.segment] = grant

    @rule(volume=volumes, data=st.data())
    def commit(self, volume: Known, data: st.DataObject) -> None:
        """Free some segments in a checkpoint."""
        if volume.name not in self.alive or not volume.grants:
            return
        freed = data.draw(st.sets(st.sampled_from(sorted(volume.grants)), max_size=3))
        volume.flushed += 1
        done = Checkpoint(Entry(0), volume.flushed, False, 0)
        ids = [SegmentId(each) for each in freed]
        self.world.leases.commit(volume.id, volume.epoch, done, freed=ids)
        for each in freed:
            grant = volume.grants[each]
            volume.grants[each] = Grant(grant.segment, None, b"")  # its key goes as well

    @rule(volume=consumes(volumes), carried_out=st.booleans())
    def destroy(self, volume: Known, *, carried_out: bool) -> None:
        """Destroy a volume; it is withheld at once, whenever it is forgotten."""
        if volume.name not in self.alive or self.alive[volume.name] is not volume:
            return
        self.world.destroy(volume.name)
        with pytest.raises(Conflict):
            self.world.attachments.attach(volume.name)
        if not carried_out:
            self.restart()
        self.world.forget()
        del self.alive[volume.name]
        self.gone.append(volume)

    @rule()
    def restart(self) -> None:
        """Kill daemon and exporters, and cut the power: what was answered is durable."""
        self.world.close()
        disks = Disks(self.world.disks.pool.crash(lambda _n: 0), self.world.disks.sink)
        self.starts += 1
        self.world = World(disks, self.folder, seed=self.starts)
        self.world.forgetting.recover()

    @invariant()
    def every_slot_has_one_owner(self) -> None:
        """No two segments lie in one place (I1)."""
        slots = [
            grant.slot
            for volume in self.alive.values()
            for grant in volume.grants.values()
            if grant.slot is not None
        ]
        assert len(slots) == len(set(slots))
        assert self.world.pools.status().slots_leased == len(slots)

    @invariant()
    def every_volume_has_its_segments_under_their_keys(self) -> None:
        """What was granted is granted again, the same (I1, I5)."""
        for volume in self.alive.values():
            if volume.epoch:
                held = self.world.leases.group(volume.id, volume.epoch, 0)
                assert {each.segment: each for each in held} == volume.grants

    @invariant()
    def nothing_that_was_forgotten_returns(self) -> None:
        """A destroyed volume is unknown, for good (I6)."""
        for volume in self.gone:
            with pytest.raises(NotFound):
                self.world.leases.attachment(volume.id, volume.epoch)
        names = [each.record.name for each in self.world.volumes.page(after="", limit=99)]
        assert names == sorted(self.alive)

    def teardown(self) -> None:
        """Remove the catalog."""
        self.world.close()
        shutil.rmtree(self.folder)


TestTenants = Tenants.TestCase
TestTenants.settings = settings(max_examples=10, stateful_step_count=25, deadline=None)
TestTenants.pytestmark = [pytest.mark.slow]  # type: ignore[attr-defined] # unittest knows no marks
