"""The remanence audit: nothing comes back in a thousand cycles, and every planted leak is found."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from scrubjay.audit.marks import MARK_BYTES, Marks, Origin
from scrubjay.audit.remanence import CYCLES_MAX, Remanence, Report, check_extent
from scrubjay.base.errors import Invalid, NoSpace, Unavailable
from scrubjay.base.units import MIB, SECTOR_BYTES
from tests.audit.leaks import Dropping, PlainText, Recycling, Shuffling, Stale
from tests.audit.storage import SLOTS, LocalDisk, LocalStorage
from tests.model.blank import IN_MEMORY

MARK = b"0123456789abcdef"
_StorageT = TypeVar("_StorageT", bound=LocalStorage)


@contextmanager
def made(kind: type[_StorageT]) -> Iterator[_StorageT]:
    """A storage of a kind, in memory."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        storage = kind(Path(folder))
        yield storage
        storage.close()


def audited(storage: LocalStorage, cycles: int) -> Report:
    """Run an audit of small volumes."""
    return Remanence(storage, mark=MARK, size_bytes=MIB).run(cycles)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_thousand_cycles_bring_nothing_back() -> None:
    """Real engine, keys, slots and rotations: every slot went around, and nothing was seen (I1)."""
    with made(LocalStorage) as storage:
        report = audited(storage, 1000)
        assert report.clean, report.findings
        assert report.cycles == 1000
        assert report.foreign_blocks == report.lost_blocks == report.raw_marks == 0
        assert report.blocks_written == 1000 * (256 // 2 + 1 + 512)
        assert report.blocks_read == 1000 * (2 * 256 + 2 * 512)
        assert report.raw_bytes == storage.pool.size_bytes
        assert len(storage.slots) < SLOTS, "the slots of a pool, over and over"
        assert storage.leases > 100 * len(storage.slots)
        assert storage.volumes() == []


@dataclass
class Refusing(LocalDisk):
    """A disk that takes no byte, for this reason."""

    number: int = errno.ENOSPC

    def write_all(self, pieces: Iterable[tuple[int, bytes | memoryview]]) -> int:
        """Refuse."""
        raise OSError(self.number, os.strerror(self.number))


class Full(LocalStorage):
    """A pool with no room left for what is written."""

    number = errno.ENOSPC

    def attach(self, name: str) -> LocalDisk:
        """Attach, and have no write succeed."""
        return Refusing(super().attach(name).engine, self.number)


def test_audit_of_a_full_pool_says_so_and_takes_its_volume_away() -> None:
    """No bug of ours: there is no space, and what to do about it is said."""
    with made(Full) as storage:
        with pytest.raises(NoSpace, match="No space left") as caught:
            audited(storage, 3)
        assert "--size-mib" in caught.value.hint
        assert storage.volumes() == []
    with made(Full) as storage:
        storage.number = errno.EIO
        with pytest.raises(Unavailable, match="Input/output error"):
            audited(storage, 3)


def test_few_cycles_take_everything_away_again() -> None:
    """Volumes and tenants are gone, and the report says what was done."""
    heard: list[int] = []
    with made(LocalStorage) as storage:
        audit = Remanence(
            storage, mark=MARK, size_bytes=MIB, tell=lambda report: heard.append(report.cycles)
        )
        report = audit.run(3)
        assert report.clean
        assert heard == [1, 2, 3]
        assert (storage.volumes(), storage.kept_tenants, report.left) == ([], [], [])
        owners = [each.name for each in storage.daemon.tenants.page(after="", limit=9)]
        assert owners == [f"remanence-{MARK.hex()[:12]}-{each}" for each in "ab"]


@pytest.mark.parametrize(
    ("kind", "finding"),
    [
        (Recycling, "remanence-303132333435-2, new, block 0: block 0 of volume 1"),
        (Stale, "written in part, block 15: its own mark, beside bytes"),
        (Shuffling, "grown, detached and attached, block 5: block 4 of volume 1, version 1"),
    ],
)
def test_planted_leak_is_found_and_named(kind: type[LocalStorage], finding: str) -> None:
    """Whose block it was, and when it showed; an audit that finds nothing here is worth nothing."""
    with made(kind) as storage:
        report = audited(storage, 2)
    assert not report.clean
    assert report.foreign_blocks > 0
    assert (report.lost_blocks, report.raw_marks) == (0, 0)
    assert any(finding in each for each in report.findings), report.findings
    assert len(report.findings) <= 16


def test_planted_loss_is_told_apart_from_a_leak() -> None:
    """Zeros in the place of data are no remanence, and no success."""
    with made(Dropping) as storage:
        report = audited(storage, 1)
    assert (report.foreign_blocks, report.lost_blocks) == (0, 3)
    assert not report.clean


def test_plaintext_in_the_raw_media_is_found() -> None:
    """One block of a volume that is long destroyed, in the clear (I2)."""
    with made(PlainText) as storage:
        report = audited(storage, 2)
        assert report.raw_marks == SECTOR_BYTES // 32
        assert str(storage.pool.size_bytes - SECTOR_BYTES) in report.findings[0]
    assert (report.foreign_blocks, report.clean) == (0, False)


class Interrupting(LocalStorage):
    """Raises once, at the call behind so many, before or after it is done."""

    left = -1
    after = False
    error: type[BaseException] = KeyboardInterrupt

    def _counted(self, call: Callable[[], None]) -> None:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise self.error("now")
        call()
        if self.left == 0:
            raise self.error("now")

    def make_tenant(self, name: str) -> None:
        """Make a tenant, perhaps."""
        self._counted(lambda: LocalStorage.make_tenant(self, name))

    def make_volume(self, name: str, *, tenant: str, size_bytes: int) -> None:
        """Make a volume, perhaps."""
        self._counted(
            lambda: LocalStorage.make_volume(self, name, tenant=tenant, size_bytes=size_bytes)
        )

    def grow(self, name: str, *, size_bytes: int) -> None:
        """Let it grow, perhaps."""
        self._counted(lambda: LocalStorage.grow(self, name, size_bytes=size_bytes))

    def detach(self, name: str) -> None:
        """Detach it, perhaps."""
        self._counted(lambda: LocalStorage.detach(self, name))


@pytest.mark.parametrize("error", [KeyboardInterrupt, Unavailable])
@pytest.mark.parametrize("after", [False, True])
def test_interrupted_audit_leaves_nothing_behind(
    error: type[BaseException], *, after: bool
) -> None:
    """Ctrl-C, or a daemon that fails once, at any point: what was made is taken away."""
    for at in range(1, 9):
        with made(Interrupting) as storage:
            storage.left, storage.after, storage.error = at, after, error
            with pytest.raises(error):
                audited(storage, 3)
            assert storage.volumes() == []
            assert storage.kept_tenants == []


class Clinging(LocalStorage):
    """Neither destroys nor closes anything."""

    def destroy(self, name: str) -> None:
        """Refuse."""
        raise Unavailable(f"volume {name}: the sink is away")

    def close_tenant(self, name: str) -> bool:
        """Have no way to."""
        return False


def test_what_cannot_be_taken_away_is_said() -> None:
    """The report names it, for whoever has to."""
    with made(Clinging) as storage:
        report = audited(storage, 1)
    assert [each.partition(":")[0] for each in report.left] == [
        "volume remanence-303132333435-1",
        "tenant remanence-303132333435-a",
        "tenant remanence-303132333435-b",
    ]


@pytest.mark.parametrize(
    ("cycles", "size_bytes"),
    [(0, MIB), (-1, MIB), (CYCLES_MAX + 1, MIB), (1, 0), (1, MIB + 1), (1, 1 << 41)],
)
def test_extent_of_no_sense_is_invalid(cycles: int, size_bytes: int) -> None:
    """Before anything is made."""
    with pytest.raises(Invalid):
        check_extent(cycles, size_bytes)
    with made(LocalStorage) as storage:
        with pytest.raises(Invalid):
            Remanence(storage, mark=MARK, size_bytes=size_bytes).run(cycles)
        assert storage.daemon.tenants.page(after="", limit=1) == []


def test_mark_tells_its_origin_from_any_part_of_it() -> None:
    """Half a sector and a shifted one are enough."""
    marks, origin = Marks(MARK), Origin(7, 2, 12345)
    sector = marks.sector(origin)
    assert len(sector) == SECTOR_BYTES
    for part in (sector, sector[:512], b"x" * 100 + sector[32:64], sector[13:]):
        assert marks.origin(part) == origin
    assert marks.origin(bytes(SECTOR_BYTES)) is None
    assert Marks(MARK[::-1]).origin(sector) is None
    assert marks.origin(MARK) is not None, "cut off, and still a mark"


@pytest.mark.parametrize("mark", [b"", bytes(MARK_BYTES), b"ab" * 8, MARK + b"0"])
def test_mark_that_is_not_random_is_invalid(mark: bytes) -> None:
    """It would be found in places where nobody left it."""
    with pytest.raises(Invalid):
        Marks(mark)
