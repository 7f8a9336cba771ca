"""The servers that a row is measured on: each an NBD URI with files behind it.

All peers keep their bytes in one folder, hence on one file system, and are left at
their defaults: nothing is pinned to a core, write-back caching as each ships it.
"""

import os
import secrets
import shlex
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.rows import NBDKIT, QEMU
from scrubjay.base.errors import Unavailable

__all__ = [
    "FileServer",
    "Peer",
    "evict",
    "greet",
    "nbdkit",
    "qemu_luks",
    "run_tool",
    "stop",
    "wait_for",
]

START_LIMIT_S = 60
STOP_LIMIT_S = 60
_ATTEMPTS = 5
# NBD's fixed newstyle handshake: the server's greeting, and a client that leaves at once.
GREETING_BYTES = 18
ABORT = struct.pack(">IQII", 1, 0x49484156454F5054, 2, 0)


class Peer(Protocol):
    """A server with one volume, empty at the start."""

    name: str

    def start(self) -> str:
        """Make the volume, serve it, and return its NBD URI once it answers."""
        ...

    def pids(self) -> list[int]:
        """Return the processes that serve the volume."""
        ...

    def drop_caches(self) -> None:
        """Put the volume's bytes out of the page cache, unsynced ones written first."""
        ...

    def stop(self) -> None:
        """End the server; its files stay."""
        ...


@dataclass(slots=True, kw_only=True)
class FileServer:
    """A server of one file on a unix socket, as the C servers are."""

    name: str
    disk: Path
    socket: Path
    prepare: Sequence[Sequence[str | Path]]
    """Commands that make the file."""
    serve: Sequence[str | Path]
    """The command that serves it, in the foreground."""
    server: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Make the file, serve it, and return the NBD URI."""
        for words in self.prepare:
            _prepare(words)
        self.server = subprocess.Popen(self.serve)
        wait_for(lambda: answers(self.socket), of=self.server)
        return f"nbd+unix:///?socket={self.socket}"

    def pids(self) -> list[int]:
        """Return the server; raises `Unavailable` once it has ended."""
        if self.server is None or self.server.poll() is not None:
            status = self.server and self.server.returncode
            raise Unavailable(f"{self.name}: ended with status {status}, expected a running server")
        return [self.server.pid]

    def drop_caches(self) -> None:
        """Put the file out of the page cache."""
        evict([self.disk])

    def stop(self) -> None:
        """End the server."""
        stop(self.server)


def _prepare(words: Sequence[str | Path]) -> None:
    """Run a command that makes a file; again where `qemu-img` could not time its key."""
    for _ in range(_ATTEMPTS - 1):
        try:
            run_tool(*words)
        except Unavailable as error:
            if "accurate CPU usage" not in error.message:
                raise
        else:
            return
    run_tool(*words)


def nbdkit(folder: Path, *, size_bytes: int) -> FileServer:
    """Return `nbdkit file` on a raw file: no encryption, no mapping; close to the limit."""
    disk, socket_path = folder / "nbdkit.raw", folder / "nbdkit.sock"
    return FileServer(
        name=NBDKIT,
        disk=disk,
        socket=socket_path,
        prepare=[["qemu-img", "create", "-q", "-f", "raw", disk, str(size_bytes)]],
        serve=["nbdkit", "--foreground", "--unix", socket_path, "file", disk],
    )


def qemu_luks(folder: Path, *, size_bytes: int) -> FileServer:
    """Return `qemu-nbd` on qcow2 with LUKS (AES-256-XTS): what people use.

    The passphrase travels in a file of mode 0600, which this makes.
    """
    disk, socket_path, passphrase = (folder / f"qemu.{end}" for end in ("qcow2", "sock", "key"))
    passphrase.touch(mode=0o600)
    passphrase.write_text(secrets.token_hex(32))
    key = f"--object=secret,id=key,file={passphrase}"
    luks = "encrypt.format=luks,encrypt.key-secret=key"
    image = f"driver=qcow2,file.filename={disk},encrypt.key-secret=key"
    create: list[str | Path] = [
        "qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        key,
        "-o",
        luks,
        disk,
        str(size_bytes),
    ]
    serve = ["qemu-nbd", "--persistent", "--shared=16", "--cache=writeback", key]
    return FileServer(
        name=QEMU,
        disk=disk,
        socket=socket_path,
        prepare=[create],
        serve=[*serve, f"--socket={socket_path}", "--image-opts", image],
    )


def answers(path: Path) -> bool:
    """Tell whether an NBD server greets on the unix socket `path`."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0 and greet(probe)


def greet(probe: socket.socket) -> bool:
    """Tell whether an NBD server is at the other end, and take polite leave of it."""
    probe.settimeout(START_LIMIT_S)
    greeting = probe.recv(GREETING_BYTES, socket.MSG_WAITALL)
    probe.sendall(ABORT)
    return greeting.startswith(b"NBDMAGIC")


def wait_for(ready: Callable[[], bool], *, of: subprocess.Popen[bytes]) -> None:
    """Return once `ready()`; raises `Unavailable` if `of` ends first or takes too long."""
    deadline_s = time.monotonic() + START_LIMIT_S
    while not ready():
        if of.poll() is not None:
            raise Unavailable(f"{of.args!r}: ended with status {of.returncode}")
        if time.monotonic() > deadline_s:
            raise Unavailable(f"{of.args!r}: not ready after {START_LIMIT_S} s")
        time.sleep(0.02)


def run_tool(*argv: str | Path, env: dict[str, str] | None = None) -> None:
    """Run a command; raises `Unavailable` with its complaint if it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise Unavailable(
            f"{shlex.join(map(str, argv))}: exit status {done.returncode}: {done.stderr.strip()}"
        )


def stop(server: subprocess.Popen[bytes] | None) -> None:
    """Ask the server to end, and kill it if it does not."""
    if server is None:
        return
    server.terminate()
    try:
        server.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def evict(files: Iterable[Path]) -> None:
    """Put `files` out of the page cache; clean pages alone can go, so sync them first."""
    for file in files:
        fd = os.open(file, os.O_RDONLY)
        try:
            os.fdatasync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
