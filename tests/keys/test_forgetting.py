"""I3 and I6 against an adversary who kept every byte that was ever stored."""

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scrubjay.keys import path as paths
from scrubjay.keys.forgotten import Forgotten
from tests.keys.world import World


class StuckEntropy:
    """Draws the same key for ever."""

    def token(self, size_bytes: int) -> bytes:
        """Return zeros."""
        return bytes(size_bytes)


def check_attack(world: World) -> None:
    """The newest epoch key opens what lives and nothing else; with an older one he wins."""
    now = world.adversary(epochs=[world.epoch])
    assert all(now.reaches(path, key) for path, key in world.living.items())
    reached = [path for path, (key, _) in world.forgotten.items() if now.reaches(path, key)]
    assert reached == []
    for epoch in {epoch for _, epoch in world.forgotten.values()}:
        planted = world.adversary(epochs=[epoch])
        assert all(
            planted.reaches(path, key)
            for path, (key, last) in world.forgotten.items()
            if last == epoch
        )


def test_forgotten_keys_are_out_of_reach_of_who_kept_everything() -> None:
    """I3, I6: stripes, segments, branches and tenants, forgotten in turn, with births between."""
    world = World(7, first_number=250)
    one = world.new_branch()
    two = world.new_branch(like=one, step=1)
    three = world.new_branch()
    segments = world.new_segments(one, count=12)
    world.forget([paths.stripe(segments[0], 1), segments[5]])
    world.new_segments(two, count=3)
    world.new_segments(three, count=3)
    check_attack(world)
    world.forget([two.path])
    world.new_segments(one, count=3)
    check_attack(world)
    world.forget([paths.tenant(three.tenant)])
    check_attack(world)
    assert len(world.forgotten) == 1 + 3 * (1 + 3 + 3)


def test_adversary_with_an_old_epoch_key_wins() -> None:
    """The check can fail: an epoch key that was not dropped gives the forgotten key away."""
    world = World(7)
    segments = world.new_segments(world.new_branch(), count=2)
    world.forget([segments[0]])
    leaf = paths.stripe(segments[0], 1)
    key, last_epoch = world.forgotten[leaf]
    assert world.adversary(epochs=[world.epoch, last_epoch]).reaches(leaf, key)
    assert not world.adversary(epochs=[world.epoch]).reaches(leaf, key)


def test_adversary_wins_where_new_keys_are_not_new() -> None:
    """The check can fail: new epochs alone are no forgetting, if nodes on the way keep a key."""
    world = World(7, entropy=StuckEntropy())
    segments = world.new_segments(world.new_branch(), count=2)
    world.forget([segments[0]])
    world.forget([segments[1]])
    leaf = paths.stripe(segments[1], 1)
    assert world.adversary(epochs=[world.epoch]).reaches(leaf, world.forgotten[leaf][0])


def test_adversary_with_no_epoch_key_reaches_nothing() -> None:
    """Who has all media and no sink opens nothing at all."""
    world = World(7)
    world.forget(world.new_segments(world.new_branch(), count=4)[:2])
    nobody = world.adversary(epochs=[])
    assert not any(nobody.reaches(path, key) for path, key in world.living.items())


class Forgetting(RuleBasedStateMachine):
    """Births and forgets in any order, against an oracle of living and forgotten keys."""

    @initialize(seed=st.integers(0, 2**32), first=st.sampled_from([1, 200, 65_500]))
    def start(self, seed: int, first: int) -> None:
        """A new pool, its counters about to run over a byte."""
        self.world = World(seed, first_number=first)
        self.world.new_branch()

    @rule(draw=st.data(), step=st.integers(1, 90))
    def new_branch(self, draw: st.DataObject, step: int) -> None:
        """Bear a branch, of a new or an old tenant and lineage."""
        like = draw.draw(st.sampled_from([None, *self.world.branches]))
        self.world.new_branch(like=like, step=step)

    @precondition(lambda self: self.world.branches)
    @rule(draw=st.data(), count=st.integers(1, 4), skip=st.sampled_from([0, 1, 60, 300]))
    def new_segments(self, draw: st.DataObject, count: int, skip: int) -> None:
        """Bear segments of some branch."""
        branch = draw.draw(st.sampled_from(self.world.branches))
        self.world.new_segments(branch, count=count, skip=skip)

    @precondition(lambda self: self.world.segments)
    @rule(draw=st.data())
    def forget(self, draw: st.DataObject) -> None:
        """Forget some stripes, segments, branches, lineages and tenants at once."""
        doomed = set()
        for segment in draw.draw(st.lists(st.sampled_from(self.world.segments), max_size=4)):
            depth = draw.draw(st.sampled_from([16, 16, 15, 15, 15, 10, 7, 3]))
            leaf = paths.stripe(segment, draw.draw(st.sampled_from([0, 1, 63])))
            doomed.add(paths.Path(leaf[:depth]))
        self.world.forget(doomed)

    @precondition(lambda self: self.world.segments)
    @rule(draw=st.data())
    def forget_stripe_by_stripe(self, draw: st.DataObject) -> None:
        """Forget all stripes of a segment, which makes it a forgotten segment."""
        segment = draw.draw(st.sampled_from(self.world.segments))
        self.world.forget([paths.stripe(segment, number) for number in range(64)])

    @precondition(lambda self: self.world.forgotten)
    @rule(draw=st.data())
    def forget_again(self, draw: st.DataObject) -> None:
        """Forget what is forgotten: nothing changes."""
        leaf = draw.draw(st.sampled_from(sorted(self.world.forgotten)))
        written, epoch = self.world.store.written_bytes, self.world.epoch
        self.world.forget([leaf])
        assert (self.world.store.written_bytes, self.world.epoch) == (written, epoch)

    @rule()
    def reopen(self) -> None:
        """Open the tree anew."""
        self.world.reopen()

    @invariant()
    def tree_agrees_with_the_oracle(self) -> None:
        """Living keys are what they were at birth; forgotten ones are Forgotten."""
        for path, key in self.world.living.items():
            assert self.world.tree.key_of(path).key == key
        for path in self.world.forgotten:
            with pytest.raises(Forgotten):
                self.world.tree.key_of(path)

    def teardown(self) -> None:
        """Let the adversary at it."""
        check_attack(self.world)


TestForgetting = pytest.mark.slow(Forgetting.TestCase)
TestForgetting.settings = settings(max_examples=40, stateful_step_count=25)
