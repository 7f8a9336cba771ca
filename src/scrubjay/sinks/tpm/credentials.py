"""What the home keeps so that a TPM gives the key to it, and to it alone.

The file is as closed as the file sink's, and locked while the sink is open. The secret in
it opens nothing without the TPM that was there when it was made. Root on the running host
has both: a TPM guards against who takes the disks, and keeps a key that was dropped from
coming back; it does not guard against the host itself.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from uuid import UUID

import msgspec

from scrubjay.base.errors import Corrupt, Invalid
from scrubjay.sinks.locked import FileIo, LockedFile

__all__ = ["AUTH_BYTES", "Credentials", "fresh", "load", "read", "store", "write"]

AUTH_BYTES = 32
_VERSION = 1
_BYTES_MAX = 65536
_DIGEST_CHARS = 64


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which TPM, which two indices, and the authorisation for them."""

    version: int
    sink_id: UUID
    pool_id: UUID
    device: str
    indices: tuple[int, int]
    auth: bytes
    endorsement_name: bytes
    attestation_name: bytes
    policy: str = ""
    """An operator's word: which validated security policy of this part says that overwriting
    its NV memory zeroises it; "" for none."""
    endurance_cycles: int = 0
    """How many writes its NV memory endures, from its data sheet; 0 where nobody said."""


def write(io: FileIo, credentials: Credentials) -> None:
    """Write credentials into an empty file, durably."""
    text = msgspec.json.format(msgspec.json.encode(credentials), indent=1) + b"\n"
    io.write(0, hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
    io.sync()


def read(io: FileIo) -> Credentials:
    """Return the credentials; Corrupt where they are damaged, Invalid where they are newer."""
    data = io.read(0, _BYTES_MAX)
    digest, text = data[:_DIGEST_CHARS], data[_DIGEST_CHARS + 1 :]
    if hashlib.sha256(text).hexdigest().encode() != digest:
        raise Corrupt("sink: credentials of the TPM damaged, expected their digest to match")
    try:
        version = msgspec.json.decode(text, type=_Versioned).version
        if version != _VERSION:
            raise Invalid(
                f"sink: credentials of version {version}, expected {_VERSION}",
                hint="a newer Scrubjay wrote them",
            )
        found = msgspec.json.decode(text, type=Credentials)
    except msgspec.DecodeError:
        # The reason would show what stands there, and that is secret.
        raise Corrupt("sink: credentials of the TPM unreadable, expected a sink's") from None
    if len(found.auth) != AUTH_BYTES or len(set(found.indices)) < len(found.indices):
        raise Corrupt("sink: credentials of the TPM incomplete, expected a sink's")
    return found


def store(path: Path, credentials: Credentials) -> LockedFile:
    """Create the file of new credentials; it stays locked until it is closed."""
    io = LockedFile.create(path)
    try:
        write(io, credentials)
    except BaseException:
        path.unlink(missing_ok=True)
        io.close()
        raise
    return io


def load(path: Path) -> tuple[LockedFile, Credentials]:
    """Open the file of credentials; it stays locked until it is closed."""
    io = LockedFile.open(path)
    try:
        return io, read(io)
    except BaseException:
        io.close()
        raise


def fresh(
    *, sink_id: UUID, pool_id: UUID, device: str, indices: tuple[int, int], auth: bytes,
    names: tuple[bytes, bytes], policy: str = "", endurance_cycles: int = 0,
) -> Credentials:  # fmt: skip
    """Return the credentials of a new sink; `names` are those of its EK and AK."""
    return Credentials(
        _VERSION, sink_id, pool_id, device, indices, auth, *names, policy, endurance_cycles
    )


class _Versioned(msgspec.Struct):
    version: int
