"""Looking up, birth and forgetting, by example."""

import pytest

from scrubjay.base.errors import Corrupt, Invalid, NotFound
from scrubjay.base.ids import BranchNo, LineageNo, SegmentId, TenantNo
from scrubjay.keys import path as paths
from scrubjay.keys.aead import child, segment_seeds
from scrubjay.keys.forgotten import Forgotten
from scrubjay.keys.path import ROOT, Numbers, Path
from scrubjay.keys.segment import SegmentKey
from scrubjay.keys.table import Kind, Node
from scrubjay.keys.tree import KeyTree
from tests.keys.world import MemoryNodeStore, SeededEntropy, World

BRANCH = paths.branch(TenantNo(1), LineageNo(1), BranchNo(1))
SEGMENTS = 65536
FORGET_BYTES_MAX = 64 << 10


def segment(number: int) -> Path:
    """Return the path of a segment of BRANCH."""
    return paths.segment(TenantNo(1), LineageNo(1), BranchNo(1), SegmentId(number))


def empty_tree() -> tuple[KeyTree, MemoryNodeStore]:
    """Return a tree in which nothing was born."""
    store, entropy = MemoryNodeStore(), SeededEntropy(1)
    return KeyTree(store, KeyTree.new_root(entropy), entropy), store


def large_tree() -> tuple[KeyTree, MemoryNodeStore, Numbers]:
    """Return a tree of one branch with 65536 segments: 1 TiB."""
    tree, store = empty_tree()
    last = {0: 1, paths.TENANT_DEPTH: 1, paths.LINEAGE_DEPTH: 1, paths.BRANCH_DEPTH: SEGMENTS}
    census = Numbers(lambda parent: range(1, last[len(parent)] + 1))
    tree.birth([segment(number) for number in range(1, SEGMENTS + 1)])
    store.ever.clear()
    return tree, store, census


def test_key_under_seeds_derives_from_the_root() -> None:
    """Before anything is forgotten, a key is a chain of children, the last one with a salt."""
    tree, store = empty_tree()
    assert tree.birth([BRANCH]) is False
    assert store.ever == []
    assert tree.birth([segment(300)]) is True
    assert tree.birth([segment(300)]) is False
    ((inner, salts),) = store.ever
    assert inner == segment(300)[:14]
    key = bytes(tree.root.key)
    for index in inner:
        key = child(key, index)
    (key,) = segment_seeds(key, [(300 - 256, salts[-16:])])
    assert tree.key_of(segment(300)).key == key


def test_segments_born_on_two_copies_of_a_pool_have_different_keys() -> None:
    """Going on from an old copy, under the same keys and counters, reuses no segment's key."""
    tree, store = empty_tree()
    tree.birth([segment(1)])
    copy = MemoryNodeStore()
    copy.tables = dict(store.tables)
    other = KeyTree(copy, Node(tree.root.kind, bytes(tree.root.key)), SeededEntropy(2))
    assert other.key_of(segment(1)) == tree.key_of(segment(1))
    for each in (tree, other):
        each.birth([segment(2)])
    assert other.key_of(segment(2)) != tree.key_of(segment(2))


def test_segment_never_born_has_no_key() -> None:
    """Under a seed as under a table: Forgotten, one by one and in bulk."""
    tree, _ = empty_tree()
    tree.birth([segment(2)])
    with pytest.raises(Forgotten, match="never born"):
        tree.key_of(segment(1))
    assert [key is None for key in tree.segment_keys(BRANCH, range(1, 4))] == [True, False, True]


def test_segment_keys_in_bulk_are_those_looked_up_singly() -> None:
    """A group's keys are the same one by one, under seeds and under tables, across tables."""
    tree, _, census = large_tree()
    ids = range(250, 330)

    def singly(number: int) -> SegmentKey | None:
        try:
            node = tree.key_of(segment(number))
        except Forgotten:
            return None
        if node.kind is Kind.SEED:
            return SegmentKey(bytes(node.key))
        stripes = []
        for stripe in range(65):
            try:
                key = tree.key_of(paths.Path(segment(number) + bytes((stripe,)))).key
            except Forgotten:
                continue
            stripes.append((stripe, bytes(key)))
        return SegmentKey(stripes=tuple(stripes))

    before = tree.segment_keys(BRANCH, ids)
    assert before == [singly(number) for number in ids]
    tree.forget([segment(260), paths.stripe(segment(301), 7)], census)
    after = tree.segment_keys(BRANCH, ids)
    assert after == [singly(number) for number in ids]
    assert after[10] is None
    changed = [number for number, old, new in zip(ids, before, after, strict=True) if old != new]
    assert changed == [260, 301]
    tree.forget([BRANCH], census)
    assert tree.segment_keys(BRANCH, ids) == [None] * len(ids)


def test_segment_key_with_a_forgotten_stripe_opens_the_others() -> None:
    """The stripes that survive keep their keys; the forgotten one has none (I3)."""
    tree, _, census = large_tree()
    (before,) = tree.segment_keys(BRANCH, range(5, 6))
    tree.forget([paths.stripe(segment(5), 7)], census)
    (after,) = tree.segment_keys(BRANCH, range(5, 6))
    assert before is not None
    assert after is not None
    assert after.seed == b""
    assert [number for number, _ in after.stripes] == [*range(7), *range(8, 65)]
    assert all(after.stripe(number) == before.stripe(number) for number, _ in after.stripes)
    with pytest.raises(Forgotten):
        after.cipher(7)
    sealed = before.cipher(8).encrypt(bytes(12), b"unit", None)
    assert after.cipher(8).decrypt(bytes(12), sealed, None) == b"unit"


def test_segment_key_shown_keeps_its_keys_to_itself() -> None:
    """No key reaches a log through a segment key's repr (I2)."""
    assert repr(SegmentKey(b"secret")) == "SegmentKey(all stripes)"
    assert f"{SegmentKey(stripes=((1, b'secret'),))}" == "SegmentKey(1 stripes)"


def test_key_of_a_forgotten_path_is_forgotten() -> None:
    """Looking up what was forgotten says so, by its numbers, to whoever catches NotFound."""
    tree, _, census = large_tree()
    tree.forget([segment(300)], census)
    with pytest.raises(Forgotten, match="lineage 1, branch 1, segment 300: has no key") as caught:
        tree.key_of(segment(300))
    assert isinstance(caught.value, NotFound)
    assert caught.value.code == "forgotten"


def test_forget_of_one_stripe_in_a_large_tree_writes_little() -> None:
    """Cost is the depth, whatever the size: 64 KiB for one stripe of 1 TiB, again and again."""
    tree, store, census = large_tree()
    written = 0
    for number in (40_000, 40_001, 1, SEGMENTS):
        tree.forget([paths.stripe(segment(number), 9)], census)
        assert store.written_bytes - written <= FORGET_BYTES_MAX
        written = store.written_bytes
    assert {each for each, _ in store.ever} <= store.tables.keys()


def test_forget_of_many_paths_shares_one_pass() -> None:
    """Each table on the way is written once, however many paths lead through it."""
    tree, store, census = large_tree()
    tree.forget([segment(number) for number in range(1, 2000, 3)], census)
    assert len(store.ever) == len({each for each, _ in store.ever})


def test_forget_again_changes_nothing() -> None:
    """Forgetting is idempotent: the same root comes back, and nothing is written (I6)."""
    tree, store, census = large_tree()
    doomed = [segment(300), paths.stripe(segment(5), 3)]
    root = tree.forget(doomed, census)
    written = store.written_bytes
    assert tree.forget([*doomed, paths.stripe(segment(300), 1)], census) is root
    assert tree.forget([], census) is root
    assert store.written_bytes == written


def test_forget_of_a_whole_branch_writes_no_more_than_its_path() -> None:
    """However many tables lie beneath: they stay, and nothing leads to them any more."""
    tree, store, census = large_tree()
    tree.forget([segment(1), segment(40_000)], census)
    beneath = set(store.below(BRANCH)) - {BRANCH}
    tree.forget([BRANCH, segment(7)], census)
    assert beneath
    assert beneath == set(store.below(BRANCH))
    assert all(len(each) < len(BRANCH) for each in store.tables if each not in beneath)
    assert tree.segment_keys(BRANCH, range(1, 9)) == [None] * 8


def test_forget_of_all_segments_leaves_no_empty_tables() -> None:
    """A node that is empty and full of numbers that were given goes: a log does not grow tables."""
    tree, store, census = large_tree()
    tree.forget([segment(number) for number in range(1, 512)], census)
    assert store.below(segment(256)[:-1]) == []
    assert segment(1)[:-1] not in store.tables
    assert segment(1)[:-2] in store.tables
    assert tree.segment_keys(BRANCH, range(1, 512)) == [None] * 511
    tree.forget([paths.stripe(segment(513), number) for number in range(64)], census)
    assert store.below(segment(513)) == []
    with pytest.raises(Forgotten):
        tree.key_of(segment(513))


def test_forget_of_the_last_segments_keeps_room_for_births() -> None:
    """A table with numbers still to be given stays, and a forgotten key stays forgotten (I6)."""
    world = World(1)
    branch = world.new_branch()
    born = world.new_segments(branch, count=3)
    world.forget(born)
    (later,) = world.new_segments(branch, count=1)
    assert world.tree.key_of(later).kind is Kind.SEED
    for forgotten in born:
        with pytest.raises(Forgotten):
            world.tree.key_of(forgotten)


def test_forget_of_the_root_or_of_no_node_is_invalid() -> None:
    """The root ends with its sink, and nothing stands beneath a stripe."""
    tree, _, census = large_tree()
    with pytest.raises(Invalid):
        tree.forget([ROOT], census)
    with pytest.raises(Invalid):
        tree.forget([Path(paths.stripe(segment(1), 1) + b"\0")], census)


def test_forget_overwrites_the_old_root() -> None:
    """The old root's key is gone from memory; a closed tree's too (I3)."""
    tree, _, census = large_tree()
    old = tree.root
    new = tree.forget([segment(1)], census)
    assert not any(old.key)
    assert new is tree.root
    assert any(new.key)
    tree.close()
    assert not any(new.key)


def test_birth_under_a_table_adds_a_fresh_key() -> None:
    """A child born after a forgetting is no derived key; the root stays; neighbours keep theirs."""
    world = World(1)
    branch = world.new_branch()
    first, second = world.new_segments(branch, count=2)
    seed = world.tree.key_of(branch.path)
    would_be = seed.key
    for index in (0, 0, 0, 0, 3):
        would_be = child(would_be, index)
    world.forget([first])
    root = world.tree.root
    kept = world.tree.key_of(second).key
    (third,) = world.new_segments(branch, count=1)
    assert third[-1] == 3
    assert world.tree.key_of(third).key != would_be
    assert world.tree.key_of(second).key == kept
    assert world.tree.root is root
    assert world.tree.birth([third]) is False


def test_birth_of_a_group_seals_its_table_once() -> None:
    """64 births are one new version of one table, under one nonce."""
    world = World(1)
    branch = world.new_branch()
    world.forget(world.new_segments(branch, count=1))
    before = len(world.store.ever)
    world.new_segments(branch, count=64)
    assert len(world.store.ever) == before + 1


def test_birth_of_a_stripe_is_invalid() -> None:
    """A stripe is born with its segment, so a forgotten one cannot be born again (I6)."""
    tree, _, _ = large_tree()
    with pytest.raises(Invalid):
        tree.birth([paths.stripe(segment(1), 1)])


@pytest.mark.parametrize("missing", [True, False])
def test_tree_with_a_damaged_table_stops_and_changes_nothing(*, missing: bool) -> None:
    """A table that is missing or flipped is Corrupt, and a forget that meets it stages nothing."""
    tree, store, census = large_tree()
    tree.forget([segment(300)], census)
    place = segment(300)[:-1]
    damaged = store.tables.pop(place)
    if not missing:
        store.tables[place] = damaged[:-1] + bytes([damaged[-1] ^ 1])
    tables, root = dict(store.tables), tree.root
    with pytest.raises(Corrupt, match=r"branch 1, segments 00000001…"):
        tree.key_of(segment(301))
    with pytest.raises(Corrupt):
        tree.forget([segment(1), segment(301)], census)
    with pytest.raises(Corrupt):
        tree.birth([segment(1), segment(301)])
    assert store.tables == tables
    assert tree.root is root
    assert tree.key_of(segment(1)).kind is Kind.SEED
