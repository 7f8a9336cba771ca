"""Tenants: made once, found by name or id."""

from __future__ import annotations

import pytest

from scrubjay.base.errors import Conflict, Invalid, NotFound
from tests.control.rig import World


def test_tenant_made_is_found_by_name_and_id(world: World) -> None:
    """Names and ids both work."""
    made = world.tenants.create("newco")
    assert made.id == 3
    assert world.tenants.find("newco") == made
    assert world.tenants.find("3") == made


def test_tenant_with_a_name_of_digits_is_invalid(world: World) -> None:
    """I1: whoever means tenant 1 gets tenant 1: no later name takes its place."""
    with pytest.raises(Invalid):
        world.tenants.create("1")
    assert world.tenants.find("1").name == "acme"


@pytest.mark.parametrize(
    "reference", ["nobody", "99", "0", "-1", "", "9" * 40, "ä", "01", "0000000011"]
)
def test_tenant_that_is_not_there_is_not_found(world: World, reference: str) -> None:
    """A reference to nothing is NotFound, however it is spelled."""
    with pytest.raises(NotFound):
        world.tenants.find(reference)


def test_tenant_of_a_taken_name_is_a_conflict_and_changes_nothing(world: World) -> None:
    """A name is given once."""
    before = world.keeper.pool.generation
    with pytest.raises(Conflict):
        world.tenants.create("acme")
    assert world.keeper.pool.generation == before


def test_tenant_asked_for_again_by_the_same_request_is_the_same(world: World) -> None:
    """A repeat that lost its answer finds what the first one made."""
    first = world.tenants.create("newco", request="digest")
    assert world.tenants.create("newco", request="digest") == first
    with pytest.raises(Conflict):
        world.tenants.create("newco", request="another")


def test_tenants_listed_in_pages_come_by_name_each_once(world: World) -> None:
    """Pages begin behind the last name of the one before."""
    for name in ("m1", "b2", "zz"):
        world.tenants.create(name)
    first = world.tenants.page(after="", limit=3)
    rest = world.tenants.page(after=first[-1].name, limit=3)
    assert [each.name for each in first + rest] == ["acme", "b2", "m1", "zeta", "zz"]


def test_tenant_with_a_bad_name_is_invalid(world: World) -> None:
    """Names are checked before anything changes."""
    with pytest.raises(Invalid):
        world.tenants.create("Acme Inc.")
