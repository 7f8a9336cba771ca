"""Writing a commit, and the superblocks that make it one (docs/format/pool.md, "Commit")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from scrubjay.base.errors import Corrupt, ScrubjayError
from scrubjay.base.ids import Epoch
from scrubjay.base.ports import Clock, Entropy, Medium
from scrubjay.keys.table import Node, wipe
from scrubjay.media.pages import Pages, write_whole
from scrubjay.media.superblock import (
    COPY_OFFSETS_BYTES,
    SUPERBLOCK_BYTES,
    Secrets,
    Superblock,
    copy_offset_bytes,
    pack,
    parse,
    read_copies,
    unseal,
)

__all__ = ["Committer", "Crown", "sync_all"]


@dataclass(frozen=True, slots=True)
class Crown:
    """What stands above the tree: the epoch and its key, and the root of the key tree."""

    epoch: Epoch
    epoch_key: bytearray = field(repr=False)
    node: Node

    def wipe(self, *, but: Crown | None = None) -> None:
        """Overwrite the keys that `but` does not hold as well."""
        if but is None or but.epoch_key is not self.epoch_key:
            wipe(self.epoch_key)
        key = self.node.key
        if isinstance(key, bytearray) and (but is None or but.node.key is not key):
            wipe(key)


class Committer:
    """Writes commits to all media, in the order that lets any crash pass."""

    def __init__(
        self, media: Sequence[Medium], metadata_key: bytes, *, clock: Clock, entropy: Entropy
    ) -> None:
        self._media = media
        self._metadata_key = metadata_key
        self._clock = clock
        self._entropy = entropy

    def write(
        self, pages: Pages, sealed: Mapping[int, bytes], block: Superblock, crown: Crown
    ) -> Superblock:
        """Commit sealed pages with the tree that `block` names; return it as written.

        Under another epoch than before both copies are written, and read back. Raises
        OSError when anything fails on the way: then the outcome is unknown.
        """
        if sealed:
            for number, extents in pages.write(sealed).items():
                self._media[number].sync(extents)
        rotates = crown.epoch != block.epoch
        for _ in COPY_OFFSETS_BYTES if rotates else COPY_OFFSETS_BYTES[:1]:
            block = replace(
                block,
                generation=block.generation + 1,
                epoch=crown.epoch,
                committed_ns=self._clock.now_ns(),
            )
            self._write_superblocks(block, crown)
            for medium in self._media:
                medium.sync([(copy_offset_bytes(block.generation), SUPERBLOCK_BYTES)])
        if rotates and not self.is_whole(read_copies(self._media), block, crown):
            raise Corrupt(f"pool {block.pool_id}: superblocks read back are not those written")
        return block

    def is_whole(
        self, copies: Iterable[tuple[str, bytes]], block: Superblock, crown: Crown
    ) -> bool:
        """Return whether every copy opens under this epoch and belongs to this pool."""
        try:
            for where, raw in copies:
                found = parse(raw, where)
                unseal(raw, crown.epoch_key, where)
                if (found.pool_id, found.epoch) != (block.pool_id, crown.epoch):
                    return False
        except ScrubjayError:
            return False
        return True

    def _write_superblocks(self, block: Superblock, crown: Crown) -> None:
        secrets = Secrets(self._metadata_key, crown.node)
        for medium, entry in zip(self._media, block.media, strict=True):
            own = replace(block, medium_id=entry.medium_id)
            raw = pack(own, secrets, epoch_key=crown.epoch_key, entropy=self._entropy)
            write_whole(medium, copy_offset_bytes(block.generation), raw)


def sync_all(media: Iterable[Medium]) -> None:
    """Sync every medium; OSError when one fails."""
    for medium in media:
        medium.sync()
