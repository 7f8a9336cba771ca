"""A pool whose file was moved away, or copied over, while the daemon has it open."""

from __future__ import annotations

from pathlib import Path

import pytest

from scrubjay.base.errors import Unavailable
from scrubjay.base.units import GIB
from scrubjay.media.file import PoolFile
from tests.control.rig import World
from tests.control.test_forgetting import decide, state_of

GONE = "pool file /home/pool: gone"


def test_displaced_pool_takes_nothing_new_and_says_so(world: World) -> None:
    """What was made there would be lost with the open file, silently."""
    world.volumes.create("old", tenant="acme", size_bytes=GIB)
    world.displaced = GONE
    assert GONE in world.pools.status().trouble
    assert "put it back" in world.pools.status().trouble
    with pytest.raises(Unavailable, match="gone"):
        world.volumes.create("new", tenant="acme", size_bytes=GIB)
    with pytest.raises(Unavailable, match="gone"):
        world.tenants.create("zeta")
    with pytest.raises(Unavailable, match="gone"):
        world.attachments.attach("old")
    with pytest.raises(Unavailable, match="gone"):
        decide(world, "old")
    world.displaced = ""
    assert world.pools.status().trouble == ""
    world.volumes.create("new", tenant="acme", size_bytes=GIB)


def test_displaced_pool_ends_no_epoch_before_it_is_back(world: World) -> None:
    """A pool that is put back later must still open with its sink (I6, I8)."""
    world.written("db0", tenant="acme")
    operation = decide(world, "db0")
    world.displaced = GONE
    with pytest.raises(Unavailable, match="gone"):
        world.forgetting.carry_out()
    with pytest.raises(Unavailable, match="gone"):
        world.purge()
    assert world.sink.epochs() == (1,)
    assert state_of(world, operation) == "running"
    world.displaced = ""
    world.forgetting.carry_out()
    assert state_of(world, operation) == "done"
    assert world.sink.epochs() == (2,)


def test_pool_file_knows_whether_it_is_in_place(tmp_path: Path) -> None:
    """Another name, another file or none: each is told, with the way back."""
    path, aside = tmp_path / "pool", tmp_path / "aside"
    medium = PoolFile.create(path, size_bytes=1 << 20, sparse=True)
    medium.expect_in_place()
    path.rename(aside)
    with pytest.raises(Unavailable, match="No such file") as caught:
        medium.expect_in_place()
    assert f"mv {aside} {path}" in caught.value.hint
    path.write_bytes(aside.read_bytes())
    with pytest.raises(Unavailable, match="another file lies there"):
        medium.expect_in_place()
    aside.rename(path)
    medium.expect_in_place()
    path.unlink()
    with pytest.raises(Unavailable) as caught:
        medium.expect_in_place()
    assert "it was deleted" in caught.value.hint
    medium.close()
    medium.expect_in_place()  # nobody holds it any more
