"""A volume's content, made and judged by other people's programs: an ext4 file system.

`mke2fs -d` fills it without mounting, `e2fsck` judges it, `debugfs` takes it apart again.
Where e2fsprogs is missing, a plain zip archive stands in, and the table says so.
"""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from demo.files import Tree
from demo.programs import run
from demo.report import MIB, Unproven

__all__ = ["Archive", "Ext4", "Image", "choose_image"]

SPARE_INODES = 256
SPARE_BYTES = 48 * MIB
"""For journal, inodes and directories, whatever the files are."""
GRAIN_BYTES = 32 * MIB


class Image(Protocol):
    """A way to put files into one big one."""

    name: str

    def make(self, tree: Tree, path: Path) -> None:
        """Make the image at `path`."""
        ...

    def judge(self, path: Path) -> str:
        """Return what an independent judge says of it; Unproven if nothing good."""
        ...

    def extract(self, path: Path, folder: Path) -> None:
        """Take it apart into a new folder."""
        ...


class Ext4:
    """A real file system."""

    name = "ext4 file system"

    def make(self, tree: Tree, path: Path) -> None:
        """Make it, a quarter larger than what is in it."""
        size_bytes = tree.size_bytes + tree.size_bytes // 4 + SPARE_BYTES
        size_bytes = -(-size_bytes // GRAIN_BYTES) * GRAIN_BYTES
        with path.open("wb") as file:
            file.truncate(size_bytes)
        inodes = 2 * len(tree.digests) + SPARE_INODES
        layout = ["-t", "ext4", "-b", "4096", "-m", "0", "-N", str(inodes)]
        run("mke2fs", "-q", "-F", *layout, "-d", tree.folder, path)

    def judge(self, path: Path) -> str:
        """Have e2fsck check all of it, changing nothing."""
        run("e2fsck", "-fn", path)
        return "e2fsck finds nothing to repair"

    def extract(self, path: Path, folder: Path) -> None:
        """Have debugfs copy everything out."""
        folder.mkdir()
        run("debugfs", "-R", f'rdump / "{folder}"', path)


class Archive:
    """What stands in for a file system where there are no programs for one."""

    name = "zip archive (e2fsprogs is not installed)"

    def make(self, tree: Tree, path: Path) -> None:
        """Store the files as they are, unpacked, so that there is plaintext to look for."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
            for name in tree.digests:
                archive.write(tree.folder / name, name)
        body = path.read_bytes()  # an archive may have something before it, nothing behind it
        path.write_bytes(bytes(-len(body) % MIB) + body)

    def judge(self, path: Path) -> str:
        """Check every checksum in it."""
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
        if bad is not None:
            raise Unproven(f"the archive's checksum of {bad} does not hold")
        return "every checksum of the archive holds"

    def extract(self, path: Path, folder: Path) -> None:
        """Unpack it."""
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)


def choose_image(find: Callable[[str], str | None] = shutil.which) -> Image:
    """Return the best kind of image that can be made and judged here."""
    wanted = ("mke2fs", "e2fsck", "debugfs")
    return Ext4() if all(find(each) for each in wanted) else Archive()
