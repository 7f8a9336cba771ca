"""A model of all who touch slots: tenants lease and free them while others are scrubbed.

Within a turn of scrubbing, before any piece of its I/O, tenants go on, volumes are destroyed,
and the pool stops and is opened anew on the same bytes; between turns the power fails. Two
promises are checked at each step: bytes of a slot that a live volume holds never change (I1),
and a slot that counts as clean holds nothing of a former use (I8).
"""

from __future__ import annotations

import contextlib
import errno
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrubjay.base.errors import NoSpace, ScrubjayError
from scrubjay.base.ids import SegmentId, Slot
from scrubjay.base.units import MIB, PAGE_BYTES, SEGMENT_BYTES
from scrubjay.control.scrubbing import Scrubbing
from scrubjay.media.fence import Fence
from scrubjay.media.slots import SlotState
from tests.control.rig import SharedWorld

SLOTS = 12
VOLUMES = ("ann", "bob")
PLACES = (0, 7 * MIB + PAGE_BYTES, SEGMENT_BYTES - PAGE_BYTES)
HALF_A_DAY_NS = 43_200 * 1_000_000_000

Op = tuple[str, int]
Turn = Sequence[tuple[int, Op]]
"""(pieces of I/O to let pass first, what happens then)"""

OPS = st.tuples(
    st.sampled_from(["lease", "lease", "free", "free", "destroy", "revive", "wait"]),
    st.integers(0, 7),
)
TURNS = st.lists(st.tuples(st.integers(0, 30), OPS), max_size=6)
STEPS = st.lists(
    st.one_of(OPS, TURNS, TURNS, st.tuples(st.just("power"), st.integers(0, 1 << 16))),
    max_size=12,
)


@dataclass
class Tenant:
    """A volume that is attached, and what it wrote where."""

    epoch: int
    above: int = 0
    held: dict[int, Slot] = field(default_factory=dict)


class House:
    """The world, the volumes in it, and what each of their slots must hold."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = SharedWorld.make(folder, slots=SLOTS)
        self.world.tenants.create("acme")
        self.tenants: dict[str, Tenant] = {}
        self.text: dict[Slot, bytes] = {}
        self.written = 0
        self.pending: list[tuple[int, Op]] = []
        for name in VOLUMES:
            self._born(name)
        self.scrubbing = self._scrubbing()

    def step(self, step: Op | Turn) -> None:
        """Let one thing happen, and check the promises."""
        if isinstance(step, tuple) and isinstance(step[0], str):
            self.happen(step)
        else:
            self.pending = list(step)  # type: ignore[arg-type]  # see above
            with contextlib.suppress(ScrubjayError):  # claims that ended on the way
                self.scrubbing.turn()
        self.check()

    def happen(self, op: Op) -> None:
        """Do what a tenant or fate does."""
        what, number = op
        name = VOLUMES[number % len(VOLUMES)]
        match what:
            case "lease":
                self._lease(name, 1 + number // 2)
            case "free":
                self._free(name, number)
            case "destroy":
                self._destroy(name)
            case "revive":
                self.world.keeper.pool._stop(OSError(errno.EIO, "played"))  # noqa: SLF001 - as a failed commit does
                assert self.world.keeper.revive()
            case "wait":
                self.world.clock.now += HALF_A_DAY_NS
            case "power":
                self._power_fails(number)
            case _:
                raise AssertionError(what)

    def check(self) -> None:
        """See that both promises hold."""
        pool = self.world.disks.pool
        for slot, text in self.text.items():
            for place in PLACES:
                found = pool.peek(self._offset(slot) + place, len(text))
                assert found == text, f"slot {slot} of a live volume was overwritten"
        for slot in self._clean():
            for place in PLACES:
                found = pool.peek(self._offset(slot) + place, PAGE_BYTES)
                assert not any(found), f"slot {slot} counts as clean and holds {found[:8]!r}"

    def close(self) -> None:
        """End."""
        self.world.close()

    def _scrubbing(self) -> Scrubbing:
        return Scrubbing(
            self.world.keeper,
            self.world.open_for_scrubbing,
            clock=self.world.clock,
            busy=self._meanwhile,
            grounds=list,
        )

    def _meanwhile(self, _own_bytes: int) -> bool:
        """Let happen what is due before this piece of I/O."""
        if self.pending:
            gap, op = self.pending.pop(0)
            if gap:
                self.pending.insert(0, (gap - 1, op))
            else:
                self.happen(op)
                self.check()
        return False

    def _born(self, name: str) -> None:
        self.world.volumes.create(name, tenant="acme", size_bytes=1 << 30)
        self.tenants[name] = Tenant(self.world.attachments.attach(name).epoch)

    def _lease(self, name: str, count: int) -> None:
        tenant, volume = self.tenants[name], self.world.volumes.find(name).id
        with contextlib.suppress(NoSpace):
            grants = self.world.leases.lease(
                volume, tenant.epoch, count=count, above=SegmentId(tenant.above)
            )
            for grant in grants:
                assert grant.slot is not None
                assert grant.slot not in self.text, "leased twice"
                tenant.above = max(tenant.above, grant.segment)
                tenant.held[grant.segment] = grant.slot
                self._write(grant.slot)

    def _write(self, slot: Slot) -> None:
        self.written += 1
        text = self.text[slot] = b"%08d of a live volume" % self.written
        for place in PLACES:
            self.world.disks.pool.plant(self._offset(slot) + place, text)

    def _free(self, name: str, number: int) -> None:
        tenant, volume = self.tenants[name], self.world.volumes.find(name).id
        if not tenant.held:
            return
        segment = sorted(tenant.held)[number % len(tenant.held)]
        checkpoint = self.world.leases.attachment(volume, tenant.epoch).checkpoint
        self.world.leases.commit(volume, tenant.epoch, checkpoint, freed=[SegmentId(segment)])
        del self.text[tenant.held.pop(segment)]

    def _destroy(self, name: str) -> None:
        self.world.destroy(name)
        self.world.forget()
        for slot in self.tenants.pop(name).held.values():
            del self.text[slot]
        self._born(name)

    def _power_fails(self, seed: int) -> None:
        """Start anew on what the disks hold; what was synced by nobody arrived or did not."""
        self.world.close()
        disks = self.world.disks.after_power_loss(Random(seed).randrange)
        self.world = SharedWorld(disks, self.folder, seed=seed + 2)
        for name, tenant in self.tenants.items():
            tenant.epoch = self.world.attachments.attach(name).epoch
        self.scrubbing = self._scrubbing()

    def _clean(self) -> Iterator[Slot]:
        """Yield the slots that the pool calls free and scrubbed."""
        pool = self.world.keeper.pool
        for key, value in pool.scan(b"a"):
            slots = pool.geometry.slots_of(int.from_bytes(key[1:]))
            for slot, state in zip(slots, value[4:], strict=False):
                if state == SlotState.FREE:
                    yield Slot(slot)

    def _offset(self, slot: Slot) -> int:
        return self.world.keeper.pool.geometry.place(slot)[1]


def play(steps: Sequence[Op | Turn]) -> None:
    """Play steps in a house of their own."""
    with tempfile.TemporaryDirectory() as folder:
        house = House(Path(folder))
        try:
            for step in steps:
                house.step(step)
        finally:
            house.close()


@settings(max_examples=40)
@given(STEPS)
def test_live_slots_are_never_overwritten_and_clean_ones_are(steps: list[Op | Turn]) -> None:
    """Whatever happens in between, and wherever it interrupts scrubbing (I1, I8)."""
    play(steps)


CLAIM_OUTLIVED: list[Op | Turn] = [
    ("lease", 6),
    ("destroy", 0),
    [(3, ("revive", 0)), (0, ("lease", 7)), (0, ("lease", 7)), (0, ("lease", 7))],
]
"""The pool is opened anew while its slot is being overwritten, and all slots are leased."""


def test_model_with_claims_that_outlive_their_pool_stays_whole() -> None:
    """What the next test plants is prevented."""
    play(CLAIM_OUTLIVED)


def test_model_without_the_fence_sees_a_live_slot_overwritten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The model can fail: this is what the fence is for."""

    @contextlib.contextmanager
    def no_fence(_fence: Fence, _slot: Slot) -> Iterator[None]:
        yield

    monkeypatch.setattr(Fence, "passing", no_fence)
    with pytest.raises(AssertionError, match="of a live volume was overwritten"):
        play(CLAIM_OUTLIVED)


def test_model_with_erasing_that_does_nothing_sees_old_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The model can fail: a slot that only counts as clean is found."""
    monkeypatch.setattr("scrubjay.media.erase._overwrite", lambda *_: None)
    monkeypatch.setattr("scrubjay.media.erase._reads_as", lambda *_: True)
    with pytest.raises(AssertionError, match="counts as clean and holds"):
        play([("lease", 6), ("destroy", 0), []])
