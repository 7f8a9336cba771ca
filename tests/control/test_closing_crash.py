"""Power lost at every point of a closing, on the pool and on the sink at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from scrubjay.base.errors import Corrupt, NotFound
from scrubjay.base.ids import TenantNo
from scrubjay.control import closing
from scrubjay.control.keeper import Change
from scrubjay.keys import path
from tests.control.cutting import copy_catalog
from tests.control.rig import (
    Step,
    World,
)
from tests.control.test_forgetting_crash import (
    Story,
    held,
    is_gone_without_trace,
    keys_of,
    rotate_only,
    views_of_the_thief,
)

ACME = TenantNo(1)


class Closing(Story):
    """A pool with two tenants, of which one is closed; every write is known."""

    def __init__(self, folder: Path) -> None:
        world = World.make(folder)
        world.tenants.create("acme")
        world.tenants.create("zeta")
        self.early = world.written("early", tenant="acme")
        self.doomed = world.written("doomed", tenant="acme")
        self.second = world.written("second", tenant="acme")
        self.other = world.written("other", tenant="zeta")
        world.destroy("early")
        world.forget()
        self.catalog = copy_catalog(folder, folder / "before")
        self.before = world.disks.copied()
        self.steps: list[Step] = world.disks.watched()
        world.forgetting.close("acme", check=lambda _: None)
        world.forget()
        self.after = world.disks
        self.envelopes = folder / "evidence" / "certificates"
        self.envelopes.mkdir(parents=True, exist_ok=True)
        world.close()


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every step of a closing be a commit of its own."""
    monkeypatch.setattr(closing, "_SLICE", 1)
    monkeypatch.setattr(closing, "_LISTED", 2)


def played(story: Closing, seed: int) -> set[str]:
    """Start the next daemon after every power loss, and check all that was promised."""
    outcomes: set[str] = set()
    for what, disks in story.lost(seed):
        world = story.reopened(disks, seed=7)
        assert held(world, story.other) == story.other.grants, what
        assert world.sink.epochs() == (world.keeper.epoch,), what
        with world.keeper.changing() as change:
            state = change.tenant(ACME).state
            keys = [any(keys_of(change, each)) for each in (story.doomed, story.second)]
        assert keys in ([True, True], [False, False]), what
        if state == "active":
            assert held(world, story.doomed) == story.doomed.grants, what
        outcomes.add(state if state != "closing" else "decided" if keys[0] else "rotated")

        world.forgetting.recover()
        world.forget()
        assert world.forgetting.pending() == 0, what
        assert world.sink.epochs() == (world.keeper.epoch,), what
        if state == "active":
            assert world.volumes.find("doomed").record.state == "ready", what
            assert world.keeper.epoch == 2, what
        else:
            check_closed(world, story, what)
        assert held(world, story.other) == story.other.grants, what
        story.leave(world)
    return outcomes


def check_closed(world: World, story: Closing, what: str) -> None:
    """Check that nothing is left of the tenant but its record, births, and its number."""
    assert world.keeper.epoch == 3, what
    for each in (story.early, story.doomed, story.second):
        assert is_gone_without_trace(world, each), what
    with world.keeper.reading() as view:
        record = view.closing(ACME)
        assert record is not None
        assert (record.epoch_before, record.epoch_after, record.volumes) == (2, 3, 3), what
        assert record.closed_at is not None, what
        assert list(view.closed(ACME)) == [story.early.id, story.doomed.id, story.second.id], what
        assert view.tenant(ACME).state == "closed", what
        assert not list(view.scan(b"k" + path.tenant(ACME))), what
    with pytest.raises(NotFound):
        world.tenants.find("acme")
    assert world.tenants.create("acme").id == 3, what


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_closing_cut_anywhere_is_not_begun_or_is_finished(tmp_path: Path, seed: int) -> None:
    """Whatever a power loss leaves, the tenant is whole or wholly gone in the end (I3, I5, I6)."""
    outcomes = played(Closing(tmp_path), seed)
    assert outcomes == {"active", "decided", "rotated", "closed"}


@pytest.mark.slow
def test_closing_that_keeps_the_keys_is_found_out(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crash test sees it when the tenant's node stays in the tree (I3)."""
    story = Closing(tmp_path)
    monkeypatch.setattr(Change, "forget", rotate_only)
    with pytest.raises((AssertionError, Corrupt)):
        played(story, seed)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thief_of_every_state_with_the_sink_of_today_finds_no_key(tmp_path: Path) -> None:
    """A pool of any moment opens with the sink of today only where the tenant's key is gone."""
    story = Closing(tmp_path)
    for view in views_of_the_thief(story):
        record = view.closing(ACME)
        assert record is not None
        assert record.epoch_after == 3
