"""Whom somebody means who asks for certificates: ids are kept, names for a while (I8)."""

from __future__ import annotations

import uuid

import pytest

from scrubjay.base.errors import Conflict, NotFound
from scrubjay.control.destroyed import Destroyed, digest_meant
from scrubjay.control.operations import VOLUME_DESTROY
from tests.control.rig import World
from tests.control.test_certificates import destroy


@pytest.fixture
def destroyed(world: World) -> Destroyed:
    """What finds them."""
    return Destroyed(world.keeper, world.operations)


def listed(world: World, volume: str | None = None, tenant: str | None = None) -> list[str]:
    """Return the ids of all certificates about these."""
    about = Destroyed(world.keeper, world.operations).about(volume=volume, tenant=tenant)
    return [each.id for each in world.certificates.page(after=b"", limit=1, about=about)] + [
        each.id for each in world.certificates.page(after=b"", limit=99, about=about)[1:]
    ]


def test_volume_is_found_by_its_id_and_by_the_name_that_it_had(world: World) -> None:
    """Two of one name are both meant; one that is like it is not."""
    first = world.written("a", tenant="acme")
    destroy(world, "a")
    again = world.volumes.create("a", tenant="acme", size_bytes=1 << 30)
    world.volumes.create("a-b", tenant="acme", size_bytes=1 << 30)
    destroy(world, "a-b")
    assert len(listed(world, "a")) == 1
    destroy(world, "a")
    assert len(listed(world)) == 3
    assert len(listed(world, "a")) == 2
    assert listed(world, str(first.id)) + listed(world, str(again.id)) == listed(world, "a")


def test_certificates_of_a_tenant_are_those_of_its_volumes(world: World) -> None:
    """By name or by number; together with a volume both have to fit."""
    world.written("a", tenant="acme")
    blue = world.tenants.create("blue")
    world.volumes.create("b", tenant="blue", size_bytes=1 << 30)
    destroy(world, "a")
    destroy(world, "b")
    assert len(listed(world, tenant="acme")) == 1
    assert listed(world, tenant="blue") == listed(world, tenant=str(blue.id)) == listed(world, "b")
    assert listed(world, "a", "blue") == []


@pytest.mark.parametrize("name", ["nobody", "%", "a%", "_", "a (", "", "a) (b"])
def test_name_that_nobody_had_is_told_where_names_are_kept(
    world: World, destroyed: Destroyed, name: str
) -> None:
    """No pattern is taken for one, whatever is in it."""
    world.written("a", tenant="acme")
    destroy(world, "a")
    with pytest.raises(NotFound, match="none of this name was destroyed in 30 days") as refused:
        destroyed.volumes(name)
    assert "the pool keeps ids" in refused.value.hint


def test_volume_that_lives_or_never_was_has_no_certificate(
    world: World, destroyed: Destroyed
) -> None:
    """Each is told apart."""
    alive = world.written("a", tenant="acme").id
    with pytest.raises(Conflict, match="not destroyed, so it has no certificate"):
        destroyed.volumes(str(alive))
    with pytest.raises(NotFound, match="this pool never had it"):
        destroyed.volumes(str(uuid.UUID(int=1)))
    with pytest.raises(NotFound, match="tenant 'nobody': unknown"):
        destroyed.tenants("nobody")


def test_certificate_is_found_by_the_id_of_its_volume_in_every_stage(world: World) -> None:
    """While it is decided only, that is said; afterwards `find` takes it, newest stage first."""
    alive = world.written("a", tenant="acme").id
    world.forgetting.destroy("a", check=lambda _volume: None)
    with pytest.raises(Conflict, match="its certificate is not issued yet"):
        world.certificates.find(str(alive))
    world.forgetting.carry_out()
    (issued,) = world.certificates.page(after=b"", limit=9)
    assert world.certificates.find(str(alive)) == issued
    assert world.certificates.find(issued.record.forgotten) == issued


def test_digest_is_never_taken_for_an_id(world: World) -> None:
    """32 hexadecimal digits without hyphens begin a digest."""
    alive = world.written("a", tenant="acme").id
    destroy(world, "a")
    with world.keeper.reading() as view:
        assert digest_meant(view, alive.hex) == alive.hex
        assert digest_meant(view, str(alive).upper()) == digest_meant(view, str(alive))
        with pytest.raises(NotFound, match="expected 8 to 64"):
            digest_meant(view, "nonsense")
    with pytest.raises(NotFound, match="unknown"):
        world.certificates.find(alive.hex)


def test_operations_that_destroy_are_called_as_they_are_looked_for(world: World) -> None:
    """The kind and the subject are forgetting.py's; were they others, names would be lost."""
    alive = world.written("a", tenant="acme").id
    (operation,) = destroy(world, "a")
    row, _ = world.operations.find(operation)
    assert (row.kind, row.subject) == (VOLUME_DESTROY, f"volume a ({alive})")
