"""The same bytes against programs that others wrote: their clients here, our client there."""

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from scrubjay.nbd import wire
from scrubjay.nbd.client import Opening
from scrubjay.nbd.replies import DISCONNECT, Data, Done, Replies, Status
from scrubjay.nbd.replies import Event as ReplyEvent
from tests.nbd.memory import SIZE_BYTES, MemoryServer, OneExport


def run(*command: str) -> str:
    """What a program prints; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, bytearray]]:
    """A memory server on a unix socket, one thread per connection, all on one disk."""
    path = folder / "nbd"
    disk = bytearray(SIZE_BYTES)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        threading.Thread(target=_accept, args=(listener, disk), daemon=True).start()
        try:
            yield f"nbd+unix:///db0?socket={path}", disk
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, disk: bytearray) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(connection, disk), daemon=True).start()


def _serve(connection: socket.socket, disk: bytearray) -> None:
    server = MemoryServer(OneExport())
    server.disk = disk
    with connection:
        try:
            connection.sendall(server.greeting)
            while not server.closed and (data := connection.recv(1 << 18)):
                connection.sendall(server.receive(data))
        except ConnectionError:
            return  # a client need not wait for the answer to its ABORT


@pytest.mark.real("nbdinfo")
def test_nbdinfo_of_export_shows_what_is_offered(tmp_path: Path) -> None:
    """A libnbd client sees the whole feature list, and the description through LIST and INFO."""
    with served(tmp_path) as (uri, _):
        for listing in ((), ("--list",)):
            (export,) = json.loads(run("nbdinfo", "--json", *listing, uri))["exports"]
            assert export["export-name"] == "db0"
            assert export["description"] == "the first of them"
            assert export["export-size"] == SIZE_BYTES
            assert export["contexts"] == ["base:allocation"]
            assert export["is_read_only"] is False
            features = ("cache", "df", "fast_zero", "flush", "fua", "multi_conn", "trim", "zero")
            assert all(export[f"can_{feature}"] for feature in features)
            sizes = [export[f"block_size_{each}"] for each in ("minimum", "preferred", "maximum")]
            assert sizes == [1, 4096, 32 << 20]


@pytest.mark.real("nbdcopy", "nbdinfo")
def test_nbdcopy_there_and_back_keeps_every_byte(tmp_path: Path) -> None:
    """I1: what libnbd copies in over several connections it copies out unchanged."""
    image, back = tmp_path / "image", tmp_path / "back"
    image.write_bytes(Random(5).randbytes(300_000) + bytes(SIZE_BYTES - 300_000))
    with served(tmp_path) as (uri, disk):
        run("nbdcopy", str(image), uri)
        assert disk == image.read_bytes()
        run("nbdcopy", uri, str(back))
        assert back.read_bytes() == image.read_bytes()
        extents = json.loads(run("nbdinfo", "--json", "--map", uri))
        assert [(each["offset"], each["type"]) for each in extents] == [(0, 0), (303104, 3)]


@pytest.mark.real("qemu-io", "qemu-img")
def test_qemu_with_odd_requests_keeps_every_byte(tmp_path: Path) -> None:
    """I1: qemu's unaligned writes, zeroes, discards and FUA land where they belong."""
    with served(tmp_path) as (uri, disk):
        commands = ("write -P 3 1 5", "read -P 3 1 5", "write -f -P 4 8k 4k", "flush")
        zeroes = ("write -P 9 64k 8k", "write -z 65k 512", "discard 512k 64k")
        options = [part for command in (*commands, *zeroes) for part in ("-c", command)]
        run("qemu-io", "-f", "raw", *options, uri)
        assert disk[:8] == b"\0" + b"\3" * 5 + b"\0\0"
        assert disk[8192:12288] == b"\4" * 4096
        assert disk[65 << 10 : (65 << 10) + 513] == bytes(512) + b"\x09"
        assert json.loads(run("qemu-img", "info", "--output=json", uri))["virtual-size"] == len(
            disk
        )


def _roundtrip(uri_socket: Path, export: str, size_bytes: int) -> list[ReplyEvent]:
    """Write, flush, read and ask for the status with our client, against another's server."""
    data = Random(6).randbytes(200_000)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(uri_socket))
        opening = Opening(export)
        while opening.session is None:
            connection.sendall(opening.receive(connection.recv(1 << 16)))
        assert opening.session.size_bytes == size_bytes
        replies = Replies(opening.session)
        _, write = replies.request(wire.CMD_WRITE, offset=4096, length=len(data))
        connection.sendall(write + data)
        events = _until_done(connection, replies)
        requests = [(wire.CMD_FLUSH, 0, 0), (wire.CMD_READ, 4096, len(data))]
        if opening.session.allocation_id is not None:
            requests.append((wire.CMD_BLOCK_STATUS, 0, size_bytes))
        requests.append((wire.CMD_READ, size_bytes, 512))
        for command, offset, length in requests:
            connection.sendall(replies.request(command, offset=offset, length=length)[1])
            events += _until_done(connection, replies)
        connection.sendall(DISCONNECT)
    found = b"".join(bytes(event.data) for event in events if isinstance(event, Data))
    assert found == data
    *well, past_the_end = [event for event in events if isinstance(event, Done)]
    assert all(done.error == 0 for done in well)
    assert past_the_end.error == wire.EINVAL
    return events


def _until_done(connection: socket.socket, replies: Replies) -> list[ReplyEvent]:
    events: list[ReplyEvent] = []
    while replies.pending:
        data = connection.recv(1 << 16)
        assert data, "the server hung up"
        events += replies.receive(data)
    return events


@pytest.mark.real("nbdkit")
def test_client_with_nbdkit_reads_what_it_wrote(tmp_path: Path) -> None:
    """Our client agrees with nbdkit on data, errors and block status."""
    path = tmp_path / "socket"
    with _daemon(path, "nbdkit", "-f", "-U", str(path), "memory", "4M"):
        events = _roundtrip(path, "", 4 << 20)
    (status,) = (event for event in events if isinstance(event, Status))
    assert sum(length for length, _ in status.extents) == 4 << 20
    assert {state for _, state in status.extents} == {0, wire.STATE_HOLE | wire.STATE_ZERO}


@pytest.mark.real("qemu-nbd")
def test_client_with_qemu_nbd_reads_what_it_wrote(tmp_path: Path) -> None:
    """Our client agrees with qemu-nbd on data, errors and block status."""
    path, image = tmp_path / "socket", tmp_path / "image"
    image.write_bytes(bytes(4 << 20))
    with _daemon(path, "qemu-nbd", "-t", "-f", "raw", "-k", str(path), "-x", "db0", str(image)):
        events = _roundtrip(path, "db0", 4 << 20)
    assert any(isinstance(event, Status) for event in events)


@contextmanager
def _daemon(path: Path, *command: str) -> Iterator[None]:
    """A server in the foreground, from the moment that it accepts on ``path``."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            while True:
                assert process.poll() is None, process.stderr and process.stderr.read()
                with socket.socket(socket.AF_UNIX) as probe:
                    if probe.connect_ex(str(path)) == 0:
                        break
                threading.Event().wait(0.02)
            yield
        finally:
            process.terminate()
