"""The published log in a folder: each file whole or not there, and durable when written.

This is the one module of the room that touches a disk. The files hold no secret; but the home
around them is its owner's alone, so copy the folder to where auditors can read it (rsync).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from scrubjay.base.errors import Invalid, Unavailable

__all__ = ["Folder"]

_PART = re.compile(r"[a-z0-9][a-z0-9.]{0,95}")
_DEPTH_MAX = 16
_FILE_BYTES_MAX = 1 << 26
"""Above the largest bundle: 256 entries of 65535 bytes."""


class Folder:
    """`Files` of tiles.py in a folder of a file system that has rename and fsync."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes; None where there is none."""
        place = self._place(path)
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _refused(place, error) from error
        try:
            with os.fdopen(descriptor, "rb") as file:
                return file.read(_FILE_BYTES_MAX)
        except OSError as error:
            raise _refused(place, error) from error

    def write(self, path: str, data: bytes) -> None:
        """Put a file there: a draft, sync, rename, sync of its folder."""
        place = self._place(path)
        draft = place.with_name(f".{place.name}.new")
        try:
            self._make_folders(place.parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(draft, flags, 0o644), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(place)
            _sync(place.parent)
        except OSError as error:
            raise _refused(place, error) from error

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, drafts too; none where there is none."""
        place = self._folder(folder)
        try:
            return sorted(each.name for each in place.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _refused(place, error) from error

    def partials(self) -> list[str]:
        """Return the paths of all folders whose name ends in ".p"."""
        found = []
        for folder, names, _ in os.walk(self.root / "tile"):
            found += [Path(folder, each) for each in names if each.endswith(".p")]
            names[:] = [each for each in names if not each.endswith(".p")]
        return sorted(each.relative_to(self.root).as_posix() for each in found)

    def remove(self, folder: str, names: Sequence[str]) -> None:
        """Remove files once the folder above, where what replaces them lies, is synced."""
        place = self._folder(folder)
        try:
            _sync(place.parent)
            for each in names:
                (place / Path(each).name).unlink(missing_ok=True)
            if not any(place.iterdir()):
                place.rmdir()
        except OSError as error:
            raise _refused(place, error) from error

    def _folder(self, path: str) -> Path:
        return self._place(f"{path}/any").parent

    def _place(self, path: str) -> Path:
        """Return where a path leads: beneath the root, through no link; Invalid elsewhere."""
        parts = path.split("/")
        if len(parts) > _DEPTH_MAX or not all(_PART.fullmatch(part) for part in parts):
            raise Invalid(f"log file {path[:80]!r}: expected a path beneath the log's folder")
        place = self.root
        for part in parts[:-1]:
            place /= part
            if place.is_symlink():
                raise Invalid(f"log file {path}: {place} is a link, expected a folder")
        return place / parts[-1]

    def _make_folders(self, folder: Path) -> None:
        """Make a folder and those above it, each name durable before one beneath it."""
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for each in reversed(missing):
            each.mkdir(mode=0o755, exist_ok=True)
            _sync(each.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(place: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"log file {place}: {error.strerror}",
        hint="see that the log's folder can be written, and has space left",
    )
