"""Homes as files of this repository: packed without their zeros, and what they should hold.

`home.tar.xz` holds the home's files by their names, and the pool as one member for each
stretch of it that is not zero: `pool@` and the offset in hex. `manifest.json` says what
whoever opens it should find.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from scrubjay.app.home import Home

__all__ = ["HOMES", "Expected", "Manifest", "homes", "pack", "unpack"]

HOMES = Path(__file__).parent / "homes"
_ARCHIVE, _MANIFEST = "home.tar.xz", "manifest.json"
_FILES = ("VERSION", "sink", "catalog.db")
_POOL = "pool@"
_BLOCK_BYTES = 4096
_LOOK_BYTES = 1 << 20


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A volume that lives."""

    name: str
    id: str
    tenant: str
    size_bytes: int
    sha256: str
    """Of all its bytes."""
    story: str
    """What was done to it."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a home should hold."""

    made_by: str
    pool: str
    pool_bytes: int
    epoch: int
    tenants: tuple[str, ...]
    volumes: tuple[Expected, ...]
    destroyed: tuple[str, ...]
    """Ids of volumes that are no more, and left their birth records."""


def homes() -> list[str]:
    """Return the names of all homes, oldest first."""
    return sorted(path.parent.name for path in HOMES.glob(f"*/{_MANIFEST}"))


def pack(home: Home, manifest: Manifest, name: str) -> Path:
    """Write a home that nobody holds into this repository."""
    folder = HOMES / name
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / _ARCHIVE, "w:xz", format=tarfile.USTAR_FORMAT, preset=9) as archive:
        for each in _FILES:
            _add(archive, each, (home.path / each).read_bytes())
        for offset_bytes, data in _stretches(home.pool):
            _add(archive, f"{_POOL}{offset_bytes:x}", data)
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / _MANIFEST).write_bytes(text + b"\n")
    return folder / _ARCHIVE


def unpack(name: str, to: Path) -> tuple[Home, Manifest]:
    """Lay a home out in an empty folder."""
    manifest = msgspec.json.decode((HOMES / name / _MANIFEST).read_bytes(), type=Manifest)
    home = Home(to)
    home.make_folders()
    with tarfile.open(HOMES / name / _ARCHIVE, "r:xz") as archive, home.pool.open("wb") as pool:
        pool.truncate(manifest.pool_bytes)
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None, f"{member.name}: expected a file"
            if member.name.startswith(_POOL):
                pool.seek(int(member.name.removeprefix(_POOL), 16))
                pool.write(file.read())
                continue
            assert member.name in _FILES, f"{member.name}: expected one of {_FILES}"
            (home.path / member.name).write_bytes(file.read())
            (home.path / member.name).chmod(0o600)
    home.pool.chmod(0o600)
    return home, manifest


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _stretches(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, bytes) of what is not zero, in whole blocks."""
    with path.open("rb") as file:
        start, run = 0, bytearray()
        while data := file.read(_LOOK_BYTES):
            at = file.tell() - len(data)
            for skip in range(0, len(data), _BLOCK_BYTES) if data.strip(b"\0") else ():
                block = data[skip : skip + _BLOCK_BYTES]
                if not block.strip(b"\0"):
                    continue
                if run and start + len(run) != at + skip:
                    yield start, bytes(run)
                    run.clear()
                start = start if run else at + skip
                run += block
        if run:
            yield start, bytes(run)
