"""Power lost at every point of a destruction, on the pool and on the sink at once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from scrubjay.base.errors import Denied, NotFound
from scrubjay.base.ids import BranchNo, Epoch, LineageNo, SegmentId, TenantNo
from scrubjay.control import rotating
from scrubjay.control.certificates import Certificates
from scrubjay.control.directory import read_group
from scrubjay.control.keeper import Change
from scrubjay.control.opening import open_pool
from scrubjay.control.records import birth_key, lineage_key, volume_key
from scrubjay.control.view import View
from scrubjay.engine.lessor import Grant
from scrubjay.evidence.verify import verify
from scrubjay.keys import path
from scrubjay.keys.segment import SegmentKey
from scrubjay.sinks.file import FileSink
from scrubjay.sinks.keeper import EpochKeeper
from tests.control.cutting import copy_catalog, cuts
from tests.control.rig import (
    SOMEWHERE,
    Disks,
    Hands,
    Seeded,
    SinkFile,
    Step,
    World,
    Written,
    everything_kept,
    nothing_kept,
)

CHANCES = 3


class Story:
    """A pool with three volumes, of which one is destroyed; every write is known."""

    def __init__(self, folder: Path) -> None:
        world = World.make(folder)
        world.tenants.create("acme")
        world.tenants.create("zeta")
        self.doomed = world.written("doomed", tenant="acme")
        self.spared = world.written("spared", tenant="acme")
        self.other = world.written("other", tenant="zeta")
        # The catalog of an hour ago: it knows the volumes, and nothing of their end.
        self.catalog = copy_catalog(folder, folder / "before")
        self.before = world.disks.copied()
        self.steps: list[Step] = world.disks.watched()
        world.destroy("doomed")
        world.forget()
        self.after = world.disks
        self.envelopes = folder / "evidence" / "certificates"
        self.envelopes.mkdir(parents=True, exist_ok=True)
        world.close()

    def reopened(self, disks: Disks, *, seed: int) -> World:
        """Open the disks as the next daemon does, with the catalog of before."""
        folder = copy_catalog(self.catalog, self.catalog / "again")
        # Whatever the pool names was a durable file before; some of these it may not name.
        shutil.copytree(self.envelopes, folder / "evidence" / "certificates")
        return World(disks, folder, seed=seed)

    def leave(self, world: World) -> None:
        """End such a daemon."""
        world.close()
        shutil.rmtree(world.folder)

    def lost(self, seed: int) -> Iterator[tuple[str, Disks]]:
        """Yield what a power loss at every point may leave."""
        for at, disks in enumerate(cuts(self.steps, self.before.copied())):
            yield f"cut {at}, nothing kept", disks.after_power_loss(nothing_kept)
            yield f"cut {at}, everything kept", disks.after_power_loss(everything_kept)
            for chance in range(CHANCES):
                random = Random(f"{seed}/{at}/{chance}")
                yield f"cut {at}, chance {chance}", disks.after_power_loss(random.randrange)


def held(world: World, written: Written) -> list[Grant] | None:
    """Return what the pool still knows of a volume's segments; None of one that is gone."""
    with world.keeper.changing() as change:
        try:
            record = change.volume(written.id)
        except NotFound:
            return None
        group = read_group(change, LineageNo(record.lineage), 0)
        assert group is not None
        return [
            replace(grant, slot=group.slots[grant.segment], key=key.seed)
            for grant, key in zip(written.grants, keys_of(change, written), strict=True)
            if key is not None
        ]


def keys_of(change: Change, written: Written) -> list[SegmentKey | None]:
    """Look a volume's keys up in the tree, whatever the records say of it."""
    record = written.volume.record
    branch = path.branch(
        TenantNo(record.tenant), LineageNo(record.lineage), BranchNo(record.branch)
    )
    return change.segment_keys(branch, range(1, len(written.grants) + 1))


def is_without_keys(world: World, written: Written) -> bool:
    """Whether no key is left of a volume, though its slots and salts are still there."""
    with world.keeper.changing() as change:
        return not any(keys_of(change, written))


def is_gone_without_trace(world: World, written: Written) -> bool:
    """Whether nothing of a volume is left but its birth record, which says how it ended."""
    lineage = LineageNo(written.volume.record.lineage)
    with world.keeper.changing() as change:
        left: list[object] = [change.get(volume_key(written.id)), change.get(lineage_key(lineage))]
        for letter in (b"b", b"d", b"g", b"h", b"w"):
            left += change.scan(letter + lineage.to_bytes(4))
        tenant = TenantNo(written.volume.record.tenant)
        left += change.scan(b"k" + path.lineage(tenant, lineage))
        left += change.scan(b"f")
        left += keys_of(change, written)
        birth = change.birth_record(written.id)
    return not any(left) and birth.destruction is not None


def verdicts(world: World, volume: Written) -> list[tuple[str, ...]]:
    """Return, of each certificate about a volume, which checks of a stranger fail."""
    found = world.certificates.page(after=b"", limit=100)
    return [
        verify(world.certificates.bundle(each), str(world.log.key)).failed
        for each in found
        if volume.id in each.record.volumes
    ]


def played(story: Story, seed: int) -> set[str]:
    """Start the next daemon after every power loss, and check all that was promised."""
    outcomes = set()
    for what, disks in story.lost(seed):
        world = story.reopened(disks, seed=7)
        for survivor in (story.spared, story.other):
            assert held(world, survivor) == survivor.grants, what
        found = held(world, story.doomed)
        assert found in (None, story.doomed.grants), what
        assert found is None or verdicts(world, story.doomed) == [], what
        assert world.sink.epochs() == (world.keeper.epoch,), what

        world.forgetting.recover()
        decided = world.forgetting.pending() > 0
        outcomes.add("gone" if found is None else "decided" if decided else "whole")
        world.forgetting.carry_out()
        if found is None or decided:
            assert is_without_keys(world, story.doomed), what
        world.forget()
        if found is None or decided:
            assert is_gone_without_trace(world, story.doomed), what
            assert world.sink.epochs() == (world.keeper.epoch,), what
            assert world.keeper.epoch == 2, what
            assert verdicts(world, story.doomed) == [()], what
        else:
            assert verdicts(world, story.doomed) == [], what
            assert world.volumes.find("doomed").record.state == "ready", what
            assert world.keeper.epoch == 1, what
        story.leave(world)
    return outcomes


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_destruction_cut_anywhere_leaves_the_volume_whole_or_gone(
    tmp_path: Path, seed: int
) -> None:
    """Whatever a power loss leaves of pool and sink, it opens, and no volume is half there.

    The doomed one has all its keys and slots or none, the others have all of theirs, and a
    destruction once begun is finished at the next start (I3, I5, I6).
    """
    outcomes = played(Story(tmp_path), seed)
    assert outcomes == {"whole", "decided", "gone"}


def rotate_only(change: Change, _paths: object, *, epoch: Epoch, epoch_key: bytes) -> None:
    """Rotate, and forget nothing: a bug to be planted in the place of `Change.forget`."""
    change.staged.rotate(epoch, epoch_key=epoch_key, root=change.staged.root)


def views_of_the_thief(story: Story) -> Iterator[View]:
    """Yield the pool of every moment that opens with the sink of today; some do, and some not."""
    opened = refused = 0
    for disks in cuts(story.steps, story.before.copied()):
        then = Disks(disks.pool.crash(everything_kept), story.after.sink)
        sink = FileSink(SinkFile(then.copied().sink), Seeded(Random(3)), SOMEWHERE)
        try:
            pool = open_pool([then.pool], sink, clock=Hands(), entropy=Seeded(Random(4)))
        except Denied:
            refused += 1
            continue
        opened += 1
        yield View(pool)
    assert opened
    assert refused


class HastyEpochs(EpochKeeper):
    """Drops the old epoch before the new one is committed."""

    def prepare(self, named: Epoch) -> Epoch:
        """Prepare, and drop at once."""
        after = super().prepare(named)
        self.settle(after)
        return after


@pytest.mark.slow
def test_destruction_that_drops_the_old_epoch_first_is_found_out(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crash test sees it when the sink's order is not kept (I4): the pool does not open."""
    with monkeypatch.context() as patched:
        patched.setattr(rotating, "EpochKeeper", HastyEpochs)
        story = Story(tmp_path)
    with pytest.raises(Denied):
        played(story, seed)


@pytest.mark.slow
def test_destruction_that_keeps_the_keys_is_found_out(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crash test sees it when records go and keys stay (I3)."""
    monkeypatch.setattr(Change, "forget", rotate_only)
    monkeypatch.setattr(Certificates, "issue", lambda _: None)  # which would refuse as well
    with pytest.raises(AssertionError, match="is_without_keys"):
        played(Story(tmp_path), seed)


@pytest.mark.slow
def test_destruction_that_never_drops_the_old_epoch_is_found_out(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crash test sees it when the sink still opens what was before (I3)."""
    monkeypatch.setattr(EpochKeeper, "settle", lambda _keeper, _named: ())
    monkeypatch.setattr(Certificates, "issue", lambda _: None)  # which would refuse as well
    with pytest.raises(AssertionError, match=r"\(1, 2\) == \(2,\)"):
        played(Story(tmp_path), seed)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_thief_of_every_state_of_the_pool_with_the_sink_of_today_finds_no_key(
    tmp_path: Path,
) -> None:
    """A pool as it was at any moment opens with today's sink only if the volume is gone in it.

    So whoever kept all of its past, and takes the sink now, reads nothing forgotten (I3).
    """
    story = Story(tmp_path)
    for view in views_of_the_thief(story):
        assert view.get(volume_key(story.doomed.id)) is None
        assert view.get(birth_key(story.doomed.id)) is not None


@pytest.mark.slow
def test_forgotten_volume_stays_forgotten_with_every_older_catalog(tmp_path: Path) -> None:
    """A catalog from before the destruction brings nothing back: it is brought forward (I6)."""
    story = Story(tmp_path)
    world = story.reopened(story.after, seed=8)
    assert [each.record.name for each in world.volumes.page(after="", limit=9)] == [
        "other",
        "spared",
    ]
    with pytest.raises(NotFound):
        world.volumes.find(str(story.doomed.id))
    with pytest.raises(NotFound):
        world.leases.lease(story.doomed.id, story.doomed.epoch, count=1, above=SegmentId(3))
    story.leave(world)
