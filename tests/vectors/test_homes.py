"""Every home that a version of Scrubjay ever made opens, and holds what it should."""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from scrubjay.app.home import Home
from scrubjay.app.making import rebuild_catalog
from scrubjay.base.errors import Corrupt
from scrubjay.base.ids import VolumeId
from scrubjay.base.units import SEGMENT_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.engine.disk import Disk
from tests.control.rig import Hands, Seeded
from tests.vectors.archive import HOMES, Manifest, homes, unpack
from tests.vectors.opened import opened

ENTROPY = Seeded(Random(0))
ARCHIVE_BYTES_MAX = 200 << 10


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a path as short as that of a socket has to be."""
    with tempfile.TemporaryDirectory(prefix="jay-") as folder:
        yield Path(folder)


def digest(disk: Disk) -> str:
    """Return the SHA-256 of all that a volume holds."""
    content = memoryview(bytearray(disk.size_bytes))
    with disk.lock:
        disk.read_bytes(0, content)
    return hashlib.sha256(content).hexdigest()


def check(home: Home, manifest: Manifest) -> None:
    """Compare a home with its manifest; attach every volume, twice."""
    with opened(home, ENTROPY) as parts:
        daemon = parts.daemon
        assert str(daemon.keeper.pool_id) == manifest.pool
        assert daemon.keeper.epoch == manifest.epoch
        tenants = [each.name for each in daemon.tenants.page(after="", limit=9)]
        assert tenants == list(manifest.tenants)
        volumes = daemon.volumes.page(after="", limit=9)
        assert {each.record.name for each in volumes} == {each.name for each in manifest.volumes}
        for expected in manifest.volumes:
            found = daemon.volumes.find(expected.name)
            assert (str(found.id), found.tenant) == (expected.id, expected.tenant)
            assert found.record.size_bytes == expected.size_bytes
            for _ in range(2):
                assert digest(parts.attach(expected.name).disk) == expected.sha256, expected.story
                parts.detach(expected.name)
        with daemon.keeper.reading() as view:
            for each in manifest.destroyed:
                birth = view.birth_record(VolumeId(uuid.UUID(each)))
                assert birth.destruction is not None


@pytest.mark.parametrize("name", homes())
def test_home_of_any_version_opens_and_holds_what_it_should(place: Path, name: str) -> None:
    """I1, I4: whatever version wrote it, crashed without a detach or not."""
    check(*unpack(name, place))


@pytest.mark.parametrize("name", homes())
def test_home_rebuilt_without_catalog_holds_the_same(place: Path, name: str) -> None:
    """Pool and sink describe everything that matters."""
    home, manifest = unpack(name, place)
    home.catalog.unlink()
    rebuilt = rebuild_catalog(home, clock=Hands(), entropy=ENTROPY)
    assert (rebuilt.tenants, rebuilt.volumes) == (len(manifest.tenants), len(manifest.volumes))
    check(home, manifest)


@pytest.mark.parametrize("name", homes())
def test_home_with_a_flipped_bit_in_its_log_is_not_believed(place: Path, name: str) -> None:
    """The comparison can fail: one bit of one unit that is live."""
    home, manifest = unpack(name, place)
    with opened(home, ENTROPY) as parts:
        disk = parts.attach("worked").disk
        ((offset_bytes, _), *_) = disk.extents(0, 1)
        parts.detach("worked")
    assert offset_bytes > SLOTS_OFFSET_BYTES + SEGMENT_BYTES, "not in the metadata"
    with home.pool.open("r+b") as pool:
        pool.seek(offset_bytes)
        byte = pool.read(1)[0]
        pool.seek(offset_bytes)
        pool.write(bytes((byte ^ 1,)))
    with pytest.raises(Corrupt, match="unit at segment"):
        check(home, manifest)


def test_homes_of_this_repository_are_there_and_small() -> None:
    """At least one, and none that a clone would notice."""
    assert homes()
    for name in homes():
        assert (HOMES / name / "home.tar.xz").stat().st_size < ARCHIVE_BYTES_MAX
