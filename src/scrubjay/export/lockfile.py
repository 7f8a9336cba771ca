"""The lock of a served volume, and what its file says of who holds it.

An exporter holds an flock for its whole life, so that the kernel answers whether a volume
is served; a second one for the same volume is refused by it. Into the file it writes its
process id, its attach epoch and the digest of its token. Any later daemon can tell by
that who may speak for the volume, and whom to kill.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from scrubjay.base.errors import Conflict

__all__ = ["Holder", "Process", "digest", "holder", "take", "watched"]

_TAKE_TIMEOUT_S = 1.0
"""Whoever looks whether a volume is served holds the lock for a moment."""
_RETRY_S = 0.01
_BYTES_MAX = 4096


class Holder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who holds a volume's lock."""

    pid: int
    epoch: int
    token_digest: bytes


def digest(token: bytes) -> bytes:
    """Return what the file tells of a token."""
    return hashlib.sha256(b"scrubjay exporter token 1" + token).digest()


def take(path: Path, *, epoch: int, token: bytes) -> int:
    """Take a volume's lock, for as long as the descriptor that is returned stays open.

    Raises Conflict where another exporter has it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _flock(descriptor, path)
        text = msgspec.json.encode(Holder(os.getpid(), epoch, digest(token)))
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def holder(path: Path) -> Holder | None:
    """Return who holds the lock; None where nobody does."""
    with _opened(path) as descriptor:
        if descriptor is None:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            return None
        try:
            return msgspec.json.decode(os.pread(descriptor, _BYTES_MAX, 0), type=Holder)
        except msgspec.MsgspecError:
            return None  # it is just being written


class Process:
    """A process that is watched until it ends, and is no other with the same number."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def kill(self) -> None:
        """Kill it; one that has ended is fine."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def ends(self, *, timeout_s: float) -> bool:
        """Wait for its end; False when time is up first."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))


@contextmanager
def watched(path: Path) -> Iterator[Process | None]:
    """Yield the process that holds the lock; None where nobody does."""
    found = holder(path)
    try:
        descriptor = os.pidfd_open(found.pid) if found else -1
    except ProcessLookupError:
        descriptor = -1
    try:
        # Held by the same one still: then it was alive when the descriptor was opened, and
        # the descriptor is not of a later process with the same number.
        yield Process(descriptor) if descriptor >= 0 and holder(path) == found else None
    finally:
        if descriptor >= 0:
            os.close(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _flock(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + _TAKE_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Conflict(
                    f"lock {path}: held by another exporter",
                    hint="the volume is attached already: detach it first",
                ) from None
            time.sleep(_RETRY_S)
        else:
            return
