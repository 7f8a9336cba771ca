"""Homes in this process, as `scrubjay init` makes them, and a power that can be cut."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

from scrubjay.app.home import Home
from scrubjay.app.making import PoolDevice, make_home
from scrubjay.app.sinks import SinkPlace
from tests.control.rig import Hands, Seeded
from tests.media.rig import size_of
from tests.model.oracle import Oracle
from tests.model.served import Served
from tests.vectors.opened import opened

__all__ = ["SLOTS", "CutError", "Cutting", "copied", "fresh", "holds", "made", "tracked", "written"]

SLOTS = 8
SIZE_BYTES = 1 << 17


_SEEDS = count(1)


def fresh() -> Seeded:
    """Return randomness that repeats from run to run, and not within one."""
    return Seeded(Random(next(_SEEDS)))


class CutError(BaseException):
    """The power is gone: nobody catches this."""


@dataclass
class Cutting:
    """Randomness, and a clock, that cut the power at the n-th look at either; 0: never."""

    at: int = 0
    seed: int = 1
    looks: int = 0
    now: int = 1_700_000_000_000_000_000
    random: Random = field(default_factory=lambda: Random(1))

    def __post_init__(self) -> None:
        """Begin with the seed."""
        self.random = Random(self.seed)

    def token(self, size_bytes: int) -> bytes:
        """Return the next bytes."""
        self._look()
        return self.random.randbytes(size_bytes)

    def now_ns(self) -> int:
        """Return the next moment."""
        self._look()
        self.now += 1_000_000_000
        return self.now

    def monotonic_ns(self) -> int:
        """Return the next moment."""
        return self.now_ns()

    def _look(self) -> None:
        self.looks += 1
        if self.looks == self.at:
            raise CutError


def made(
    path: Path,
    *,
    device: PoolDevice | None = None,
    sinks: Sequence[SinkPlace] = (SinkPlace("file"),),
) -> Home:
    """Make a home with a small pool."""
    home = Home(path)
    make_home(
        home,
        pool_bytes=None if device else size_of(SLOTS),
        device=device,
        sinks=sinks,
        label="main",
        clock=Hands(),
        entropy=fresh(),
    )
    return home


def written(home: Home, name: str = "db0") -> None:
    """Make a volume, and write to it."""
    with opened(home, fresh()) as parts:
        if not parts.daemon.tenants.page(after="", limit=1):
            parts.daemon.tenants.create("acme")
        parts.daemon.volumes.create(name, tenant="acme", size_bytes=1 << 20)
        served = Served(Oracle(1, 2), parts.attach(name), 1 << 20, Counter())
        served.write(((0, SIZE_BYTES),))
        served.flush()
        parts.detach(name)


def holds(home: Home, name: str = "db0") -> bool:
    """Whether a volume reads as it was written."""
    with opened(home, fresh()) as parts:
        out = memoryview(bytearray(SIZE_BYTES))
        disk = parts.attach(name).disk
        with disk.lock:
            disk.read_bytes(0, out)
        parts.detach(name)
        return bytes(out) == Oracle(1, 2).fresh(0, SIZE_BYTES)


def copied(home: Home, path: Path) -> Home:
    """Return a copy of a home, holes and all."""
    if path.exists():
        shutil.rmtree(path)
    shutil.copytree(home.path, path, copy_function=_copy)
    return Home(path)


def tracked(home: Home) -> list[Path]:
    """Return every file of a home and beside it that may hold a key."""
    return [
        path
        for folder in (home.path, home.path.parent)
        for path in folder.iterdir()
        if path.is_file() and "sink" in path.name
    ]


def _copy(source: str, target: str) -> None:
    """Copy a file by its stretches that are not holes."""
    with open(source, "rb") as old, open(target, "wb") as new:  # noqa: PTH123 - copytree hands texts
        while piece := old.read(1 << 20):
            if piece.strip(b"\0"):
                new.write(piece)
            else:
                new.seek(len(piece), 1)
        new.truncate(old.tell())
    shutil.copymode(source, target)
