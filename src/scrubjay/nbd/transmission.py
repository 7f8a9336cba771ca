"""The transmission phase as pure functions: judge a request, pack its reply.

Invariant: a request that ``Rules.check`` lets pass lies inside the export, uses only what
was negotiated, and may be executed as it stands; whatever leaves this module is a reply
that the specification allows for that connection.

Hot path: ``Rules.check`` runs per request in the export loop (0.2 us, see docs/nbd.md, which
also shows the loop). It allocates nothing, takes the fields in the order in which
``wire.REQUEST`` unpacks them, and that loop packs its common replies itself with
``SIMPLE_REPLY.pack_into`` and ``DATA_CHUNK.pack_into``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from scrubjay.nbd import wire
from scrubjay.nbd.wire import Cookie

__all__ = [
    "DRAIN_BYTES_MAX",
    "EXTENTS_SENT_MAX",
    "Rules",
    "block_status",
    "clip_text",
    "data_chunk",
    "done_chunk",
    "error_reply",
    "hole_chunk",
    "read_header",
    "simple_reply",
]

DRAIN_BYTES_MAX: Final = 64 << 20
"""A refused WRITE's payload is read and dropped up to here, so that its client gets an
errno; past it the connection ends. The specification asks for patience up to 32 MiB, and
64 MiB is the most that libnbd sends."""

EXTENTS_SENT_MAX: Final = 1 << 16
"""Descriptors in one reply (512 KiB): a client asks again where the answer stops."""

_PAYLOAD_BYTES_MAX: Final = wire.PAYLOAD_BYTES_MAX  # each of these saves a look-up per request
_WRITE: Final = wire.CMD_WRITE
_KINDS: Final = wire.CMD_BLOCK_STATUS + 1

_NEEDS: Final = {
    wire.CMD_FLUSH: wire.FLAG_SEND_FLUSH,
    wire.CMD_TRIM: wire.FLAG_SEND_TRIM,
    wire.CMD_CACHE: wire.FLAG_SEND_CACHE,
    wire.CMD_WRITE_ZEROES: wire.FLAG_SEND_WRITE_ZEROES,
}
"""Commands that a client may use only where the export's flags offer them."""

_CHANGES: Final = (wire.CMD_WRITE, wire.CMD_TRIM, wire.CMD_WRITE_ZEROES)
_FILLS: Final = (wire.CMD_WRITE, wire.CMD_WRITE_ZEROES)


@dataclass(frozen=True, slots=True)
class Rules:
    """What one connection negotiated, and so what its requests may ask.

    ``refused[command]`` is the errno for a command as a whole (0: served),
    ``forbidden[command]`` the command flags that it may not carry.
    """

    flags: int
    structured: bool
    allocation: bool
    refused: tuple[int, ...]
    forbidden: tuple[int, ...]

    @classmethod
    def negotiated(cls, flags: int, *, structured: bool, allocation: bool) -> Self:
        """Rules for a client that was shown ``flags`` (transmission flags of the wire).

        DF exists with structured replies only, and block status only on top of them.
        """
        flags = (flags | wire.FLAG_HAS_FLAGS | wire.FLAG_SEND_DF) ^ (
            0 if structured else wire.FLAG_SEND_DF
        )
        allocation = allocation and structured
        refused = [0] * _KINDS
        for command, needed in _NEEDS.items():
            refused[command] = 0 if flags & needed else wire.EINVAL
        if not allocation:
            refused[wire.CMD_BLOCK_STATUS] = wire.EINVAL
        refused[wire.CMD_DISC] = wire.EINVAL  # not to be executed: whoever reads the stream ends
        if flags & wire.FLAG_READ_ONLY:
            for command in _CHANGES:
                refused[command] = wire.EPERM
        fua = wire.CMD_FLAG_FUA if flags & wire.FLAG_SEND_FUA else 0
        fast = wire.CMD_FLAG_FAST_ZERO if flags & wire.FLAG_SEND_FAST_ZERO else 0
        permitted = [fua] * _KINDS  # FUA is valid, if mostly pointless, on every command
        permitted[wire.CMD_READ] |= wire.CMD_FLAG_DF if structured else 0
        permitted[wire.CMD_WRITE_ZEROES] |= wire.CMD_FLAG_NO_HOLE | fast
        permitted[wire.CMD_BLOCK_STATUS] |= wire.CMD_FLAG_REQ_ONE
        forbidden = tuple(0xFFFF & ~mask for mask in permitted)
        return cls(flags, structured, allocation, tuple(refused), forbidden)

    def check(self, flags: int, command: int, offset: int, length: int, size_bytes: int) -> int:
        """Errno with which to refuse this request, or 0: execute it.

        ``size_bytes`` is the export's size now, for it may have grown. A WRITE's payload
        follows whatever the answer is. DISC, which has no reply, is refused: the slow path
        knows it.
        """
        if (
            command <= _WRITE  # or READ, which is less
            and 0 < length <= _PAYLOAD_BYTES_MAX
            and offset + length <= size_bytes
            and not (flags & self.forbidden[command] or self.refused[command])
        ):
            return 0
        return self._check_rest(flags, command, offset, length, size_bytes)

    def _check_rest(  # noqa: PLR0911 - one line per rule of the specification
        self, flags: int, command: int, offset: int, length: int, size_bytes: int
    ) -> int:
        """As ``check``, for everything but a good READ or WRITE."""
        if command >= len(self.refused):
            return wire.EINVAL
        if error := self.refused[command]:
            return error
        if flags & self.forbidden[command]:
            return wire.EINVAL
        if command == wire.CMD_FLUSH:
            return wire.EINVAL if offset or length else 0
        if length == 0:
            return wire.EINVAL
        if offset + length > size_bytes:
            return wire.ENOSPC if command in _FILLS else wire.EINVAL
        if command == wire.CMD_READ and length > _PAYLOAD_BYTES_MAX:
            return wire.EOVERFLOW if self.structured else wire.EINVAL
        if command == wire.CMD_WRITE and length > _PAYLOAD_BYTES_MAX:
            return wire.EINVAL
        return 0


def simple_reply(cookie: Cookie, error: int = 0) -> bytes:
    """The whole reply to anything but READ and BLOCK_STATUS, structured or not."""
    return wire.SIMPLE_REPLY.pack(wire.SIMPLE_REPLY_MAGIC, error, cookie)


def error_reply(cookie: Cookie, error: int, *, message: str = "", structured: bool) -> bytes:
    """The final reply of a failed request, of any kind.

    The message is for the client's user and travels with structured replies only. It is
    cut to 4096 bytes.
    """
    if not structured:
        return simple_reply(cookie, error)
    text = clip_text(message)
    return (
        wire.ERROR_CHUNK.pack(
            wire.CHUNK_MAGIC,
            wire.CHUNK_DONE,
            wire.CHUNK_ERROR,
            cookie,
            6 + len(text),
            error,
            len(text),
        )
        + text
    )


def read_header(cookie: Cookie, *, offset: int, length: int, structured: bool) -> bytes:
    """What precedes the ``length`` bytes of a READ that is answered in one piece.

    Send it once the data is in hand: after it there is no way to report an error.
    """
    if structured:
        return data_chunk(cookie, offset=offset, length=length, last=True)
    return simple_reply(cookie)


def data_chunk(cookie: Cookie, *, offset: int, length: int, last: bool) -> bytes:
    """The head of a content chunk; ``length`` bytes of the export follow it."""
    return wire.DATA_CHUNK.pack(
        wire.CHUNK_MAGIC,
        wire.CHUNK_DONE if last else 0,
        wire.CHUNK_OFFSET_DATA,
        cookie,
        8 + length,
        offset,
    )


def hole_chunk(cookie: Cookie, *, offset: int, length: int, last: bool) -> bytes:
    """A content chunk that stands for ``length`` zeros. Not for a READ with DF and data."""
    return wire.HOLE_CHUNK.pack(
        wire.CHUNK_MAGIC,
        wire.CHUNK_DONE if last else 0,
        wire.CHUNK_OFFSET_HOLE,
        cookie,
        12,
        offset,
        length,
    )


def done_chunk(cookie: Cookie) -> bytes:
    """The end of a structured reply whose last chunk did not say so."""
    return wire.CHUNK.pack(wire.CHUNK_MAGIC, wire.CHUNK_DONE, wire.CHUNK_NONE, cookie, 0)


def block_status(
    cookie: Cookie, extents: Iterable[tuple[int, int]], *, length: int, flags: int
) -> bytes:
    """The whole reply to a BLOCK_STATUS of ``length`` bytes with command ``flags``.

    ``extents`` are (length in bytes, STATE flags) from the requested offset on. They are
    merged, cut to what was asked for and to ``EXTENTS_SENT_MAX``, and read no further than
    needed; they may end early, but there is at least one and none is empty.
    """
    most = 1 if flags & wire.CMD_FLAG_REQ_ONE else EXTENTS_SENT_MAX
    merged: list[tuple[int, int]] = []
    left = length
    for extent_bytes, state in extents:
        taken = min(extent_bytes, left)
        if merged and merged[-1][1] == state:
            merged[-1] = (merged[-1][0] + taken, state)
        elif len(merged) == most:
            break
        else:
            merged.append((taken, state))
        left -= taken
        if not left:
            break
    assert merged, "block status without an extent"
    head = wire.STATUS_CHUNK.pack(
        wire.CHUNK_MAGIC,
        wire.CHUNK_DONE,
        wire.CHUNK_BLOCK_STATUS,
        cookie,
        4 + 8 * len(merged),
        wire.ALLOCATION_ID,
    )
    return head + b"".join(wire.EXTENT.pack(*extent) for extent in merged)


def clip_text(message: str) -> bytes:
    """UTF-8 of at most 4096 bytes without NUL, cut between characters."""
    text = message.replace("\0", "").encode("utf-8", "replace")[: wire.STRING_BYTES_MAX]
    return text.decode("utf-8", "ignore").encode()
