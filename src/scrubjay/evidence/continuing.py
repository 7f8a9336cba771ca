"""The proof that a published log continues a checkpoint which somebody kept (RFC 9162, 2.1.4).

It is made from the folder of the published log alone: no daemon, no pool, no key. Nothing here
is believed: the hashes either lead from the one root to the other or they do not, and who
signed both is looked at by the verifier (questions.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from scrubjay.base.errors import Corrupt, Invalid, NotFound
from scrubjay.evidence.bundle import parse_bundle
from scrubjay.evidence.checkpoint import Checkpoint, parse_checkpoint
from scrubjay.evidence.log import CHECKPOINT
from scrubjay.evidence.merkle import consistency_proof, is_consistent, tree_hash
from scrubjay.evidence.note import encode_base64, parse_note
from scrubjay.evidence.tiles import Files, TileReader

__all__ = ["Continuation", "kept_checkpoint", "prove_continuation"]


@dataclass(frozen=True, slots=True)
class Continuation:
    """Two states of a log, and the hashes that show that the newer one begins with the older."""

    old: Checkpoint
    new: Checkpoint
    hashes: tuple[bytes, ...]

    @property
    def lines(self) -> str:
        """What `certificate verify --proof` reads: a hash a line, in base64."""
        return "".join(f"{encode_base64(each)}\n" for each in self.hashes)


def kept_checkpoint(data: bytes) -> Checkpoint:
    """Return the checkpoint that somebody kept, or the one in a certificate's bundle.

    Its signature is not looked at. Invalid for anything else.
    """
    if data.lstrip().startswith(b"{"):
        data = parse_bundle(data).checkpoint.encode()
    return parse_checkpoint(parse_note(data).text)


def prove_continuation(
    files: Files, old: Checkpoint, *, newer: Checkpoint | None = None
) -> Continuation:
    """Return the proof that a published log continues `old`, up to `newer` or its newest state.

    NotFound where there is no log, Invalid where it is another's or not as long, Corrupt
    where its tiles are damaged, and where its history is not the one that was signed before.
    """
    new = newer or _newest(files)
    if old.origin != new.origin:
        raise Invalid(f"checkpoint of {old.origin}: the log here is {new.origin}, expected it")
    if old.size > new.size:
        raise Invalid(
            f"checkpoint of {old.size} entries: the log has {new.size}, expected as many or more",
            hint="copy the published log anew; if it is new, it was cut: keep both",
        )
    tiles = TileReader(files, new.size)
    if tree_hash(0, new.size, tiles.node) != new.root:
        raise Corrupt(
            f"log of {new.size} entries: its tiles do not lead to its checkpoint",
            hint="copy the published log anew, the tiles first and the checkpoint last",
        )
    if tree_hash(0, old.size, tiles.node) != old.root:
        raise Corrupt(
            f"log of {new.size} entries: does not begin with the {old.size} of the checkpoint",
            hint="its history was rewritten: keep both checkpoints, each is signed",
        )
    proof = tuple(consistency_proof(old.size, new.size, tiles.node))
    leads = is_consistent(
        old=old.size, old_root=old.root, new=new.size, new_root=new.root, proof=proof
    )
    assert leads, "both roots are those of these tiles"
    return Continuation(old, new, proof)


def _newest(files: Files) -> Checkpoint:
    data = files.read(CHECKPOINT)
    if data is None:
        raise NotFound(
            "log: no checkpoint there",
            hint="--log is a copy of the folder evidence/log of a home",
        )
    return parse_checkpoint(parse_note(data).text)
