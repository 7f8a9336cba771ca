"""Promises about what is read from /proc."""

import os
import socket
import subprocess
import threading
from pathlib import Path

from bench import machine
from bench.product import server_pid
from tests.export.rig import until


def test_written_bytes_after_writes_counts_files_and_not_sockets(tmp_path: Path) -> None:
    """Write amplification is about the medium: replies on a socket must not count."""
    left, right = socket.socketpair()
    with left, right, (tmp_path / "file").open("wb", buffering=0) as file:
        before_bytes = machine.written_bytes([os.getpid()])
        os.pwrite(file.fileno(), bytes(70_000), 4096)
        left.sendall(bytes(50_000))
        after_bytes = machine.written_bytes([os.getpid()])
    assert after_bytes - before_bytes == 70_000


def test_pss_bytes_of_this_process_lies_within_its_resident_size() -> None:
    """Shared pages count in part, so the sum over processes is what the machine spends."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    resident_bytes = pages * os.sysconf("SC_PAGE_SIZE")
    assert 0 < machine.pss_bytes(os.getpid()) <= resident_bytes + 16 * 2**20


def test_describe_names_the_mount_that_holds_the_folder() -> None:
    """The file system shown is the one measured on: the innermost mount."""
    assert machine.describe(Path("/proc/self")).filesystem.startswith("proc (")


def test_server_pid_of_a_unix_socket_is_its_listener(tmp_path: Path) -> None:
    """An exporter's memory is weighed, not its parent's: the socket says whose it is."""
    path = tmp_path / "nbd.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        greeter = threading.Thread(target=_greet_once, args=(listener,))
        greeter.start()
        try:
            assert server_pid(f"nbd+unix:///disk?socket={path}") == os.getpid()
        finally:
            greeter.join()


def _greet_once(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(b"NBDMAGICIHAVEOPT\0\3")
        connection.recv(100)


def test_stopped_processes_stand_still_and_go_on_afterwards() -> None:
    """A server that is not measured takes no processor time from the one that is."""

    def state(pid: int) -> str:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            with machine.stopped([process.pid]):
                until(lambda: state(process.pid) == "T")
            until(lambda: state(process.pid) == "S")
        finally:
            process.kill()


def test_stopped_goes_on_where_a_process_has_ended() -> None:
    """A server that ends while it stands still is no trouble."""
    with subprocess.Popen(["sleep", "60"]) as process, machine.stopped([process.pid]):
        process.kill()
        process.wait()
