"""A volume in memory behind a unix socket, for what speaks NBD in the demo."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.nbd.memory import MemoryServer, OneExport

__all__ = ["served"]


@contextmanager
def served(folder: Path, *, size_bytes: int) -> Iterator[tuple[str, bytearray]]:
    """Serve one connection after the other; yields the URI, and what the volume holds."""
    content = bytearray(size_bytes)
    path = folder / "nbd"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=_accept, args=(listener, content))
        thread.start()
        try:
            yield f"nbd+unix:///db0?socket={path}", content
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(listener: socket.socket, content: bytearray) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        server = MemoryServer(OneExport(size_bytes=len(content)))
        server.disk = content
        # A client need not wait for what is sent to it after its last request.
        with connection, suppress(ConnectionError):
            connection.sendall(server.greeting)
            while not server.closed and (data := connection.recv(1 << 18)):
                connection.sendall(server.receive(data))
