"""Loop devices and file systems on them, for tests that run as root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MAKERS = {
    "ext4": ("mkfs.ext4", "-q", "-F"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
}


def need_loops() -> None:
    """Skip a test where there are no loop devices to be had."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to set up loop devices")
    if not Path("/dev/loop-control").exists():
        pytest.skip("needs /dev/loop-control")
    if shutil.which("losetup") is None:
        pytest.skip("needs losetup")


@contextmanager
def loop(image: Path, *, sector_bytes: int = 512, options: tuple[str, ...] = ()) -> Iterator[Path]:
    """Lend a loop device over a file."""
    need_loops()
    sector = ("--sector-size", str(sector_bytes))
    try:
        device = Path(run("losetup", "--find", "--show", *sector, *options, str(image)).strip())
    except subprocess.CalledProcessError as error:
        pytest.skip(f"needs a loop device: {error.stderr.strip()}")
    try:
        yield device
    finally:
        run("losetup", "--detach", str(device))


@contextmanager
def mounted(kind: str, image: Path, at: Path, *, options: str = "rw") -> Iterator[Path]:
    """Make a file system in an image and lend its folder; skip where it cannot be made."""
    need_loops()
    program, *arguments = MAKERS[kind]
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    run(program, *arguments, str(image))
    at.mkdir()
    with loop(image) as device:
        try:
            run("mount", "-t", kind, "-o", options, str(device), str(at))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"needs {kind} in the kernel: {error.stderr.strip()}")
        try:
            yield at
        finally:
            run("umount", "--lazy", str(at))  # a failed test may still hold something open


def image_of(path: Path, size_bytes: int) -> Path:
    """Return a new sparse file."""
    path.touch()
    os.truncate(path, size_bytes)
    return path


def run(*command: str) -> str:
    """Run a program that has to succeed, and return what it prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
