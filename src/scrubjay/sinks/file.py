"""The `file` sink: two slots in a file, a key split over each (docs/format/keys.md).

A key is stored in the slot that is empty, and destroyed by overwriting its slot. So no
write ever touches the slot of another epoch, and a crash between any two writes loses at
most the epoch that was being stored or destroyed.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Self
from uuid import UUID

from scrubjay.base.errors import Conflict, Corrupt, Invalid, NotFound
from scrubjay.base.ids import Epoch
from scrubjay.base.ports import Entropy
from scrubjay.keys.aead import KEY_BYTES
from scrubjay.sinks.budget import UNLIMITED, Budget
from scrubjay.sinks.ground import assess
from scrubjay.sinks.locked import FileIo, LockedFile
from scrubjay.sinks.sink import Part, Worth, check_new
from scrubjay.sinks.split import SPLIT_BYTES, STRIPES, merge, split

__all__ = ["FILE_BYTES", "FileSink"]

HEADER_BYTES = 4096
SLOT_BYTES = 262144
SLOTS = 2
FILE_BYTES = HEADER_BYTES + SLOTS * SLOT_BYTES

_MAGIC = b"SJSINK1\0"
_SLOT_MAGIC = b"SJEPOCH\0"
_HEADER = struct.Struct("<8s16s16s4024x32s")
_SLOT_HEADER = struct.Struct("<8sQI32s4044x")
_DIGEST_BYTES = 32
_SPLIT_END = HEADER_BYTES + SPLIT_BYTES  # a slot's header is as long as the file's
_USED_BYTES = _SPLIT_END + _DIGEST_BYTES
_EMPTY = bytes(SLOT_BYTES)


class _State(Enum):
    EMPTY = auto()
    HELD = auto()
    REMAINS = auto()
    """Of a prepare or drop that was interrupted, or damage: the checksum does not match."""


@dataclass(frozen=True, slots=True)
class _Slot:
    index: int
    state: _State
    epoch: Epoch
    digest: bytes = b""
    """Of its key and epoch, as its header says."""

    @property
    def offset_bytes(self) -> int:
        return HEADER_BYTES + self.index * SLOT_BYTES


class FileSink:
    """Epoch keys in a file; what that is worth depends on what the file lies on."""

    def __init__(self, io: FileIo, entropy: Entropy, worth: Worth) -> None:
        """Read a sink that was formatted; Corrupt if it is none, Invalid if it is newer."""
        if io.size_bytes != FILE_BYTES:
            raise Corrupt(f"sink: {io.size_bytes} bytes, expected {FILE_BYTES}")
        self._io = io
        self._entropy = entropy
        self._worth = worth
        self._sink_id, self._pool_id = _parse_header(io.read(0, HEADER_BYTES))

    @classmethod
    def format(
        cls,
        io: FileIo,
        entropy: Entropy,
        worth: Worth,
        *,
        sink_id: UUID,
        pool_id: UUID,
        epoch: Epoch,
        key: bytes | None = None,
    ) -> Self:
        """Make a sink out of an empty file; the header comes last, and makes it one.

        Without a `key` its first epoch gets a fresh one; with one it joins sinks that hold it.
        """
        key = entropy.token(KEY_BYTES) if key is None else key
        check_new(sink_id, {}, epoch, key)
        io.write(0, bytes(FILE_BYTES))
        io.sync()
        io.write(HEADER_BYTES, _slot_bytes(epoch, key, entropy))
        io.sync()
        header = _HEADER.pack(_MAGIC, sink_id.bytes, pool_id.bytes, bytes(_DIGEST_BYTES))
        text = header[:-_DIGEST_BYTES]
        io.write(0, text + hashlib.sha256(text).digest())
        io.sync()
        return cls(io, entropy, worth)

    @classmethod
    def create(
        cls,
        path: Path,
        entropy: Entropy,
        *,
        sink_id: UUID,
        pool_id: UUID,
        epoch: Epoch,
        key: bytes | None = None,
    ) -> Self:
        """Create the file of a new sink, with the key of its first epoch, see `format`."""
        io = LockedFile.create(path)
        try:
            return cls.format(
                io, entropy, assess(io.fd), sink_id=sink_id, pool_id=pool_id, epoch=epoch, key=key
            )
        except BaseException:
            path.unlink(missing_ok=True)
            io.close()
            raise

    @classmethod
    def open(cls, path: Path, entropy: Entropy) -> Self:
        """Open the file of a sink."""
        io = LockedFile.open(path)
        try:
            return cls(io, entropy, assess(io.fd))
        except BaseException:
            io.close()
            raise

    @staticmethod
    def wipe(path: Path, entropy: Entropy) -> None:
        """Overwrite a sink's file whole, torn ones too, and take its name away.

        For one that was replaced, or whose making was cut short: then no header names it yet,
        and a key may lie behind. Raises what `open` raises, but for damage.
        """
        io = LockedFile.open(path)
        try:
            size_bytes = io.size_bytes
            for pattern in (entropy.token(size_bytes), bytes(size_bytes)):
                io.write(0, pattern)
                io.sync()
            if any(io.read(0, size_bytes)):
                raise Corrupt(f"sink {path}: is not zero, expected zeros")
            path.unlink()
        finally:
            io.close()

    @property
    def kind(self) -> str:
        """What kind of sink this is."""
        return "file"

    @property
    def sink_id(self) -> UUID:
        """The id that the superblock names."""
        return self._sink_id

    @property
    def pool_id(self) -> UUID:
        """The only pool that this sink serves."""
        return self._pool_id

    def epochs(self) -> tuple[Epoch, ...]:
        """Return the epochs whose keys it holds, ascending."""
        held = sorted(slot.epoch for slot in self._slots() if slot.state is _State.HELD)
        if len(set(held)) < len(held):
            raise Corrupt(f"sink {self._sink_id}: epoch {held[0]} twice, expected once")
        return tuple(held)

    def key(self, epoch: Epoch) -> bytes:
        """Return the 32-byte key of an epoch; NotFound if not held, Corrupt if damaged."""
        slots = self._slots()
        for slot in slots:
            if slot.state is _State.HELD and slot.epoch == epoch:
                return self._merged(slot)
        missing = f"sink {self._sink_id}: epoch {epoch} not held"
        broken = [slot.index for slot in slots if slot.state is _State.REMAINS]
        if broken and not any(slot.state is _State.HELD for slot in slots):
            raise Corrupt(f"{missing}, slot {broken[0]} is damaged, expected its checksum to match")
        raise NotFound(f"{missing}, expected its key")

    def prepare(self, epoch: Epoch, key: bytes) -> None:
        """Store the fresh key of a new epoch in the empty slot, and read it back."""
        slots = self._slots()
        # The digest tells whether a slot holds this key: to merge each would take milliseconds.
        held = {
            slot.epoch: key if slot.digest == _key_digest(key, slot.epoch) else b""
            for slot in slots
            if slot.state is _State.HELD
        }
        check_new(self._sink_id, held, epoch, key)
        empty = [slot for slot in slots if slot.state is _State.EMPTY]
        if not empty:
            raise Conflict(
                f"sink {self._sink_id}: no empty slot, expected one",
                hint="the last rotation was interrupted: open the pool anew, it settles that",
            )
        data = _slot_bytes(epoch, key, self._entropy)
        self._io.write(empty[0].offset_bytes, data)
        self._io.sync()
        if self._io.read(empty[0].offset_bytes, len(data)) != data:
            raise Corrupt(f"sink {self._sink_id}: reads back something else, expected the new key")

    def drop(self, epoch: Epoch) -> None:
        """Overwrite the slot of an epoch, and read back that it is zero."""
        held = [slot for slot in self._slots() if slot.state is _State.HELD]
        for slot in held:
            if slot.epoch != epoch:
                continue
            if len(held) == 1:
                raise Conflict(
                    f"sink {self._sink_id}: epoch {epoch} is the last one, expected another beside"
                )
            self._erase(slot)

    def scour(self) -> None:
        """Overwrite what an interrupted prepare or drop left; Corrupt if no epoch is held."""
        slots = self._slots()
        if not any(slot.state is _State.HELD for slot in slots):
            raise Corrupt(f"sink {self._sink_id}: holds no epoch, expected one to keep")
        for slot in slots:
            if slot.state is _State.REMAINS:
                self._erase(slot)

    def destroy(self) -> None:
        """Overwrite every slot: it was replaced, and holds nothing that opens a pool again."""
        for slot in self._slots():
            if slot.state is not _State.EMPTY:
                self._erase(slot)

    def worth(self) -> Worth:
        """Say what overwriting is worth where the file lies."""
        return self._worth

    def parts(self) -> list[Part]:
        """Return this sink: it is its only part."""
        remains = sum(slot.state is _State.REMAINS for slot in self._slots())
        return [Part(self.kind, self.sink_id, self.worth(), self.epochs(), remains=remains)]

    def budget(self) -> Budget:
        """Say that any number of rotations can be afforded."""
        return UNLIMITED

    def expect_in_place(self) -> None:
        """Raise Displaced, or Unavailable, unless its path names the file that is open."""
        self._io.expect_in_place()

    def close(self) -> None:
        """Let go of the file and its lock."""
        self._io.close()

    def _erase(self, slot: _Slot) -> None:
        for pattern in (self._entropy.token(SLOT_BYTES), bytes(SLOT_BYTES)):
            self._io.write(slot.offset_bytes, pattern)
            self._io.sync()
        if self._io.read(slot.offset_bytes, SLOT_BYTES) != _EMPTY:
            raise Corrupt(f"sink {self._sink_id}: slot {slot.index} is not zero, expected zeros")

    def _slots(self) -> list[_Slot]:
        return [
            _parse_slot(index, self._io.read(HEADER_BYTES + index * SLOT_BYTES, SLOT_BYTES))
            for index in range(SLOTS)
        ]

    def _merged(self, slot: _Slot) -> bytes:
        data = self._io.read(slot.offset_bytes, _USED_BYTES)
        _, _, _, digest = _SLOT_HEADER.unpack_from(data)
        key = merge(memoryview(data)[HEADER_BYTES:_SPLIT_END])
        if _key_digest(key, slot.epoch) != digest:
            raise Corrupt(f"sink {self._sink_id}: epoch {slot.epoch} merges wrongly, expected key")
        return key


def _parse_header(data: bytes) -> tuple[UUID, UUID]:
    magic, sink_id, pool_id, digest = _HEADER.unpack(data)
    if magic[:6] == _MAGIC[:6] and magic != _MAGIC:
        raise Invalid(
            f"sink: version {magic[6:7]!r}, expected {_MAGIC[6:7]!r}",
            hint="a newer Scrubjay wrote it",
        )
    if magic != _MAGIC:
        raise Corrupt("sink: no sink's first bytes, expected SJSINK1")
    if hashlib.sha256(data[:-_DIGEST_BYTES]).digest() != digest:
        raise Corrupt("sink: header damaged, expected its checksum to match")
    return UUID(bytes=sink_id), UUID(bytes=pool_id)


def _parse_slot(index: int, data: bytes) -> _Slot:
    if data == _EMPTY:
        return _Slot(index, _State.EMPTY, Epoch(0))
    magic, epoch, stripes, key_digest = _SLOT_HEADER.unpack_from(data)
    digest = data[_SPLIT_END:_USED_BYTES]
    if (magic, stripes) != (_SLOT_MAGIC, STRIPES) or digest != hashlib.sha256(
        memoryview(data)[:_SPLIT_END]
    ).digest():
        return _Slot(index, _State.REMAINS, Epoch(0))
    return _Slot(index, _State.HELD, Epoch(epoch), key_digest)


def _slot_bytes(epoch: Epoch, key: bytes, entropy: Entropy) -> bytes:
    """Return a slot with the split of a key."""
    header = _SLOT_HEADER.pack(_SLOT_MAGIC, epoch, STRIPES, _key_digest(key, epoch))
    text = header + split(key, entropy)
    return text + hashlib.sha256(text).digest()


def _key_digest(key: bytes, epoch: Epoch) -> bytes:
    return hashlib.sha256(key + epoch.to_bytes(8, "little")).digest()
