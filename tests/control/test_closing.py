"""Closing a tenant: all of it, in one rotation, and true when it says done."""

from __future__ import annotations

import json
import uuid

import pytest

from scrubjay.base.errors import Conflict, NotFound, Unavailable
from scrubjay.base.ids import SegmentId, TenantNo
from scrubjay.base.units import GIB
from scrubjay.control import closing as room
from scrubjay.control.closing import ends_of
from scrubjay.control.keeper import Change, bring_forward
from scrubjay.control.records import TenantRecord, birth_key
from scrubjay.control.volumes import Volume
from scrubjay.keys import path
from scrubjay.keys.forgotten import Forgotten
from scrubjay.keys.tree import KeyTree
from scrubjay.media.simulated import Fault, IoKind
from tests.control.rig import World, Written
from tests.keys.world import MemoryNodeStore

ACME = TenantNo(1)


def close(world: World, reference: str = "acme") -> uuid.UUID:
    """Decide a tenant's end."""
    return world.forgetting.close(reference, check=lambda _tenant: None)


def state_of(world: World, operation: uuid.UUID) -> str:
    """How an operation stands."""
    return world.operations.find(operation)[0].state


def result_of(world: World, operation: uuid.UUID) -> dict[str, object]:
    """What an operation says in the end."""
    found = json.loads(world.operations.find(operation)[0].result)
    assert isinstance(found, dict)
    return found


def three(world: World) -> list[Written]:
    """Make volumes with segments of their own; attached."""
    return [world.written(name, tenant="acme") for name in ("a", "b", "c")]


def has_key(world: World, tenant: TenantNo) -> bool:
    """Whether the tree still has a tenant's node."""
    with world.keeper.changing() as change:
        tree = KeyTree(Tables(change), change.staged.root, world.entropy)
        try:
            tree.key_of(path.tenant(tenant))
        except Forgotten:
            return False
    return True


class Tables(MemoryNodeStore):
    """The tree's tables, read and never changed."""

    def __init__(self, change: Change) -> None:
        super().__init__()
        self._change = change

    def get(self, path: bytes) -> bytes | None:
        """Return a table."""
        return self._change.get(b"k" + path)


def test_tenant_closed_is_forgotten_in_one_rotation(world: World) -> None:
    """I3: however many volumes; and only those of this tenant."""
    three(world)
    for index in range(30):
        world.volumes.create(f"v{index}", tenant="acme", size_bytes=GIB)
    spared = world.written("z", tenant="zeta")
    operation = close(world)
    assert state_of(world, operation) == "running"
    world.forget()
    assert state_of(world, operation) == "done"
    assert (world.keeper.epoch, world.sink.epochs()) == (2, (2,))
    assert world.forgetting.pending() == 0
    assert not has_key(world, ACME)
    assert [each.record.name for each in world.volumes.page(after="", limit=99)] == ["z"]
    with world.keeper.changing() as change:
        branch = path.branch(TenantNo(2), spared.volume.record.lineage, 1)  # type: ignore[arg-type] # numbers
        assert [each.seed for each in change.segment_keys(branch, range(1, 4)) if each] == [
            each.key for each in spared.grants
        ]


def test_tenant_that_is_closing_withholds_all_at_once(world: World) -> None:
    """One commit: nothing is leased, attached, grown or made from there on (I3)."""
    a, _, _ = three(world)
    world.attachments.detach("b")
    before = world.keeper.pool.generation
    close(world)
    assert world.keeper.pool.generation == before + 1
    assert world.volumes.find("a").record.state == "destroying"
    assert {each.record.state for each in world.volumes.page(after="", limit=9)} == {"destroying"}
    with pytest.raises(Conflict):
        world.leases.lease(a.id, a.epoch, count=1, above=SegmentId(3))
    with pytest.raises(Conflict):
        world.attachments.attach("b")
    with pytest.raises(Conflict):
        world.volumes.resize("b", size_bytes=2 * GIB, check=lambda _: None)
    with pytest.raises(Conflict, match="being closed") as refused:
        world.volumes.create("new", tenant="acme", size_bytes=GIB)
    assert refused.value.hint
    with pytest.raises(Conflict, match="being closed"):
        world.tenants.create("acme")


def test_tenant_closing_shows_how_far_it_has_come(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress counts volumes forgotten, of all that there ever were."""
    monkeypatch.setattr(room, "_SLICE", 2)
    three(world)
    world.destroy("c")
    world.forget()
    world.volumes.create("d", tenant="acme", size_bytes=GIB)
    operation = close(world)
    world.forgetting.carry_out()
    seen = []
    while state_of(world, operation) == "running":
        progress = world.operations.find(operation)[1]
        seen.append((progress.done, progress.total, progress.unit))
        assert world.forgetting.clear()
    assert seen == [(1, 4, "volumes"), (3, 4, "volumes"), (4, 4, "volumes")]


def test_closing_names_every_volume_that_the_tenant_ever_had(world: World) -> None:
    """Those that were destroyed before too, each with how it ended (I8)."""
    a, b, _ = three(world)
    world.destroy("b")
    world.forget()
    operation = close(world)
    world.forget()
    result = result_of(world, operation)
    assert (result["epoch_before"], result["epoch_after"]) == (2, 3)
    volumes = result["volumes"]
    assert isinstance(volumes, list)
    assert [(each["epoch_after"], each["segments"]) for each in volumes] == [(3, 3), (2, 3), (3, 3)]
    with world.keeper.reading() as view:
        births = ends_of(view, ACME)
        record = view.closing(ACME)
        assert [each.volume for each in births] == list(view.closed(ACME))
        assert view.tenant(ACME).state == "closed"
    assert [births[0].volume, births[1].volume] == [a.id, b.id]
    assert all(each.destruction for each in births)
    assert record is not None
    assert record.volumes == 3
    assert (record.epoch_before, record.epoch_after) == (2, 3)
    assert record.forgotten_at is not None
    assert record.closed_at is not None
    assert record.decided_at < record.forgotten_at < record.closed_at


def test_tenant_without_volumes_loses_its_key_all_the_same(world: World) -> None:
    """A closing is a rotation, whatever there is left to forget (I3)."""
    operation = close(world)
    world.forget()
    assert result_of(world, operation)["volumes"] == []
    assert world.keeper.epoch == 2
    assert not has_key(world, ACME)
    assert has_key(world, TenantNo(2))


def test_tenant_closed_leaves_nothing_but_births_and_its_record(world: World) -> None:
    """Slots, directory, ledger, salts and tables are cleared away behind it."""
    free = world.pools.status().slots_free
    written = three(world)
    world.destroy("a")  # which makes tables of the tenant's seeds
    world.forget()
    close(world)
    world.forget()
    status = world.pools.status()
    assert (status.slots_free, status.slots_leased, status.tenants) == (free, 0, 1)
    with world.keeper.reading() as view:
        left: list[object] = []
        for letter in (b"v", b"l", b"b", b"d", b"g", b"h", b"w", b"f"):
            left += view.scan(letter)
        left += view.scan(b"k" + path.tenant(ACME))
        assert not left
        assert all(view.get(birth_key(each.id)) for each in written)


def test_name_of_a_closed_tenant_is_given_again(world: World) -> None:
    """To a new one, with a number and a key of its own (I6)."""
    old = world.tenants.find("acme")
    three(world)
    close(world)
    world.forget()
    with pytest.raises(NotFound):
        world.tenants.find("acme")
    assert world.tenants.find(str(old.id)).state == "closed"
    new = world.tenants.create("acme")
    assert (new.id, new.state) == (3, "active")
    again = world.written("a", tenant="acme")
    assert again.volume.record.tenant == 3
    with pytest.raises(Conflict, match="was closed"):
        world.volumes.create("b", tenant="1", size_bytes=GIB)
    with pytest.raises(Conflict, match="was closed"):
        close(world, "1")
    assert [each.id for each in world.tenants.page(after="", limit=9)] == [3, 2]
    everybody = world.tenants.page_of_all(after="", limit=2)
    everybody += world.tenants.page_of_all(after=room_place(everybody[-1]), limit=2)
    assert [(each.id, each.state) for each in everybody] == [
        (1, "closed"),
        (3, "active"),
        (2, "active"),
    ]


def room_place(tenant: TenantRecord) -> str:
    """Where a page ended."""
    return f"{tenant.name} {tenant.id:08}"


def test_catalog_brought_forward_knows_the_new_tenant_of_a_name(world: World) -> None:
    """A catalog that is made anew takes the closed one's name for nobody's."""
    close(world)
    world.forget()
    world.tenants.create("acme")
    bring_forward(world.keeper.pool, world.keeper.index)
    assert world.tenants.find("acme").id == 3


def test_closing_decided_twice_is_one(world: World) -> None:
    """Asking again returns the same operation; so does destroying one of its volumes."""
    three(world)
    operation = close(world)
    assert close(world) == operation
    assert world.forgetting.destroy("a", check=lambda _: None) == operation
    assert world.forgetting.pending() == 1


def test_closing_on_a_condition_that_fails_decides_nothing(world: World) -> None:
    """The condition is looked at in the same change (If-Match)."""

    def refuse(_tenant: TenantRecord | Volume) -> None:
        raise Conflict("changed")

    with pytest.raises(Conflict):
        world.forgetting.close("acme", check=refuse)
    assert world.tenants.find("acme").state == "active"
    assert world.operations.left_behind() == []
    with pytest.raises(NotFound):
        close(world, "nobody")


def test_closing_ends_the_exporters_and_waits_for_each(world: World) -> None:
    """A key in a living process is not forgotten, so nothing is claimed about it (I3, I8)."""
    written = three(world)
    other = world.written("z", tenant="zeta")
    operation = close(world)
    world.exporters.fails["kill"] = Unavailable("exporter: in the kernel")
    world.forget()
    assert state_of(world, operation) == "running"
    assert world.keeper.epoch == 1
    world.exporters.fails.clear()
    world.forget()
    assert state_of(world, operation) == "done"
    assert list(world.exporters.locks) == [other.id]
    assert {each.id for each in written} < {volume for _, volume in world.exporters.calls}


def test_closing_shares_its_rotation_with_what_was_destroyed_before(world: World) -> None:
    """One epoch for both; each operation ends, and each volume is named once."""
    three(world)
    world.volumes.create("z", tenant="zeta", size_bytes=GIB)
    destroyed = [world.forgetting.destroy(each, check=lambda _: None) for each in ("a", "z")]
    operation = close(world)
    world.forget()
    assert world.keeper.epoch == 2
    assert {state_of(world, each) for each in (*destroyed, operation)} == {"done"}
    volumes = result_of(world, operation)["volumes"]
    assert isinstance(volumes, list)
    assert len(volumes) == 3


def test_closing_waits_for_a_sink_that_cannot_drop(world: World) -> None:
    """Committed is not forgotten: nothing says done before the old epoch is gone (I3, I8)."""
    three(world)
    operation = close(world)
    world.disks.sink.inject(Fault.ERROR, after=2, kind=IoKind.WRITE)
    with pytest.raises(Unavailable):
        world.forgetting.carry_out()
    assert world.keeper.epoch == 2
    while world.forgetting.clear():
        pass
    assert state_of(world, operation) == "running"
    world.forget()
    assert world.sink.epochs() == (2,)
    assert state_of(world, operation) == "done"


def test_closing_of_more_than_one_record_lists_them_all(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists and slices go on where one ends."""
    monkeypatch.setattr(room, "_LISTED", 2)
    monkeypatch.setattr(room, "_SLICE", 3)
    made = [world.volumes.create(f"v{n}", tenant="acme", size_bytes=GIB).id for n in range(7)]
    operation = close(world)
    world.forget()
    assert state_of(world, operation) == "done"
    with world.keeper.reading() as view:
        assert list(view.closed(ACME)) == made
