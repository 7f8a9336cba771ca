"""Retiring a medium: all of the pool is elsewhere, nothing is left, and a crash loses neither."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from scrubjay.app.evidence import open_offline
from scrubjay.app.home import Home
from scrubjay.app.leaving import opened_pool
from scrubjay.app.making import PoolDevice
from scrubjay.app.places import Leaving, Places, pool_path, read_places, write_places
from scrubjay.app.retired import Retired
from scrubjay.app.retiring import Target, retire
from scrubjay.app.sinks import open_sink
from scrubjay.base.errors import Conflict, Invalid, NotFound, ScrubjayError
from scrubjay.base.ids import Epoch
from scrubjay.base.ports import Clock, Entropy
from scrubjay.control.records import (
    CERTIFICATE_PREFIX,
    ENTRY_PREFIX,
    CertificateRecord,
    decode,
)
from scrubjay.control.retirement_records import ErasedRecord
from scrubjay.control.retirements import find_retirement, put_retirement
from scrubjay.control.view import View
from scrubjay.evidence.entries import RetiredEntry, parse_entry
from scrubjay.evidence.report import Verdict
from scrubjay.evidence.stages import parse_statement
from scrubjay.evidence.statement import Retired as Statement
from scrubjay.evidence.statement import Wiped
from scrubjay.evidence.verify import verify
from scrubjay.media.erase import Technique
from scrubjay.media.file import PoolFile
from scrubjay.media.finding import pool_at
from scrubjay.media.superblock import choose, read_copies
from tests.app.made import SLOTS, CutError, Cutting, copied, fresh, holds, made, written
from tests.control.rig import Hands
from tests.media import loops
from tests.media.rig import size_of
from tests.vectors.opened import opened

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def written_home() -> Iterator[Home]:
    """A home with a volume that was written to."""
    with tempfile.TemporaryDirectory(prefix="sj-") as name:
        home = made(Path(name) / "home")
        written(home)
        yield home


@pytest.fixture
def home(written_home: Home, folder: Path) -> Home:
    """A copy of it."""
    return copied(written_home, folder / "home")


def moved(
    home: Home,
    to: Path | None,
    *,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    sample: bool = False,
    overwrite: bool = False,
    technique: Technique = Technique.OVERWRITE,
    progress: Callable[[str, int, int], None] = lambda _step, _done, _total: None,
) -> Retired:
    """Retire the home's medium."""
    return retire(
        home,
        None if to is None else Target(to, overwrite=overwrite),
        clock=clock or Hands(),
        entropy=entropy or fresh(),
        sample=sample,
        technique=technique,
        progress=progress,
    )


def interrupted(home: Home, to: Path) -> tuple[Places, Leaving]:
    """Retire the home's medium until the erasing begins, where the power goes."""

    def cut(at: str, _done: int, _total: int) -> None:
        if at == "erase":
            raise CutError

    with pytest.raises(CutError):
        moved(home, to, progress=cut)
    places = read_places(home)
    assert places.leaving is not None
    return places, places.leaving


def opens(home: Home, path: Path) -> bool:
    """Whether a medium's superblocks open with what the home's sink holds now."""
    if not path.exists():
        return False
    sink = open_sink(home, fresh())
    medium = PoolFile.open(path, hold=False)
    try:
        choose(read_copies([medium]), sink.key)
    except ScrubjayError:
        return False
    finally:
        medium.close()
        sink.close()
    return True


def certified(home: Home) -> list[str]:
    """Issue what is due, as a daemon does when it starts; return the media's certificates.

    Each is verified, and stands in the log once.
    """
    clock = Hands(now=1_800_000_000_000_000_000)  # after all that happened
    with open_offline(home, clock=clock, entropy=fresh()) as (keeper, retirements):
        assert retirements.issue(), retirements.trouble
        view = View(keeper.pool)
        entries = [parse_entry(value) for _, value in view.scan(ENTRY_PREFIX)]
        rows = [
            decode(CertificateRecord, value, where="certificate")
            for _, value in view.scan(CERTIFICATE_PREFIX)
        ]
        found = [each.forgotten for each in rows if each.scope == "medium"]
        logged = [each.statement for each in entries if isinstance(each, RetiredEntry)]
        assert logged == found
        key = (home.evidence / "log.pub").read_text()
        for digest in found:
            report = verify(retirements.bundle(digest), key, now=keeper.now())
            assert report.verdict is not Verdict.NOT_PROVEN, report.reason
    return found


def test_retire_moves_everything_and_erases_the_old_file(home: Home, folder: Path) -> None:
    """The volume reads as before, from the new medium; the old one is gone, all of it read back."""
    old, new = home.pool, folder / "elsewhere"
    steps: dict[str, tuple[int, int]] = {}
    told = moved(home, new, progress=lambda step, done, total: steps.update({step: (done, total)}))
    assert holds(home)
    assert pool_path(home) == new
    assert not old.exists()
    assert told.clean
    assert told.pages == told.pages_read == size_of(SLOTS) // 4096
    assert (told.epoch_before, told.epoch_after) == (1, 2)
    assert told.kind == "file"
    assert told.technique == "overwrite"
    assert {done == total for done, total in steps.values()} == {True}
    assert set(steps) == {"copy", "erase"}
    assert told.certified is not None
    report = verify(Path(told.certified.bundle).read_bytes(), Path(told.certified.key).read_text())
    assert report.verdict is not Verdict.NOT_PROVEN, report.reason
    assert certified(home) == [told.certified.digest]
    facts = json.loads((home.retired / f"{told.id}.json").read_text())
    assert facts["certified"]["digest"] == told.certified.digest
    assert facts["mismatches"] == 0
    assert facts["moved_to"] == str(new)
    assert any("dropped epoch 1" in each for each in facts["logged"])
    assert any("keep their keys" in each for each in facts["assumed"])


def test_retired_medium_opens_nothing_though_its_erasing_left_all(home: Home, folder: Path) -> None:
    """A copy of the old medium from before is as good as blocks that survived (I3)."""
    copy = folder / "survived"
    copied(home, folder / "aside").pool.rename(copy)
    assert opens(home, copy), "the comparison can fail"
    moved(home, folder / "elsewhere")
    assert not opens(home, copy)
    assert opens(home, pool_path(home))


def test_pool_retired_twice_comes_back_to_a_file_in_the_home(home: Home, folder: Path) -> None:
    """Whatever it was named before; destroying and writing go on."""
    moved(home, folder / "elsewhere")
    moved(home, home.path / "pool2", sample=True, technique=Technique.OVERWRITE_RANDOM)
    assert read_places(home).pool == "pool2"
    home = copied(home, folder / "moved-home")  # what lies in the home moves with it
    assert holds(home)
    written(home, "db1")
    with opened(home, fresh()) as parts:
        parts.daemon.forgetting.destroy("db0", check=lambda _: None)
        parts.daemon.forgetting.carry_out()
        assert parts.daemon.keeper.epoch == Epoch(4)
    assert holds(home, "db1")


@pytest.mark.parametrize("first", [1, 2, 3])
def test_retire_cut_at_every_step_leaves_one_pool_and_is_finished(
    written_home: Home, folder: Path, first: int
) -> None:
    """Exactly one of the two media is the pool, and it says how to go on (I5, I6).

    In the end there is one certificate, wherever the power went.
    """
    new, outcomes = folder / "elsewhere", set()
    for at in range(first, 1000, 3):
        home = copied(written_home, folder / "home")
        new.unlink(missing_ok=True)
        try:
            moved(home, new, clock=(power := Cutting(at)), entropy=power)
        except CutError:
            pass
        else:
            break
        here = pool_path(home)
        outcomes.add(here)
        assert holds(home), f"cut at step {at}"
        other = new if here == home.pool else home.pool
        assert not opens(home, other), f"cut at step {at}: both open"
        going_on = None if read_places(home).leaving else new
        if here == home.pool or going_on is None:
            assert moved(home, going_on).clean
        assert not home.pool.exists()
        assert holds(home), f"cut at step {at}, and finished"
        assert read_places(home).leaving is None
        assert len(certified(home)) == 1, f"cut at step {at}, and certified"
    else:
        pytest.fail("it was cut at every step and never came to an end")
    assert outcomes == {home.pool, new}, "cuts before and after the move"


@pytest.mark.parametrize("step", ["copy", "erase"])
def test_retire_cut_in_the_middle_goes_on(home: Home, folder: Path, step: str) -> None:
    """Half a copy is begun anew, half an erasing goes on."""
    new = folder / "elsewhere"

    def cut(at: str, done: int, total: int) -> None:
        if at == step and done > total // 3:
            raise CutError

    with pytest.raises(CutError):
        moved(home, new, progress=cut)
    assert holds(home)
    if step == "erase":
        with pytest.raises(Conflict, match="left and not erased"):
            moved(home, folder / "third")
    moved(home, None if step == "erase" else new)
    assert holds(home)
    assert list(home.retired.iterdir())


def test_certificate_waits_where_it_cannot_be_issued_and_edited_facts_are_not_believed(
    home: Home, folder: Path
) -> None:
    """The daemon issues it at its next start, from what the pool knows, once."""
    away = home.catalog.rename(folder / "catalog.db")
    told = moved(home, folder / "elsewhere")
    assert told.certified is not None
    assert (told.certified.digest, told.clean) == ("", True)
    assert "no catalog" in told.certified.waits
    path = home.retired / f"{told.id}.json"
    path.write_text(path.read_text().replace('"pages_read"', '"pages_forged"'))
    away.rename(home.catalog)
    (digest,) = certified(home)
    assert certified(home) == [digest]
    with open_offline(home, clock=Hands(), entropy=fresh()) as (keeper, retirements):
        record = find_retirement(keeper.pool, told.id)
        assert record is not None
        assert record.certificate == digest
        statement = parse_statement(
            base64.b64decode(json.loads(retirements.bundle(digest))["envelope"]["payload"])
        )
        assert isinstance(statement.predicate, Statement)
        assert statement.predicate.erasure.pages_read == told.pages_read


def test_medium_of_which_the_pool_knows_nothing_is_erased_and_not_certified(
    home: Home, folder: Path
) -> None:
    """Whoever edits places.json gets no certificate about a medium of his invention (I8)."""
    places, leaving = interrupted(home, folder / "elsewhere")
    forged = msgspec.structs.replace(leaving, medium_id=uuid.uuid4())
    write_places(home, msgspec.structs.replace(places, leaving=forged))
    with pytest.raises(Conflict, match="of this pool, expected"):
        moved(home, None)
    home.pool.write_bytes(bytes(size_of(SLOTS)))  # nothing says by now which medium it was
    told = moved(home, None)
    assert told.certified is not None
    assert (told.certified.digest, certified(home)) == ("", [])
    assert "there is no certificate" in told.certified.waits


@pytest.mark.parametrize("others", [False, True])
def test_medium_whose_erasing_is_on_record_is_let_go_and_not_erased_again(
    home: Home,
    folder: Path,
    others: bool,
) -> None:
    """The power went between the two; what somebody put there since is left alone."""
    _, leaving = interrupted(home, folder / "elsewhere")
    with opened_pool(home, clock=Hands(), entropy=fresh()) as (pool, _):
        record = find_retirement(pool, leaving.medium_id)
        assert record is not None
        assert record.left_at is not None
        size_bytes = record.medium.size_bytes
        found = Wiped(
            technique="overwrite",
            pattern="overwrite-zeros",
            begun_at=record.left_at,
            erased_at=record.left_at,
            read_back_at=record.left_at,
            bytes_erased=size_bytes,
            pages=size_bytes // 4096,
            pages_read=7,
            reads="device",
            mismatches=0,
            unreadable=0,
            failed=(),
        )
        erased = ErasedRecord(wiped=found, looked_at=record.left_at, superblocks_opened=0)
        put_retirement(pool, msgspec.structs.replace(record, erased=erased))
    if others:
        home.pool.write_bytes(b"somebody else's" * 4096)
    told = moved(home, None)
    assert told.pages_read == 7
    assert home.pool.exists() == others
    assert told.certified is not None
    assert certified(home) == [told.certified.digest]
    assert read_places(home).leaving is None
    assert holds(home)


def test_living_medium_is_not_erased_though_places_say_that_it_was_left(
    home: Home, folder: Path
) -> None:
    """The pool's id is the same; the medium's is not."""
    places, leaving = interrupted(home, folder / "elsewhere")
    forged = msgspec.structs.replace(leaving, path=places.pool)
    write_places(home, msgspec.structs.replace(places, leaving=forged))
    with pytest.raises(ScrubjayError):
        moved(home, None)
    write_places(home, places)
    assert holds(home)


def test_retire_refuses_what_would_lose_something(home: Home, folder: Path) -> None:
    """Another's file, a medium too small, itself, nobody named, somebody serving."""
    other = folder / "other"
    other.write_bytes(b"mine")
    with pytest.raises(Conflict, match="something lies there"):
        moved(home, other)
    assert other.read_bytes() == b"mine"
    with pytest.raises(Invalid, match="the pool's own"):
        moved(home, home.pool)
    with pytest.raises(Invalid, match="expected where the pool is to go"):
        moved(home, None)
    with home.held(), pytest.raises(Conflict, match="held by another process"):
        moved(home, folder / "elsewhere")
    home.volumes.mkdir(parents=True, exist_ok=True)
    lock = os.open(home.volumes / f"{uuid.uuid4()}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(Conflict, match="attached, expected none"):
        moved(home, folder / "elsewhere")
    os.close(lock)
    assert holds(home)


def test_medium_that_is_another_one_by_now_is_not_erased(home: Home, folder: Path) -> None:
    """A name that moved on never costs somebody else his data."""

    def cut(at: str, _done: int, _total: int) -> None:
        if at == "erase":
            raise CutError

    with pytest.raises(CutError):
        moved(home, folder / "elsewhere", progress=cut)
    home.pool.unlink()
    with pytest.raises(NotFound, match="expected it to be erased"):
        moved(home, None)
    home.pool.write_bytes(b"somebody else's" * 4096)
    with pytest.raises(Conflict, match="other bytes"):
        moved(home, None)
    assert home.pool.read_bytes().startswith(b"somebody")


def test_pool_moves_from_device_to_larger_device_and_says_which(folder: Path) -> None:
    """Disks and LVM volumes in life, loop devices here; foreign contents are refused."""
    images = [loops.image_of(folder / f"disk{i}", size_of(SLOTS + i) + 512) for i in range(2)]
    with loops.loop(images[0]) as first, loops.loop(images[1]) as second:
        home = made(folder / "home", device=PoolDevice(first))
        written(home)
        loops.run("mkfs.ext4", "-q", "-F", str(second))
        with pytest.raises(Conflict, match="ext4"):
            moved(home, second)
        assert holds(home)
        told = moved(home, second, overwrite=True)
        assert told.kind == "block device"
        assert told.disks[0].node == str(first)
        assert told.certified is not None
        assert certified(home) == [told.certified.digest]
        assert told.size_bytes == told.pages * 4096 - 4096 + 512, "the last page is a shorter one"
        assert not any(images[0].read_bytes()), "also what lies behind the last page"
        assert holds(home)
        assert pool_at(second) == told.pool
        image = loops.image_of(folder / "small", size_of(SLOTS - 2))
        with loops.loop(image) as small, pytest.raises(Invalid, match=f"expected {SLOTS}"):
            moved(home, small)
