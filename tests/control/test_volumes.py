"""Volumes: made, found, listed, grown."""

from __future__ import annotations

import uuid

import pytest

from scrubjay.base.errors import Conflict, Invalid, NotFound
from scrubjay.base.ids import LineageNo, VolumeId
from scrubjay.base.units import GIB, MIB, TIB
from scrubjay.control.view import View
from scrubjay.control.volumes import Volume
from tests.control.rig import World


def any_volume(_volume: Volume) -> None:
    """Let every volume pass."""


def test_volume_made_has_a_lineage_and_a_birth_record_of_its_own(world: World) -> None:
    """Two volumes share nothing, and each one's birth says so (I1)."""
    a = world.volumes.create("a", tenant="acme", size_bytes=GIB)
    b = world.volumes.create("b", tenant="acme", size_bytes=16 * TIB)
    assert a.record.lineage != b.record.lineage
    with world.keeper.reading() as view:
        for volume in (a, b):
            birth = view.birth_record(volume.id)
            assert birth.volume == volume.id
            assert birth.lineage == volume.record.lineage
            assert birth.encrypted_from_sector == 0
            assert birth.destruction is None
            assert view.lineage(LineageNo(birth.lineage)).next_segment == 1


def test_volume_is_found_by_name_and_by_id(world: World) -> None:
    """Names and ids both work."""
    made = world.volumes.create("a", tenant="zeta", size_bytes=GIB)
    assert world.volumes.find("a") == world.volumes.find(str(made.id)) == made
    assert made.tenant == "zeta"
    for unknown in ("b", str(uuid.UUID(int=1)), "", "x" * 500):
        with pytest.raises(NotFound):
            world.volumes.find(unknown)


def test_volume_of_a_taken_name_is_a_conflict_and_uses_no_number(world: World) -> None:
    """A refused request changes nothing."""
    world.volumes.create("a", tenant="acme", size_bytes=GIB)
    before = world.keeper.pool.generation
    with pytest.raises(Conflict):
        world.volumes.create("a", tenant="zeta", size_bytes=GIB)
    assert world.keeper.pool.generation == before


def test_volume_of_a_name_that_is_being_destroyed_says_to_wait(world: World) -> None:
    """A name is free again when its volume is forgotten, and not before."""
    world.volumes.create("a", tenant="acme", size_bytes=GIB)
    world.destroy("a")
    with pytest.raises(Conflict, match="being destroyed"):
        world.volumes.create("a", tenant="acme", size_bytes=GIB)
    world.forgetting.carry_out()
    world.volumes.create("a", tenant="acme", size_bytes=GIB)


def test_volume_asked_for_again_by_the_same_request_is_the_same(world: World) -> None:
    """A repeat that lost its answer finds what the first one made."""
    first = world.volumes.create("a", tenant="acme", size_bytes=GIB, request="digest")
    assert world.volumes.create("a", tenant="acme", size_bytes=GIB, request="digest") == first
    with pytest.raises(Conflict):
        world.volumes.create("a", tenant="acme", size_bytes=GIB, request="another")


@pytest.mark.parametrize(
    ("name", "tenant", "size_bytes", "error"),
    [
        ("A", "acme", GIB, Invalid),
        ("a", "acme", MIB - 4096, Invalid),
        ("a", "acme", GIB + 1, Invalid),
        ("a", "nobody", GIB, NotFound),
    ],
)
def test_volume_asked_for_wrongly_changes_nothing(
    world: World, name: str, tenant: str, size_bytes: int, error: type[Exception]
) -> None:
    """Bad input is refused before the pool is touched."""
    before = world.keeper.pool.generation
    with pytest.raises(error):
        world.volumes.create(name, tenant=tenant, size_bytes=size_bytes)
    assert world.keeper.pool.generation == before


def test_volumes_listed_by_tenant_are_its_own_only(world: World) -> None:
    """A list that names a tenant shows nobody else's (I1)."""
    for name, tenant in (("b", "acme"), ("a", "acme"), ("c", "zeta")):
        world.volumes.create(name, tenant=tenant, size_bytes=GIB)
    mine = world.volumes.page(after="", limit=9, tenant="acme")
    assert [each.record.name for each in mine] == ["a", "b"]
    everyone = world.volumes.page(after="a", limit=9)
    assert [each.record.name for each in everyone] == ["b", "c"]


def test_volume_resized_grows_and_never_shrinks(world: World) -> None:
    """Growing is safe; shrinking would drop data, so it is refused."""
    world.volumes.create("a", tenant="acme", size_bytes=GIB)
    grown = world.volumes.resize("a", size_bytes=2 * GIB, check=any_volume)
    assert grown.record.size_bytes == 2 * GIB
    assert world.volumes.find("a") == grown
    with pytest.raises(Invalid, match="shrink"):
        world.volumes.resize("a", size_bytes=GIB, check=any_volume)
    world.destroy("a")
    with pytest.raises(Conflict):
        world.volumes.resize("a", size_bytes=3 * GIB, check=any_volume)


def test_volume_resized_on_a_condition_that_fails_stays(world: World) -> None:
    """The condition is looked at in the same change (If-Match)."""
    made = world.volumes.create("a", tenant="acme", size_bytes=GIB)

    def refuse(volume: Volume) -> None:
        assert volume == made
        raise Conflict("changed")

    with pytest.raises(Conflict):
        world.volumes.resize("a", size_bytes=2 * GIB, check=refuse)
    assert world.volumes.find("a") == made


def test_volume_shown_says_whether_it_is_attached(world: World) -> None:
    """What holds the lock is served, and nothing else is."""
    made = world.volumes.create("a", tenant="acme", size_bytes=GIB)
    assert not world.volumes.find("a").attached
    world.attachments.attach("a")
    assert world.volumes.find("a").attached
    world.exporters.die(VolumeId(made.id))
    assert not world.volumes.find("a").attached


def test_volumes_are_listed_past_one_that_is_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume that was forgotten after the index was asked ends no page, and no listing."""
    for name in ("a", "b", "c", "d"):
        world.volumes.create(name, tenant="acme", size_bytes=GIB)
    gone = world.volumes.find("b").id
    shown = world.volumes.shown

    def shown_unless_gone(view: View, volume: VolumeId) -> Volume:
        if volume == gone:
            raise NotFound(f"volume {volume}: unknown")
        return shown(view, volume)

    monkeypatch.setattr(world.volumes, "shown", shown_unless_gone)
    pages = [world.volumes.page(after=after, limit=2) for after in ("", "c", "d")]
    assert [[each.record.name for each in page] for page in pages] == [["a", "c"], ["d"], []]
