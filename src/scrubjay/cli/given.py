"""What an auditor hands in: files that strangers wrote, keys, questions."""

from __future__ import annotations

import os
import stat
import sys
import uuid
from pathlib import Path

from scrubjay.base.errors import Invalid, NotFound, Unavailable
from scrubjay.base.ids import VolumeId
from scrubjay.evidence.note import KEY_TEXT_MAX, decode_base64
from scrubjay.evidence.questions import Asked, Newer
from scrubjay.evidence.strict import plain

__all__ = ["asked_of", "key_of", "newer_of", "read_file"]

_FILE_BYTES_MAX = 1 << 23
_NAME_SHOWN_MAX = 200


def read_file(path: Path, *, bytes_max: int = _FILE_BYTES_MAX) -> bytes:
    """Return the bytes of a regular file, or of stdin; a pipe by its name could block for ever."""
    name = plain(str(path))[:_NAME_SHOWN_MAX]
    try:
        data = sys.stdin.buffer.read(bytes_max + 1) if name == "-" else _read(path, bytes_max)
    except FileNotFoundError as error:
        raise NotFound(f"file {name}: not there") from error
    except OSError as error:
        raise Unavailable(f"file {name}: {error.strerror}") from error
    except ValueError as error:
        raise Invalid(f"file {name}: not a name that a file can have") from error
    if data is None:
        raise Invalid(f"file {name}: no regular file", hint="- reads from standard input")
    if len(data) > bytes_max:
        raise Invalid(f"file {name}: longer than {bytes_max} bytes, expected less")
    return data


def key_of(given: str) -> str:
    """Return the key's text; a name that is a file's stands for what it holds.

    Invalid where either is empty.
    """
    path = Path(given)
    if "+" in given and not os.path.lexists(path):
        return given
    whose = "--key" if not given.strip() else f"file {plain(given)[:_NAME_SHOWN_MAX]}"
    text = ""
    if given.strip():
        text = read_file(path, bytes_max=KEY_TEXT_MAX).decode("utf-8", errors="replace").strip()
    if not text:
        raise Invalid(
            f"{whose}: empty, expected the log's key",
            hint="it is what `scrubjay certificate key` prints: its text, or a file that holds it",
        )
    return text


def newer_of(checkpoint: Path | None, proof: Path | None) -> Newer | None:
    """Return the checkpoint from elsewhere, and its proof; Invalid for a proof without one."""
    if checkpoint is None:
        if proof is not None:
            raise Invalid("--proof: without --newer", hint="give the checkpoint that it leads to")
        return None
    if proof is None:
        return Newer(read_file(checkpoint))
    lines = read_file(proof).decode("ascii", errors="replace").split()
    try:
        return Newer(read_file(checkpoint), tuple(decode_base64(line) for line in lines))
    except Invalid as error:
        raise Invalid(
            f"--proof: {error.message}", hint="a hash a line: what `certificate proof` prints"
        ) from error


def asked_of(volume: str) -> Asked:
    """Return the volume that the certificate should be about, from ID:BLINDING."""
    name, _, blinding = volume.partition(":")
    try:
        return Asked(VolumeId(uuid.UUID(name)), bytes.fromhex(blinding))
    except ValueError as error:
        raise Invalid(
            f"--volume {volume[:80]!r}: expected a volume's id, a colon, its blinding value",
            hint="both are shown by: scrubjay certificate show ID --format text",
        ) from error


def _read(path: Path, bytes_max: int) -> bytes | None:
    """Return one byte more than is wanted, at most; None where it is no regular file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(bytes_max + 1)
