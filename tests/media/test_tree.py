"""The metadata tree against a dict, and its pages against what it reaches."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrubjay.base.errors import Corrupt, Invalid
from scrubjay.media.geometry import Geometry
from scrubjay.media.nodes import Leaf, decode, encode, make_entry
from scrubjay.media.pages import Pages, Pointer, Sealer
from scrubjay.media.simulated import SimulatedMedium
from scrubjay.media.tree import Edit, Nodes, Root, successor
from tests.media.rig import size_of

KEY = b"metadata" * 4


class Forest:
    """A tree on a medium whose pages are handed out and taken back as a pool does."""

    def __init__(self, nodes: int = 64) -> None:
        medium = SimulatedMedium(size_of(4))
        self.pages = Pages([medium], Geometry.of([medium.size_bytes]), KEY)
        self.nodes = Nodes(self.pages, limit=nodes)
        self.edit = Edit(self.nodes, Root())
        self.used: set[int] = set()
        self.commits = 0

    def commit(self) -> int:
        """Seal and write what is dirty; return how many pages that took."""
        self.commits += 1
        sealer = Sealer(KEY, self.commits.to_bytes(16, "big"))
        sealed: dict[int, bytes] = {}
        free = (page for page in range(16384) if page not in self.used)

        def seal(text: bytes) -> Pointer:
            page = next(free)
            pointer, sealed[page] = sealer.seal(page, text)
            return pointer

        freed = self.edit.seal(seal)
        self.pages.write(sealed)
        assert len(freed) == len(set(freed))
        assert self.used.issuperset(freed)
        self.used = (self.used | set(sealed)) - set(freed)
        return len(sealed)

    def items(self, prefix: bytes = b"") -> dict[bytes, bytes]:
        """Return what the tree holds."""
        found = self.nodes.items(self.edit.root, prefix, successor(prefix))
        return {key: self.nodes.value(entry) for key, entry in found}


keys = st.one_of(
    st.binary(min_size=1, max_size=3),
    st.integers(0, 400).map(lambda number: b"k%03d" % number),
    st.binary(min_size=200, max_size=255),
)
values = st.one_of(
    st.binary(max_size=40),
    st.integers(0, 9000).map(lambda size: b"v" * size),
    st.sampled_from((b"", b"x" * 1024, b"x" * 1025, b"y" * 4060, b"y" * 4061, b"z" * 65536)),
)
batches = st.dictionaries(keys, st.one_of(st.none(), values), max_size=60)


@settings(max_examples=60)
@given(st.lists(st.tuples(batches, st.booleans()), max_size=12))
def test_tree_under_any_changes_equals_a_dict(
    steps: list[tuple[dict[bytes, bytes | None], bool]],
) -> None:
    """Gets, scans and the pages in use agree with a dict after every change and commit."""
    forest = Forest(nodes=8)
    model: dict[bytes, bytes] = {}
    for changes, dropped in steps:
        mark = forest.edit.mark()
        forest.edit.apply(changes)
        if dropped:
            forest.edit.rewind(mark)
        else:
            for key, value in changes.items():
                if value is None:
                    model.pop(key, None)
                else:
                    model[key] = value
        assert forest.items() == model
        expected = forest.edit.dirty_pages
        assert forest.commit() == expected, "what is dirty was counted"
        assert forest.nodes.walk(forest.edit.root) == forest.used, "no page lost, none twice"
    fresh = Nodes(forest.pages)
    for key, value in model.items():
        assert fresh.get(forest.edit.root, key) == value
    for prefix in (b"k", b"k1", b"\xff", b"\0"):
        assert forest.items(prefix) == {k: v for k, v in model.items() if k.startswith(prefix)}
    forest.edit.apply(dict.fromkeys(model))
    forest.commit()
    assert (forest.used, forest.edit.root) == (set(), Root())


def test_tree_grown_and_emptied_gives_its_pages_back(seed: int) -> None:
    """Deleting in any order shrinks the tree: it is never more than half empty for long."""
    random = Random(seed)
    forest = Forest()
    model = {random.randbytes(8): random.randbytes(60) for _ in range(5000)}
    forest.edit.apply(model)
    forest.commit()
    full = len(forest.used)
    doomed = random.sample(sorted(model), 4500)
    for start in range(0, 4500, 50):
        forest.edit.apply(dict.fromkeys(doomed[start : start + 50]))
        forest.commit()
    assert len(forest.used) < full / 3
    assert set(forest.items()) == set(model) - set(doomed)


def test_tree_with_keys_that_only_grow_fills_its_pages() -> None:
    """Directories grow at their end: half empty pages would double the metadata."""
    forest = Forest()
    for number in range(2000):
        forest.edit.apply({b"d%08d" % number: b"v" * 60})
        if number % 20 == 0:
            forest.commit()
    forest.commit()
    payload = 2000 * (3 + 9 + 60)
    assert len(forest.used) * 4060 < payload * 1.25


def test_change_to_what_is_there_writes_nothing() -> None:
    """An equal value and the deletion of nothing dirty no page."""
    forest = Forest()
    forest.edit.apply({b"a": b"1", b"b": b"2" * 5000})
    forest.commit()
    forest.edit.apply({b"a": b"1", b"b": b"2" * 5000, b"c": None})
    assert (forest.edit.dirty_pages, forest.edit.freed) == (0, [])


def test_one_change_in_a_large_tree_writes_one_path() -> None:
    """A small change costs the height of the tree, whatever its size."""
    forest = Forest()
    forest.edit.apply({b"k%06d" % number: b"v" * 50 for number in range(20_000)})
    forest.commit()
    forest.edit.apply({b"k010000": b"changed"})
    assert forest.commit() == forest.edit.root.height == 3


@pytest.mark.parametrize(("key", "value"), [(b"", b"x"), (b"k" * 256, b"x"), (b"k", b"x" * 65537)])
def test_key_or_value_of_a_silly_size_is_invalid(key: bytes, value: bytes) -> None:
    """Sizes that the format cannot hold are refused before anything changes."""
    forest = Forest()
    forest.edit.apply({b"a": b"1"})
    forest.commit()
    mark = forest.edit.mark()
    with pytest.raises(Invalid, match="expected up to 255 and 65536"):
        forest.edit.apply({key: value})
    forest.edit.rewind(mark)
    assert forest.items() == {b"a": b"1"}


@given(st.binary(min_size=4064, max_size=4064))
def test_page_of_any_text_is_a_node_or_corrupt(text: bytes) -> None:
    """Bytes that opened but make no sense never lead outside the page."""
    for kind in range(4):
        try:
            node = decode(bytes([kind, 0]) + text[2:], 7)
        except Corrupt:
            continue
        assert node.keys == sorted(set(node.keys))


def test_tree_whose_pages_lie_is_found_by_the_walk() -> None:
    """Pages that open but stand in the wrong place of the tree are Corrupt, not served."""
    forest = Forest()
    sealer = Sealer(KEY, b"q" * 16)

    def page(number: int, text: bytes) -> Pointer:
        pointer, raw = sealer.seal(number, text)
        forest.pages.write({number: raw})
        return pointer

    low = page(1, encode(Leaf([b"a"], [make_entry(b"a", b"")])))
    high = page(2, encode(Leaf([b"x"], [make_entry(b"x", b"")])))
    for number, children, words in (
        (3, [low, low], "reached twice"),
        (4, [high, low], "outside its parent's bounds"),
    ):
        text = b"\2\0\1\0" + children[0] + b"\1m" + children[1]
        with pytest.raises(Corrupt, match=words):
            forest.nodes.walk(Root(2, page(number, text)))
    with pytest.raises(Corrupt, match="wrong kind for level 2"):
        forest.nodes.walk(Root(2, low))


def test_successor_of_a_prefix_ends_its_scan() -> None:
    """The end of a scan is the first key behind all keys with the prefix."""
    assert successor(b"a") == b"b"
    assert successor(b"a\xff\xff") == b"b"
    assert successor(b"") is None
    assert successor(b"\xff") is None
