"""Files of sinks that are moved, copied over or removed while they are open."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from scrubjay.base.errors import Unavailable
from scrubjay.base.ids import Epoch
from scrubjay.sinks.file import FileSink
from scrubjay.sinks.locked import Displaced, LockedFile
from scrubjay.sinks.membership import Member, RecordFile
from scrubjay.sinks.mirrored import MirroredSink
from tests.keys.world import SeededEntropy
from tests.sinks.disks import POOL, SINK, key_of

FIRST, NEW = Epoch(1), Epoch(2)
Deed = Callable[[Path], None]


def restore(path: Path) -> None:
    """Do as one who makes a backup and puts it back."""
    backup = path.with_name("backup")
    shutil.copy2(path, backup)
    backup.rename(path)


def rename(path: Path) -> None:
    """Move it aside."""
    path.rename(path.with_name("aside"))


def swap(path: Path) -> None:
    """Move it aside, and put a copy there."""
    rename(path)
    shutil.copy2(path.with_name("aside"), path)


DEEDS = [restore, rename, Path.unlink, swap]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the sink of these tests lies."""
    return tmp_path / "sink"


@pytest.fixture
def sink(path: Path) -> FileSink:
    """An open sink that holds epoch 1."""
    return FileSink.create(path, SeededEntropy(1), sink_id=SINK, pool_id=POOL, epoch=FIRST)


@pytest.mark.parametrize("deed", DEEDS)
def test_displaced_sink_begins_no_epoch_and_says_nothing(
    sink: FileSink, path: Path, deed: Deed
) -> None:
    """Whoever opens that path later would find no newer epoch: so there is none (I8)."""
    deed(path)
    held = path.read_bytes() if path.exists() else b""
    for refused in (
        sink.epochs,
        sink.parts,
        sink.scour,
        sink.destroy,
        sink.expect_in_place,
        lambda: sink.key(FIRST),
        lambda: sink.prepare(NEW, key_of(NEW)),
        lambda: sink.drop(FIRST),
    ):
        with pytest.raises(Displaced) as caught:
            refused()
        assert str(path) in caught.value.message
        assert "before the daemon ends" in caught.value.hint
    assert (path.read_bytes() if path.exists() else b"") == held


@pytest.mark.parametrize("deed", DEEDS)
def test_sink_displaced_within_a_rotation_does_not_say_that_it_dropped(
    sink: FileSink, path: Path, deed: Deed
) -> None:
    """The drop is refused; what was prepared stays in the open file."""
    sink.prepare(NEW, key_of(NEW))
    deed(path)
    with pytest.raises(Displaced):
        sink.drop(FIRST)


@pytest.mark.parametrize("deed", [rename, swap])
def test_displaced_sink_goes_on_once_its_file_is_back(
    sink: FileSink, path: Path, deed: Deed
) -> None:
    """The hint names where the file is by now; moved back, nothing was lost."""
    deed(path)
    with pytest.raises(Displaced) as caught:
        sink.epochs()
    aside = path.with_name("aside")
    assert f"mv {aside} {path}" in caught.value.hint
    aside.rename(path)
    sink.prepare(NEW, key_of(NEW))
    sink.drop(FIRST)
    assert sink.epochs() == (NEW,)
    sink.close()
    assert FileSink.open(path, SeededEntropy(2)).epochs() == (NEW,)


def test_deleted_sink_can_be_taken_from_the_daemon_that_holds_it(
    sink: FileSink, path: Path
) -> None:
    """The hint is a command that works: what it makes opens, with the newest epoch."""
    sink.prepare(NEW, key_of(NEW))
    path.unlink()
    with pytest.raises(Displaced) as caught:
        sink.epochs()
    command = caught.value.hint.partition("`cp ")[2].partition("`")[0]
    source, target = command.split()
    shutil.copyfile(source, target)
    Path(target).chmod(0o600)
    sink.close()
    assert FileSink.open(path, SeededEntropy(2)).key(NEW) == key_of(NEW)


def test_file_on_a_disk_that_came_back_is_to_be_opened_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file under another device number is not displaced: a mirror opens it again."""
    file = LockedFile.create(path)
    status = path.stat()
    moved = os.stat_result((*status[:2], status.st_dev + 1, *status[3:10]))
    monkeypatch.setattr(Path, "lstat", lambda _path: moved)
    with pytest.raises(Unavailable, match="another device") as caught:
        file.expect_in_place()
    assert not isinstance(caught.value, Displaced)
    file.close()
    with pytest.raises(Unavailable, match="closed"):
        file.expect_in_place()


class Folder:
    """Members in real files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened = 0

    def open(self, member: Member) -> FileSink:
        """Open one."""
        self.opened += 1
        return FileSink.open(self.folder / member.where, SeededEntropy(2))

    def make(
        self, member: Member, *, sink_id: UUID, pool_id: UUID, epoch: Epoch, key: bytes
    ) -> FileSink:
        """Make one."""
        return FileSink.create(
            self.folder / member.where,
            SeededEntropy(1),
            sink_id=sink_id,
            pool_id=pool_id,
            epoch=epoch,
            key=key,
        )


@pytest.fixture
def members(tmp_path: Path) -> Folder:
    """Where the members of a mirror lie."""
    return Folder(tmp_path)


@pytest.fixture
def mirror(members: Folder) -> MirroredSink:
    """An open mirror of the files left and right."""
    return MirroredSink.create(
        RecordFile(members.folder / "mirror"),
        members,
        mirror_id=SINK,
        pool_id=POOL,
        places=[("file", "left"), ("file", "right")],
        epoch=FIRST,
        key=key_of(FIRST),
    )


@pytest.mark.parametrize("deed", DEEDS)
def test_displaced_member_is_away_and_what_lies_there_is_not_taken_for_it(
    mirror: MirroredSink, members: Folder, deed: Deed
) -> None:
    """A copy is a sound sink, but the keys of the open file would be nobody's business."""
    opened = members.opened
    deed(members.folder / "right")
    for _ in range(2):
        left, right = mirror.members()
        assert not left.away
        assert "before the daemon ends" in right.away
        with pytest.raises(Unavailable, match="right is away"):
            mirror.prepare(NEW, key_of(NEW))
    assert members.opened == opened
    assert mirror.key(FIRST) == key_of(FIRST)


def test_displaced_member_that_is_back_is_within_reach_again(
    mirror: MirroredSink, members: Folder
) -> None:
    """It is the open file that goes on: nothing was opened anew."""
    rename(members.folder / "right")
    assert mirror.members()[1].away
    (members.folder / "aside").rename(members.folder / "right")
    assert [each.away for each in mirror.members()] == ["", ""]
    mirror.prepare(NEW, key_of(NEW))
    mirror.drop(FIRST)
    assert mirror.epochs() == (NEW,)


def test_mirror_with_every_member_displaced_still_lists_them(
    mirror: MirroredSink, members: Folder
) -> None:
    """Who asks is told of each, and nothing else works."""
    for name in ("left", "right"):
        (members.folder / name).unlink()
    assert all(each.away for each in mirror.members())
    with pytest.raises(Unavailable, match="no member within reach"):
        mirror.epochs()
