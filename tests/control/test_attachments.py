"""Attachments: at most one at a time, each with an epoch of its own."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

import pytest

from scrubjay.base.errors import Conflict, Corrupt, NotFound, Unavailable
from scrubjay.base.ids import VolumeId
from scrubjay.base.units import GIB
from scrubjay.control.attachments import Start
from scrubjay.control.liveness import Liveness
from tests.control.rig import World


@pytest.fixture
def volume(world: World) -> VolumeId:
    """A volume called db0."""
    return world.volumes.create("db0", tenant="acme", size_bytes=GIB).id


def test_attach_starts_an_exporter_under_the_next_epoch(world: World, volume: VolumeId) -> None:
    """The epoch is durable before the exporter runs."""
    served = world.attachments.attach("db0")
    assert (served.volume, served.name, served.epoch) == (volume, "db0", 1)
    assert world.exporters.calls == [("start", volume)]
    world.attachments.detach("db0")
    assert world.attachments.attach("db0").epoch == 2


def test_attach_of_an_attached_volume_is_a_conflict_that_says_where(
    world: World, volume: VolumeId
) -> None:
    """Two attachments of one volume never are (I1): the second changes nothing."""
    served = world.attachments.attach("db0")
    with pytest.raises(Conflict) as caught:
        world.attachments.attach(str(volume))
    assert served.uri in caught.value.hint
    assert world.attachments.find("db0").epoch == 1


def test_attach_that_fails_leaves_nothing_running(world: World, volume: VolumeId) -> None:
    """An exporter that could not recover is gone, and the volume can be attached again."""
    world.exporters.fails["start"] = Corrupt("volume db0: older than its checkpoint")
    with pytest.raises(Corrupt):
        world.attachments.attach("db0")
    assert world.exporters.calls == [("start", volume), ("kill", volume)]
    world.exporters.fails.clear()
    assert world.attachments.attach("db0").epoch == 2


def test_attach_of_a_volume_being_destroyed_is_a_conflict(world: World, volume: VolumeId) -> None:
    """Withheld at once: from the decision on nothing serves it (I3)."""
    world.destroy("db0")
    with pytest.raises(Conflict, match="destroyed"):
        world.attachments.attach("db0")
    assert world.exporters.calls == []


def test_detach_that_hangs_is_done_by_force(world: World, volume: VolumeId) -> None:
    """A detach always ends; whatever was flushed is kept all the same (I4)."""
    world.attachments.attach("db0")
    world.exporters.fails["detach"] = Unavailable("exporter: silent")
    world.attachments.detach("db0")
    assert world.exporters.calls[-1] == ("kill", volume)
    with pytest.raises(NotFound):
        world.attachments.find("db0")


def test_detach_of_a_detached_volume_is_not_found(world: World, volume: VolumeId) -> None:
    """There is no attachment to end, and the answer says so."""
    with pytest.raises(NotFound, match="not attached"):
        world.attachments.detach("db0")
    with pytest.raises(NotFound, match="unknown"):
        world.attachments.detach("db1")


def test_attachments_listed_are_those_whose_exporter_lives(world: World) -> None:
    """An exporter that died is not listed, however it died."""
    for name in ("a", "b", "c"):
        world.volumes.create(name, tenant="acme", size_bytes=GIB)
        world.attachments.attach(name)
    world.exporters.die(world.volumes.find("b").id)
    listed = world.attachments.page(after="", limit=9)
    assert [each.name for each in listed] == ["a", "c"]
    assert [each.name for each in world.attachments.page(after="a", limit=1)] == ["c"]


def test_growing_is_told_to_the_exporter_of_an_attached_volume_only(
    world: World, volume: VolumeId
) -> None:
    """A detached volume learns its size when it is attached."""
    world.attachments.tell_size(world.volumes.find("db0"))
    assert world.exporters.calls == []
    world.attachments.attach("db0")
    world.attachments.tell_size(world.volumes.find("db0"))
    assert world.exporters.calls[-1] == ("resize", volume)


def test_ending_a_volume_waits_for_an_attach_under_way(world: World, volume: VolumeId) -> None:
    """An exporter that is just starting is not missed by a destruction (I3)."""
    starting, go_on = threading.Event(), threading.Event()
    start = world.exporters.start

    def slow(order: Start) -> None:
        starting.set()
        assert go_on.wait(30)
        start(order)

    world.exporters.start = slow  # type: ignore[method-assign, assignment] # a fake's own
    attach = threading.Thread(target=world.attachments.attach, args=("db0",))
    attach.start()
    assert starting.wait(30)
    world.destroy("db0")
    end = threading.Thread(target=world.forgetting.carry_out)
    end.start()
    go_on.set()
    attach.join(30)
    end.join(30)
    assert world.exporters.calls == [("start", volume), ("kill", volume)]
    with pytest.raises(NotFound):
        world.volumes.find("db0")


def test_socket_is_named_for_the_volume_unless_that_is_too_long(tmp_path: Path) -> None:
    """A path that people can guess, and never one that the kernel refuses."""
    volume = VolumeId(uuid.UUID(int=7))
    short = Liveness(Path("/srv/run/volumes"))
    assert short.socket_path(volume, "db0") == Path("/srv/run/volumes/db0.sock")
    deep = Liveness(Path("/srv") / ("d" * 50))
    assert deep.socket_path(volume, "n" * 63).name == f"{volume}.sock"


def test_attach_for_a_group_lets_it_pass_to_the_socket_and_read_nothing(tmp_path: Path) -> None:
    """A hypervisor's user reaches its socket; who is not asked in reaches nothing."""
    folders = [tmp_path / "home", tmp_path / "home/run", tmp_path / "home/run/volumes"]
    for folder in folders:
        folder.mkdir(mode=0o700)
    Liveness(folders[2], above=folders[:2]).let_groups_pass()
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o711] * 3


def test_lock_looked_at_is_not_kept(tmp_path: Path) -> None:
    """Whoever looks whether a volume is served does not keep its exporter from starting."""
    liveness = Liveness(tmp_path)
    volume = VolumeId(uuid.UUID(int=7))
    assert not liveness.attached(volume)
    with liveness.withheld(volume) as free:
        assert free
        assert liveness.attached(volume)
    assert not liveness.attached(volume)
