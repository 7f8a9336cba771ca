"""Several tenants on one pool that is too small for them, played against an oracle.

    SCRUBJAY_MODEL_EXAMPLES=2000 pytest --timeout 0 tests/model     plays for longer
    SCRUBJAY_MODEL_SHRINK=1 pytest --timeout 0 tests/model          cuts a failure short

A failure prints its steps and the blob that repeats it, and is not shrunk: that takes longer
than the suite.
"""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from scrubjay.base.units import KIB, MIB, SECTOR_BYTES, TIB
from scrubjay.sinks.split import merge
from tests.model.blank import IN_MEMORY
from tests.model.house import CATALOGS, House

EXAMPLES = int(os.environ.get("SCRUBJAY_MODEL_EXAMPLES", "20"))
STEPS = 50
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
if os.environ.get("SCRUBJAY_MODEL_SHRINK"):
    PHASES.append(Phase.shrink)
TENANTS = ("acme", "ibex", "zeta")
VOLUMES_MAX = 5

pick = st.integers(0, 1 << 16)
"""Which of the volumes that there are, modulo their number."""
small = st.integers(1, 3 * SECTOR_BYTES)
aligned = st.integers(1, 40).map(lambda sectors: sectors * SECTOR_BYTES)
large = st.integers(1, 320 * KIB)
size = small | aligned | large
sizes = st.sampled_from((MIB, MIB + 3 * SECTOR_BYTES, 2 * MIB + 64 * KIB, 4 * MIB, 16 * TIB))
place = st.tuples(st.booleans(), st.integers(0, 700 * KIB), st.booleans(), size)


class Model(RuleBasedStateMachine):
    """Rules as clients, operators and bad luck play them; the house checks each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.house: House | None = None

    @initialize(seed=st.integers(0, 1 << 32), area_slots=st.sampled_from((1, 1, 2)))
    def open(self, seed: int, area_slots: int) -> None:
        """Make a house with tenants."""
        self.folder = tempfile.TemporaryDirectory(dir=IN_MEMORY)
        self.house = House(Path(self.folder.name), seed=seed, area_slots=area_slots)
        self.names = 0
        for name in TENANTS:
            self.house.tenant(name)
            self.create(tenant=name, size_bytes=MIB, attach=True)

    # --- which volume --------------------------------------------------------------------

    @property
    def living(self) -> House:
        """The house."""
        assert self.house is not None
        return self.house

    def attached(self) -> list[str]:
        """Volumes that are served."""
        house = self.living
        return [n for n, v in house.volumes.items() if v.id in house.exporters.served]

    def detached(self) -> list[str]:
        """Volumes that are not."""
        return [name for name in self.living.volumes if name not in self.attached()]

    def ephemeral(self) -> list[str]:
        """Volumes that live with their exporters."""
        return [name for name, volume in self.living.volumes.items() if volume.ephemeral]

    def extent(self, name: str, place: tuple[bool, int, bool, int]) -> tuple[int, int]:
        """Return a range of a volume, at its front or at its end, whole sectors or not."""
        at_end, offset, whole, size = place
        volume = self.living.volumes[name]
        if whole:
            offset -= offset % SECTOR_BYTES
        size = min(size, volume.size_bytes)
        offset = min(offset, volume.size_bytes - size)
        return (volume.size_bytes - size - offset if at_end else offset), size

    # --- rules -----------------------------------------------------------------------------

    @precondition(lambda self: len(self.living.volumes) < VOLUMES_MAX)
    @rule(
        tenant=st.sampled_from(TENANTS),
        size_bytes=sizes,
        attach=st.booleans(),
        ephemeral=st.booleans(),
    )
    def create(
        self, tenant: str, size_bytes: int, attach: bool, *, ephemeral: bool = False
    ) -> None:
        """Make a volume, and serve it."""
        self.names += 1
        name = f"v{self.names}"
        self.living.create(name, tenant=tenant, size_bytes=size_bytes, ephemeral=ephemeral)
        if attach and name in self.detached():
            self.living.attach(name)

    @precondition(lambda self: self.detached())
    @rule(pick=pick)
    def attach(self, pick: int) -> None:
        """Serve a volume."""
        self.living.attach(_pick(self.detached(), pick))

    @precondition(lambda self: self.attached())
    @rule(pick=pick, places=st.lists(place, min_size=1, max_size=4), flush=st.booleans())
    def write(self, pick: int, places: list[tuple[bool, int, bool, int]], flush: bool) -> None:
        """Write a batch."""
        name = _pick(self.attached(), pick)
        self.living.write(name, *(self.extent(name, place) for place in places))
        if flush and name in self.attached():
            self.living.flush(name)

    @precondition(lambda self: self.attached())
    @rule(pick=pick, place=place, stays=place, rounds=st.integers(2, 6))
    def churn(
        self,
        pick: int,
        place: tuple[bool, int, bool, int],
        stays: tuple[bool, int, bool, int],
        rounds: int,
    ) -> None:
        """Leave half-dead segments: write the same again and again, each time in another one."""
        name = _pick(self.attached(), pick)
        extents = [self.extent(name, place), self.extent(name, stays)]
        for _ in range(rounds):
            if name in self.attached():
                self.living.write(name, *extents)
            if name in self.attached():
                self.living.close_segment(name)
            extents = extents[:1]

    @precondition(lambda self: self.attached())
    @rule(pick=pick, place=place, exact=st.booleans())
    def zero(self, pick: int, place: tuple[bool, int, bool, int], exact: bool) -> None:
        """Trim or zero."""
        name = _pick(self.attached(), pick)
        self.living.zero(name, *self.extent(name, place), exact=exact)

    @precondition(lambda self: self.attached())
    @rule(pick=pick, place=place)
    def read(self, pick: int, place: tuple[bool, int, bool, int]) -> None:
        """Read."""
        name = _pick(self.attached(), pick)
        self.living.read(name, *self.extent(name, place))

    @precondition(lambda self: self.attached())
    @rule(pick=pick, what=st.sampled_from(("flush", "checkpoint", "idle", "lose_reply")))
    def tend(self, pick: int, what: str) -> None:
        """Flush, or some upkeep."""
        name = _pick(self.attached(), pick)
        match what:
            case "flush":
                self.living.flush(name)
            case "checkpoint":
                self.living.checkpoint(name)
            case "idle":
                self.living.idle(name)
            case _:
                self.living.lose_reply(name)

    @precondition(lambda self: self.attached())
    @rule(pick=pick, slices=st.integers(1, 60), checkpoint=st.booleans())
    def clean(self, pick: int, slices: int, checkpoint: bool) -> None:
        """Clean, and perhaps free what was cleaned."""
        name = _pick(self.attached(), pick)
        self.living.clean(name, slices)
        if checkpoint and name in self.attached():
            self.living.checkpoint(name)

    @precondition(lambda self: self.attached())
    @rule(pick=pick, hours=st.integers(1, 30), forget=st.booleans())
    def purge(self, pick: int, hours: int, forget: bool) -> None:
        """Let hours go by, purge, and perhaps forget what was purged."""
        self.living.purge(_pick(self.attached(), pick), hours=hours, forget=forget)

    @precondition(lambda self: self.living.volumes)
    @rule(pick=pick, more=st.sampled_from((0, SECTOR_BYTES, MIB, TIB)))
    def resize(self, pick: int, more: int) -> None:
        """Grow."""
        name = _pick(list(self.living.volumes), pick)
        self.living.resize(name, size_bytes=self.living.volumes[name].size_bytes + more)

    @precondition(lambda self: self.attached())
    @rule(pick=pick, kill=st.booleans())
    def end(self, pick: int, kill: bool) -> None:
        """Detach, or kill the exporter."""
        name = _pick(self.attached(), pick)
        if kill:
            self.living.kill(name)
        else:
            self.living.detach(name)

    @precondition(lambda self: self.living.volumes)
    @rule(pick=pick, more=st.booleans())
    def destroy(self, pick: int, more: bool) -> None:
        """Destroy a volume, or two in one rotation."""
        names = list(self.living.volumes)
        doomed = {_pick(names, pick), _pick(names, pick + more)}
        self.living.destroy(*sorted(doomed))

    @precondition(lambda self: self.ephemeral())
    @rule(pick=pick)
    def reset(self, pick: int) -> None:
        """Return an ephemeral volume to zeros."""
        self.living.reset(_pick(self.ephemeral(), pick))

    @rule(tenant=st.sampled_from(TENANTS), pick=st.integers(0, 3))
    def close_tenant(self, tenant: str, pick: int) -> None:
        """Close a tenant, now and then, and give its name to another."""
        if not pick:
            self.living.close_tenant(tenant)

    @precondition(lambda self: self.attached())
    @rule(
        what=st.sampled_from((*CATALOGS, *["power"] * 5, *["daemon"] * 5)),
        ios=st.integers(0, 40),
    )
    def strike(self, what: str, ios: int) -> None:
        """Start another daemon; or kill it, or lose power, now or in what comes next."""
        if what == "daemon":
            self.living.fail_daemon_after(ios)
        elif what != "power":
            self.living.restart(what)
        elif ios:
            self.living.fail_power_after(ios)
        else:
            self.living.crash()

    def teardown(self) -> None:
        """Look at everything, destroy everything, send in the thief."""
        if self.house is None:
            return
        try:
            self.house.finish()
        finally:
            for what in self.house.events:
                event(what)
            self.house.close()
            self.folder.cleanup()


def _pick(names: list[str], pick: int) -> str:
    return names[pick % len(names)]


@pytest.mark.slow
@pytest.mark.timeout(600)  # a busy machine says nothing about the code
def test_tenants_on_one_pool_read_what_they_wrote_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """I1, I3, I4, I5, I6: see tests/model/house.py for what is checked behind each step."""
    # Half of the time went into merging the same few epoch keys.
    monkeypatch.setattr("scrubjay.sinks.file.merge", functools.lru_cache(merge))
    run_state_machine_as_test(
        Model,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            phases=PHASES,
            suppress_health_check=list(HealthCheck),
        ),
    )
