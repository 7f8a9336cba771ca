"""Appending: units are sealed into a staging buffer, one record goes out in one write.

A stream owns one open segment at a time and writes it from the front. No offset is ever
sealed twice: after a failed or short append the segment is closed and never written
again (docs/format/log.md, "Writing"; I5). The main stream chains its records; the
stream of cleaning does not.

Hot path: `Disk.write` seals through the attributes of this class itself (see there).
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from scrubjay.base.errors import NoSpace
from scrubjay.base.ids import SegmentId
from scrubjay.base.units import (
    KIB,
    MIB,
    SECTOR_BYTES,
    SEGMENT_BYTES,
    STRIPE_BYTES,
    TAG_BYTES,
)
from scrubjay.engine.entry import SEGMENT_SHIFT, STRIPE_SHIFT
from scrubjay.engine.record import (
    ALIGN_BYTES,
    HEADER_FIXED_BYTES,
    HEADER_NONCE,
    PREFIX_BYTES,
    Prefix,
    Stream,
    pack_header,
    write_prefix,
)

if TYPE_CHECKING:
    from scrubjay.base.ports import Medium
    from scrubjay.engine.lessor import Grant
    from scrubjay.engine.stripes import Encrypt, Segments

__all__ = [
    "RESERVE_FOR_DROPS",
    "RESERVE_SEGMENTS",
    "STAGE_BYTES",
    "Appender",
    "Spares",
    "go_on_behind",
]

STAGE_BYTES = MIB + 64 * KIB
"""The longest record: one receive of the export loop, with its tags and its header."""
RESERVE_SEGMENTS = 3
"""Spare segments that writes may not take: a full pool is left by a checkpoint and a
cleaning, and both append."""
RESERVE_FOR_DROPS = 2
"""Nor may trims take these: each is small, but they come by the thousand."""
_ROOM_MIN = 64 * KIB
"""A segment with less room than this (and than what is asked) is closed."""
_ONE = SECTOR_BYTES + TAG_BYTES
_ZEROS = memoryview(bytes(STAGE_BYTES))


class Spares:
    """Segments leased and not yet opened, in order of ids."""

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._waiting: deque[int] = deque()
        self._clean: set[int] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[int]:
        return iter(self._waiting)

    def add(self, grants: list[Grant]) -> None:
        """Take leased segments in."""
        self._segments.add(grants)
        self._waiting.extend(grant.segment for grant in grants)
        self._clean.update(grant.segment for grant in grants if grant.clean)

    def give_back(self, *, keep: int) -> list[int]:
        """Return all that wait but the first `keep`; they are not ours any more."""
        back = [self._waiting.pop() for _ in range(len(self._waiting) - keep)]
        back.reverse()
        return back

    def take(self, *, keep: int) -> int:
        """Return the next segment; NoSpace where no more than `keep` are left."""
        if len(self._waiting) <= keep:
            msg = f"spare segments: {len(self._waiting)}, expected more"
            raise NoSpace(msg, hint="free space in the pool: destroy or trim something")
        return self._waiting.popleft()

    def opened(self, segment: int) -> bool:
        """Note that a segment that was taken is written now; tell whether its slot was clean."""
        clean = segment in self._clean
        self._clean.discard(segment)
        return clean

    def put_back(self, segment: int) -> None:
        """Have a segment again that was taken and not written."""
        self._waiting.appendleft(segment)


class Appender:
    """One stream of records. Not thread-safe: the disk's lock is around it."""

    def __init__(self, medium: Medium, segments: Segments, spares: Spares, stream: Stream) -> None:
        self._medium = medium
        self._segments = segments
        self._spares = spares
        self._stream = stream
        self.on_open: Callable[[int], None] = lambda _segment: None
        """Called with the id of each segment that is opened."""
        self.pin: Callable[[int], None] = lambda _segment: None
        """Called with the open segment before a record is begun, which fails if it does."""
        self.stage = memoryview(bytearray(STAGE_BYTES))
        self.segment = 0
        """The open segment; 0: none."""
        self.entry_base = 0
        self.position = 0
        """Where in the segment the next record starts."""
        self.staged = 0
        """Bytes of the record being staged, its header's room included; 0: none."""
        self.limit = 0
        """`staged` may not grow past this."""
        self.units_at = 0
        self.runs: list[int] = []
        self.runs_max = 0
        self.origins: list[int] = []
        self.stripe_end = 0
        self.encrypt: Encrypt = _no_cipher
        self._encrypt_header: Encrypt = _no_cipher
        self.base = 0
        self.sequence = 0
        """Of the last record that was appended."""
        self.tag = bytes(TAG_BYTES)
        """Of the last header that was appended."""
        self.appended_bytes = 0
        self._padded = 0
        """How far zeros were written into the open segment, or need not be."""
        self._ends: deque[tuple[int, int, int]] = deque()
        """(segment, its base, how far it was written): not written any more, and not padded yet."""
        self._filled: list[int] = []
        self.unsynced: deque[int] = deque()
        """Where the segments begin that were appended to since the last sync drained it."""

    def begin(
        self, *, payload_bytes: int, runs: int, keep: int, origins: int = 0, whole: bool = False
    ) -> None:
        """Start a record with room for one unit at least, and where `whole` for all of them.

        `keep` is how many spare segments the caller leaves to those who need them more.
        """
        assert not self.staged, "what is staged is appended first"
        units_at = HEADER_FIXED_BYTES + 8 * (runs + origins) + TAG_BYTES - 1 & -TAG_BYTES
        wanted = min(units_at + payload_bytes // SECTOR_BYTES * _ONE, STAGE_BYTES)
        room = SEGMENT_BYTES - self.position
        least = wanted if whole else min(wanted, max(_ROOM_MIN, units_at + 4 * _ONE))
        if not self.segment or room < least:
            self._open(keep=keep)
            room = SEGMENT_BYTES
        self.pin(self.segment)
        self.limit = min(STAGE_BYTES, room)
        self.units_at = self.staged = units_at
        self.runs_max = runs
        self.runs = []
        self.origins = []
        at = self.position + units_at
        if not self.stripe_end - STRIPE_BYTES <= at < self.stripe_end:
            self.stripe(at)

    def make_room(self, record_bytes: int) -> None:
        """See to it that the next record of this length opens no segment."""
        if not self.segment or SEGMENT_BYTES - self.position < record_bytes:
            self._open(keep=0)

    def stripe(self, at_bytes: int) -> None:
        """Take the key of the stripe that `at_bytes` of the segment lies in."""
        number = at_bytes // STRIPE_BYTES
        place = self._segments.place(self.segment << SEGMENT_SHIFT | number << STRIPE_SHIFT)
        assert place is not None, "an open segment has a slot"
        self.encrypt = place[2]
        self.stripe_end = (number + 1) * STRIPE_BYTES

    def seal(self, lba: int, data: memoryview) -> int:
        """Seal one unit (1 to 4 sectors) behind the others; return its first sector's entry."""
        at = self.position + self.staged
        if at >= self.stripe_end:
            self.stripe(at)
        end = self.staged + len(data) + TAG_BYTES
        self.encrypt(
            (at << 48 | lba).to_bytes(12, "little"), data, None, self.stage[self.staged : end]
        )
        self.staged = end
        return self.entry_base + (at << 4) + ((len(data) >> 12) - 1 << 4)

    def append(self, kind: int, *, chained: bool = True) -> None:
        """Write the staged record. On an error the segment is closed and nothing was said."""
        header = pack_header(
            self._stream,
            sequence=self.sequence + 1 if chained else 0,
            previous_tag=self.tag if chained else bytes(TAG_BYTES),
            kind=kind,
            runs=self.runs,
            origins=self.origins,
        )
        sealed_bytes = len(header) + TAG_BYTES
        record_bytes = self.staged + ALIGN_BYTES - 1 & -ALIGN_BYTES
        stage, at = self.stage, self.position
        assert at + record_bytes <= SEGMENT_BYTES, "a record stays in its segment"
        write_prefix(stage, Prefix(sealed_bytes, record_bytes, self.units_at))
        end = PREFIX_BYTES + sealed_bytes
        nonce = (at << 48 | HEADER_NONCE).to_bytes(12, "little")
        self._encrypt_header(
            nonce, memoryview(header), bytes(stage[:PREFIX_BYTES]), stage[PREFIX_BYTES:end]
        )
        self.staged = 0
        try:
            done = self._medium.write(self.base + at, stage[:record_bytes])
        except OSError:
            self.close()
            raise
        if done != record_bytes:
            self.close()
            raise OSError(
                errno.EIO,
                f"segment {self.segment}: {done} bytes of a record, expected {record_bytes}",
            )
        self.position = at + record_bytes
        self.unsynced.append(self.base)
        self.appended_bytes += record_bytes
        if chained:
            self.sequence += 1
            self.tag = bytes(stage[end - TAG_BYTES : end])

    def close(self) -> None:
        """Never write the open segment again."""
        self.segment = 0
        self.staged = 0
        self.position = SEGMENT_BYTES
        self.stripe_end = 0
        self.encrypt = self._encrypt_header = _no_cipher

    def leave(self) -> None:
        """Go on in another segment, in order: what is left of this one is for `pad`."""
        if self.segment and self._padded < SEGMENT_BYTES:
            self._ends.append((self.segment, self.base, max(self.position, self._padded)))
        self.close()

    @property
    def unpadded(self) -> bool:
        """Whether `pad` has anything to do at rest."""
        at = max(self.position, self._padded)
        return bool(self._ends) or bool(self.segment and at < SEGMENT_BYTES)

    def pad(self, *, resting: bool) -> bool:
        """Write some zeros where a slot may hold bytes of a former use; False: nowhere.

        That is behind the ends of segments that were left, and where the volume is `resting`
        behind that of the open one, which goes on over them: no zero was sealed. At most 1 MiB.
        """
        if self._ends:
            segment, base, at = self._ends.popleft()
            if self._segments.holds(segment):  # a slot that was freed is another's
                at = self._zero(base, at)
                if at < SEGMENT_BYTES:
                    self._ends.appendleft((segment, base, at))
                elif at == SEGMENT_BYTES:
                    self._filled.append(segment)
            return True
        if not resting or not self.unpadded:
            return False
        self._padded = self._zero(self.base, max(self.position, self._padded))
        if self._padded == SEGMENT_BYTES:
            self._filled.append(self.segment)
        return True

    def _zero(self, base: int, at: int) -> int:
        """Write zeros from `at` on; return where they end, past all ends if that failed."""
        size_bytes = min(MIB, SEGMENT_BYTES - at)
        with suppress(OSError):  # then it does not count as written to the end
            if not size_bytes or self._medium.write(base + at, _ZEROS[:size_bytes]) == size_bytes:
                self.unsynced.append(base)
                return at + size_bytes
        return SEGMENT_BYTES + 1

    def take_filled(self) -> list[SegmentId]:
        """Return the segments that were written to the end since this was last called."""
        filled, self._filled = self._filled, []
        return [SegmentId(segment) for segment in filled]

    def _open(self, *, keep: int) -> None:
        segment = self._spares.take(keep=keep)
        try:
            self.on_open(segment)
        except BaseException:
            self._spares.put_back(segment)
            raise
        base = self._segments.base(segment)
        assert base is not None, "a spare segment has a slot"
        self.leave()
        self.segment, self.base, self.position = segment, base, 0
        self._padded = SEGMENT_BYTES if self._spares.opened(segment) else 0
        self.entry_base = segment << SEGMENT_SHIFT
        self.stripe_end = 0
        self._segments.prepare(segment)
        self._encrypt_header = self._segments.cipher(segment).encrypt_into


def go_on_behind(segment: int, log: Appender, mover: Appender, *, spare: int) -> bool:
    """Have nothing be appended to a segment any more, nor replayed from it later.

    Returns False, and changes nothing, where no `spare` segment is there to go on in.
    """
    if spare <= 0:
        return segment not in (log.segment, mover.segment) and segment < log.segment
    if log.segment and log.segment <= segment:
        log.leave()
    if mover.segment == segment:
        mover.leave()
    return True


def _no_cipher(*_: object) -> int:
    raise AssertionError("a record is begun before a unit is sealed")
