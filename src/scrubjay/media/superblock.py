"""Superblocks: where a pool begins, twice per medium (docs/format/pool.md, "Superblock").

The checksum finds torn writes, the seal makes every field authentic, the generation says
which copy is newest. Bytes from a medium are hostile until the seal has opened.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from scrubjay.base.errors import Corrupt, Denied, Invalid, NotFound, ScrubjayError
from scrubjay.base.ids import Epoch
from scrubjay.base.ports import Buffer, Entropy, Medium
from scrubjay.base.units import KIB, SEGMENT_BYTES
from scrubjay.keys.aead import NONCE_BYTES, seal
from scrubjay.keys.aead import unseal as open_sealed
from scrubjay.keys.table import Kind, Node
from scrubjay.media.geometry import SLOTS_MAX, Geometry
from scrubjay.media.pages import NO_POINTER, Pointer

__all__ = [
    "COPY_OFFSETS_BYTES",
    "SUPERBLOCK_BYTES",
    "EpochKeys",
    "MediumEntry",
    "Secrets",
    "Superblock",
    "choose",
    "copy_offset_bytes",
    "pack",
    "parse",
    "read_copies",
    "survey",
    "unseal",
]

SUPERBLOCK_BYTES = 4096
COPY_OFFSETS_BYTES = (0, 64 * KIB)
VERSION = 1
MEDIA_MAX = 32
HEIGHT_MAX = 16
"""No tree of 2^44 pages is higher, so a hostile height leads nowhere."""
_MAGIC = b"SCRUBJAY"
_HEAD = struct.Struct("<8sHHI16s16sQQ16sIIII24sQ")
_ENTRY = struct.Struct("<16sIIB7sQ")
_ENTRIES_AT = 128
_NONCE_AT = 1408
_SEALED_AT = _NONCE_AT + NONCE_BYTES
_SECRETS = struct.Struct("<32sB31s32s")
_SEALED_BYTES = _SECRETS.size + 16
_ZEROS_AT = _SEALED_AT + _SEALED_BYTES
_CHECKSUM_AT = SUPERBLOCK_BYTES - 32

EpochKeys = Callable[[Epoch], Buffer]
"""The sink as the pool sees it: the key of an epoch; NotFound or Denied where it holds none."""

IN_SERVICE, EXPELLED = 1, 2
"""States of a medium."""


@dataclass(frozen=True, slots=True)
class MediumEntry:
    """One medium of the pool, as every superblock of the pool lists it."""

    medium_id: UUID
    first_slot: int
    slots: int
    state: int = IN_SERVICE
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Superblock:
    """What a superblock says in clear; authentic once `unseal` returned."""

    pool_id: UUID
    medium_id: UUID
    sink_id: UUID
    generation: int
    epoch: Epoch
    geometry: Geometry
    media: tuple[MediumEntry, ...]
    height: int
    root: Pointer
    committed_ns: int


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a superblock seals under its epoch key."""

    metadata_key: bytes = field(repr=False)
    root_node: Node


def copy_offset_bytes(generation: int) -> int:
    """Return where the superblock of a generation stands."""
    return COPY_OFFSETS_BYTES[generation % len(COPY_OFFSETS_BYTES)]


def pack(block: Superblock, secrets: Secrets, *, epoch_key: Buffer, entropy: Entropy) -> bytes:
    """Return the 4096 bytes of a superblock.

    The nonce holds the generation, so that chance has to tell apart only the attempts at
    one generation, however many commits an epoch sees.
    """
    head = _HEAD.pack(
        _MAGIC,
        VERSION,
        len(block.media),
        0,
        block.pool_id.bytes,
        block.medium_id.bytes,
        block.generation,
        block.epoch,
        block.sink_id.bytes,
        SEGMENT_BYTES,
        block.geometry.slots,
        block.geometry.area_slots,
        block.height,
        block.root,
        block.committed_ns,
    )
    table = b"".join(
        _ENTRY.pack(
            each.medium_id.bytes,
            each.first_slot,
            each.slots,
            each.state,
            bytes(7),
            each.generation,
        )
        for each in block.media
    )
    clear = (head + table).ljust(_NONCE_AT, b"\0")
    node = secrets.root_node
    text = _SECRETS.pack(secrets.metadata_key, node.kind, bytes(31), bytes(node.key))
    nonce = block.generation.to_bytes(8, "little")[: NONCE_BYTES // 2]
    nonce += entropy.token(NONCE_BYTES - len(nonce))
    sealed = seal(epoch_key, nonce, text=text, ad=clear)
    body = (clear + nonce + sealed).ljust(_CHECKSUM_AT, b"\0")
    return body + hashlib.sha256(body).digest()


def parse(raw: bytes, where: str) -> Superblock:
    """Return what 4096 bytes say; `where` names them in errors.

    Raises Corrupt when they are damaged or contradict themselves, Invalid when a newer
    version of Scrubjay wrote them.
    """
    if raw[:8] != _MAGIC:
        raise Corrupt(f"{where}: begins with {raw[:8].hex()}, expected {_MAGIC.hex()}")
    if hashlib.sha256(raw[:_CHECKSUM_AT]).digest() != raw[_CHECKSUM_AT:]:
        raise Corrupt(f"{where}: checksum is wrong, torn or damaged")
    (
        _,
        version,
        count,
        features,
        pool_id,
        medium_id,
        generation,
        epoch,
        sink_id,
        slot_bytes,
        slots,
        area_slots,
        height,
        root,
        committed_ns,
    ) = _HEAD.unpack_from(raw)
    if version != VERSION or features:
        message = f"{where}: version {version}, features {features:#x}, expected {VERSION} and 0"
        raise Invalid(message, hint="a newer Scrubjay wrote this pool: use that one")
    _expect(where, "media", count, 1 <= count <= MEDIA_MAX)
    _expect(where, "slot size", slot_bytes, slot_bytes == SEGMENT_BYTES)
    _expect(where, "slots", slots, 1 <= slots <= SLOTS_MAX)
    _expect(where, "slots per area", area_slots, area_slots.bit_count() == 1)
    _expect(where, "height", height, height <= HEIGHT_MAX)
    _expect(where, "root", root.hex(), (root == NO_POINTER) == (height == 0))
    padding = raw[_ENTRIES_AT + count * _ENTRY.size : _NONCE_AT] + raw[_ZEROS_AT:_CHECKSUM_AT]
    _expect(where, "padding", "not zero", not any(padding))
    media = tuple(_entry(raw, index, where) for index in range(count))
    ends = [0, *(each.first_slot + each.slots for each in media)]
    _expect(where, "media table", ends, [each.first_slot for each in media] == ends[:-1])
    _expect(where, "slots of the media", ends[-1], ends[-1] == slots)
    ids = [each.medium_id for each in media]
    _expect(where, "medium", UUID(bytes=medium_id), ids.count(UUID(bytes=medium_id)) == 1)
    return Superblock(
        pool_id=UUID(bytes=pool_id),
        medium_id=UUID(bytes=medium_id),
        sink_id=UUID(bytes=sink_id),
        generation=generation,
        epoch=Epoch(epoch),
        geometry=Geometry(slots, area_slots, tuple(each.first_slot for each in media)),
        media=media,
        height=height,
        root=Pointer(root),
        committed_ns=committed_ns,
    )


def unseal(raw: bytes, epoch_key: Buffer, where: str) -> Secrets:
    """Return the secrets of a parsed superblock; Corrupt when the key does not open it."""
    nonce, sealed = raw[_NONCE_AT:_SEALED_AT], raw[_SEALED_AT:_ZEROS_AT]
    text = open_sealed(epoch_key, nonce, sealed=sealed, ad=raw[:_NONCE_AT], what=where)
    metadata_key, kind, _, key = _SECRETS.unpack(text)
    return Secrets(metadata_key, Node(Kind(kind), bytearray(key)))


def read_copies(media: Sequence[Medium]) -> list[tuple[str, bytes]]:
    """Return (its name for errors, 4096 bytes) of every copy; zeros where it cannot be read."""
    copies = []
    for index, medium in enumerate(media):
        for copy, offset_bytes in enumerate(COPY_OFFSETS_BYTES):
            raw = bytearray(SUPERBLOCK_BYTES)
            where = f"superblock {copy} of medium {index}"
            try:
                medium.read_into(offset_bytes, memoryview(raw))
            except OSError as error:  # the other copy may do
                raw = bytearray(SUPERBLOCK_BYTES)
                where += f" ({error.strerror})"
            copies.append((where, bytes(raw)))
    return copies


def survey(copies: Iterable[tuple[str, bytes]]) -> Superblock:
    """Return the newest superblock that parses: what it says may be forged."""
    found: list[Superblock] = []
    troubles: list[ScrubjayError] = []
    for where, raw in copies:
        try:
            found.append(parse(raw, where))
        except (Corrupt, Invalid) as error:
            troubles.append(error)
    if not found:
        raise _worst(troubles)
    return max(found, key=lambda block: block.generation)


def choose(
    copies: Iterable[tuple[str, bytes]], epoch_keys: EpochKeys
) -> tuple[Superblock, Secrets]:
    """Return the newest superblock that opens.

    Raises Invalid where there is no pool or a newer one, Denied when the sink holds none
    of the epochs, Corrupt when all copies are damaged.
    """
    found: list[tuple[Superblock, bytes, str]] = []
    troubles: list[ScrubjayError] = []
    for where, raw in copies:
        try:
            found.append((parse(raw, where), raw, where))
        except (Corrupt, Invalid) as error:
            troubles.append(error)
    for block, raw, where in sorted(found, key=lambda each: -each[0].generation):
        try:
            return block, unseal(raw, epoch_keys(block.epoch), where)
        except NotFound as error:
            message = f"{where}: sealed under epoch {block.epoch}, which the sink does not hold"
            hint = "the pool or the sink is an older copy, or they do not belong together"
            troubles.append(Denied(f"{message} ({error.message})", hint=hint))
        except (Corrupt, Denied) as error:
            troubles.append(error)
    raise _worst(troubles)


def _worst(troubles: Sequence[ScrubjayError]) -> ScrubjayError:
    """Return what to tell when no superblock opened: the one thing that can be acted on."""
    for kind in (Denied, Invalid):
        for trouble in troubles:
            if isinstance(trouble, kind):
                return trouble
    return Corrupt(
        "; ".join(trouble.message for trouble in troubles),
        hint="is this the pool's file? if so, keep it as it is",
    )


def _entry(raw: bytes, index: int, where: str) -> MediumEntry:
    medium_id, first_slot, slots, state, padding, generation = _ENTRY.unpack_from(
        raw, _ENTRIES_AT + index * _ENTRY.size
    )
    _expect(where, "medium's slots", slots, slots > 0)
    _expect(where, "medium's state", state, state in (IN_SERVICE, EXPELLED))
    _expect(where, "medium's padding", padding.hex(), not any(padding))
    return MediumEntry(UUID(bytes=medium_id), first_slot, slots, state, generation)


def _expect(where: str, what: str, observed: object, good: bool) -> None:  # noqa: FBT001 - a verdict
    if not good:
        raise Corrupt(f"{where}: {what} {observed}, which no pool has")
