"""A pool from one medium to another (docs/format/pool.md, "Retiring a medium").

    copy_slots(old, new, slots, step)       every slot that holds something, read back
    ...the sink holds the next epoch beside the old one...
    write_superblocks(old, new, epoch=, ...)  the new medium is this pool, under the next epoch
    ...the home says which of the two it is, and the sink drops the epoch of the other...

Two superblocks of one pool then lie about, under two epochs. Whichever the home names, the
first opening drops the other's epoch: so never more than one of them can be opened twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from uuid import UUID

from scrubjay.base.errors import Corrupt, Invalid
from scrubjay.base.ids import Epoch, Slot
from scrubjay.base.ports import Clock, Entropy, Medium
from scrubjay.base.units import MIB, SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.keys.table import wipe
from scrubjay.media.commit import Committer, Crown
from scrubjay.media.geometry import Geometry, slots_in
from scrubjay.media.pages import Pages, write_whole
from scrubjay.media.superblock import (
    EpochKeys,
    MediumEntry,
    Superblock,
    choose,
    read_copies,
)

__all__ = ["Moved", "copy_slots", "expect_room", "write_superblocks"]

_PIECE_BYTES = MIB
Step = Callable[[int], None]
"""Told how many bytes were copied, or read back, since it was told last."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The superblock before and the one on the new medium."""

    before: Superblock
    after: Superblock


def expect_room(geometry: Geometry, size_bytes: int) -> None:
    """Raise Invalid where a medium of this size cannot take the place of the pool's only one."""
    if len(geometry.first_slots) != 1:
        raise Invalid(f"pool of {len(geometry.first_slots)} media: expected one to be retired")
    if slots_in(size_bytes) < geometry.slots:
        needed = SLOTS_OFFSET_BYTES + geometry.slots * SEGMENT_BYTES
        raise Invalid(
            f"medium of {size_bytes} bytes: room for {slots_in(size_bytes)} slots, "
            f"expected {geometry.slots}",
            hint=f"take one of {needed} bytes or more",
        )


def copy_slots(old: Medium, new: Medium, slots: Iterable[Slot], step: Step) -> None:
    """Copy slots to the same numbers on the new medium, sync, and compare what is read back.

    Give media that read past the page cache, or the comparison says little. Raises OSError
    where one of them fails, Corrupt where something else comes back.
    """
    digests: list[tuple[int, bytes]] = []
    buffer = memoryview(bytearray(_PIECE_BYTES))
    for slot in slots:
        start = SLOTS_OFFSET_BYTES + slot * SEGMENT_BYTES
        for at in range(start, start + SEGMENT_BYTES, _PIECE_BYTES):
            _fill(old, at, buffer)
            write_whole(new, at, bytes(buffer))
            digests.append((at, hashlib.sha256(buffer).digest()))
            step(len(buffer))
    new.sync()
    for at, digest in digests:
        _fill(new, at, buffer)
        if hashlib.sha256(buffer).digest() != digest:
            raise Corrupt(f"new medium at byte {at}: not what was copied there, expected the same")
        step(len(buffer))


def write_superblocks(
    old: Medium,
    new: Medium,
    *,
    epoch_keys: EpochKeys,
    epoch: Epoch,
    clock: Clock,
    entropy: Entropy,
) -> Moved:
    """Make the new medium this pool under a new epoch, both copies, read back.

    The old medium is only read. Raises OSError where a write fails, Corrupt where something
    else is read back.
    """
    block, secrets = choose(read_copies([old]), epoch_keys)
    crown = Crown(epoch, bytearray(epoch_keys(epoch)), secrets.root_node)
    try:
        entry = MediumEntry(UUID(bytes=entropy.token(16), version=4), 0, block.geometry.slots)
        named = replace(block, medium_id=entry.medium_id, media=(entry,))
        pages = Pages([new], block.geometry, secrets.metadata_key)
        committer = Committer([new], secrets.metadata_key, clock=clock, entropy=entropy)
        return Moved(block, committer.write(pages, {}, named, crown))
    finally:
        wipe(crown.epoch_key)
        if isinstance(secrets.root_node.key, bytearray):
            wipe(secrets.root_node.key)


def _fill(medium: Medium, offset_bytes: int, out: memoryview) -> None:
    done = 0
    while done < len(out):
        count = medium.read_into(offset_bytes + done, out[done:])
        if count <= 0:
            raise Corrupt(f"medium at byte {offset_bytes + done}: ends, expected more")
        done += count
