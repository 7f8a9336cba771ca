"""The data of handshake options, taken apart and put together; pure leaves.

Invariant: data that does not fit its layout to the byte, or holds a string that the
specification forbids, raises ``RefusedError`` with the reply that says so.
"""

from __future__ import annotations

from collections.abc import Iterable

from scrubjay.nbd import wire
from scrubjay.nbd.exports import ExportInfo
from scrubjay.nbd.transmission import clip_text

__all__ = ["Fields", "RefusedError", "expect_none", "info_bodies", "short", "text"]


class RefusedError(Exception):
    """An option is answered with this error reply; never leaves the handshake."""

    def __init__(self, reply: int, message: str) -> None:
        super().__init__(message)
        self.reply = reply
        self.message = message


class Fields:
    """Takes an option's data apart; what does not fit in is refused as invalid."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def u16(self) -> int:
        """The next 16 bits."""
        return int.from_bytes(self._take(2))

    def u32(self) -> int:
        """The next 32 bits."""
        return int.from_bytes(self._take(4))

    def string(self) -> bytes:
        """The next 32 bits of length, and so many bytes."""
        return self._take(self.u32())

    def end(self) -> None:
        """Nothing may follow."""
        if self._at != len(self._data):
            raise RefusedError(wire.REP_ERR_INVALID, "option data: more than its fields")

    def _take(self, length: int) -> bytes:
        start, self._at = self._at, self._at + length
        if self._at > len(self._data):
            raise RefusedError(wire.REP_ERR_INVALID, "option data: ends within a field")
        return self._data[start : self._at]


def expect_none(data: bytes) -> None:
    """For options without data."""
    if data:
        raise RefusedError(wire.REP_ERR_INVALID, f"option data: {len(data)} bytes, expected none")


def short(string: bytes) -> bytes:
    """A string within the specification's limit, whatever its encoding."""
    if len(string) > wire.STRING_BYTES_MAX:
        raise RefusedError(
            wire.REP_ERR_INVALID,
            f"string: {len(string)} bytes, expected at most {wire.STRING_BYTES_MAX}",
        )
    return string


def text(string: bytes) -> str:
    """A string as the specification wants it: short, UTF-8, without NUL."""
    if b"\0" in short(string):
        raise RefusedError(wire.REP_ERR_INVALID, "string: contains NUL")
    try:
        return string.decode()
    except UnicodeDecodeError:
        raise RefusedError(wire.REP_ERR_INVALID, "string: not UTF-8") from None


def info_bodies(export: ExportInfo, flags: int, asked: set[int]) -> Iterable[bytes]:
    """Bodies of the INFO replies: the export always, the rest if asked for."""
    body = {
        wire.INFO_EXPORT: wire.EXPORT.pack(export.size_bytes, flags),
        wire.INFO_NAME: export.name.encode(),
        wire.INFO_DESCRIPTION: clip_text(export.description),
        wire.INFO_BLOCK_SIZE: wire.BLOCK_SIZES.pack(
            wire.BLOCK_BYTES_MIN, export.block_bytes_preferred, wire.PAYLOAD_BYTES_MAX
        ),
    }
    for kind in (wire.INFO_EXPORT, *sorted(asked & body.keys() - {wire.INFO_EXPORT})):
        yield wire.U16.pack(kind) + body[kind]
