"""The pool's append-only log (docs/format/evidence.md, "The log").

An entry enters the pool in the commit of what it tells of. What others read are files in a
folder, published from the pool; they can be made anew from it at any time.
"""

from __future__ import annotations

import hashlib
import threading

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scrubjay.base.errors import Corrupt
from scrubjay.control.deadlines import Missed, PurgeMissed
from scrubjay.control.keeper import Change, Keeper
from scrubjay.control.records import (
    FRONTIER_KEY,
    SIGNER_KEY,
    SignerRecord,
    encode,
    entry_key,
)
from scrubjay.control.view import View
from scrubjay.evidence import log as published
from scrubjay.evidence.entries import DeadlineMissed, DefaultChanged, pack_entry
from scrubjay.evidence.merkle import Frontier
from scrubjay.evidence.note import Signer, VerifierKey
from scrubjay.evidence.tiles import Files

__all__ = ["Log", "append"]

_SEED_BYTES = 32


def append(change: Change, entry: bytes) -> int:
    """Enter an entry (`evidence.entries.pack_entry`) into the log; return its index."""
    frontier = _frontier(change)
    change.put(entry_key(frontier.size), entry)
    change.put(FRONTIER_KEY, frontier.append(entry).serialise())
    return frontier.size


class Log:
    """The log of one pool, and the key that signs for it; safe for threads."""

    def __init__(self, keeper: Keeper, files: Files) -> None:
        """Take the folder to publish to; a pool without a key is given one."""
        self._keeper = keeper
        self._lock = threading.Lock()
        self._compared = False
        """Whether what was published before was compared with the pool."""
        self.signer = _signer(keeper)
        self.published = published.Log(files, self.signer)

    @property
    def key(self) -> VerifierKey:
        """The key by which others verify."""
        return self.signer.key

    def enter_default(self, setting: str, before: str, after: str) -> None:
        """Enter that a default changed; a setting that is new had none before."""
        entry = DefaultChanged(
            at=self._keeper.now(), setting=setting, before=before or "none", after=after
        )
        with self._keeper.changing(frees=True) as change:
            append(change, pack_entry(entry))

    def checkpoint(self) -> str:
        """Return the newest signed checkpoint, "" before the first."""
        known = self.published.checkpoint()
        return "" if known is None else str(known[1])

    def enter_missed(self, change: Change, missed: Missed) -> None:
        """Enter that deadlines of the pool's slots were missed."""
        entry = DeadlineMissed(
            at=self._keeper.now(),
            subject=hashlib.sha256(missed.pool.bytes).hexdigest(),
            deadline="scrub_within",
            due_at=missed.due_at,
            reason=missed.reason,
        )
        append(change, pack_entry(entry))

    def enter_purge_missed(self, change: Change, missed: PurgeMissed) -> None:
        """Enter that something of a volume was not forgotten in time."""
        entry = DeadlineMissed(
            at=self._keeper.now(),
            subject=missed.subject,
            deadline="purge_within",
            due_at=missed.due_at,
            reason=missed.reason,
        )
        append(change, pack_entry(entry))

    def publish(self) -> int:
        """Publish what the pool holds; return how many entries the signed log has now.

        Conflict or Corrupt where the folder is of another history than the pool.
        """
        with self._lock, self._keeper.reading() as view:
            first, frontier = self.published.size(), _frontier(view)
            if first != frontier.size or not self._compared:
                entries = [_entry(view, index) for index in range(first, frontier.size)]
                self.published.publish(min(first, frontier.size), entries, frontier)
                self._compared = True
            return frontier.size


def _frontier(view: View) -> Frontier:
    stored = view.get(FRONTIER_KEY)
    return Frontier() if stored is None else Frontier.parse(stored)


def _entry(view: View, index: int) -> bytes:
    entry = view.get(entry_key(index))
    if entry is None:
        raise Corrupt(f"log: entry {index} is not in the pool, expected one")
    return entry


def _signer(keeper: Keeper) -> Signer:
    with keeper.reading() as view:
        record = view.signer()
    if record is None:
        record = _new_signer(keeper)
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(record.seed))
    public = private.public_key().public_bytes_raw()
    return Signer(VerifierKey(record.name, public), private.sign)


def _new_signer(keeper: Keeper) -> SignerRecord:
    with keeper.changing(frees=True) as change:
        record = SignerRecord(
            name=f"scrubjay.{change.pool().label}.{keeper.pool_id}",
            seed=keeper.entropy.token(_SEED_BYTES).hex(),
            created_at=keeper.now(),
        )
        change.put(SIGNER_KEY, encode(record))
    return record
