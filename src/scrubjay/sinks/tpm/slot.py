r"""What an NV index of a sink holds (docs/format/keys.md).

    held      "SJTPM01\0", u64 epoch, sink id, pool id, SHA-256 of (key ‖ epoch), key
    dropping  "SJDROP1\0", u64 epoch, sink id, pool id, then FF: between the two overwrites
    empty     "SJEMPTY\0", u64 epoch that was dropped last, sink id, pool id, then zeros

The first 48 bytes hold no secret, so a TPM may state them of a held epoch.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import sha256
from uuid import UUID

from scrubjay.base.ids import Epoch
from scrubjay.keys.aead import KEY_BYTES

__all__ = [
    "HEAD_BYTES",
    "SLOT_BYTES",
    "Owners",
    "Slot",
    "State",
    "dropping",
    "empty",
    "head_of_held",
    "held",
    "parse",
]

_HEAD = struct.Struct(">8sQ16s16s")
HEAD_BYTES = _HEAD.size
_TAIL_BYTES = 2 * KEY_BYTES
SLOT_BYTES = HEAD_BYTES + _TAIL_BYTES
_HELD, _DROPPING, _EMPTY = b"SJTPM01\0", b"SJDROP1\0", b"SJEMPTY\0"


class State(Enum):
    """What lies in an index."""

    HELD = auto()
    EMPTY = auto()
    REMAINS = auto()
    """Of an interrupted drop, or damage."""


@dataclass(frozen=True, slots=True)
class Slot:
    """The contents of an index; `key` only where it is held, `epoch` 0 where unknown."""

    state: State
    epoch: Epoch
    key: bytes = b""


@dataclass(frozen=True, slots=True)
class Owners:
    """Whose slot it is."""

    sink_id: UUID
    pool_id: UUID


def held(owners: Owners, epoch: Epoch, key: bytes) -> bytes:
    """Return a slot that holds a key."""
    return _head(_HELD, owners, epoch) + _digest(key, epoch) + key


def dropping(owners: Owners, epoch: Epoch) -> bytes:
    """Return a slot that is overwritten once."""
    return _head(_DROPPING, owners, epoch) + b"\xff" * _TAIL_BYTES


def empty(owners: Owners, epoch: Epoch) -> bytes:
    """Return a slot from which this epoch was dropped; 0 where none ever was."""
    return _head(_EMPTY, owners, epoch) + bytes(_TAIL_BYTES)


def parse(data: bytes, owners: Owners) -> Slot:
    """Return what a slot holds; anything that is not whole, or another's, is remains."""
    if len(data) != SLOT_BYTES:
        return Slot(State.REMAINS, Epoch(0))
    magic, number, sink_id, pool_id = _HEAD.unpack_from(data)
    epoch = Epoch(number)
    digest, key = data[HEAD_BYTES:-KEY_BYTES], data[-KEY_BYTES:]
    if (sink_id, pool_id) != (owners.sink_id.bytes, owners.pool_id.bytes):
        return Slot(State.REMAINS, Epoch(0))
    if data == empty(owners, epoch):
        return Slot(State.EMPTY, epoch)
    if magic == _HELD and digest == _digest(key, epoch):
        return Slot(State.HELD, epoch, key)
    return Slot(State.REMAINS, epoch if data == dropping(owners, epoch) else Epoch(0))


def head_of_held(owners: Owners, epoch: Epoch) -> bytes:
    """Return the first bytes of a slot that holds an epoch: all that is ever stated of it."""
    return _head(_HELD, owners, epoch)


def _head(magic: bytes, owners: Owners, epoch: Epoch) -> bytes:
    return _HEAD.pack(magic, epoch, owners.sink_id.bytes, owners.pool_id.bytes)


def _digest(key: bytes, epoch: Epoch) -> bytes:
    return sha256(key + epoch.to_bytes(8)).digest()
