"""TPM 2.0 commands and responses as bytes, and its response codes as errors.

Trusted Computing Group, "Trusted Platform Module Library", family 2.0, part 2 (structures)
and part 3 (commands), revision 1.59. Everything is big-endian; `2B` is a u16 size and bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from scrubjay.base.errors import (
    Conflict,
    Corrupt,
    Denied,
    Invalid,
    NoSpace,
    NotFound,
    ScrubjayError,
    Unavailable,
)

__all__ = [
    "HEADER_BYTES",
    "NOT_BEGUN",
    "RESPONSE_BYTES_MAX",
    "Reader",
    "Response",
    "TpmCode",
    "b2",
    "command",
    "parse_response",
]

HEADER_BYTES = 10
RESPONSE_BYTES_MAX = 4096
_NO_SESSIONS, _SESSIONS = 0x8001, 0x8002

_FORMAT_1 = 0x80
_WARNING = 0x900
_VERSION_1 = 0x100

NOT_BEGUN = frozenset(each.to_bytes(4) for each in (_WARNING + 0x08, _WARNING + 0x22))
"""TPM_RC_YIELDED and TPM_RC_RETRY: the TPM did nothing, and asks for the command again."""


class TpmCode(Unavailable):
    """A response code that has no meaning of its own here; it may pass, or be a defect."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a successful command returned, its session area apart."""

    handles: tuple[int, ...]
    parameters: bytes
    sessions: bytes


class Reader:
    """Takes fields off the front of bytes; Corrupt where they end too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size_bytes: int) -> bytes:
        """Return the next bytes."""
        field = self._data[self._at : self._at + size_bytes]
        if len(field) != size_bytes:
            raise Corrupt(f"tpm: {len(field)} bytes left, expected {size_bytes}")
        self._at += size_bytes
        return field

    def uint(self, size_bytes: int) -> int:
        """Return the next number of so many bytes."""
        return int.from_bytes(self.take(size_bytes))

    def sized(self) -> bytes:
        """Return the contents of a 2B."""
        return self.take(self.uint(2))

    def rest(self) -> bytes:
        """Return everything that is left."""
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        """Raise Corrupt unless everything was taken."""
        if self._at != len(self._data):
            raise Corrupt(f"tpm: {len(self._data) - self._at} bytes too many, expected none")


def b2(data: bytes) -> bytes:
    """Return a 2B."""
    return len(data).to_bytes(2) + data


def command(code: int, handles: tuple[int, ...], parameters: bytes, sessions: bytes = b"") -> bytes:
    """Return a command; `sessions` are the TPMS_AUTH_COMMANDs, if it has any."""
    body = b"".join(each.to_bytes(4) for each in handles)
    if sessions:
        body += len(sessions).to_bytes(4) + sessions
    tag = _SESSIONS if sessions else _NO_SESSIONS
    size = HEADER_BYTES + len(body) + len(parameters)
    return struct.pack(">HII", tag, size, code) + body + parameters


def parse_response(data: bytes, *, handles: int, what: str) -> Response:
    """Return what a command answered; `what` it was, for the error that its code means."""
    reader = Reader(data)
    tag, size, code = reader.uint(2), reader.uint(4), reader.uint(4)
    if size != len(data):
        raise Corrupt(f"tpm: answer of {len(data)} bytes, expected {size}")
    if code:
        raise error_of(code, what)
    given = tuple(reader.uint(4) for _ in range(handles))
    if tag != _SESSIONS:
        return Response(given, reader.rest(), b"")
    parameters = reader.take(reader.uint(4))
    return Response(given, parameters, reader.rest())


def error_of(code: int, what: str) -> ScrubjayError:
    """Return the error that a response code means (part 2, 6.6)."""
    plain = code & 0xBF if code & _FORMAT_1 else code
    kind, said, hint = _MEANT.get(plain, (TpmCode, "an error without a meaning here", ""))
    return kind(f"tpm {what}: {said} (response 0x{code:03x}), expected success", hint=hint)


_REBOOT = "if it stays like this, reboot: a TPM is reset with its machine"
_MEANT: dict[int, tuple[type[ScrubjayError], str, str]] = {
    _FORMAT_1 + 0x0B: (NotFound, "no such handle", ""),
    _FORMAT_1 + 0x0E: (Denied, "wrong authorisation", "another sink's credentials, or an old copy"),
    _FORMAT_1 + 0x22: (Denied, "wrong authorisation", "another sink's credentials, or an old copy"),
    _FORMAT_1 + 0x04: (Invalid, "a value that it does not take", ""),
    _FORMAT_1 + 0x15: (Invalid, "a size that it does not take", ""),
    _VERSION_1 + 0x00: (Unavailable, "not started up", _REBOOT),
    _VERSION_1 + 0x01: (Unavailable, "in failure mode", _REBOOT),
    _VERSION_1 + 0x20: (Denied, "its command or hierarchy is disabled", "see the firmware's setup"),
    _VERSION_1 + 0x43: (Denied, "it does not know this command", "it needs a TPM 2.0"),
    _VERSION_1 + 0x46: (Corrupt, "range beyond the index", ""),
    _VERSION_1 + 0x48: (Conflict, "the index is locked", ""),
    _VERSION_1 + 0x49: (Denied, "the index does not allow that", "somebody else defined it"),
    _VERSION_1 + 0x4A: (NotFound, "the index was never written", ""),
    _VERSION_1 + 0x4B: (NoSpace, "no space for an index", "undefine indices that nobody needs"),
    _VERSION_1 + 0x4C: (Conflict, "an index of this number is there", "choose another number"),
    _WARNING + 0x01: (Unavailable, "too many contexts", "use /dev/tpmrm0, not /dev/tpm0"),
    _WARNING + 0x02: (Unavailable, "too many loaded objects", "use /dev/tpmrm0, not /dev/tpm0"),
    _WARNING + 0x03: (Unavailable, "too many loaded sessions", "use /dev/tpmrm0, not /dev/tpm0"),
    _WARNING + 0x04: (Unavailable, "out of memory", "use /dev/tpmrm0, not /dev/tpm0"),
    _WARNING + 0x05: (Unavailable, "too many sessions", "use /dev/tpmrm0, not /dev/tpm0"),
    _WARNING + 0x08: (Unavailable, "busy", ""),
    _WARNING + 0x0A: (Unavailable, "still testing itself", ""),
    _WARNING + 0x10: (Unavailable, "it was reset meanwhile", ""),
    _WARNING + 0x18: (Unavailable, "it was reset meanwhile", ""),
    _WARNING + 0x20: (Unavailable, "too many writes for its memory now", "it goes on by itself"),
    _WARNING + 0x21: (
        Unavailable,
        "locked out after wrong authorisations of others",
        "wait for its recovery time, or: tpm2_dictionarylockout --clear-lockout",
    ),
    _WARNING + 0x22: (Unavailable, "busy", ""),
    _WARNING + 0x23: (Unavailable, "its memory cannot be written now", ""),
}
