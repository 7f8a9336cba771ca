"""A pool reduced to what the key tree needs of it, and the adversary who kept everything."""

import random
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from scrubjay.base.ids import BranchNo, LineageNo, SegmentId, TenantNo
from scrubjay.base.ports import Buffer, Entropy
from scrubjay.keys import path as paths
from scrubjay.keys.aead import child, seal, segment_seeds, unseal
from scrubjay.keys.path import Numbers, Path
from scrubjay.keys.table import Kind, Node
from scrubjay.keys.tree import KeyTree

STRIPES_WATCHED = (0, 1, 63)
_AD = b"superblock of this test"


class SeededEntropy:
    """Randomness that a seed repeats."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def token(self, size_bytes: int) -> bytes:
        """Return the next bytes."""
        return self._random.randbytes(size_bytes)


class MemoryNodeStore:
    """A NodeStore that keeps every serialised form it ever had: the adversary's store."""

    def __init__(self) -> None:
        self.tables: dict[bytes, bytes] = {}
        self.ever: list[tuple[bytes, bytes]] = []

    def get(self, path: bytes) -> bytes | None:
        """Return the newest table."""
        return self.tables.get(path)

    def put(self, path: bytes, table: bytes) -> None:
        """Keep a table, and the old one too."""
        self.tables[path] = table
        self.ever.append((path, table))

    def delete(self, path: bytes) -> None:
        """Forget that there is one; the adversary does not."""
        self.tables.pop(path, None)

    def below(self, path: bytes) -> list[bytes]:
        """Return the paths of tables at a path and beneath it."""
        return [each for each in self.tables if each.startswith(path)]

    @property
    def written_bytes(self) -> int:
        """All that was ever put."""
        return sum(len(table) for _, table in self.ever)


class Adversary:
    """Has every table and every sealed root that ever was, and the epoch keys that he is given.

    He opens what opens, treats every key as a seed too, and knows all numbers. Nothing here
    uses the tree's own code for reading.
    """

    def __init__(
        self, store: MemoryNodeStore, roots: Iterable[bytes], epoch_keys: Iterable[bytes]
    ) -> None:
        self._tables: dict[bytes, list[bytes]] = {}
        for path, table in store.ever:
            self._tables.setdefault(path, []).append(table)
        self._known: set[tuple[bytes, bytes]] = set()
        epoch_keys = list(epoch_keys)
        for sealed in roots:
            for epoch_key in epoch_keys:
                opened = _try(epoch_key, sealed, _AD)
                if opened is not None:
                    self.learn(b"", opened[1:])

    def reaches(self, path: bytes, key: Buffer) -> bool:
        """Whether he can compute this key."""
        return any(
            path.startswith(above) and key in self._derive(known, above, path)
            for above, known in self._known
        )

    def learn(self, path: bytes, key: bytes) -> None:
        """Take a key that he has got somewhere, and open whatever it opens."""
        fresh = [(path, key)]
        while fresh:
            above, known = fresh.pop()
            if (above, known) in self._known:
                continue
            self._known.add((above, known))
            for place, versions in self._tables.items():
                if not place.startswith(above):
                    continue
                for derived in self._derive(known, above, place):
                    for version in versions:
                        entries = _try(derived, version, b"scrubjay table 1" + place)
                        if entries is not None:
                            fresh += [
                                (place + entries[at : at + 1], entries[at + 2 : at + 34])
                                for at in range(0, len(entries), 34)
                            ]

    def _derive(self, key: bytes, above: bytes, path: bytes) -> set[bytes]:
        """Return what a key leads to: one key for every salt that was ever stored."""
        keys = {key}
        for depth in range(len(above), len(path)):
            index = path[depth]
            if depth == paths.INNER_DEPTH:
                stored = self._tables.get(path[:depth], [])
                salts = {each[17 * index + 1 : 17 * index + 17] for each in stored} - {b""}
                keys = {
                    seed for k in keys for s in salts for seed in segment_seeds(k, [(index, s)])
                }
            else:
                keys = {child(each, index) for each in keys}
        return keys


def _try(key: bytes, stored: bytes, ad: bytes) -> bytes | None:
    try:
        return AESGCM(key).decrypt(stored[:12], stored[12:], ad)
    except InvalidTag:
        return None


@dataclass
class Branch:
    """A branch that is alive, by its numbers."""

    tenant: TenantNo
    lineage: LineageNo
    branch: BranchNo

    @property
    def path(self) -> Path:
        """Where it stands."""
        return paths.branch(self.tenant, self.lineage, self.branch)


class World:
    """Counters, a tree, superblocks and epochs; and what should be the case (the oracle)."""

    def __init__(self, seed: int, *, first_number: int = 1, entropy: Entropy | None = None) -> None:
        """Begin with nothing but a root; `entropy` is the tree's, the epoch keys are random."""
        self.entropy = SeededEntropy(seed)
        self.store = MemoryNodeStore()
        self.first = first_number
        self.next_tenant = self.next_lineage = first_number
        self.next_branch: dict[Path, int] = {}
        self.next_segment: dict[Path, int] = {}
        self.branches: list[Branch] = []
        self.segments: list[Path] = []
        self.living: dict[Path, bytes] = {}
        self.forgotten: dict[Path, tuple[bytes, int]] = {}
        self.census = Numbers(self._given)
        self.epoch_keys: list[bytes] = []
        self.roots: list[bytes] = []
        self._tree_entropy = entropy or self.entropy
        root = KeyTree.new_root(self._tree_entropy)
        self.tree = KeyTree(self.store, root, self._tree_entropy)
        self._rotate()

    @property
    def epoch(self) -> int:
        """The newest epoch, from 0."""
        return len(self.epoch_keys) - 1

    def new_branch(self, *, like: Branch | None = None, step: int = 1) -> Branch:
        """Bear a branch: of a new tenant, or a new lineage or branch beside `like`."""
        if like is None or step % 3 == 0:
            tenant, self.next_tenant = TenantNo(self.next_tenant), self.next_tenant + step
        else:
            tenant = like.tenant
        if like is None or step % 2 == 0 or tenant != like.tenant:
            lineage, self.next_lineage = LineageNo(self.next_lineage), self.next_lineage + step
        else:
            lineage = like.lineage
        counter = paths.lineage(tenant, lineage)
        number = BranchNo(self.next_branch.get(counter, self.first))
        self.next_branch[counter] = number + step
        self.next_segment.setdefault(counter, self.first)
        born = Branch(tenant, lineage, number)
        self.branches.append(born)
        self.tree.birth([born.path])
        self._commit()
        return born

    def new_segments(self, branch: Branch, *, count: int, skip: int = 0) -> list[Path]:
        """Bear consecutive segments of a branch, after ids that go to nobody."""
        counter = paths.lineage(branch.tenant, branch.lineage)
        first = self.next_segment[counter] + skip
        self.next_segment[counter] = first + count
        born = [
            paths.segment(branch.tenant, branch.lineage, branch.branch, SegmentId(number))
            for number in range(first, first + count)
        ]
        self.tree.birth(born)
        self._commit()
        self.segments += born
        for segment in born:
            for stripe in STRIPES_WATCHED:
                leaf = paths.stripe(segment, stripe)
                self.living[leaf] = bytes(self.tree.key_of(leaf).key)
        return born

    def forget(self, doomed: Iterable[Path]) -> None:
        """Forget paths, and rotate the epoch if there was anything to forget."""
        doomed = list(doomed)
        for leaf in [each for each in self.living if each.startswith(tuple(doomed))]:
            self.forgotten[leaf] = self.living.pop(leaf), self.epoch
        before = self.tree.root
        if self.tree.forget(doomed, self.census) is not before:
            self._rotate()
        self.segments = [each for each in self.segments if not each.startswith(tuple(doomed))]
        self.branches = [each for each in self.branches if not each.path.startswith(tuple(doomed))]

    def reopen(self) -> None:
        """Open the tree anew, from the newest superblock."""
        sealed = self.roots[-1]
        opened = unseal(
            self.epoch_keys[-1], sealed[:12], sealed=sealed[12:], ad=_AD, what="superblock"
        )
        self.tree = KeyTree(self.store, Node(Kind(opened[0]), opened[1:]), self._tree_entropy)

    def adversary(self, *, epochs: Iterable[int]) -> Adversary:
        """Return one who has everything that was ever stored, and these epoch keys."""
        return Adversary(self.store, self.roots, [self.epoch_keys[epoch] for epoch in epochs])

    def _rotate(self) -> None:
        self.epoch_keys.append(self.entropy.token(32))
        self._commit()

    def _commit(self) -> None:
        nonce = self.entropy.token(12)
        root = self.tree.root
        text = bytes((root.kind,)) + root.key
        self.roots.append(nonce + seal(self.epoch_keys[-1], nonce, text=text, ad=_AD))

    def _given(self, parent: Path) -> range:
        match len(parent):
            case paths.TENANT_DEPTH:
                return range(self.first, self.next_lineage)
            case paths.LINEAGE_DEPTH:
                return range(self.first, self.next_branch.get(parent, self.first))
            case paths.BRANCH_DEPTH:
                counter = parent[: paths.LINEAGE_DEPTH]
                return range(self.first, self.next_segment.get(Path(counter), self.first))
            case _:
                return range(self.first, self.next_tenant)
