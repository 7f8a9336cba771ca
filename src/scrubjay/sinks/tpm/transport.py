"""How bytes reach a TPM: the kernel's resource manager, or an emulator's unix socket."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
from pathlib import Path
from typing import Protocol

from scrubjay.base.errors import Conflict, Denied, Invalid, NotFound, ScrubjayError, Unavailable
from scrubjay.sinks.tpm.wire import HEADER_BYTES, RESPONSE_BYTES_MAX

__all__ = ["DEFAULT_DEVICE", "DeviceTransport", "SocketTransport", "Transport", "open_transport"]

DEFAULT_DEVICE = Path("/dev/tpmrm0")
_TIMEOUT_S = 120.0
"""Longer than any command takes on a slow part; the kernel gives up on one after that too."""


class Transport(Protocol):
    """One command at a time, there and back. Raises Unavailable where the TPM is gone."""

    def transact(self, command: bytes) -> bytes:
        """Send a command and return the whole response."""
        ...

    def close(self) -> None:
        """Let go of the TPM; its resource manager forgets our sessions and objects."""
        ...


class DeviceTransport:
    """/dev/tpmrm0: the kernel shares the TPM out, and keeps what others loaded apart."""

    def __init__(self, path: Path = DEFAULT_DEVICE) -> None:
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise _refused(path, error) from error

    def transact(self, command: bytes) -> bytes:
        """Send a command and return the whole response."""
        try:
            os.write(self._fd, command)
            if not select.select([self._fd], [], [], _TIMEOUT_S)[0]:
                raise Unavailable(f"{self._path}: no answer in {_TIMEOUT_S:.0f} s, expected one")
            answer = os.read(self._fd, RESPONSE_BYTES_MAX)
        except OSError as error:
            raise _refused(self._path, error) from error
        if len(answer) < HEADER_BYTES:
            raise Unavailable(f"{self._path}: answer of {len(answer)} bytes, expected a TPM's")
        return answer

    def close(self) -> None:
        """Let go of the device; again is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class SocketTransport:
    """The unix socket of swtpm, which starts the TPM up itself (`--flags startup-clear`)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_TIMEOUT_S)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise _refused(path, error) from error

    def transact(self, command: bytes) -> bytes:
        """Send a command and return the whole response."""
        try:
            self._socket.sendall(command)
            header = self._receive(HEADER_BYTES)
            size = int.from_bytes(header[2:6])
            if not HEADER_BYTES <= size <= RESPONSE_BYTES_MAX:
                raise Unavailable(f"{self._path}: answer of {size} bytes, expected a TPM's")
            return header + self._receive(size - HEADER_BYTES)
        except OSError as error:
            raise _refused(self._path, error) from error

    def close(self) -> None:
        """Let go of the socket; again is fine."""
        self._socket.close()

    def _receive(self, size_bytes: int) -> bytes:
        data = b""
        while len(data) < size_bytes:
            part = self._socket.recv(size_bytes - len(data))
            if not part:
                raise Unavailable(f"{self._path}: closed by the TPM, expected an answer")
            data += part
        return data


def open_transport(path: Path) -> Transport:
    """Open a TPM by its path: a character device, or the socket of an emulator."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _refused(path, error) from error
    if stat.S_ISSOCK(mode):
        return SocketTransport(path)
    if stat.S_ISCHR(mode):
        return DeviceTransport(path)
    raise Invalid(f"{path}: no device and no socket, expected a TPM")


def _refused(path: Path, error: OSError) -> ScrubjayError:
    said = f"{path}: {error.strerror or error}"
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{said}, expected a TPM", hint="is it enabled in the firmware's setup?")
    if isinstance(error, PermissionError):
        return Denied(f"{said}, expected access", hint="add the daemon's user to the group tss")
    if error.errno == errno.EBUSY:
        return Conflict(f"{said}, expected it free", hint="use /dev/tpmrm0: it can be shared")
    return Unavailable(f"{said}, expected a working TPM")
