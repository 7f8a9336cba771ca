"""The main job, step by step: what one tenant leaves behind, the next one never sees."""

import hashlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from demo.audit import Auditor
from demo.clients import choose_clients
from demo.disk import Disk
from demo.files import Tree, differences, gather, survey
from demo.home import Home
from demo.images import choose_image
from demo.pattern import EMPTY, Pattern
from demo.programs import run
from demo.report import GIB, MIB, Report, number, prove, size
from demo.search import BLOCK_BYTES, Probes, blocks_of, walk
from demo.slots import ZEROS, changed, fronts

__all__ = ["STEPS", "Story"]

STEPS = 14
ALICE, BOB = "alice", "bob"
DISK = "alice-disk"
SOURCE_BYTES_MAX = 64 * MIB
POOL_BYTES = 3 * GIB // 2
BOB_BYTES = 256 * MIB
BOB_PIECE_BYTES = 3 * MIB
BOB_VOLUMES_MIN, BOB_VOLUMES_MAX = 2, 5
""" many, until each slot of Alice's holds what he wrote."""
OWN_SLOTS = {0}
"""The pool's own pages lie in the first slot (docs/format/pool.md)."""
PLANT_OFFSET = 12_345
"""No multiple of anything, as a careless copy would lie."""


class Story:
    """Everything happens in `folder`, which is the caller's to delete."""

    def __init__(self, folder: Path, *, source: Path, report: Report) -> None:
        self.home = Home(folder / "home", log=folder / "serve.log")
        self._thief = Home(folder / "thief", log=folder / "thief.log")
        self._folder = folder
        self._source = source
        self._report = report
        self._image = choose_image()
        self._disk_id = ""
        self._writer, self._reader = choose_clients()

    def tell(self) -> None:
        """Do all of it; raises at the first thing that does not come out as promised."""
        tree, image, probes = self._gather()
        before = self._begin(image)
        uri = self._write(image)
        written = fronts(self.home.pool)
        slots = changed(before, written) - OWN_SLOTS
        prove(bool(slots), "Alice's writes changed no slot of the pool file")
        self._search(probes, "with Alice's data in it")
        self._kill(uri)
        self._read_back(tree, image)
        certificate = self._destroy()
        scrubbed = self._scrub(certificate, slots)
        patterns = self._reuse(slots, scrubbed)
        self._search(probes, "once more")
        self._rebuild(patterns)
        self._audit(certificate)

    def _gather(self) -> tuple[Tree, Path, Probes]:
        image = self._folder / "alice.img"
        with self._report.step(f"pack real files into an {self._image.name}") as step:
            tree = gather(self._source, self._folder / "files", bytes_max=SOURCE_BYTES_MAX)
            prove(bool(tree.digests), f"{self._source} holds no file that can be read")
            self._image.make(tree, image)
            step.proven(f"{number(len(tree.digests), 'file')}, {size(tree.size_bytes)}")
            step.proven(self._image.judge(image))
        with self._report.step("note what plaintext to look for later") as step:
            probes = Probes.of(blocks_of(image))
            prove(bool(probes.probes), "the files hold no block that one could look for")
            block = next(each for each in blocks_of(image) if probes.probes[0] in each)
            planted = self._folder / "planted"
            planted.write_bytes(bytes(PLANT_OFFSET) + block)
            found, _ = probes.search([planted])
            prove(bool(found), "the search does not find a block that was planted for it")
            step.proven(f"{number(len(probes.probes), 'block')} of {BLOCK_BYTES} bytes")
            step.proven(f"({probes.plain_count:,} more are too plain, as zeros)")
            step.proven("one that is planted at an odd place is found")
        return tree, image, probes

    def _begin(self, image: Path) -> list[bytes]:
        with self._report.step("init, serve, two tenants, a volume") as step:
            self.home.init(pool_bytes=POOL_BYTES)
            self.home.serve()
            self.home.hurry()
            for name in (ALICE, BOB):
                self.home.create_tenant(name)
            size_bytes = image.stat().st_size
            self._disk_id = self.home.create_volume(DISK, tenant=ALICE, size_bytes=size_bytes)
            pool = self.home.status()
            step.proven(f"a pool of {size(pool.size_bytes)} in {pool.slots} slots")
            step.proven(f"key sink: {pool.sink.kind}; what it forgets is {pool.sink.worth}")
            return fronts(self.home.pool)

    def _write(self, image: Path) -> str:
        with self._report.step(f"write it to Alice's volume with {self._writer.name}") as step:
            uri = self.home.attach(DISK)
            begun = time.perf_counter()
            self._writer.write(image, uri)
            with Disk(uri) as disk:
                disk.flush()
            speed = image.stat().st_size / (time.perf_counter() - begun)
            step.proven(f"{size(image.stat().st_size)} through NBD, flushed, {size(int(speed))}/s")
            return uri

    def _search(self, probes: Probes, when: str) -> None:
        with self._report.step(f"search every byte of the home {when}") as step:
            paths = [*walk(self.home.path), self.home.log]
            found, size_bytes = probes.search(paths, step.advance)
            places = ", ".join(f"{each.path} at byte {each.offset_bytes}" for each in found)
            prove(not found, f"plaintext of Alice's lies in {places}")
            step.proven(f"{size(size_bytes)}: not one of Alice's blocks")

    def _kill(self, uri: str) -> None:
        with self._report.step("kill -9 daemon and exporter; steal the pool") as step:
            count = self.home.kill(uri)
            step.proven(f"{count} processes killed: the daemon, the exporter, its parent")
            self._thief.path.mkdir()
            run("cp", "--sparse=always", self.home.pool, self._thief.pool)
            self._steal_sink()
            self._thief.rebuild()
            step.proven("with the key sink of now, the thief's copy opens")

    def _read_back(self, tree: Tree, image: Path) -> None:
        back = self._folder / "back.img"
        with self._report.step(f"serve and attach again; read with {self._reader.name}") as step:
            self.home.serve()
            self._reader.read(self.home.attach(DISK), back)
            prove(_digest(back) == _digest(image), "the volume reads other than it was written")
            step.proven(f"{size(back.stat().st_size)}, byte for byte as written")
        with self._report.step("check it, and compare every file") as step:
            step.proven(self._image.judge(back))
            folder = self._folder / "back"
            self._image.extract(back, folder)
            wrong = differences(tree.digests, survey(folder))
            prove(not wrong, f"{len(wrong)} files differ: {', '.join(wrong[:5])}")
            step.proven(f"{number(len(tree.digests), 'file')} equal to their source")

    def _destroy(self) -> str:
        with self._report.step("destroy Alice's volume") as step:
            certificate = self.home.destroy(DISK)
            prove(not self.home.volumes(), "the volume is still listed")
            step.proven("gone from the list; its key is forgotten")
            self._steal_sink()
            self._thief.refuse_rebuild()
            step.proven("with the key sink of now, the thief's copy opens no more")
            return certificate

    def _scrub(self, certificate: str, slots: set[int]) -> list[bytes]:
        with self._report.step("wait until her slots are overwritten") as step:
            self.home.wait_until_scrubbed(certificate)
            now = fronts(self.home.pool)
            left = [slot for slot in slots if now[slot] != ZEROS]
            prove(not left, f"{len(left)} of Alice's {len(slots)} slots hold something still")
            step.proven(f"{number(len(slots), 'slot')} read as zeros, and a second certificate")
            return now

    def _reuse(self, slots: set[int], scrubbed: Sequence[bytes]) -> list[Pattern]:
        patterns: list[Pattern] = []
        read_bytes = 0
        left = set(slots)
        with self._report.step("give the same slots to Bob's new volumes") as step:
            while left or len(patterns) < BOB_VOLUMES_MIN:
                prove(
                    len(patterns) < BOB_VOLUMES_MAX,
                    f"{len(left)} of Alice's {len(slots)} slots did not come to Bob",
                )
                pattern = Pattern(f"bob-{len(patterns) + 1}", piece_bytes=BOB_PIECE_BYTES)
                patterns.append(pattern)
                self.home.create_volume(pattern.name, tenant=BOB, size_bytes=BOB_BYTES)
                with Disk(self.home.attach(pattern.name)) as disk:
                    read_bytes += EMPTY.check(disk)
                    pattern.write(disk)
                    read_bytes += pattern.check(disk)
                self.home.detach(pattern.name)  # which gives back the slots that he did not fill
                left = slots - changed(scrubbed, fronts(self.home.pool))
                step.advance(len(slots) - len(left), len(slots))
            step.proven(
                f"{number(len(patterns), 'volume')}, {size(read_bytes)} read: nothing but zeros,"
            )
            step.proven("and between them, later, what Bob wrote himself")
            step.proven(f"{len(slots)} of Alice's {len(slots)} slots hold his data now")
        return patterns

    def _rebuild(self, patterns: Sequence[Pattern]) -> None:
        with self._report.step("delete the database; rebuild it from pool and sink") as step:
            tenants, volumes = self.home.tenants(), self.home.volumes()
            self.home.stop()
            for path in self.home.path.glob(f"{self.home.catalog.name}*"):
                path.unlink()
            self.home.rebuild()
            self.home.serve()
            prove(self.home.tenants() == tenants, "other tenants came back than there were")
            prove(self.home.volumes() == volumes, "other volumes came back than there were")
            names = f"{number(len(tenants), 'tenant')}, {number(len(volumes), 'volume')}"
            step.proven(f"{names} are back by name")
            for pattern in patterns:
                with Disk(self.home.attach(pattern.name)) as disk:
                    pattern.check(disk)
            step.proven("Bob's data reads as he wrote it")

    def _audit(self, certificate: str) -> None:
        folder = self._folder / "auditor"
        folder.mkdir()
        with self._report.step("hand over the certificate; check it with no daemon") as step:
            self.home.hand_over(certificate, folder, volume=self._disk_id)
            self.home.stop()
            auditor = Auditor(folder)
            verdict, passed = auditor.verify()
            step.proven(f"{verdict}: {number(passed, 'check')} passed, offline")
            step.proven("it is about Alice's volume, by the blinding value")
            auditor.refuse_forged()
            step.proven("with one character changed, it is refused: its signature")
            self._report.closing = auditor.shown()

    def _steal_sink(self) -> None:
        """Give the thief what the owner has besides the pool."""
        for name in ("sink", "VERSION"):
            shutil.copy(self.home.path / name, self._thief.path / name)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
