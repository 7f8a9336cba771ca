"""The tree of the log, against a naive one and against published vectors."""

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.errors import Corrupt, Invalid
from scrubjay.evidence.merkle import (
    EMPTY_ROOT,
    Frontier,
    Node,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    is_included,
    leaf_hash,
    node_hash,
    tree_hash,
)

CT_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
CT_INCLUSION_0_OF_8 = [
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
]
CT_CONSISTENCY_6_TO_8 = [
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
]
SIZES = st.integers(0, 70)


def leaves(count: int) -> list[bytes]:
    """Return entries that differ."""
    return [b"entry %d" % number for number in range(count)]


def naive(entries: list[bytes]) -> bytes:
    """Return the root as RFC 9162 (2.1.1) defines it, word by word."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\0" + entries[0]).digest()
    split = 1
    while 2 * split < len(entries):
        split *= 2
    return hashlib.sha256(b"\1" + naive(entries[:split]) + naive(entries[split:])).digest()


def nodes(entries: list[bytes]) -> Node:
    """Return the perfect subtrees of a list of entries."""

    def node(level: int, index: int) -> bytes:
        if level == 0:
            return leaf_hash(entries[index])
        return node_hash(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))

    return node


def grown(entries: list[bytes]) -> Frontier:
    """Return the frontier after these entries."""
    frontier = Frontier()
    for each in entries:
        frontier = frontier.append(each)
    return frontier


def test_frontier_over_the_leaves_of_ct_has_the_published_roots() -> None:
    """The roots of Certificate Transparency's reference tests, for 1 to 8 leaves."""
    assert [grown(CT_LEAVES[:n]).root().hex() for n in range(1, 9)] == CT_ROOTS
    assert Frontier().root() == EMPTY_ROOT == hashlib.sha256(b"").digest()


def test_proofs_over_the_leaves_of_ct_are_the_published_ones() -> None:
    """An inclusion proof and a consistency proof of the same tests."""
    node = nodes(CT_LEAVES)
    assert [each.hex() for each in inclusion_proof(0, 8, node)] == CT_INCLUSION_0_OF_8
    assert [each.hex() for each in consistency_proof(6, 8, node)] == CT_CONSISTENCY_6_TO_8


@given(SIZES)
def test_frontier_of_any_size_has_the_root_of_the_definition(size: int) -> None:
    """Appending one by one, and hashing subtrees, give what the recursion gives."""
    entries = leaves(size)
    assert grown(entries).root() == naive(entries) == tree_hash(0, size, nodes(entries))


@given(SIZES)
def test_frontier_that_was_stored_goes_on_as_before(size: int) -> None:
    """What a database record gives back appends to the same roots."""
    frontier = grown(leaves(size))
    stored = frontier.serialise()
    assert len(stored) == 8 + 32 * size.bit_count()
    assert Frontier.parse(stored) == frontier
    assert Frontier.parse(stored).append(b"x").root() == naive([*leaves(size), b"x"])


@pytest.mark.parametrize(
    "stored",
    [b"", b"\0" * 7, b"\0" * 9, b"\0" * 7 + b"\1", b"\0" * 7 + b"\1" + b"x" * 64, b"\xff" * 2056],
)
def test_frontier_that_is_none_is_corrupt(stored: bytes) -> None:
    """Peaks have to be as many as the size has bits, and the size below 2^63."""
    with pytest.raises(Corrupt, match="frontier of the log"):
        Frontier.parse(stored)


@given(st.integers(1, 70), st.data())
def test_inclusion_of_any_leaf_is_proven_and_of_no_other(size: int, data: st.DataObject) -> None:
    """A proof verifies for its leaf, index, size and root, and for nothing else."""
    entries = leaves(size)
    index = data.draw(st.integers(0, size - 1))
    root, node = naive(entries), nodes(entries)
    proof, leaf = inclusion_proof(index, size, node), leaf_hash(entries[index])
    assert is_included(leaf, index=index, size=size, proof=proof, root=root)
    assert not is_included(leaf_hash(b"x"), index=index, size=size, proof=proof, root=root)
    assert not is_included(leaf, index=index, size=size, proof=proof, root=leaf_hash(b"y"))
    assert not is_included(leaf, index=index, size=size, proof=[*proof, root], root=root)
    for other in {*range(size)} - {index}:
        assert not is_included(leaf, index=other, size=size, proof=proof, root=root)
    if proof:
        assert not is_included(leaf, index=index, size=size, proof=proof[:-1], root=root)
        at = data.draw(st.integers(0, len(proof) - 1))
        bent = [leaf_hash(each) if n == at else each for n, each in enumerate(proof)]
        assert not is_included(leaf, index=index, size=size, proof=bent, root=root)


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_inclusion_outside_of_the_tree_is_refused(index: int, size: int) -> None:
    """There is no proof for a leaf that is not there, and none verifies."""
    with pytest.raises(Invalid, match="not in a log"):
        inclusion_proof(index, size, nodes(leaves(3)))
    assert not is_included(EMPTY_ROOT, index=index, size=size, proof=[], root=EMPTY_ROOT)


@given(SIZES, SIZES)
def test_consistency_of_any_two_sizes_is_proven_and_of_no_other_history(one: int, two: int) -> None:
    """A tree that grew is proven to have grown; one that was changed is not."""
    old, new = sorted((one, two))
    entries = leaves(new)
    old_root, new_root = naive(entries[:old]), naive(entries)
    proof = consistency_proof(old, new, nodes(entries))

    def consistent(**changed: bytes | list[bytes]) -> bool:
        given: dict[str, bytes | list[bytes]] = {
            "old_root": old_root,
            "new_root": new_root,
            "proof": proof,
        }
        check: Callable[..., bool] = is_consistent
        return check(old=old, new=new, **{**given, **changed})

    assert consistent()
    assert not consistent(proof=[*proof, EMPTY_ROOT])
    other = naive([b"other", *entries[1:]])
    if old:
        assert not consistent(new_root=other)
        assert not consistent(old_root=naive([b"other", *entries[1:old]]))
    for at in range(len(proof)):
        assert not consistent(proof=proof[:at] + proof[at + 1 :])
        assert not consistent(proof=[*proof[:at], EMPTY_ROOT, *proof[at + 1 :]])


def test_consistency_backwards_is_refused() -> None:
    """A log that shrank continues nothing."""
    with pytest.raises(Invalid, match="older one first"):
        consistency_proof(3, 2, nodes(leaves(3)))
    roots = [naive(leaves(n)) for n in range(4)]
    assert not is_consistent(old=3, old_root=roots[3], new=2, new_root=roots[2], proof=[])
    assert not is_consistent(old=0, old_root=roots[1], new=2, new_root=roots[2], proof=[])
