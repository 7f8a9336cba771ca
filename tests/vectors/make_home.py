"""Make the golden home of this version: python -m tests.vectors.make_home v1."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

from scrubjay import __version__
from scrubjay.app.home import Home
from scrubjay.app.making import make_home
from scrubjay.base.units import MIB, SECTOR_BYTES
from tests.control.rig import Hands
from tests.media.rig import size_of
from tests.model.oracle import Oracle
from tests.model.served import Served
from tests.vectors.archive import Expected, Manifest, pack
from tests.vectors.opened import Opened, opened

SLOTS = 20
_SPLIT_LEAST_BYTES = 1024


class Compressible:
    """Randomness that repeats, and gives way where the file sink asks for 128 KiB of it.

    A split of zeros and one block is as good as any for whoever reads it, and takes no
    room here. Nothing else asks for so much at once.
    """

    def __init__(self) -> None:
        self._random = Random(1)

    def token(self, size_bytes: int) -> bytes:
        """Return the next bytes."""
        if size_bytes > _SPLIT_LEAST_BYTES:
            return bytes(size_bytes)
        return self._random.randbytes(size_bytes)


class Story:
    """What is done to a home, and what should be in it afterwards."""

    def __init__(self, parts: Opened) -> None:
        self._parts = parts
        self._volumes: list[Expected] = []
        for tenant in ("acme", "zeta"):
            parts.daemon.tenants.create(tenant)

    def untouched(self) -> None:
        """Make a volume, and nothing else."""
        name = self._create("untouched", tenant="acme", size_bytes=64 * MIB)
        self._expect(name, Oracle(1, 1), "made, and never attached")

    def gone(self) -> str:
        """Write a volume and destroy it; return its id."""
        name = self._create("gone", tenant="acme", size_bytes=MIB)
        served = self._attach(name, Oracle(1, 2))
        served.write(((0, 3 * SECTOR_BYTES),))
        self._parts.detach(name)
        forgetting = self._parts.daemon.forgetting
        volume = str(self._parts.daemon.volumes.find(name).id)
        forgetting.destroy(name, check=lambda _: None)
        forgetting.carry_out()
        while forgetting.clear():
            pass
        return volume

    def worked(self) -> None:
        """Overwrite, trim, clean until sectors have moved, grow, write again, detach."""
        name = self._create("worked", tenant="acme", size_bytes=MIB)
        served = self._attach(name, Oracle(1, 3))
        served.write(((0, 5 * SECTOR_BYTES), (100_001, 70)))
        served.close_segment()
        served.write(((SECTOR_BYTES, 3 * SECTOR_BYTES),))
        served.zero(2 * SECTOR_BYTES, SECTOR_BYTES, exact=False)
        served.close_segment()
        served.clean(100)
        assert served.exporter.disk.counters.moved_bytes, "sectors have moved"
        served.exporter.checkpoint()
        grown = self._parts.grow(name, 2 * MIB)
        served = Served(served.oracle, served.exporter, grown, Counter())
        served.write(((2 * MIB - SECTOR_BYTES - 9, 900),))
        self._parts.detach(name)
        story = "overwritten, trimmed, cleaned, grown, detached; in slots of one destroyed"
        self._expect(name, served.oracle, story)

    def crashed(self) -> None:
        """Checkpoint, write on, flush, and kill the exporter."""
        name = self._create("crashed", tenant="zeta", size_bytes=MIB)
        served = self._attach(name, Oracle(2, 4))
        served.write(((0, 2 * SECTOR_BYTES),))
        served.exporter.checkpoint()
        served.write(((SECTOR_BYTES, 2 * SECTOR_BYTES), (70_000, 7)))
        served.zero(0, 100, exact=True)
        served.flush()
        self._parts.kill(name)
        story = "checkpointed, then written and flushed, then its exporter was killed"
        self._expect(name, served.oracle, story)

    def volumes(self) -> tuple[Expected, ...]:
        """Return what lives."""
        return tuple(self._volumes)

    def _create(self, name: str, *, tenant: str, size_bytes: int) -> str:
        self._parts.daemon.volumes.create(name, tenant=tenant, size_bytes=size_bytes)
        return name

    def _attach(self, name: str, oracle: Oracle) -> Served:
        exporter = self._parts.attach(name)
        return Served(oracle, exporter, exporter.disk.size_bytes, Counter())

    def _expect(self, name: str, oracle: Oracle, story: str) -> None:
        """Note what a volume holds, as its oracle knows it."""
        found = self._parts.daemon.volumes.find(name)
        content = oracle.expected(0, found.record.size_bytes)
        digest = hashlib.sha256(content).hexdigest()
        size = found.record.size_bytes
        self._volumes.append(Expected(name, str(found.id), found.tenant, size, digest, story))


def main() -> None:
    """Make it, and say what it became."""
    (name,) = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        entropy = Compressible()
        made = make_home(
            home, pool_bytes=size_of(SLOTS), label="golden", clock=Hands(), entropy=entropy
        )
        with opened(home, entropy) as parts:
            story = Story(parts)
            story.untouched()
            destroyed = story.gone()
            story.worked()
            story.crashed()
            manifest = Manifest(
                made_by=__version__,
                pool=str(made.pool),
                pool_bytes=made.pool_bytes,
                epoch=parts.daemon.keeper.epoch,
                tenants=("acme", "zeta"),
                volumes=story.volumes(),
                destroyed=(destroyed,),
            )
        archive = pack(home, manifest, name)
    sys.stdout.write(f"{archive.name}: {archive.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
