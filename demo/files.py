"""Real files: gathered once, so that nothing changes them meanwhile, and compared by digest."""

import hashlib
import os
import shutil
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Tree", "differences", "gather", "interpreter_library", "survey"]

OTHERS = frozenset({"site-packages", "dist-packages", "__pycache__"})
"""Folders of the library tree that are not the interpreter's, or may change at any moment."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder of regular files."""

    folder: Path
    digests: Mapping[str, str]
    """Relative path -> SHA-256."""
    size_bytes: int


def interpreter_library() -> Path:
    """Return the folder of the interpreter's own library."""
    return Path(sysconfig.get_path("stdlib"))


def gather(source: Path, folder: Path, *, bytes_max: int) -> Tree:
    """Copy the regular files of `source`, in order of their names, as many as `bytes_max` hold.

    What cannot be read, is no regular file, or vanishes meanwhile is left out.
    """
    left_bytes = bytes_max
    folder.mkdir()
    for path in _regular(source):
        try:
            size_bytes = path.stat().st_size
            if size_bytes > left_bytes:
                continue
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        except OSError:
            continue
        left_bytes -= size_bytes
    return Tree(folder, survey(folder), bytes_max - left_bytes)


def survey(folder: Path) -> dict[str, str]:
    """Return the digest of every regular file below a folder, by relative path."""
    digests = {}
    for path in _regular(folder):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        digests[str(path.relative_to(folder))] = digest
    return digests


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Return in words what `found` has not, has too much, or has with another content."""
    return [
        *(f"{path} is missing" for path in sorted(expected.keys() - found.keys())),
        *(f"{path} was never written" for path in sorted(found.keys() - expected.keys())),
        *(
            f"{path} has another content"
            for path in sorted(expected.keys() & found.keys())
            if expected[path] != found[path]
        ),
    ]


def _regular(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - OTHERS)
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path
