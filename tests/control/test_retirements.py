"""Certificates of media: made of what the pool knows, once for each erasing, whatever crashes."""

from __future__ import annotations

import datetime as dt
import uuid
from pathlib import Path

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from scrubjay.base.errors import Corrupt, Unavailable
from scrubjay.control.records import encode
from scrubjay.control.retirement_records import (
    ErasedRecord,
    RetirementRecord,
    parse_retirement,
    retirement_key,
)
from scrubjay.control.retirements import (
    Retirements,
    assumed_of,
    find_retirement,
    logged_of,
    put_retirement,
    text_of,
)
from scrubjay.evidence.folder import Folder
from scrubjay.evidence.report import Verdict
from scrubjay.evidence.statement import FailedRange, MediumRetired, Wiped
from scrubjay.evidence.verify import verify
from tests.control.rig import World

NOW = dt.datetime(2023, 11, 14, tzinfo=dt.UTC)
MEDIUM = MediumRetired(
    kind="file",
    id=uuid.UUID(int=7),
    place="/old/pool",
    size_bytes=8192,
    disks=(),
    worth="CONDITIONAL",
    reason="an unknown file system: nothing tells what it does",
)
WIPED = Wiped(
    technique="overwrite",
    pattern="overwrite-zeros",
    begun_at=NOW,
    erased_at=NOW,
    read_back_at=NOW,
    bytes_erased=8192,
    pages=2,
    pages_read=2,
    reads="device",
    mismatches=0,
    unreadable=0,
    failed=(),
)
FAILED = replace(WIPED, mismatches=1, failed=(FailedRange(offset_bytes=4096, length_bytes=4096),))
RECORD = RetirementRecord(
    medium=MEDIUM,
    noted_at=NOW,
    epoch_before=0,
    moved_to="/new/pool",
    left_at=NOW,
    epoch_after=1,
    erased=ErasedRecord(wiped=WIPED, looked_at=NOW, superblocks_opened=0),
)


class LostError(BaseException):
    """The power is gone."""


class Cut(Folder):
    """A folder beneath which the power goes, before a file is written or after."""

    def __init__(self, root: Path, *, after: bool) -> None:
        super().__init__(root)
        self.after = after

    def write(self, path: str, data: bytes) -> None:
        """Write, or not, and lose the power."""
        if self.after:
            super().write(path, data)
        raise LostError


class Full(Folder):
    """A folder without space."""

    def write(self, path: str, data: bytes) -> None:
        """Refuse."""
        raise Unavailable(f"{path}: no space for {len(data)} bytes")


def retirements(world: World, folder: Folder | None = None) -> Retirements:
    """Open what issues them."""
    return Retirements(
        world.keeper, world.sink, world.log, folder or Folder(world.folder / "evidence")
    )


def digests(world: World) -> list[str]:
    """Return the certificates that are listed."""
    return [each.id for each in world.certificates.page(after=b"", limit=9)]


def test_medium_that_was_erased_is_certified_listed_and_shown_like_others(world: World) -> None:
    """By the same means as volumes that were destroyed, whose certificates stay."""
    world.written("a", tenant="acme")
    world.forgetting.destroy("a", check=lambda _: None)
    world.forgetting.carry_out()
    (volume,) = digests(world)
    put_retirement(world.keeper.pool, replace(RECORD, epoch_after=2))
    with capture_logs() as logs:
        assert retirements(world).issue()
    (issued,) = [each for each in world.certificates.page(after=b"", limit=9) if each.id != volume]
    assert logs[-1]["certificate"] == issued.id
    assert (issued.stage, issued.record.scope) == ("retired", "medium")
    assert issued.record.medium == MEDIUM.id
    assert issued.issued_at >= NOW
    assert world.certificates.find(issued.id[:12]) == issued
    assert world.certificates.blindings(issued) == []
    bundle = world.certificates.bundle(issued)
    assert bundle == retirements(world).bundle(issued.id)
    report = verify(bundle, str(world.log.key), now=world.keeper.now())
    assert report.verdict is Verdict.CONDITIONAL, report.reason
    assert world.certificates.find(volume[:12]).stage == "forgotten"
    world.certificates.go_on()
    assert world.certificates.find(issued.id).stage == "retired", "there is no second one"


def test_medium_is_certified_once(world: World) -> None:
    """However often somebody looks what is due."""
    put_retirement(world.keeper.pool, RECORD)
    for _ in range(3):
        assert retirements(world).issue()
    (digest,) = digests(world)
    found = find_retirement(world.keeper.pool, MEDIUM.id)
    assert found is not None
    assert found.certificate == digest


@pytest.mark.parametrize("after", [False, True])
def test_power_lost_beside_the_envelope_leaves_one_certificate(world: World, after: bool) -> None:
    """A file that no record names is none."""
    put_retirement(world.keeper.pool, RECORD)
    with pytest.raises(LostError):
        retirements(world, Cut(world.folder / "evidence", after=after)).issue()
    assert digests(world) == []
    world.close()
    again = World(world.disks, world.folder)
    assert retirements(again).issue()
    assert len(digests(again)) == 1
    again.close()


def test_certificate_that_cannot_be_issued_waits_and_says_why(world: World) -> None:
    """A full disk; a sink that holds an older key; it is issued when they are mended."""
    put_retirement(world.keeper.pool, replace(RECORD, epoch_after=9))
    refused = retirements(world)
    assert not refused.issue()
    assert "could still be opened" in refused.trouble
    put_retirement(world.keeper.pool, RECORD)
    full = retirements(world, Full(world.folder / "evidence"))
    assert not full.issue()
    assert "no space" in full.trouble
    assert digests(world) == []
    assert retirements(world).issue()
    assert len(digests(world)) == 1


@pytest.mark.parametrize("opened", [1, 2])
def test_medium_of_which_a_superblock_opened_is_refused(world: World, opened: int) -> None:
    """The sink had not dropped what it should."""
    erased = ErasedRecord(wiped=WIPED, looked_at=NOW, superblocks_opened=opened)
    put_retirement(world.keeper.pool, replace(RECORD, erased=erased))
    assert not retirements(world).issue()
    assert digests(world) == []


@pytest.mark.parametrize("change", [{"erased": None}, {"erased": None, "left_at": None}])
def test_medium_that_is_not_erased_yet_is_not_certified(
    world: World, change: dict[str, None]
) -> None:
    """Noted, or left: there is nothing to say yet."""
    put_retirement(world.keeper.pool, replace(RECORD, **change))
    assert retirements(world).issue()
    assert digests(world) == []


def test_erasing_that_failed_is_certified_as_such_and_the_next_one_by_itself(
    world: World,
) -> None:
    """Two erasings, two certificates; only the second one proves something."""
    erased = ErasedRecord(wiped=FAILED, looked_at=NOW, superblocks_opened=0)
    put_retirement(world.keeper.pool, replace(RECORD, erased=erased))
    assert retirements(world).issue()
    put_retirement(world.keeper.pool, RECORD)
    assert retirements(world).issue()
    first, second = world.certificates.page(after=b"", limit=9)
    assert (first.record.worth, second.record.worth) == ("NOT PROVEN", "CONDITIONAL")
    verdicts = [
        verify(world.certificates.bundle(each), str(world.log.key)).verdict
        for each in (first, second)
    ]
    assert verdicts == [Verdict.NOT_PROVEN, Verdict.CONDITIONAL]


def test_bundle_of_nothing_is_corrupt(world: World) -> None:
    """Neither file nor record."""
    with pytest.raises(Corrupt, match="is gone"):
        retirements(world).bundle("0" * 64)


def test_record_under_another_key_is_corrupt() -> None:
    """A record is about the medium that its key names."""
    key = retirement_key(MEDIUM.id)
    assert parse_retirement(key, encode(RECORD)) == RECORD
    with pytest.raises(Corrupt, match="expected its own"):
        parse_retirement(retirement_key(uuid.UUID(int=8)), encode(RECORD))
    with pytest.raises(Corrupt):
        parse_retirement(key, encode(RECORD).replace(b"overwrite", b"wished for"))


def test_sentences_follow_from_the_record() -> None:
    """What was not done is not told."""
    assert len(logged_of(replace(RECORD, erased=None))) == 2
    assert "2 of 2 pages" in logged_of(RECORD)[-1]
    assert RECORD.erased is not None
    odd = replace(RECORD.erased, wiped=replace(WIPED, bytes_erased=8193))
    assert "The last 1 bytes" in logged_of(replace(RECORD, erased=odd))[-1]
    assert any("It was a file" in each for each in assumed_of(RECORD))
    assert text_of("") == "?"
    assert text_of("a\x1bb") == "a?b"
    assert len(text_of("a" * 5000)) == 900
