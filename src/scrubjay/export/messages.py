"""What daemon, parent and exporters say to each other: typed, bounded, nothing else decodes.

Every call carries an id of its caller's choosing and gets one reply with the same id:
what was asked for, `Done`, or `Failed` with the code of an error class. A message is a
msgpack array that begins with its tag. No message shows its fields when printed, since
some hold keys or tokens.
"""

from __future__ import annotations

import uuid
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from scrubjay.base import errors
from scrubjay.base.errors import Denied, ScrubjayError, Unavailable
from scrubjay.engine.lessor import PURGE_WITHIN_S

__all__ = [
    "CHANNEL_VERSION",
    "TOKEN_BYTES",
    "Attached",
    "Child",
    "Commit",
    "Committed",
    "Detach",
    "Done",
    "End",
    "Exit",
    "Failed",
    "Family",
    "Fork",
    "Forked",
    "FromDaemon",
    "FromExporter",
    "FromParent",
    "Goodbye",
    "Granted",
    "Group",
    "Hello",
    "Lease",
    "ListFamily",
    "Message",
    "Poisoned",
    "PurgeWithin",
    "Reset",
    "Resize",
    "Segment",
    "Statistics",
    "Stop",
    "Survey",
    "ToParent",
    "decoded",
    "error_of",
    "failure",
]

CHANNEL_VERSION = 2
"""Said in the hello, since exporters outlive the daemon that had them forked. 1: no purging."""
TOKEN_BYTES = 32

_U32 = Annotated[int, Meta(ge=0, lt=1 << 32)]
_U64 = Annotated[int, Meta(ge=0)]  # msgspec itself refuses what is longer than 64 bits
_SegmentId = Annotated[int, Meta(ge=0, lt=1 << 36)]
_Token = Annotated[bytes, Meta(min_length=TOKEN_BYTES, max_length=TOKEN_BYTES)]
_Path = Annotated[str, Meta(min_length=1, max_length=4096)]
_Percent = Annotated[int, Meta(ge=0, le=100)]
_Text = Annotated[str, Meta(max_length=4096)]
_Key = Annotated[bytes, Meta(max_length=32)]


class Message(
    Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True, weakref=False
):
    """Base of all messages."""

    id: _U64 = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id})"


# --- Replies of any kind -------------------------------------------------------------


class Done(Message, frozen=True, tag=0):
    """It is done, and there is nothing to say about it."""


class Failed(Message, frozen=True, tag=1):
    """It was refused, or failed."""

    code: _Text
    message: str
    hint: str


# --- From an exporter to the daemon, and what answers --------------------------------


class Hello(Message, frozen=True, tag=10):
    """Who speaks; the first message of a connection. Answered by Attached."""

    version: _U32
    volume: uuid.UUID
    epoch: _U64
    token: _Token


class Attached(Message, frozen=True, tag=11):
    """All that an exporter is told of its volume (engine.lessor.Attachment)."""

    volume: uuid.UUID
    name: _Text
    lineage: _U32
    branch: _U32
    epoch: _U64
    size_bytes: _U64
    root: _U64
    flushed: _U64
    clean: bool
    live_sectors: _U64
    next_segment: _SegmentId
    purge_within_s: _U32 = PURGE_WITHIN_S
    waiting_since_s: _U64 = 0
    created_s: _U64 = 0


class Lease(Message, frozen=True, tag=12):
    """Lease up to `count` segments with ids above `above`, the highest that it was granted.

    Ids above it that are leased already are those of a reply that was lost: they are
    granted again, and no others.
    """

    count: Annotated[int, Meta(ge=1, le=1024)]
    above: _SegmentId


class Group(Message, frozen=True, tag=13):
    """Which segments of this group of the directory are there, where, under which keys."""

    group: _U32


class Segment(Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """One grant (engine.lessor.Grant)."""

    segment: _SegmentId
    slot: _U64 | None
    key: _Key
    stripes: tuple[tuple[Annotated[int, Meta(ge=0, le=64)], _Key], ...] = ()
    clean: bool = False

    def __repr__(self) -> str:
        return f"Segment(segment={self.segment}, slot={self.slot})"


class Granted(Message, frozen=True, tag=14):
    """The answer to Lease and Group."""

    segments: tuple[Segment, ...]


class Commit(Message, frozen=True, tag=15):
    """Name a checkpoint, free segments, have stripes forgotten (engine.lessor.Purged).

    Says that the exporter holds no key of them any more. The same one again changes nothing.
    Where `purged` is None, what was said of purging before holds on.
    """

    root: _U64
    flushed: _U64
    clean: bool
    live_sectors: _U64
    freed: tuple[_SegmentId, ...]
    filled: tuple[_SegmentId, ...]
    purged: tuple[tuple[_SegmentId, _U64], ...] | None = None
    dead_since_s: _U64 = 0
    waiting_since_s: _U64 = 0
    purge_moved_bytes: _U64 = 0


class Committed(Message, frozen=True, tag=18):
    """The answer to Commit: how much of the pool is free now."""

    free_percent: _Percent


class Poisoned(Message, frozen=True, tag=16):
    """A sync of this volume's medium failed: nobody on that file may go on (I4)."""

    reason: _Text


class Goodbye(Message, frozen=True, tag=17):
    """This exporter ends in order."""

    reason: _Text


# --- From the daemon to an exporter, and what answers --------------------------------


class Detach(Message, frozen=True, tag=30):
    """Checkpoint, say so, and exit."""


class Stop(Message, frozen=True, tag=31):
    """Overwrite every key, say so, and exit at once."""


class Resize(Message, frozen=True, tag=32):
    """Grow to so many bytes."""

    size_bytes: _U64


class Reset(Message, frozen=True, tag=35):
    """Drop every key, and go on as a volume that was never written; of ephemeral ones only."""


class PurgeWithin(Message, frozen=True, tag=36):
    """From now on, purge what is overwritten or discarded within so many seconds."""

    within_s: _U32


class Survey(Message, frozen=True, tag=33):
    """Say what was done so far. Answered by Statistics."""


class Statistics(Message, frozen=True, tag=34):
    """What one attachment did so far; bytes, and counts."""

    written_bytes: _U64
    appended_bytes: _U64
    moved_bytes: _U64
    live_sectors: _U64
    held_segments: _U64
    spare_segments: _U64
    checkpoints: _U64
    map_pages: _U64
    connections: _U64
    memory_bytes: _U64
    """Proportional: what this process alone would give back (0: not known)."""
    purge_within_s: _U32
    """By what it purges, in seconds."""


# --- Between the daemon and the parent -----------------------------------------------


class Fork(Message, frozen=True, tag=50):
    """Fork an exporter. A descriptor comes along: it reports there how its start went."""

    volume: uuid.UUID
    epoch: _U64
    token: _Token
    pool: _Path
    channel: _Path
    lock: _Path
    socket: _Path
    gid: _U32 | None
    pool_id: uuid.UUID | None = None
    """What has to lie at `pool`: a device's name may be another one's by now."""
    ephemeral: bool = False
    """Draw keys of your own, and keep them to yourself."""


class Forked(Message, frozen=True, tag=51):
    """It runs, which says nothing about its success."""

    pid: _U32


class ListFamily(Message, frozen=True, tag=52):
    """Say who you are and whom you have forked. Answered by Family."""


class Child(Struct, frozen=True, array_like=True):
    """An exporter that runs."""

    volume: uuid.UUID
    epoch: _U64
    pid: _U32


class Exit(Struct, frozen=True, array_like=True):
    """An exporter that ended: its exit status, or minus the signal that killed it."""

    volume: uuid.UUID
    epoch: _U64
    pid: _U32
    status: int


class Family(Message, frozen=True, tag=53):
    """The parent, its children, and the last of those that ended."""

    version: _Text
    pid: _U32
    children: tuple[Child, ...]
    exits: tuple[Exit, ...]


class End(Message, frozen=True, tag=54):
    """Let the parent exit. Exporters go on."""


FromExporter = Hello | Lease | Group | Commit | Poisoned | Goodbye | Done | Failed | Statistics
FromDaemon = (
    Attached
    | Granted
    | Committed
    | Done
    | Failed
    | Detach
    | Stop
    | Resize
    | Survey
    | Reset
    | PurgeWithin
)
ToParent = Fork | ListFamily | End
FromParent = Forked | Family | Done | Failed

_T = TypeVar("_T")
_CLASSES = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ScrubjayError)
}


def decoded(decoder: msgspec.msgpack.Decoder[_T], frame: bytes | bytearray | memoryview) -> _T:
    """Return the message in `frame`; Denied where it is none that may come from there."""
    try:
        return decoder.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # What msgspec says may quote the message, and that may hold a key.
        raise Denied(f"message: {type(error).__name__}, expected one of this channel") from None


def failure(error: ScrubjayError, *, to: int = 0) -> Failed:
    """Return an error as the reply to call `to`."""
    return Failed(id=to, code=error.code, message=error.message, hint=error.hint)


def error_of(failed: Failed) -> ScrubjayError:
    """Return the error that a reply was made from; of an unknown code, Unavailable."""
    return _CLASSES.get(failed.code, Unavailable)(failed.message, hint=failed.hint)
