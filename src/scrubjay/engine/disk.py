"""One attached volume: what an exporter serves, and what the steward keeps in order.

Requests arrive in batches: take `lock`, call `write`, `read_into`, `drop` ... for each,
`commit`, give the lock back. What the batch wrote is one record, or a few. Nothing here
sleeps, syncs or talks to the daemon by itself but `attach`; who drives it does
(export/, and the tests in its place).

Invariants: I1 (reading.py, writing.py), I4 and I5 (checkpoint.py, recovery.py).
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

import msgspec

from scrubjay.base.errors import Invalid, NoSpace, Unavailable
from scrubjay.base.ids import Entry, SegmentId
from scrubjay.base.ports import Medium
from scrubjay.base.units import PAGE_BYTES, SEGMENT_BYTES
from scrubjay.engine.checkpoint import (
    ROOT_ADDRESS,
    Checkpointer,
    MapRoot,
    Prepared,
    Root,
    begun_root,
    distance_bytes,
    read_root,
)
from scrubjay.engine.cleaning import Cleaner
from scrubjay.engine.counters import Counters
from scrubjay.engine.lessor import Attachment, Checkpoint, Grant, Lessor
from scrubjay.engine.log import STAGE_BYTES, Appender, Spares, go_on_behind
from scrubjay.engine.paged import LEAF_BYTES_SHIFT, PagedMap
from scrubjay.engine.purging import Purger
from scrubjay.engine.ranges import Ranges
from scrubjay.engine.reading import Reader
from scrubjay.engine.record import Stream
from scrubjay.engine.recovery import mark_orphans, replay
from scrubjay.engine.scan import Scanner
from scrubjay.engine.stripes import KeyArena, Segments
from scrubjay.engine.syncing import Syncer
from scrubjay.engine.usage import MAIN, MOVED, Usage
from scrubjay.engine.writing import Writer

__all__ = ["Disk"]

LEASE_SEGMENTS = 32
"""Kept ahead at most, half a second of writing: the daemon syncs twice to commit a
checkpoint, and grants nothing meanwhile."""
MAP_LIMIT_PAGES = 16384
"""64 MiB of map: 32 GiB of volume before anything is evicted."""
SETTLE_ENTRIES, SETTLE_ENTRIES_MAX = 4096, 65536
"""Displaced entries that are worth accounting for, and how many of them at a time: one
trim of 4 GiB displaces a million, and clients wait for no more than some 10 ms."""
_NO_MAP = MapRoot(0, 0)


class Disk:
    """A volume of whole sectors over a medium."""

    def __init__(
        self, medium: Medium, lessor: Lessor, arena: KeyArena, attachment: Attachment
    ) -> None:
        self.lock = threading.Lock()
        self.attachment = attachment
        self.size_bytes = attachment.size_bytes
        self.map_limit_pages = MAP_LIMIT_PAGES
        self.full = False
        """The pool has no segment for us; the steward asks again now and then."""
        self.poisoned = 0
        """The errno with which every request is refused, after a sync failed; 0: none."""
        self.opened_segments = 0
        """Counts up when the log goes on in another segment: a moment to look at upkeep."""
        self.starving = False
        """A batch of writes waits for a segment."""
        self.batches = 0
        """How often clients came."""
        self._medium = medium
        self._lessor = lessor
        self._segments = Segments(lessor, arena)
        self._spares = Spares(self._segments)
        self._unknown = int(attachment.next_segment)
        self._held = 0
        self._resting = False
        """Not written since the last checkpoint that gave spare segments back."""
        self._checkpoints = 0
        self._checkpoint_at_bytes = 0
        self._prepared: Prepared | None = None
        self._preparing = False
        """Pages of a checkpoint are being written, and nothing is moved meanwhile."""
        self._build(None)

    # --- Attaching -------------------------------------------------------------------

    def attach(self) -> None:
        """Recover, checkpoint under the new epoch, and be ready to serve.

        Raises Corrupt when the log cannot be believed. Where the pool has no segment for
        the checkpoint, reads are served without it: nothing can be written, so that the
        next attachment replays the same.
        """
        checkpoint = self.attachment.checkpoint
        root = None
        if checkpoint.root:
            root = read_root(self._reader.page(ROOT_ADDRESS, checkpoint.root))
        now_s, begun_s = self._usage.now_s, root.begun_s if root else 0  # 1: nobody has said yet
        self._build(root)
        self._usage.now_s = now_s if now_s > 1 else max(begun_s, now_s)
        self._usage.now_s = began_s = self._usage.past(begun_s) or now_s
        self._checkpointer.root_entry = checkpoint.root
        self._cleaner.redo.update(root.evacuated if root else ())
        scanner = Scanner(self._medium, self._segments)
        done = replay(
            self.attachment,
            root,
            scanner,
            writer=self._writer,
            usage=self._usage,
            names=self._checkpointer.names,
        )
        self.tick(max(now_s, began_s))
        if root:
            mark_orphans(root, scanner, self._usage, since_s=began_s, now_s=self._usage.now_s)
        self._log.sequence, self._log.tag = done.sequence, done.tag
        self._held += done.leased_since
        if done.sequence == checkpoint.flushed and not done.unused:
            return
        self._medium.sync()
        try:
            grants = self._lessor.lease(self._writer.reserve + 2)
        except NoSpace:
            # What the log does not reach is of no use any more: take that instead.
            unused = [SegmentId(s) for s in done.unused]
            self._lessor.commit(checkpoint, freed=unused)
            self._held -= len(unused)
            for segment in unused:
                self._segments.drop(segment)
            done = replace(done, unused=())
            try:
                grants = self._lessor.lease(self._writer.reserve + 2)
            except NoSpace:  # a neighbour was quicker
                return
        self.add_grants(grants)
        for _ in self.checkpoint(release=done.unused):
            pass
        self._medium.sync()
        self.commit_checkpoint()

    def _build(self, root: Root | None) -> None:
        """Make the parts around the maps of a root."""

        def paged(kind: int, at: MapRoot) -> PagedMap:
            pages = PagedMap(kind, self._page, height=at.height, root=at.entry)
            pages.limit_pages = self.map_limit_pages
            return pages

        attachment = self.attachment
        stream = Stream(attachment.lineage, attachment.branch, attachment.volume, attachment.epoch)
        self._map = paged(0, root.sectors if root else _NO_MAP)
        usage_map = paged(1, root.usage if root else _NO_MAP)
        moves = paged(2, root.moves if root else _NO_MAP)
        usage = self._usage = Usage(usage_map, moves, live_sectors=root.live_sectors if root else 0)
        usage.earliest_s = max(1, attachment.created_s)
        self._held = root.segments if root else 0
        self._log = Appender(self._medium, self._segments, self._spares, stream)
        self._mover = Appender(self._medium, self._segments, self._spares, stream)
        self._syncer = Syncer(self._medium, (self._log, self._mover))
        self._log.on_open = lambda segment: self._opened(segment, MAIN)
        self._mover.on_open = lambda segment: self._opened(segment, MOVED)
        self._log.pin = self._mover.pin = usage.pin
        self._reader = Reader(self._medium, self._segments, self._map, moves, self._log)
        self._writer = Writer(self._log, self._map, usage, self._spares)
        self._writer.leaves = -(-self.size_bytes >> LEAF_BYTES_SHIFT)
        self._checkpointer = Checkpointer(
            self._log, usage, sectors=self._map, usage_map=usage_map, moves=moves
        )
        self._cleaner = Cleaner(
            self._medium,
            self._segments,
            mover=self._mover,
            usage=usage,
            moves=moves,
            checkpointer=self._checkpointer,
            is_open=self._is_open,
            unknown=lambda: self._unknown,
            reserve=self._writer.reserve_for_checkpoint,
        )
        self.purger = Purger(
            self._segments,
            usage,
            self._cleaner,
            close=lambda segment: go_on_behind(
                segment,
                self._log,
                self._mover,
                spare=len(self._spares) - self._writer.reserve_for_checkpoint(),
            ),
            within_s=attachment.purge_within_s,
            next_segment=int(attachment.next_segment),
            moved_bytes=root.purge_moved_bytes if root else 0,
            adopt=root is not None and not root.purge_adopted,
            told_since_s=attachment.waiting_since_s,
        )
        ranges = Ranges(self._medium, self._reader, self._writer, self._map)
        self.read_into = self._reader.read_into
        self.write = self._writer.write
        self.commit = self._writer.commit
        self.extents = self._reader.extents
        self.read_bytes = ranges.read_bytes
        self.write_bytes = ranges.write_bytes
        self.drop = ranges.drop
        self.allocation = ranges.allocation
        self.announce = ranges.announce

    # --- Requests, under the lock ----------------------------------------------------

    def begin(self, pending_bytes: int) -> None:
        """Say how many bytes of requests are at hand, which sizes the record's header."""
        self.batches += 1
        self._writer.batch_bytes = min(STAGE_BYTES, pending_bytes)

    @property
    def waits(self) -> int:
        """How many reads of the medium had to wait so far."""
        return self._medium.waits

    # --- Upkeep ----------------------------------------------------------------------

    def unasked_groups(self) -> list[int]:
        """Return the groups of segments that it pays to ask for ahead, the newest first."""
        with self.lock:
            return self._segments.unasked(below=self._unknown)

    def learn(self, group: int) -> None:
        """Ask where the segments of a group lie; without the lock, which a reader would hold.

        Only for the thread that commits checkpoints: an answer from before a commit would
        bring back what the commit has freed.
        """
        grants = self._lessor.group(group)
        with self.lock:
            self._segments.learn(group, grants)

    @property
    def starved(self) -> bool:
        """Whether a batch of writes may not find a segment; ask the steward for some first."""
        room = SEGMENT_BYTES - self._log.position if self._log.segment else 0
        return room < 2 * STAGE_BYTES and len(self._spares) <= self._writer.reserve + 1

    def wants_grants(self) -> int:
        """Return how many segments the steward should lease now; 0: none."""
        if not (self._log.segment or self._spares or self.starving or self.purger.short):
            return 0
        # A small volume keeps little ahead, so that many of them fit a small pool.
        ahead = 1 if self._resting else min(LEASE_SEGMENTS, 1 + self._held // 8)
        spare = len(self._spares) - self._writer.reserve
        return 0 if spare > ahead // 2 else ahead + 1 - spare

    def add_grants(self, grants: Sequence[Grant]) -> None:
        """Take leased segments in."""
        self._spares.add(list(grants))
        self._held += len(grants)
        self._unknown = max(self._unknown, *(int(grant.segment) + 1 for grant in grants))
        self.full = False

    def wants_checkpoint(self) -> bool:
        """Tell whether enough was written, or is dirty, for a checkpoint to pay."""
        appended = self._log.appended_bytes + self._mover.appended_bytes
        return (
            appended - self._checkpoint_at_bytes >= distance_bytes(self._usage.live_sectors)
            or self._checkpointer.dirty_pages > self.map_limit_pages // 2
            or (self.full and bool(self._cleaner.evacuated or self._usage.empty))
        )

    @property
    def needs_upkeep(self) -> bool:
        """Whether `maintain` has anything to do."""
        return self._cleaner.debt_bytes > 0 or len(self._usage.displaced) >= SETTLE_ENTRIES

    def maintain(self) -> None:
        """Do a little upkeep after a batch: settle, and clean to keep pace with writes."""
        if len(self._usage.displaced) >= SETTLE_ENTRIES:
            self._usage.settle(most=SETTLE_ENTRIES_MAX)
        if self._cleaner.debt_bytes > 0:
            self.clean()

    def clean(self) -> bool:
        """Do one slice of cleaning; False when there is nothing to do or no room for it.

        Nor while pages of a checkpoint are written: the moves that it names and the dead
        bits that follow from them have to be of one moment.
        """
        try:
            return not self._preparing and self._cleaner.step()
        except NoSpace:
            return False

    def tick(self, now_s: int) -> None:
        """Say what time it is, in seconds since 1970: what dies from now on is dated with it."""
        self.purger.tick(now_s, written_bytes=self._writer.written_bytes)

    def purge(self) -> bool:
        """Do one slice of purging; False when nothing is due, or there is no room for it."""
        try:
            return not self._preparing and self.purger.step()
        except NoSpace:
            return False

    @property
    def unpadded(self) -> bool:
        """Whether a checkpoint at rest would write zeros where bytes of a former use may be."""
        return self._log.unpadded or self._mover.unpadded

    def wants_cleaning(self) -> bool:
        """Tell whether more is held than the live sectors justify."""
        if self.full or self.starving:
            written = self._held - len(self._spares)
            return self._cleaner.wants_all(written_segments=written)
        return self._cleaner.wants(held_segments=self._held, busy=False)

    @property
    def clogged(self) -> bool:
        """Whether writers wait until a checkpoint has written pages of the map."""
        return self._map.clogged

    def checkpoint(
        self, *, release: Sequence[int] = (), keep_spares: int | None = None
    ) -> Generator[None, None, None]:
        """Write a checkpoint, slice by slice; hold the lock around each `next`.

        When it is through, sync the medium and call `commit_checkpoint`. `release` are
        segments without contents to be given back with it; so are those that were leased and
        never opened, but for `keep_spares`. Where any are kept, the volume rests until it is
        written again: it leases no more than a few.
        """
        if self._prepared is not None or self._preparing:
            raise Unavailable("checkpoint: one is under way, expected none")
        self._preparing = True
        try:
            yield from self._prepare({*release}, keep_spares)
        finally:
            self._preparing = False

    def _prepare(self, release: set[int], keep_spares: int | None) -> Iterator[None]:
        log, usage, resting = self._log, self._usage, keep_spares is not None
        while log.pad(resting=resting) or self._mover.pad(resting=resting):
            yield
        self.commit()
        usage.settle()
        yield from self.purger.seal(before=log.segment or min(self._spares, default=self._unknown))
        self.commit()
        usage.settle()
        held = self._held
        for segment in [s for s in usage.empty if self._segments.base(s) is None]:
            usage.left += usage.forget(segment)
        unopened = tuple(self._spares)
        segment = log.segment or min(unopened, default=self._unknown)
        begun = begun_root(
            log,
            self._mover,
            size_bytes=self.size_bytes,
            segment=segment,
            written=usage.written(segment) if log.segment else 0,
            unopened=unopened,
            unknown=self._unknown,
            begun_s=usage.now_s,
            purge_adopted=self.purger.adopted,
        )
        evacuated = frozenset(self._cleaner.evacuated)
        appended = log.appended_bytes + self._mover.appended_bytes
        filled = (*log.take_filled(), *self._mover.take_filled())
        yield
        yield from self._checkpointer.pages()
        usage.settle()
        freed = self._cleaner.freeable(evacuated, before=segment) | release
        if keep_spares is not None:
            log.make_room(2 * PAGE_BYTES)
            freed.update(self._spares.give_back(keep=keep_spares))
            self._resting = True
        evacuating = {*self._cleaner.evacuated, *self._cleaner.redo, self._cleaner.evacuating}
        root = msgspec.structs.replace(
            begun,
            segments=held - sum(s < begun.unknown for s in freed),
            unopened=tuple(s for s in unopened if s not in freed),
            evacuated=tuple(sorted(evacuating - freed - {0})),
            purge_moved_bytes=self.purger.moved_bytes,
        )
        entry = self._checkpointer.write_root(root)
        self._checkpoint_at_bytes = appended
        self._prepared = Prepared(
            Entry(entry),
            log.sequence,
            usage.live_sectors,
            tuple(SegmentId(s) for s in sorted(freed)),
            filled,
            self.purger.report(freed),
        )

    def commit_checkpoint(self, *, clean: bool = False) -> None:
        """Have the pool name the checkpoint that was written and synced; frees segments.

        Call it without the lock: it waits for the daemon.
        """
        with self.lock:  # nothing needs them any more, and soon they are another's
            prepared = self._prepared
            if prepared is None:  # a reset dropped it (ephemeral.py)
                return
            self._segments.withhold(prepared.freed, prepared.purged.stripes)
            for segment in prepared.freed:
                self._segments.drop(segment)
        for segment, stripes in prepared.purged.stripes:
            with self.lock:  # a tenth of a millisecond each
                self._segments.drop_stripes(segment, stripes)
        at = prepared.root, prepared.sequence, clean, prepared.live_sectors, prepared.filled
        checkpoint = Checkpoint(*at, prepared.purged)
        self._cleaner.free_percent = self._lessor.commit(checkpoint, freed=prepared.freed)
        with self.lock:
            self._segments.withhold((), ())
            if self._prepared is not prepared:
                return
            for segment in prepared.freed:
                if segment in self._usage.empty:
                    self._usage.left += self._usage.forget(segment)
            self._cleaner.evacuated.difference_update(prepared.freed)
            self.purger.committed(prepared.purged, prepared.freed)
            self._held -= len(prepared.freed)
            self._checkpoints += 1
            self._prepared = None

    def sync(self) -> None:
        """Make durable all that was appended; without the lock, and at one's own cost alone.

        Raises OSError: then the volume is to be poisoned, and every later call fails as
        well, since what the failed one took is in no state that a success could tell (I4).
        """
        self._syncer.sync()

    def detach(self) -> None:
        """Write and commit a last checkpoint; nothing may be written afterwards.

        The spare segments go back. A volume that was never written says nothing.
        """
        with self.lock:
            if not self.opened_segments and not self._spares:
                return
            self._mover.leave()  # nothing is copied behind what this checkpoint names
            for _ in self.checkpoint(keep_spares=0):
                pass
        self.sync()
        self.commit_checkpoint(clean=True)

    def resize(self, size_bytes: int) -> None:
        """Grow."""
        if size_bytes < self.size_bytes:
            name = self.attachment.name
            raise Invalid(f"volume {name}: {size_bytes} bytes, expected at least {self.size_bytes}")
        self.size_bytes = size_bytes
        self._writer.leaves = -(-size_bytes >> LEAF_BYTES_SHIFT)

    def forget_keys(self) -> None:
        """Drop every key (I3): from here on nothing can be read or written."""
        with self.lock:
            self._segments.drop_all()
            self._spares.give_back(keep=0)
            self._log.close()
            self._mover.close()

    @property
    def counters(self) -> Counters:
        """What this attachment did so far."""
        return Counters(
            written_bytes=self._writer.written_bytes,
            appended_bytes=self._log.appended_bytes + self._mover.appended_bytes,
            moved_bytes=self._cleaner.moved_bytes,
            live_sectors=self._usage.live_sectors,
            held_segments=self._held,
            spare_segments=len(self._spares),
            checkpoints=self._checkpoints,
            map_pages=len(self._map.leaves),
            purge_moved_bytes=self.purger.moved_bytes,
        )

    # --- Leaves ----------------------------------------------------------------------

    def _opened(self, segment: int, state: int) -> None:
        self.opened_segments += 1
        self._resting = False
        self._usage.opened(segment, state)
        if state == MAIN and self._cleaner.wants(held_segments=self._held, busy=True):
            self._cleaner.debt_bytes += 3 * SEGMENT_BYTES

    def _is_open(self, segment: int) -> bool:
        return segment in (self._log.segment, self._mover.segment, self._cleaner.victim)

    def _page(self, address: int, entry: int) -> bytes:
        return self._reader.page(address, entry)
