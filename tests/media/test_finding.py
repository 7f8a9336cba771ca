"""Finding a pool's device again: by a name that stays, and never another one in its place."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from scrubjay.base.errors import Conflict, Corrupt, ScrubjayError
from scrubjay.media.file import PoolFile
from scrubjay.media.finding import devices_with, expect_pool, pool_at, stable_name
from scrubjay.media.fresh import create_on_device
from scrubjay.media.simulated import SimulatedMedium
from tests.media import loops
from tests.media.rig import create, size_of


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A machine with a disk of two names, and an LVM volume."""
    names = tmp_path / "dev/disk/by-id"
    names.mkdir(parents=True)
    (tmp_path / "dev/vg").mkdir()
    for node in ("sdb", "sdc", "dm-3"):
        (tmp_path / "dev" / node).touch()
    for name in ("wwn-0x5000c500a1b2c3d4", "ata-ST4000_ZDH1"):
        (names / name).symlink_to("../../sdb")
    (tmp_path / "dev/vg/pool").symlink_to("../dm-3")
    return tmp_path


def test_name_of_a_disk_is_the_one_on_its_label(system: Path) -> None:
    """/dev/sdb may be another one tomorrow; model and serial number are not."""
    by_id = system / "dev/disk/by-id"
    assert stable_name(system / "dev/sdb", root=system) == by_id / "ata-ST4000_ZDH1"


def test_name_that_stays_is_kept_as_it_was_given(system: Path) -> None:
    """Of the disk's two names, and of LVM, whoever chose one meant it."""
    for given in (
        system / "dev/disk/by-id/wwn-0x5000c500a1b2c3d4",
        system / "dev/vg/pool",
        system / "dev/sdc",
    ):
        assert stable_name(given, root=system) == given


def test_pool_on_a_medium_is_told_by_its_superblock(tmp_path: Path) -> None:
    """Either copy does; what is no pool, or not there, is none."""
    path = tmp_path / "pool"
    medium = PoolFile.create(path, size_bytes=size_of(4), sparse=True)
    assert pool_at(path) is None
    pool = create([medium])
    pool.close()
    assert pool_at(path) == pool.pool_id
    with path.open("r+b") as file:
        file.write(bytes(4096))
    assert pool_at(path) == pool.pool_id
    assert pool_at(tmp_path / "away") is None
    assert pool_at(tmp_path) is None
    (tmp_path / "short").write_bytes(b"SCRUBJAY")
    assert pool_at(tmp_path / "short") is None


def test_medium_of_another_pool_is_refused_by_who_opens_it() -> None:
    """An exporter opens the path itself: it looks before it writes."""
    medium = SimulatedMedium(size_of(4))
    pool = create([medium])
    expect_pool(medium, pool.pool_id, Path("/dev/sdb"))
    with pytest.raises(Conflict, match=f"holds pool {pool.pool_id}"):
        expect_pool(medium, uuid.UUID(int=1), Path("/dev/sdb"))
    with pytest.raises(Corrupt):
        expect_pool(SimulatedMedium(size_of(4)), pool.pool_id, Path("/dev/sdb"))


def test_device_with_a_pool_is_found_among_all_of_them(tmp_path: Path) -> None:
    """Also where it appears twice: then both are named, and nobody guesses."""
    first, second = (loops.image_of(tmp_path / name, size_of(4)) for name in ("a", "b"))
    with loops.loop(first) as device, loops.loop(second) as other:
        pool = create([create_on_device(device)])
        pool.close()
        ours = {device, other}  # another run of this test makes pools of the same id
        assert set(devices_with(pool.pool_id)) & ours == {device}
        assert devices_with(uuid.UUID(int=1)) == []
        other.write_bytes(device.read_bytes()[: 1 << 20])
        assert set(devices_with(pool.pool_id)) >= ours


def test_machine_without_sysfs_has_no_devices_to_look_at(tmp_path: Path) -> None:
    """What cannot be looked at is an error, not an absence."""
    with pytest.raises(ScrubjayError):
        devices_with(uuid.UUID(int=1), root=tmp_path)
