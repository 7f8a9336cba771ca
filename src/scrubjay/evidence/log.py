"""The append-only log, published: tiles of the pool's entries, then a signed checkpoint.

The pool's tree is the truth. It hands in entries and frontier; what a crash left half
published is finished by handing them in again. One key never signs two histories: before a
checkpoint is signed, the tiles have to lead to the pool's root, and to the last one signed.
"""

from __future__ import annotations

from collections.abc import Sequence

from scrubjay.base.errors import Conflict, Corrupt, Invalid
from scrubjay.evidence.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from scrubjay.evidence.merkle import (
    Frontier,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    is_included,
    leaf_hash,
    tree_hash,
)
from scrubjay.evidence.note import Note, Signature, Signer, VerifierKey, parse_note, signed_by
from scrubjay.evidence.partials import delete_partials
from scrubjay.evidence.tiles import Files, TileReader, write_entries

__all__ = ["CHECKPOINT", "Log"]

CHECKPOINT = "checkpoint"
"""The path of the newest checkpoint."""


class Log:
    """A published log, and the key that signs for it."""

    def __init__(self, files: Files, signer: Signer) -> None:
        self._files = files
        self._signer = signer
        self._tidied = False
        """Whether no partial tile is left that the checkpoints before the newest needed."""

    @property
    def key(self) -> VerifierKey:
        """The key by which others verify; its text is what the operator publishes."""
        return self._signer.key

    def checkpoint(self) -> tuple[Checkpoint, Note] | None:
        """Return the newest checkpoint and its note; None before the first.

        Corrupt where the file is not one that this key signed.
        """
        data = self._files.read(CHECKPOINT)
        if data is None:
            return None
        try:
            return open_checkpoint(data, self.key)
        except Invalid as error:
            raise Corrupt(
                f"log file {CHECKPOINT}: {error.message}",
                hint="see that the folder is the log of this pool, and the key is its key",
            ) from error

    def size(self) -> int:
        """Return how many entries are published: where to go on from."""
        known = self.checkpoint()
        return 0 if known is None else known[0].size

    def publish(self, first: int, entries: Sequence[bytes], frontier: Frontier) -> Checkpoint:
        """Publish the pool's entries from index `first` to its frontier; sign the new state.

        What is published already has to be the same, and is not written again. Conflict
        where entries before `first` are missing, Corrupt where another one stands in the
        place of one of these, or the tiles do not lead to the frontier.
        """
        if first + len(entries) != frontier.size:
            raise Invalid(
                f"log: entries {first} to {first + len(entries)}, "
                f"expected them to end at the frontier's {frontier.size}"
            )
        known = self.checkpoint()
        published = 0 if known is None else known[0].size
        if first > published or frontier.size < published:
            raise Conflict(
                f"log: {published} entries published, expected {first} to {frontier.size}",
                hint="publish from there; a pool with fewer was put back from a copy",
            )
        tidied, self._tidied = self._tidied, False  # until this one has ended in order
        write_entries(self._files, first, entries, published=published)
        tiles = TileReader(self._files, frontier.size)
        self._check_root(tiles, frontier.size, frontier.root(), "the pool")
        if known is not None:
            self._check_root(tiles, published, known[0].root, "the last checkpoint")
        if known is not None and published == frontier.size:
            checkpoint = known[0]
        else:
            checkpoint = self._sign(frontier)
        self._tidy(published, frontier.size, everywhere=not tidied)
        return checkpoint

    def rewrite(self, first: int, entries: Sequence[bytes]) -> None:
        """Write the tiles of these entries again, wherever a file of theirs is missing.

        What is there has to be the same: Corrupt, naming the entry, where it is another.
        """
        write_entries(self._files, first, entries, published=self.size())

    def cosign(self, signatures: Sequence[Signature], witnesses: Sequence[VerifierKey]) -> Note:
        """Add signatures of these witnesses to the newest checkpoint, and return its note.

        Invalid where one does not verify or none is theirs, Conflict before there is a
        checkpoint.
        """
        known = self.checkpoint()
        if known is None:
            raise Conflict("log: no checkpoint yet, expected one to cosign")
        signed_by(Note(known[1].text, tuple(signatures)), witnesses)
        theirs = {(each.name, each.key_id) for each in witnesses}
        note = known[1].with_signatures(
            [each for each in signatures if (each.name, each.key_id) in theirs]
        )
        data = str(note).encode()
        parse_note(data)  # raises where there would be too many
        self._files.write(CHECKPOINT, data)
        return note

    def entry(self, index: int, size: int) -> bytes:
        """Return an entry of the log of this size."""
        return TileReader(self._files, size).entries(index, index + 1)[0]

    def prove_inclusion(self, index: int, checkpoint: Checkpoint) -> list[bytes]:
        """Return the proof that an entry stands in the log; Corrupt where it would not verify."""
        tiles = TileReader(self._files, checkpoint.size)
        proof = inclusion_proof(index, checkpoint.size, tiles.node)
        entry = tiles.entries(index, index + 1)[0]
        if not is_included(
            leaf_hash(entry),
            index=index,
            size=checkpoint.size,
            proof=proof,
            root=checkpoint.root,
        ):
            raise Corrupt(f"entry {index} of the log: its tiles do not lead to the checkpoint")
        return proof

    def prove_consistency(self, old: Checkpoint, new: Checkpoint) -> list[bytes]:
        """Return the proof that one log continues another; Corrupt where it would not verify."""
        proof = consistency_proof(old.size, new.size, TileReader(self._files, new.size).node)
        if not is_consistent(
            old=old.size, old_root=old.root, new=new.size, new_root=new.root, proof=proof
        ):
            raise Corrupt(f"log of {new.size} entries: does not continue the one of {old.size}")
        return proof

    def _sign(self, frontier: Frontier) -> Checkpoint:
        note = sign_checkpoint(frontier, self._signer)
        self._files.write(CHECKPOINT, str(note).encode())
        return open_checkpoint(str(note).encode(), self.key)[0]

    def _tidy(self, before: int, size: int, *, everywhere: bool) -> None:
        """Delete what the checkpoint that is signed by now made needless."""
        if everywhere or before != size:
            delete_partials(self._files, before=before, size=size, everywhere=everywhere)
        self._tidied = True

    def _check_root(self, tiles: TileReader, size: int, root: bytes, whose: str) -> None:
        if tree_hash(0, size, tiles.node) != root:
            raise Corrupt(
                f"log of {size} entries: its tiles do not lead to the root of {whose}",
                hint="keep both; nothing was signed",
            )
