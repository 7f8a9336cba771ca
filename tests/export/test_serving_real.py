"""Programs that others wrote, against a pool file, with cleaning and checkpoints under way.

Everything that an exporter puts around a volume is here but its process: the listening
socket, a thread per client, the flusher, the steward. The daemon is a dict.
"""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import pytest

from scrubjay.base.units import KIB, MIB
from scrubjay.engine.disk import Disk
from scrubjay.export.clients import Clients, listen
from scrubjay.export.flushing import Flusher
from scrubjay.export.steward import Pace, Steward
from scrubjay.media.file import PoolFile
from tests.engine.rig import Keeper, open_disk
from tests.export.volume import PATIENCE_S


def run(*command: str) -> str:
    """What a program prints; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass
class Served:
    """A volume on a socket."""

    uri: str
    disk: Disk
    complaints: list[str]


class Pool:
    """A pool file with one volume, to be served as often as one likes."""

    def __init__(self, folder: Path, *, size_bytes: int, slots: int = 64) -> None:
        self._socket = folder / "nbd"
        self._keeper = Keeper(slots=slots, size_bytes=size_bytes)
        self._medium = PoolFile.create(
            folder / "pool", size_bytes=self._keeper.medium_bytes, sparse=True
        )

    def close(self) -> None:
        """Close the file."""
        self._medium.close()

    @contextmanager
    def served(self, *, killed: bool = False) -> Iterator[Served]:
        """Attach and serve; at the end detach, or stop as if killed."""
        disk = open_disk(self._medium, self._keeper)
        complaints: list[str] = []
        flusher = Flusher(disk.sync, complaints.append)
        steward = Steward(
            disk,
            self._keeper.lessor(disk.attachment.epoch),
            poison=complaints.append,
            end=lambda error: complaints.append(str(error)),
            complain=complaints.append,
            pace=Pace(idle_s=0.2),
        )
        listener = listen(self._socket, gid=None)
        clients = Clients(listener, disk, flusher, steward, complaints.append)
        wake, waker = os.pipe()
        threads = [
            threading.Thread(target=body, daemon=True)
            for body in (flusher.run, steward.run, partial(clients.accept_until, wake))
        ]
        for each in threads:
            each.start()
        try:
            yield Served(f"nbd+unix:///v?socket={self._socket}", disk, complaints)
        finally:
            os.write(waker, b"\0")
            assert clients.leave(timeout_s=PATIENCE_S), "clients have left"
            steward.close()
            flusher.close()
            for each in threads:
                each.join(PATIENCE_S)
                assert not each.is_alive(), "the end is orderly"
            os.close(wake)
            os.close(waker)
        if not killed:
            steward.finish()
            disk.detach()
        assert complaints == []


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    """64 MiB of volume in a pool of a GiB."""
    with ExitStack() as stack:
        made = Pool(tmp_path, size_bytes=64 * MIB)
        stack.callback(made.close)
        yield made


def image_with_holes(path: Path, size_bytes: int) -> list[tuple[int, int]]:
    """Write a sparse image; return (offset, length) of its data."""
    data = [(0, 5 * MIB), (9 * MIB, 4 * KIB), (20 * MIB + 64 * KIB, 11 * MIB)]
    with path.open("wb") as file:
        file.truncate(size_bytes)
        for offset, length in data:
            file.seek(offset)
            file.write(Random(offset).randbytes(length))
    return data


@pytest.mark.real("nbdinfo")
def test_nbdinfo_shows_the_whole_feature_list(pool: Pool) -> None:
    """A libnbd client finds everything that docs/nbd.md offers."""
    with pool.served() as served:
        (export,) = json.loads(run("nbdinfo", "--json", served.uri))["exports"]
    assert export["export-size"] == 64 * MIB
    assert export["contexts"] == ["base:allocation"]
    features = ("cache", "df", "fast_zero", "flush", "fua", "multi_conn", "trim", "zero")
    assert all(export[f"can_{feature}"] for feature in features)
    sizes = [export[f"block_size_{each}"] for each in ("minimum", "preferred", "maximum")]
    assert sizes == [1, 4096, 32 * MIB]


@pytest.mark.real("nbdcopy", "nbdinfo")
def test_nbdcopy_there_and_back_keeps_every_byte_and_every_hole(pool: Pool, tmp_path: Path) -> None:
    """I1, I4: over several connections, past a kill, with holes that stay holes."""
    image, back = tmp_path / "image", tmp_path / "back"
    data = image_with_holes(image, 64 * MIB)
    with pool.served(killed=True) as served:
        run("nbdcopy", "--flush", "--connections=4", str(image), served.uri)
    with pool.served() as served:
        run("nbdcopy", "--connections=4", served.uri, str(back))
        assert back.read_bytes() == image.read_bytes()
        extents = json.loads(run("nbdinfo", "--json", "--map", served.uri))
        found = [(each["offset"], each["length"]) for each in extents if each["type"] == 0]
        assert found == data


@pytest.mark.real("qemu-img")
def test_qemu_img_converts_compares_and_maps(pool: Pool, tmp_path: Path) -> None:
    """I1, I4: an image converted in compares equal after a detach, and maps as it is."""
    image, qcow2 = tmp_path / "image", tmp_path / "image.qcow2"
    data = image_with_holes(image, 64 * MIB)
    raw = ("-f", "raw")
    run("qemu-img", "convert", *raw, "-O", "qcow2", str(image), str(qcow2))
    with pool.served() as served:
        run("qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", str(qcow2), served.uri)
    with pool.served() as served:
        run("qemu-img", "compare", *raw, "-F", "raw", str(image), served.uri)
        extents = json.loads(run("qemu-img", "map", "--output=json", *raw, served.uri))
        found = [(each["start"], each["length"]) for each in extents if each["data"]]
        assert found == data
        back = tmp_path / "back"
        run("qemu-img", "convert", *raw, "-O", "raw", "-m", "16", "-W", served.uri, str(back))
        assert back.read_bytes() == image.read_bytes()


@pytest.mark.real("qemu-io")
def test_qemu_io_with_odd_requests_keeps_every_byte(pool: Pool) -> None:
    """I1, I4: unaligned, vectored, FUA, zeroes with and without unmap, discards; then a kill."""
    image = bytearray(64 * MIB)
    commands = []
    for index, (offset, length) in enumerate(
        [(1, 5), (4095, 2), (100_000, 33_333), (MIB - 1, 2 * MIB + 2), (30 * MIB, 20 * MIB)]
    ):
        flag = " -f" if index % 2 else ""
        commands.append(f"write -P {index + 1}{flag} {offset} {length}")
        image[offset : offset + length] = bytes([index + 1]) * length
    for how, offset, length in (
        ("write -z", MIB + 3, 5000),
        ("write -z -u", MIB + 100_000, 500_000),
        ("write -z -u -f", 31 * MIB + 1, 7 * MIB),
        ("discard", 40 * MIB, 4 * MIB),
    ):
        commands.append(f"{how} {offset} {length}")
        image[offset : offset + length] = bytes(length)
    commands += ["writev -P 77 50M 4k 512 3", "aio_write -P 78 55M 1M", "aio_flush", "flush"]
    image[50 * MIB : 50 * MIB + 4611] = b"\x4d" * 4611
    image[55 * MIB : 56 * MIB] = b"\x4e" * MIB
    with pool.served(killed=True) as served:
        options = [part for command in commands for part in ("-c", command)]
        run("qemu-io", "-f", "raw", *options, served.uri)
    with pool.served() as served:
        assert read(served.disk, 0, 64 * MIB) == image


def read(disk: Disk, offset: int, length: int) -> bytes:
    """What the disk holds."""
    out = memoryview(bytearray(length))
    with disk.lock:
        disk.read_bytes(offset, out)
    return bytes(out)


FIO = (
    "--ioengine=nbd",
    "--rw=randwrite",
    "--loops=4",
    "--iodepth=16",
    "--verify=crc32c",
    "--verify_fatal=1",
    "--verify_backlog=200",
    "--randrepeat=0",
)
JOBS = (
    ("--name=odd", "--bsrange=512-200k", "--bs_unaligned=1", "--offset=0", "--size=24M"),
    ("--name=small", "--bsrange=4k-64k", "--offset=24M", "--size=24M"),
    ("--name=fixed", "--bs=4k", "--offset=48M", "--size=16M", "--fsync=64"),
)
"""All at once, each over a connection of its own."""


@pytest.mark.slow
@pytest.mark.real("fio")
def test_fio_verifies_mixed_sizes_while_cleaning_and_checkpoints_run(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I1: every block that fio reads back, aligned or not, is the last one that it wrote.

    I5: and all of them are still there after the exporter was killed.
    """
    monkeypatch.setattr("scrubjay.engine.cleaning.SLACK_SEGMENTS", 0)  # clean at once
    with pool.served(killed=True) as served:
        jobs = [part for job in JOBS for part in (job[0], *FIO, *job[1:], f"--uri={served.uri}")]
        run("fio", f"--aux-path={tmp_path}", *jobs)
        counters = served.disk.counters
        left = read(served.disk, 0, 64 * MIB)
    assert counters.checkpoints > 1
    assert counters.moved_bytes > MIB
    with pool.served() as served:
        assert read(served.disk, 0, 64 * MIB) == left
