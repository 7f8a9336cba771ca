"""The sealed tables."""

import pytest

from scrubjay.base.errors import Corrupt
from scrubjay.keys.aead import seal
from scrubjay.keys.table import Kind, Node, open_table, seal_table, wipe
from tests.keys.world import SeededEntropy

KEY = bytes(range(32))
PATH = b"\0\0\1"


def test_table_sealed_follows_the_format() -> None:
    """A table is nonce, then SEAL of ascending entries bound to its path, byte for byte."""
    children = {9: Node(Kind.TABLE, bytes([9]) * 32), 2: Node(Kind.SEED, bytes([2]) * 32)}
    stored = seal_table(KEY, PATH, children, entropy=SeededEntropy(1))
    nonce = SeededEntropy(1).token(12)
    entries = b"\2\1" + bytes([2]) * 32 + b"\x09\2" + bytes([9]) * 32
    assert stored == nonce + seal(KEY, nonce, text=entries, ad=b"scrubjay table 1" + PATH)


def test_table_opened_returns_its_children() -> None:
    """What was sealed comes back, by index or all; a child that is not listed is None."""
    children = {
        index: Node(Kind(1 + index % 2), bytes([index]) * 32) for index in (0, 7, 33, 254, 255)
    }
    opened = open_table(KEY, PATH, seal_table(KEY, PATH, children, entropy=SeededEntropy(1)))
    assert dict(opened.items()) == children
    assert opened.get(33) == children[33]
    assert opened.get(34) is None


def test_table_empty_is_a_table() -> None:
    """All children may be forgotten."""
    stored = seal_table(KEY, PATH, {}, entropy=SeededEntropy(1))
    assert dict(open_table(KEY, PATH, stored).items()) == {}


def test_table_sealed_twice_takes_another_nonce() -> None:
    """The nonce is fresh at each sealing, so one key may seal a table again."""
    entropy = SeededEntropy(1)
    first, second = (seal_table(KEY, PATH, {}, entropy=entropy) for _ in range(2))
    assert first[:12] != second[:12]


@pytest.mark.parametrize("cut", [0, 5, 12, 27, 61])
def test_table_cut_short_is_corrupt(cut: int) -> None:
    """No length of a torn table opens."""
    children = {1: Node(Kind.SEED, KEY)}
    stored = seal_table(KEY, PATH, children, entropy=SeededEntropy(1))
    with pytest.raises(Corrupt, match="key table of tenant 1"):
        open_table(KEY, PATH, stored[:cut])


def test_table_of_another_path_is_corrupt() -> None:
    """A table is bound to its place: moved elsewhere it does not open (misdirected writes)."""
    stored = seal_table(KEY, PATH, {}, entropy=SeededEntropy(1))
    with pytest.raises(Corrupt, match="key table of tenant 2"):
        open_table(KEY, b"\0\0\2", stored)


@pytest.mark.parametrize(
    "entries",
    [
        b"\1\1" + KEY[:-1],
        b"\2\1" + KEY + b"\1\1" + KEY,
        b"\1\1" + KEY + b"\1\1" + KEY,
        b"\1\3" + KEY,
        b"\1\0" + KEY,
    ],
    ids=["length", "order", "twice", "unknown kind", "kind 0"],
)
def test_table_that_opens_to_nonsense_is_corrupt(entries: bytes) -> None:
    """A table that is authentic and yet malformed is refused, not guessed at."""
    nonce = bytes(12)
    stored = nonce + seal(KEY, nonce, text=entries, ad=b"scrubjay table 1" + PATH)
    with pytest.raises(Corrupt, match="no table") as caught:
        open_table(KEY, PATH, stored)
    assert KEY.hex() not in str(caught.value)


def test_node_shown_keeps_its_key_to_itself() -> None:
    """No key reaches a log through a node's repr (I2)."""
    assert repr(Node(Kind.SEED, b"secret")) == "Node(kind=<Kind.SEED: 1>)"


def test_wipe_of_an_opened_table_overwrites_its_keys() -> None:
    """After wiping, the memory of an opened table holds zeros."""
    stored = seal_table(KEY, PATH, {1: Node(Kind.SEED, KEY)}, entropy=SeededEntropy(1))
    opened = open_table(KEY, PATH, stored)
    key = opened.get(1)
    opened.wipe()
    assert opened.get(1) is None
    assert key is not None
    assert key.key == KEY
    wipe(key.key)
    assert not any(key.key)
