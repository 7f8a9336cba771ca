"""The pool, its key tree and its index, as everything in this room reads and changes them.

A change of the pool is atomic and durable when its block has been left; the index follows.
Where the index cannot (a full disk, a crash in between) it is brought forward from the
pool, which is right wherever the two differ.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from uuid import UUID

import structlog

from scrubjay.base.errors import ScrubjayError, Unavailable
from scrubjay.base.ids import Epoch, LineageNo, Slot, TenantNo
from scrubjay.base.ports import Clock, Entropy
from scrubjay.catalog.index import Identity, Index, TenantRow, VolumeRow
from scrubjay.control.records import POOL_KEY, LineageRecord, at
from scrubjay.control.view import View
from scrubjay.keys.forgotten import Forgotten
from scrubjay.keys.path import Census, Numbers, Path
from scrubjay.keys.segment import SegmentKey
from scrubjay.keys.table import Node, wipe
from scrubjay.keys.tree import KeyTree
from scrubjay.media.change import Change as PoolChange
from scrubjay.media.pool import Pool

__all__ = ["Change", "Keeper", "bring_forward", "differences"]

_log = structlog.get_logger(__name__)

IndexStep = Callable[[Index, int], None]
"""Enters into the index what the pool holds as of a generation."""


class Keeper:
    """One open pool with its index; safe for threads."""

    def __init__(
        self,
        open_pool: Callable[[], Pool],
        index: Index,
        *,
        clock: Clock,
        entropy: Entropy,
        in_place: Callable[[], None] = lambda: None,
    ) -> None:
        """`in_place` raises Unavailable where the pool's path names other media by now."""
        self.entropy = entropy
        self.expect_in_place = in_place
        self._rotations = threading.Lock()
        self._open_pool = open_pool
        self._pool = open_pool()
        self._index = index
        self._clock = clock
        self._naming = threading.RLock()
        self._stale = False

    @property
    def pool(self) -> Pool:
        """The pool, which may have stopped."""
        return self._pool

    @property
    def index(self) -> Index:
        """The index, brought forward first where it fell behind."""
        if self._stale:
            with self._naming:
                if self._stale:
                    bring_forward(self._pool, self._index)
                    self._stale = False
        return self._index

    @property
    def pool_id(self) -> UUID:
        """Which pool this is."""
        return self._pool.pool_id

    @property
    def epoch(self) -> Epoch:
        """The sink's epoch under which the pool is sealed."""
        return self._pool.epoch

    @property
    def free_percent(self) -> int:
        """How many slots of a hundred anybody may lease, rounded down.

        Free ones in an area that somebody owns are for him alone.
        """
        return 100 * self._pool.unowned // self._pool.geometry.slots

    @property
    def rotating(self) -> contextlib.AbstractContextManager[None]:
        """Held from the sink's `prepare` to its `settle`: epochs change in one place at a time.

        Unavailable while the path names other media: whoever opened those after a rotation
        would find them older than the sink.
        """
        return self._alone()

    @property
    def trouble(self) -> str:
        """Why nothing can be made or forgotten in this pool, and what to do; "" where it can."""
        try:
            self.expect_in_place()
        except ScrubjayError as error:
            return f"{error.message}; {error.hint}"
        return ""

    def now(self) -> dt.datetime:
        """Return the time, as records hold it."""
        return at(self._clock.now_ns())

    @contextlib.contextmanager
    def reading(self) -> Iterator[View]:
        """Read what is durable."""
        yield View(self._pool)

    @contextlib.contextmanager
    def changing(self, *, frees: bool = False) -> Iterator[Change]:
        """Change the pool; durable when the block was left, undone by an exception.

        Blocks that run at once share a commit. One that `frees` goes on in a full pool.
        """
        with self._pool.change(frees=frees) as staged:
            yield Change(staged, self.entropy)

    @contextlib.contextmanager
    def naming(self, *, frees: bool = False) -> Iterator[Change]:
        """Change what has a name, one at a time, and then the index as the block asked for.

        Between a name's check in the index and its entry there, nobody else takes it.
        Unavailable while the path names other media, where all of it would be lost.
        """
        self.expect_in_place()
        with self._naming:
            with self.changing(frees=frees) as change:
                yield change
            self._follow(change)

    def rehearse(self, stage: Callable[[Change], None]) -> None:
        """Stage a change that frees, and undo it; raises what would keep it from a commit."""
        with contextlib.suppress(_FitsError), self.naming(frees=True) as change:
            change.staged.on_fit(_undo)
            stage(change)

    def remember(self) -> None:
        """Write down how far the pool has come, so that an older copy of it is refused."""
        self.index.remember(self._pool.generation)

    def revive(self) -> bool:
        """Open a pool that has stopped anew; return whether it had.

        What was committed when it stopped is whatever the media hold (I4): everybody who
        waits looks again. Raises what keeps the pool from being opened.
        """
        try:
            self._pool.get(POOL_KEY)
        except Unavailable:
            with self.rotating, self._naming:  # not while nobody would find what is closed
                self._pool.close()
                self._pool = self._open_pool()
                self._stale = True
            return True
        return False

    def close(self) -> None:
        """Let go of the pool and its keys."""
        self._pool.close()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with self._rotations:
            self.expect_in_place()
            yield

    def _follow(self, change: Change) -> None:
        if change.index_step is None:
            return
        try:
            change.index_step(self.index, self._pool.generation)
        except ScrubjayError as error:
            # The pool is durable, so what was asked for is done.
            self._stale = True
            _log.warning("catalog.behind", error=error.message)


class _FitsError(Exception):
    """What was rehearsed would have been committed."""


def _undo() -> None:
    raise _FitsError


class Change(View):
    """A change of the pool: its records as types, its keys as a tree."""

    def __init__(self, staged: PoolChange, entropy: Entropy) -> None:
        super().__init__(staged)
        self._staged = staged
        self._entropy = entropy
        self.index_step: IndexStep | None = None

    @property
    def staged(self) -> PoolChange:
        """The pool's own change, for rotations."""
        return self._staged

    def index_as(self, step: IndexStep) -> None:
        """Have the index follow once this is durable."""
        self.index_step = step

    def keys(self, prefix: bytes) -> list[bytes]:
        """Return every key that begins with `prefix`, in order."""
        return self._staged.keys(prefix)

    def put(self, key: bytes, value: bytes) -> None:
        """Stage a value."""
        self._staged.put(key, value)

    def delete(self, key: bytes) -> None:
        """Stage the removal of a key."""
        self._staged.delete(key)

    def lease_slots(self, lineage: LineageNo, count: int) -> list[Slot]:
        """Lease up to `count` slots, at least one; NoSpace when there is none."""
        return self._staged.lease_slots(lineage, count)

    def is_clean(self, slot: Slot) -> bool:
        """Tell whether a leased slot holds no bytes of a former use."""
        return self._staged.is_clean(slot)

    def release_slots(
        self, lineage: LineageNo, slots: Sequence[Slot], *, since_s: int = 0
    ) -> frozenset[int]:
        """Free slots of a lineage, whose use ended at `since_s`: leased again once durable.

        Return since when they wait to be scrubbed: an earlier date of one stays.
        """
        return self._staged.release_slots(lineage, slots, since_s=since_s)

    def filled_slots(self, lineage: LineageNo, slots: Sequence[Slot]) -> None:
        """Note that slots of a lineage were written to the end."""
        self._staged.filled_slots(lineage, slots)

    def scrubbed_slots(self, slots: Sequence[Slot]) -> None:
        """Note that claimed slots were scrubbed."""
        self._staged.scrubbed_slots(slots)

    def birth(self, paths: Iterable[Path]) -> None:
        """Give each path a key where it has none."""
        with self._tree() as tree:
            tree.birth(paths)

    def segment_keys(self, branch: Path, ids: range) -> list[SegmentKey | None]:
        """Return the keys of segments of a branch, those staged included."""
        with self._tree() as tree:
            return tree.segment_keys(branch, ids)

    def has_key(self, path: Path) -> bool:
        """Return whether the tree of keys leads to a path."""
        with self._tree() as tree:
            try:
                wipe(tree.key_of(path).key)
            except Forgotten:
                return False
            return True

    def take_out(self, paths: Iterable[Path]) -> None:
        """Take paths out of the tree, under the same epoch: the next rotation forgets them (I3)."""
        with self._tree() as tree:
            before = tree.root
            root = tree.forget(paths, self._census())
            if root is not before:
                self._staged.set_root(root)

    def forget(self, paths: Iterable[Path], *, epoch: Epoch, epoch_key: bytes) -> None:
        """Take paths out of the tree and rotate to a new epoch of the sink (I3)."""
        with self._tree() as tree:
            root = tree.forget(paths, self._census())
            self._staged.rotate(epoch, epoch_key=epoch_key, root=root)

    def _tree(self) -> contextlib.AbstractContextManager[KeyTree]:
        return _tree(_StagedTables(self._staged), self._staged.root, self._entropy)

    def _census(self) -> Census:
        """Return which numbers were given out, as the counters know it."""

        def given(parent: Path) -> range:
            match len(parent):
                case 0:
                    return range(1, self.pool().next_tenant)
                case 3:
                    return range(1, self.pool().next_lineage)
                case 7:
                    return range(1, self._lineage_at(parent).next_branch)
                case _:
                    return range(1, self._lineage_at(parent).next_segment)

        return Numbers(given)

    def _lineage_at(self, path: Path) -> LineageRecord:
        return self.lineage(LineageNo(int.from_bytes(path[3:7])))


def bring_forward(pool: Pool, index: Index) -> None:
    """Make the index say what the pool says."""
    index.bring_forward(Identity(pool.pool_id, pool.generation), *_rows(pool))


def differences(pool: Pool, index: Index) -> list[str]:
    """Name the rows in which an index of the same generation differs from the pool.

    Nothing of Scrubjay makes such a one: somebody edited the database.
    """
    tenants, volumes = _rows(pool)
    told: set[TenantRow | VolumeRow] = {*tenants, *volumes}
    known = set(index.rows())
    return [
        *(f"{_spell(each)}: not in the pool" for each in known - told),
        *(f"{_spell(each)}: missing" for each in told - known),
    ]


def _rows(pool: Pool) -> tuple[list[TenantRow], list[VolumeRow]]:
    view = View(pool)
    tenants = [
        TenantRow(TenantNo(each.id), each.name)
        for each in view.tenants()
        if each.state != "closed"  # whose name may be another's now
    ]
    volumes = [
        VolumeRow(volume, record.name, TenantNo(record.tenant)) for volume, record in view.volumes()
    ]
    return tenants, volumes


def _spell(row: TenantRow | VolumeRow) -> str:
    if isinstance(row, TenantRow):
        return f"tenant {row.name} ({row.id})"
    return f"volume {row.name} ({row.id}) of tenant {row.tenant}"


class _StagedTables:
    """The key tree's tables within a change."""

    def __init__(self, staged: PoolChange) -> None:
        self._staged = staged

    def get(self, path: bytes) -> bytes | None:
        return self._staged.get(b"k" + path)

    def put(self, path: bytes, table: bytes) -> None:
        self._staged.put(b"k" + path, table)

    def delete(self, path: bytes) -> None:
        self._staged.delete(b"k" + path)


@contextlib.contextmanager
def _tree(tables: _StagedTables, root: Node, entropy: Entropy) -> Iterator[KeyTree]:
    """Open the tree for a moment; its root's key is overwritten afterwards."""
    tree = KeyTree(tables, root, entropy)
    try:
        yield tree
    finally:
        tree.close()
