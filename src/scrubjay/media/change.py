"""One change of a pool, while it is being staged (`Pool.change`).

It sees its own puts and deletes, and those of every change staged before it. Nothing of
it is kept when its block raises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from scrubjay.base.errors import Invalid
from scrubjay.base.ids import Epoch, LineageNo, Slot
from scrubjay.base.ports import Buffer
from scrubjay.keys.table import Node
from scrubjay.media.commit import Crown
from scrubjay.media.slots import Slots
from scrubjay.media.tree import Nodes, Root, successor

__all__ = ["Change"]


class Change:
    """What a block of `with pool.change()` works with; of no use after it."""

    def __init__(self, nodes: Nodes, root: Root, slots: Slots, crown: Crown, *, now_s: int) -> None:
        self.staged: dict[bytes, bytes | None] = {}
        """Values to set, None to delete."""
        self.now_s = now_s
        """The second in which it was begun, since 1970."""
        self.crown = crown
        self._first_crown = crown
        self._nodes = nodes
        self._root = root
        self._slots = slots
        self._undo: list[Callable[[], None]] = []
        self.durable_steps: list[Callable[[], None]] = []
        """What follows under the pool's lock once the commit is durable."""
        self.fit_step: Callable[[], None] = lambda: None
        """What follows once it is known to fit; what that raises undoes all of it."""

    # --- the tree -------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None."""
        if key in self.staged:
            return self.staged[key]
        return self._nodes.get(self._root, key)

    def keys(self, prefix: bytes) -> list[bytes]:
        """Return every key with a prefix, in order."""
        stored = self._nodes.items(self._root, prefix, successor(prefix))
        keys = [key for key, _ in stored if key not in self.staged]
        keys += (
            key
            for key, value in self.staged.items()
            if value is not None and key.startswith(prefix)
        )
        return sorted(keys)

    def scan(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """Return (key, value) for every key with a prefix, in order."""
        pairs = ((key, self.get(key)) for key in self.keys(prefix))
        return [(key, value) for key, value in pairs if value is not None]

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key of 1 to 255 bytes to a value of at most 64 KiB."""
        self.staged[key] = value

    def delete(self, key: bytes) -> None:
        """Delete a key; fine if it is not there."""
        self.staged[key] = None

    # --- slots ----------------------------------------------------------------------

    def lease_slots(self, lineage: LineageNo, count: int) -> list[Slot]:
        """Lease up to `count` slots to a lineage, at least one; NoSpace when there is none."""
        return self._slots.lease(lineage, count, self)

    def is_clean(self, slot: Slot) -> bool:
        """Tell whether a leased slot holds no bytes of a former use."""
        return self._slots.is_clean(slot)

    def release_slots(
        self, lineage: LineageNo, slots: Sequence[Slot], *, since_s: int = 0
    ) -> frozenset[int]:
        """Free slots of a lineage; Conflict when one of them is not leased by it.

        They wait to be scrubbed since `since_s` (since 1970), since now, or since an earlier
        second that is on record of one; return since when they do.
        """
        return self._slots.release(lineage, slots, self, since_s=since_s)

    def filled_slots(self, lineage: LineageNo, slots: Sequence[Slot]) -> None:
        """Note that a lineage wrote slots to the end; Conflict when one is not leased by it."""
        self._slots.filled(lineage, slots, self)

    def scrubbed_slots(self, slots: Sequence[Slot]) -> None:
        """Note that slots were scrubbed; Conflict when one was not claimed for that."""
        self._slots.scrubbed(slots, self)

    # --- the key tree's root ----------------------------------------------------------

    @property
    def epoch(self) -> Epoch:
        """The epoch under which the superblock is sealed."""
        return self.crown.epoch

    @property
    def root(self) -> Node:
        """A copy of the root of the key tree, for its user to overwrite."""
        return _copy(self.crown.node)

    def set_root(self, node: Node) -> None:
        """Have the superblock hold another root of the key tree; the pool keeps a copy."""
        self.crown = replace(self.crown, node=_copy(node))

    def rotate(self, epoch: Epoch, *, epoch_key: Buffer, root: Node) -> None:
        """Seal the superblock under a later epoch, with a new root of the key tree.

        When the change is committed, both copies on every medium name the new epoch,
        are durable, and were read back: the sink may drop the old one.
        """
        if epoch <= self.crown.epoch:
            raise Invalid(f"epoch {epoch}: not later than {self.crown.epoch}, expected a new one")
        self.crown = Crown(epoch, bytearray(epoch_key), _copy(root))

    def on_fit(self, step: Callable[[], None]) -> None:
        """Note what follows once it is known to fit; what that raises undoes all of it."""
        self.fit_step = step

    # --- for the pool -----------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not self.staged and self.crown is self._first_crown

    def on_undo(self, step: Callable[[], None]) -> None:
        """Note what takes a step back, if the change is dropped."""
        self._undo.append(step)

    def on_durable(self, step: Callable[[], None]) -> None:
        """Note what follows under the pool's lock once the commit is durable."""
        self.durable_steps.append(step)

    def undo(self) -> None:
        """Take every step back, the last one first, and let go of the keys it brought."""
        self.crown.wipe(but=self._first_crown)
        while self._undo:
            self._undo.pop()()


def _copy(node: Node) -> Node:
    return Node(node.kind, bytearray(node.key))
