"""Who belongs to a mirror of sinks, and what it still owes (docs/format/keys.md).

The record holds no secret. It is what a mirror knows of members that it cannot reach: who
they are, which epoch they were told to hold, and which they were not yet seen to drop.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Protocol
from uuid import UUID

import msgspec

from scrubjay.base.errors import Conflict, Corrupt, Denied, Invalid, NotFound, Unavailable

__all__ = [
    "MEMBERS_MAX",
    "Expelled",
    "Member",
    "Membership",
    "RecordFile",
    "RecordStore",
    "decode",
    "encode",
    "first_record",
    "member_id",
]

_MEMBERS_MIN = 2
MEMBERS_MAX = 8
"""A mirror waits for each of its members at every rotation."""
_VERSION = 1
_DIGEST_CHARS = 64


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sink that holds the mirror's epochs."""

    number: int
    """From 0, never given twice in a mirror; its sink id follows from it."""
    kind: str
    """As wiring knows it: file, tpm2."""
    where: str
    """As wiring opens it: a path, a device with its indices. No secret."""

    @property
    def place(self) -> str:
        """The member in words."""
        return f"{self.kind} {self.where}"


class Expelled(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sink that was a member, and may still hold the keys of these epochs: residue."""

    member: Member
    epochs: list[int]
    destroyed: bool = False
    """An operator said that the device is destroyed; nothing proves it."""


class Membership(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The record of a mirror."""

    version: int
    mirror: UUID
    pool: UUID
    members: list[Member]
    next_number: int
    expelled: list[Expelled] = []
    owed: list[int] = []
    """Epochs that were begun to be dropped, and not every member was seen to be rid of them."""


class RecordStore(Protocol):
    """Where the record lies: read whole, replaced whole."""

    def read(self) -> bytes:
        """Return the record; NotFound where there is none, Unavailable where that is unknown."""
        ...

    def create(self, record: bytes) -> None:
        """Write the first record, durably; Conflict where there is one."""
        ...

    def replace(self, record: bytes) -> None:
        """Put another record in its place, durably: a crash leaves the one or the other."""
        ...


class RecordFile:
    """The record as a file of mode 0600 beside what it tells of, replaced by renaming."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = path.with_name(f"{path.name}.new")

    def read(self) -> bytes:
        """Return the record; NotFound where there is none."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(file.fileno())
                if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
                    raise Denied(f"{self._path}: others may write it, expected its owner alone")
                return file.read()
        except FileNotFoundError as error:
            raise NotFound(f"{self._path}: no such file, expected a mirror's record") from error
        except OSError as error:
            raise Unavailable(f"{self._path}: {error.strerror}, expected a record") from error

    def create(self, record: bytes) -> None:
        """Write the first record, durably; Conflict where there is one."""
        if self._path.exists():
            raise Conflict(f"{self._path}: exists, expected nothing there")
        self.replace(record)

    def replace(self, record: bytes) -> None:
        """Put another record in its place, durably."""
        try:
            self._draft.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(self._draft, flags, 0o600), "wb") as file:
                file.write(record)
                file.flush()
                os.fsync(file.fileno())
            self._draft.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise Unavailable(f"{self._path}: {error.strerror}, expected to be written") from error


def member_id(mirror: UUID, number: int) -> UUID:
    """Return the sink id of a member: nobody takes it for the mirror, or another's member."""
    text = b"scrubjay mirror member 1" + mirror.bytes + number.to_bytes(4, "little")
    return UUID(bytes=hashlib.sha256(text).digest()[:16])


def first_record(
    mirror: UUID, pool: UUID, places: list[tuple[str, str]], *, formerly: Expelled | None = None
) -> Membership:
    """Return the record of a new mirror on these (kind, where); Invalid unless they are 2 to 8.

    `formerly` is the single sink, number 0, that was the pool's before.
    """
    if not _MEMBERS_MIN <= len(places) <= MEMBERS_MAX:
        raise Invalid(f"mirror of {len(places)} sinks: expected {_MEMBERS_MIN} to {MEMBERS_MAX}")
    if len(set(places)) < len(places):
        raise Invalid("mirror: two members in one place, expected each in its own")
    first = 0 if formerly is None else 1
    members = [Member(number, *place) for number, place in enumerate(places, first)]
    expelled = [] if formerly is None else [formerly]
    return Membership(_VERSION, mirror, pool, members, len(members) + first, expelled)


def encode(record: Membership) -> bytes:
    """Return the bytes of a record: its digest, a newline, and JSON."""
    text = msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def decode(data: bytes) -> Membership:
    """Return the record; Corrupt if it is damaged, Invalid if a newer Scrubjay wrote it."""
    digest, text = data[:_DIGEST_CHARS], data[_DIGEST_CHARS + 1 :]
    if hashlib.sha256(text).hexdigest().encode() != digest:
        raise Corrupt("mirror: record damaged, expected its digest to match")
    try:
        version = msgspec.json.decode(text, type=_Versioned).version
        if version != _VERSION:
            raise Invalid(
                f"mirror: record version {version}, expected {_VERSION}",
                hint="a newer Scrubjay wrote it",
            )
        record = msgspec.json.decode(text, type=Membership)
    except msgspec.DecodeError as error:
        raise Corrupt(f"mirror: record unreadable, expected a mirror's: {error}") from error
    numbers = [each.number for each in record.members]
    gone = [each.member.number for each in record.expelled]
    every = numbers + gone
    if not numbers or len(set(every)) < len(every) or not 0 <= max(every) < record.next_number:
        raise Corrupt(f"mirror: record of members {numbers}, expected each number once")
    return record


class _Versioned(msgspec.Struct):
    version: int
