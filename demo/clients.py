"""Copying between an image and a volume: by clients that we did not write, where there are any."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from demo.disk import PIECE_BYTES, Disk
from demo.programs import run

__all__ = ["Client", "Nbdcopy", "Ours", "QemuImg", "choose_clients"]


class Client(Protocol):
    """Something that speaks NBD."""

    name: str

    def write(self, image: Path, uri: str) -> None:
        """Write a whole image to the beginning of a volume."""
        ...

    def read(self, uri: str, image: Path) -> None:
        """Read a whole volume into a file."""
        ...


class QemuImg:
    """QEMU's."""

    name = "qemu-img convert"

    def write(self, image: Path, uri: str) -> None:
        """Leave the volume as it is but for what is written: -n."""
        run("qemu-img", "convert", "-n", "-t", "writeback", "-f", "raw", "-O", "raw", image, uri)

    def read(self, uri: str, image: Path) -> None:
        """Read it."""
        run("qemu-img", "convert", "-f", "raw", "-O", "raw", uri, image)


class Nbdcopy:
    """libnbd's."""

    name = "nbdcopy"

    def write(self, image: Path, uri: str) -> None:
        """Write it, and have it made durable."""
        run("nbdcopy", "--flush", image, uri)

    def read(self, uri: str, image: Path) -> None:
        """Read every byte, whatever the server says about holes."""
        run("nbdcopy", "--no-extents", uri, image)


class Ours:
    """Scrubjay's own, for machines that have no other."""

    name = "our own NBD client"

    def write(self, image: Path, uri: str) -> None:
        """Write it, and have it made durable."""
        with Disk(uri) as disk, image.open("rb") as file:
            at = 0
            while piece := file.read(PIECE_BYTES):
                if any(piece):
                    disk.write(at, piece)
                at += len(piece)
            disk.flush()

    def read(self, uri: str, image: Path) -> None:
        """Read every byte."""
        with Disk(uri) as disk, image.open("wb") as file:
            disk.read(lambda _, data: file.write(data), start=0, end=disk.size_bytes)


def choose_clients(
    find: Callable[[str], str | None] = shutil.which,
) -> tuple[Client, Client]:
    """Return who writes and who reads: two programs where two are installed."""
    known: list[tuple[str, Client]] = [("qemu-img", QemuImg()), ("nbdcopy", Nbdcopy())]
    there = [client for program, client in known if find(program)] or [Ours()]
    return there[0], there[-1]
