"""The pool: one tree of metadata on all media, changed by atomic commits.

Follows docs/format/pool.md. The interface in short:

    pool = Pool.create(media, clock=, entropy=, sink_id=, epoch=, epoch_key=, root=,
                       records={b"p": ...})
    pool = Pool.open(media, clock=, entropy=, epoch_keys=sink.key, generation_at_least=7)
    block = Pool.survey(media)                  pool id, sink id, epochs; not yet authentic

    pool.get(key)   pool.keys(prefix)   pool.scan(prefix, after=, limit=)      durable state
    pool.generation  pool.epoch  pool.root  pool.pool_id  pool.sink_id  pool.geometry
    pool.counts      pool.pages             slots by state; metadata pages used, in all
    pool.verify()                           opens every page

    with pool.change() as change:           durable when the block is left; raises: dropped
        change.get(key)  change.keys(prefix)  change.scan(prefix)     what is staged included
        change.put(key, value)  change.delete(key)
        change.lease_slots(lineage, count)  change.release_slots(lineage, slots)
        change.root  change.set_root(node)
        change.rotate(epoch, epoch_key=, root=)
    with pool.change(frees=True):           may use the pages that are kept for deleting

Blocks run one at a time and see each other's changes; readers see durable state only.
Blocks that end while a commit is being written share the next one: the first of them
writes for all. An exception in a block drops that block's change and no other. Keep
blocks short, and do not nest them.

**Commit**: pages, sync of every medium, superblock, sync of every medium. No page that
the last durable superblock reaches is overwritten, so a crash at any point leaves the
state before or after, never another one. Where a write or a sync fails the outcome is
unknown and the pool stops: every later call raises Unavailable until it is opened anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from threading import Lock, get_ident
from uuid import UUID

from scrubjay.base.errors import Conflict, Corrupt, Invalid, Unavailable
from scrubjay.base.ids import Epoch, Slot
from scrubjay.base.ports import Buffer, Clock, Entropy, Medium
from scrubjay.keys.aead import KEY_BYTES
from scrubjay.keys.table import Node
from scrubjay.media.batch import Batch, Sealed
from scrubjay.media.change import Change
from scrubjay.media.commit import Committer, Crown, sync_all
from scrubjay.media.fence import Fence
from scrubjay.media.geometry import SLOT_PAGES, Geometry, slots_in
from scrubjay.media.pages import COMMIT_ID_BYTES, NO_POINTER, FreePages, Pages, Pointer, Sealer
from scrubjay.media.slots import AREA_PREFIX, METADATA, Backlog, SlotCounts, Slots, Waiting
from scrubjay.media.superblock import (
    EpochKeys,
    MediumEntry,
    Superblock,
    choose,
    parse,
    read_copies,
    survey,
)
from scrubjay.media.tree import Edit, Nodes, Root, successor

__all__ = ["RESERVED_PAGES", "Pool"]

RESERVED_PAGES = 1024
"""Metadata pages that only changes which give space back may use: deleting always works."""


class Pool:
    """An open pool; safe for threads. See the module for what it promises."""

    def __init__(
        self,
        media: Sequence[Medium],
        block: Superblock,
        metadata_key: bytes,
        crown: Crown,
        *,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        """Take what `create` made or `open` found; read and check the whole tree."""
        self._media = tuple(media)
        self._entropy = entropy
        self._metadata_key = metadata_key
        self._clock = clock
        self._committer = Committer(self._media, metadata_key, clock=clock, entropy=entropy)
        self._block = block
        self._crown = self._staged_crown = crown
        self._nodes = Nodes(Pages(self._media, block.geometry, metadata_key))
        self._durable = Root(block.height, block.root)
        self._edit = Edit(self._nodes, self._durable)
        reached = self._nodes.walk(self._durable)
        self._reached_pages = len(reached)
        """Pages of the tree that was sealed last; no other one is overwritten."""
        self._slots = Slots(block.geometry, self._read(AREA_PREFIX))
        self.fence = Fence(self._slots.is_claimed)
        """What whoever overwrites claimed slots goes through (media/fence.py)."""
        metadata = list(self._slots.metadata_slots())
        if not {page // SLOT_PAGES for page in reached} <= set(metadata):
            raise Corrupt(f"pool {block.pool_id}: metadata outside the slots that hold metadata")
        self._capacity_pages = len(metadata) * SLOT_PAGES
        self._free = FreePages(metadata, reached)
        self._next = Batch()
        self._staging = Lock()
        self._stager = 0
        self._writing = Lock()
        self._stopped = ""

    # --- beginning --------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        media: Sequence[Medium],
        *,
        clock: Clock,
        entropy: Entropy,
        sink_id: UUID,
        epoch: Epoch,
        epoch_key: Buffer,
        root: Node,
        records: Mapping[bytes, bytes],
        area_slots: int | None = None,
        pool_id: UUID | None = None,
    ) -> Pool:
        """Make a pool of empty media, with its first records, and open it.

        Raises Conflict where a medium holds a pool, Invalid where they are too small.
        """
        geometry = Geometry.of([each.size_bytes for each in media], area_slots=area_slots)
        for where, raw in read_copies(media):
            if any(raw):
                message = f"{where}: holds {raw[:8].hex()}, expected nothing"
                raise Conflict(message, hint="a pool is made on an empty medium only")
        entries = tuple(
            MediumEntry(_uuid(entropy), first, slots_in(medium.size_bytes))
            for first, medium in zip(geometry.first_slots, media, strict=True)
        )
        block = Superblock(
            pool_id=pool_id or _uuid(entropy),
            medium_id=entries[0].medium_id,
            sink_id=sink_id,
            generation=0,
            epoch=epoch,
            geometry=geometry,
            media=entries,
            height=0,
            root=NO_POINTER,
            committed_ns=0,
        )
        crown = Crown(epoch, bytearray(epoch_key), Node(root.kind, bytearray(root.key)))
        pool = cls(media, block, entropy.token(KEY_BYTES), crown, clock=clock, entropy=entropy)
        with pool.change() as change:
            for key, value in records.items():
                change.put(key, value)
        pool._recommit()  # into the second copy
        return pool

    @classmethod
    def open(
        cls,
        media: Sequence[Medium],
        *,
        clock: Clock,
        entropy: Entropy,
        epoch_keys: EpochKeys,
        generation_at_least: int = 0,
    ) -> Pool:
        """Open the newest state of a pool, having read every node of its tree.

        When it returns, both superblock copies of every medium are durable under
        `pool.epoch`: the sink may drop every other one.

        Raises Denied where the sink does not open it, Invalid where there is no pool or a
        newer format, Corrupt where it is damaged or older than `generation_at_least`,
        Unavailable where a medium fails.
        """
        try:
            sync_all(media)  # what the system holds but the medium does not must not count
        except OSError as error:
            raise Unavailable(f"pool: sync failed on opening: {error.strerror}") from error
        copies = read_copies(media)
        block, secrets = choose(copies, epoch_keys)
        subject = f"pool {block.pool_id}"
        if block.generation < generation_at_least:
            message = f"{subject}: generation {block.generation}, expected {generation_at_least}"
            hint = "this is an older copy of the pool: bring back the newest one"
            raise Corrupt(f"{message} or later", hint=hint)
        if len(media) != len(block.media):
            raise Invalid(f"{subject}: {len(media)} media, expected {len(block.media)}")
        for medium, entry in zip(media, block.media, strict=True):
            if slots_in(medium.size_bytes) < entry.slots:
                message = f"{subject}: medium of {medium.size_bytes} bytes"
                raise Corrupt(f"{message}, expected room for {entry.slots} slots")
        epoch_key = bytearray(epoch_keys(block.epoch))
        crown = Crown(block.epoch, epoch_key, secrets.root_node)
        pool = cls(media, block, secrets.metadata_key, crown, clock=clock, entropy=entropy)
        if not pool._committer.is_whole(copies, block, crown):
            pool._recommit()
        return pool

    @staticmethod
    def survey(media: Sequence[Medium]) -> Superblock:
        """Return the newest superblock without opening it: what it says may be forged."""
        return survey(read_copies(media))

    # --- reading ----------------------------------------------------------------------

    @property
    def pool_id(self) -> UUID:
        """Which pool this is."""
        return self._block.pool_id

    @property
    def sink_id(self) -> UUID:
        """The sink that holds its epoch keys."""
        return self._block.sink_id

    @property
    def geometry(self) -> Geometry:
        """How it is cut."""
        return self._block.geometry

    @property
    def media(self) -> tuple[MediumEntry, ...]:
        """Its media, as every superblock lists them."""
        return self._block.media

    @property
    def generation(self) -> int:
        """The number of the last durable commit."""
        return self._block.generation

    @property
    def epoch(self) -> Epoch:
        """The epoch under which the last durable superblock is sealed."""
        return self._crown.epoch

    @property
    def root(self) -> Node:
        """A copy of the durable root of the key tree, for its user to overwrite."""
        with self._nodes.lock:
            return Node(self._crown.node.kind, bytearray(self._crown.node.key))

    def copies(self) -> list[Superblock]:
        """Read both superblocks of every medium anew; Corrupt or Invalid where one is none."""
        with self._writing:
            self._check()
            return [parse(raw, where) for where, raw in read_copies(self._media)]

    @property
    def counts(self) -> SlotCounts:
        """Slots by state, staged changes included."""
        return self._slots.counts

    @property
    def unowned(self) -> int:
        """How many slots anybody may lease, staged changes included."""
        return self._slots.unowned

    @property
    def pages(self) -> tuple[int, int]:
        """Metadata pages in use, and in all."""
        return self._reached_pages, self._capacity_pages

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None."""
        self._check()
        with self._nodes.lock:
            return self._nodes.get(self._durable, key)

    def keys(self, prefix: bytes) -> list[bytes]:
        """Return every key with a prefix, in order."""
        self._check()
        with self._nodes.lock:
            return [key for key, _ in self._nodes.items(self._durable, prefix, successor(prefix))]

    def scan(
        self, prefix: bytes, *, after: bytes = b"", limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """Return (key, value) for every key with a prefix, in order, of one moment.

        With `after` only the keys behind that one, with `limit` so many at most.
        """
        self._check()
        with self._nodes.lock:
            return self._read(prefix, after=after, limit=limit)

    def overdue(self) -> list[Waiting]:
        """Return the slots in which bytes of a former use lie, the oldest first."""
        with self._staging:
            self._check()
            return self._slots.overdue()

    def backlog(self) -> list[Backlog]:
        """Return the same, counted by date, the oldest first."""
        with self._staging:
            self._check()
            return self._slots.backlog()

    def claim(self, count: int, *, owned_before_s: int) -> list[Waiting]:
        """Take slots to scrub them (see `Slots.claim`); each is to be given back."""
        with self._staging:
            self._check()
            return self._slots.claim(count, owned_before_s=owned_before_s)

    def give_back(self, slots: Sequence[Slot]) -> None:
        """Have claimed slots leased again."""
        with self._staging:
            self._slots.give_back(slots)

    def verify(self) -> int:
        """Open every page of the durable tree anew; return how many. Commits wait for it."""
        with self._writing:
            self._check()
            return Nodes(self._nodes.pages).verify(self._durable)

    def close(self) -> None:
        """Let go of the keys and the media; what was committed is durable already.

        No claimed slot is overwritten after it.
        """
        self.fence.close()
        with self._writing, self._staging, self._nodes.lock:
            self._stopped = self._stopped or "closed"
            self._crown.wipe()
            for medium in self._media:
                medium.close()

    # --- changing ---------------------------------------------------------------------

    @contextmanager
    def change(self, *, frees: bool = False) -> Iterator[Change]:
        """Stage a change in the block; it is durable when the block has been left.

        Raises NoSpace when no metadata page is left for it, Unavailable when the pool has
        stopped or stops on the way: then nobody knows whether it was committed.
        """
        assert self._stager != get_ident(), "changes do not nest"
        with self._staging:
            self._stager = get_ident()
            try:
                self._check()
                batch = self._next
                now_s = max(1, self._clock.now_ns() // 1_000_000_000)
                change = Change(
                    self._nodes, self._edit.root, self._slots, self._staged_crown, now_s=now_s
                )
                try:
                    yield change
                    if not change.is_empty:
                        self._stage(change, frees=frees)
                except BaseException:
                    change.undo()
                    raise
                leads = not change.is_empty and not batch.changes
                if not change.is_empty:
                    batch.changes.append(change)
            finally:
                self._stager = 0
        if leads:
            self._settle(batch)
        else:
            self._follow(batch)

    def _stage(self, change: Change, *, frees: bool) -> None:
        """Put a change into the tree that is committed next; NoSpace when it does not fit."""
        mark, before = self._edit.mark(), self._pages_after()
        grown: list[Slot] = []
        try:
            while True:
                self._edit.apply(change.staged)
                missing = self._missing_pages(before, len(grown) * SLOT_PAGES, frees=frees)
                if missing <= 0:
                    break
                self._edit.rewind(mark)
                grown += self._slots.lease(METADATA, -(-missing // SLOT_PAGES), change)
            change.fit_step()
        except BaseException:
            self._edit.rewind(mark)
            raise
        self._capacity_pages += len(grown) * SLOT_PAGES
        for slot in grown:
            self._free.add(slot)
        self._staged_crown = change.crown

    def _pages_after(self) -> int:
        """How many pages the tree will reach once what is staged is committed."""
        return self._reached_pages + self._edit.dirty_pages - len(self._edit.freed)

    def _missing_pages(self, before: int, grown: int, *, frees: bool) -> int:
        """How many metadata pages are missing for what is staged.

        What the last sealed tree does not reach can be written. Changes that only replace
        may go on in a full pool; those that add leave the reserve alone.
        """
        after = self._pages_after()
        capacity = self._capacity_pages + grown
        to_write = self._edit.dirty_pages - (capacity - self._reached_pages)
        if frees:
            return to_write
        to_write += RESERVED_PAGES // 2
        to_keep = after - (capacity - RESERVED_PAGES) if after > before else 0
        return max(to_write, to_keep)

    # --- committing -------------------------------------------------------------------

    def _settle(self, batch: Batch) -> None:
        """Commit a batch for all who are in it, once the commit before it is through."""
        try:
            with self._writing:
                self._check()
                with self._staging:
                    self._next = Batch()
                    sealed = self._seal()
                block = replace(self._block, height=sealed.root.height, root=_pointer(sealed.root))
                block = self._committer.write(self._nodes.pages, sealed.pages, block, sealed.crown)
                with self._staging, self._nodes.lock:
                    self._publish(sealed, block)
                    for change in batch.changes:
                        change.crown.wipe(but=sealed.crown)
                        for step in change.durable_steps:
                            step()
                    batch.durable = True
        except BaseException as error:
            self._stop(error)
            if isinstance(error, OSError):
                self._check()
            raise
        finally:
            batch.settled.set()

    def _follow(self, batch: Batch) -> None:
        """Wait until all that a change may have seen is durable."""
        if batch.changes:
            batch.settled.wait()
            if batch.durable:
                return
        with self._writing:  # it only read, perhaps of a commit that is being written
            self._check()

    def _seal(self) -> Sealed:
        """Turn what is staged into pages, of which none is written yet."""
        sealer = Sealer(self._metadata_key, self._entropy.token(COMMIT_ID_BYTES))
        pages: dict[int, bytes] = {}

        def seal(text: bytes) -> Pointer:
            page = self._free.take()
            pointer, pages[page] = sealer.seal(page, text)
            return pointer

        self._reached_pages = self._pages_after()
        self._nodes.pages.in_flight = pages
        freed = self._edit.seal(seal)
        return Sealed(self._edit.root, self._staged_crown, pages, freed)

    def _publish(self, sealed: Sealed, block: Superblock) -> None:
        """Let readers see a commit that is durable, and later ones write where it is not."""
        self._crown.wipe(but=sealed.crown)
        self._block, self._durable, self._crown = block, sealed.root, sealed.crown
        self._nodes.pages.in_flight = {}
        self._free.give(sealed.freed)

    def _recommit(self) -> None:
        """Commit the same state once more, into the other copies; before anybody changes it."""
        try:
            pages = self._nodes.pages
            self._block = self._committer.write(pages, {}, self._block, self._crown)
        except OSError as error:
            self._stop(error)
            self._check()

    def _read(
        self, prefix: bytes, *, after: bytes = b"", limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        start = max(prefix, after + b"\0") if after else prefix
        items = islice(self._nodes.items(self._durable, start, successor(prefix)), limit)
        return [(key, self._nodes.value(entry)) for key, entry in items]

    def _stop(self, error: BaseException) -> None:
        self._stopped = self._stopped or f"a commit failed ({error})"

    def _check(self) -> None:
        """Raise Unavailable when the pool has stopped."""
        if self._stopped:
            message = f"pool {self.pool_id}: stopped, {self._stopped}"
            raise Unavailable(message, hint="open it anew, which reads what the media hold")


def _pointer(root: Root) -> Pointer:
    assert isinstance(root.child, bytes), "a sealed tree has a pointer for a root"
    return root.child


def _uuid(entropy: Entropy) -> UUID:
    return UUID(bytes=entropy.token(16), version=4)
