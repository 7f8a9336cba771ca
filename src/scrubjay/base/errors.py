"""Every error that Scrubjay raises on purpose, split by what the caller does next.

    ScrubjayError
    ├── Invalid       fix the request
    ├── Denied        not allowed, and asking again does not help
    ├── NotFound      there is no such thing
    ├── Conflict      it changed, or is in use: look again, then retry
    ├── Unavailable   not now: back off, then retry
    │   └── NoSpace   the pool is full: free something first
    └── Corrupt       stop, and keep the bytes

A message reads "subject id: observed, expected", in lower case, without a full stop and
without key material. What to do about it is the hint, a field of its own.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "Conflict",
    "Corrupt",
    "Denied",
    "Invalid",
    "NoSpace",
    "NotFound",
    "ScrubjayError",
    "Unavailable",
]


class ScrubjayError(Exception):
    """Base of all of them; never raised itself."""

    code: ClassVar[str] = "error"
    """Stable name, part of the API."""
    http_status: ClassVar[int] = 500
    exit_status: ClassVar[int] = 1
    nbd_errno: ClassVar[int] = 5
    """EIO, unless the class knows better."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(kind: type[ScrubjayError], message: str, hint: str) -> ScrubjayError:
    return kind(message, hint=hint)


class Invalid(ScrubjayError):
    """The request cannot be meant like this: fix it."""

    code = "invalid"
    http_status = 422
    exit_status = 2
    nbd_errno = 22


class Denied(ScrubjayError):
    """The caller may not do this."""

    code = "denied"
    http_status = 403
    exit_status = 3
    nbd_errno = 1


class NotFound(ScrubjayError):
    """What the request names does not exist."""

    code = "not-found"
    http_status = 404
    exit_status = 4


class Conflict(ScrubjayError):
    """Something else holds it or changed it first: look again before retrying."""

    code = "conflict"
    http_status = 409
    exit_status = 5


class Unavailable(ScrubjayError):
    """It cannot be done now; later it may."""

    code = "unavailable"
    http_status = 503
    exit_status = 6


class NoSpace(Unavailable):
    """The pool has no slot left for this."""

    code = "no-space"
    http_status = 507
    exit_status = 7
    nbd_errno = 28


class Corrupt(ScrubjayError):
    """Bytes are not what was written: stop, and keep them."""

    code = "corrupt"
    http_status = 500
    exit_status = 8
