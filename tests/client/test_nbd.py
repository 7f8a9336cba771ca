"""The project's own NBD client: against our exporter, and against servers that misbehave."""

from __future__ import annotations

import errno
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scrubjay.base.errors import NotFound, Unavailable
from scrubjay.base.units import MIB
from scrubjay.client.nbd import NbdClient
from scrubjay.nbd import wire
from tests.export.rig import home

Server = Callable[[socket.socket], None]


@pytest.fixture(scope="module")
def served() -> Iterator[Path]:
    """The socket of a volume of 64 MiB."""
    with home() as here:
        yield here.attach(here.volume())


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Server], Path]]:
    """Runs a function as the server of one connection; returns where it listens."""
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    threads = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("nbd")
        listener.listen()

        def run(serve: Server) -> None:
            connection, _ = listener.accept()
            with connection:
                serve(connection)

        def start(serve: Server) -> Path:
            threads.append(threading.Thread(target=run, args=(serve,)))
            threads[-1].start()
            return Path("nbd")

        yield start
        for each in threads:
            each.join(timeout=30)


@pytest.mark.real
def test_client_many_requests_at_once_bring_each_its_own(served: Path, seed: int) -> None:
    """Pieces written and read with several under way come back in order, each where it was."""
    chance = random.Random(seed)
    pieces = {offset: chance.randbytes(chance.randrange(1, 200_000)) for offset in
              range(0, 60 * MIB, MIB)}  # fmt: skip
    with NbdClient(served) as client:
        assert client.write_all(pieces.items()) == sum(map(len, pieces.values()))
        ranges = [(offset, len(data)) for offset, data in pieces.items()]
        assert list(client.read_all(ranges)) == list(pieces.items())
        assert list(client.read_all([])) == []


@pytest.mark.real
def test_client_dropped_ranges_are_told_from_data(served: Path) -> None:
    """What was trimmed or zeroed reads as zeros, and block status says where data is."""
    at = 61 * MIB
    with NbdClient(served) as client:
        client.write(at, os.urandom(64 << 10), fua=True)
        client.trim(at, 16 << 10)
        client.zero(at + (32 << 10), 16 << 10)
        client.flush()
        hole = wire.STATE_HOLE | wire.STATE_ZERO
        assert client.extents(at, 64 << 10) == [
            (16 << 10, hole), (16 << 10, 0), (16 << 10, hole), (16 << 10, 0),
        ]  # fmt: skip
        assert client.read(at, 16 << 10) == bytes(16 << 10)


@pytest.mark.real
def test_client_refused_request_raises_the_servers_errno(served: Path) -> None:
    """A refusal is an OSError with the errno of the protocol, and the connection goes on."""
    with NbdClient(served) as client:
        with pytest.raises(OSError, match=r".") as past_end:
            client.write(client.size_bytes, b"x")
        with pytest.raises(OSError, match=r".") as reading:
            client.read(client.size_bytes - 1, 2)
        assert (past_end.value.errno, reading.value.errno) == (errno.ENOSPC, errno.EINVAL)
        assert len(client.read(0, 5)) == 5


@pytest.mark.real
def test_client_unknown_export_is_not_found(served: Path) -> None:
    """Another name than the volume's is refused in words."""
    with pytest.raises(NotFound, match="no such name"):
        NbdClient(served, "other")


def test_client_without_a_server_is_unavailable(tmp_path: Path) -> None:
    """Nobody at the socket is Unavailable, and names it."""
    with pytest.raises(Unavailable, match="nowhere"):
        NbdClient(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(100), b"NBDMAGIC"],
    ids=["nothing", "http", "zeros", "half"],
)  # fmt: skip
def test_client_of_no_nbd_server_is_unavailable(
    server: Callable[[Server], Path], said: bytes
) -> None:
    """A server that is none is Unavailable, not a crash and not a hang."""
    path = server(lambda connection: connection.sendall(said))
    with pytest.raises(Unavailable):
        NbdClient(path)


def test_client_of_a_server_that_hangs_gives_up(server: Callable[[Server], Path]) -> None:
    """A server that says nothing is given up on after the stated time."""
    over = threading.Event()

    def hang(_connection: socket.socket) -> None:
        over.wait(30)

    path = server(hang)
    try:
        with pytest.raises(Unavailable):
            NbdClient(path, timeout_s=0.05)
    finally:
        over.set()
