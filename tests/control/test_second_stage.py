"""A second certificate waits for the slots that held its volumes' bytes, and for no other (I8)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from msgspec.structs import replace

from scrubjay.base.errors import NoSpace
from scrubjay.base.ids import Entry, SegmentId, VolumeId
from scrubjay.control.leases import Leases
from scrubjay.control.records import VolumeRecord, birth_key, encode, volume_key
from scrubjay.engine.lessor import Checkpoint, Purged
from tests.control.rig import World, Written
from tests.control.test_purging import later

SLOTS = 40
"""Few, so that whoever comes next gets a slot that waits."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A small pool, and two tenants."""
    made = World.make(tmp_path, slots=SLOTS)
    made.tenants.create("acme")
    made.tenants.create("zeta")
    yield made
    made.close()


def fill(world: World, written: Written) -> int:
    """Lease a volume all that there is; return its last segment."""
    top = max(each.segment for each in written.grants)
    for _ in count():
        try:
            grants = world.leases.lease(written.id, written.epoch, count=8, above=SegmentId(top))
        except NoSpace:
            break
        top = max(each.segment for each in grants)
    return top


def commit(
    world: World, written: Written, *, freed: tuple[int, ...] = (), filled: tuple[int, ...] = ()
) -> None:
    """Commit a checkpoint that frees segments, or says that they are full."""
    segments = tuple(SegmentId(each) for each in filled)
    checkpoint = Checkpoint(Entry(1), 1, False, 0, segments, Purged())
    world.leases.commit(
        written.id, written.epoch, checkpoint, freed=[SegmentId(each) for each in freed]
    )


def scrub(world: World) -> None:
    """Overwrite all that waits, and have certificates issued."""
    while world.scrubbing.turn():
        pass
    world.certificates.go_on()


def destroyed(world: World, name: str) -> None:
    """End a volume, clear it away and scrub what is free."""
    world.destroy(name)
    world.forget()
    later(world, 24)
    scrub(world)


def stages(world: World) -> list[bool]:
    """Return of each certificate, in order, whether its second stage is there."""
    found = world.certificates.page(after=b"", limit=100)
    return [bool(each.record.scrubbed) for each in found]


def dirty(world: World) -> Written:
    """Return a volume that leases a slot with the bytes of `a`, which was destroyed before."""
    a = world.written("a", tenant="acme")
    fill(world, a)
    world.destroy("a")
    world.forget()
    b = world.written("b", tenant="zeta", segments=1)
    scrub(world)
    assert stages(world) == [False]
    return b


def test_slot_leased_dirty_holds_back_none_but_whose_bytes_it_held(world: World) -> None:
    """For as long as it is not full; then the certificate of those comes as well."""
    b = dirty(world)
    for name in ("c", "d"):
        world.written(name, tenant="acme", segments=1)
        destroyed(world, name)
    assert stages(world) == [False, True, True]
    commit(world, b, filled=(1,))
    assert not world.certificates.go_on()
    assert stages(world) == [True, True, True]


def test_slot_that_a_volume_freed_in_life_holds_its_certificate_back(world: World) -> None:
    """Its bytes were there, whoever leased it since (I8)."""
    a = world.written("a", tenant="acme", segments=1)
    top = fill(world, a)
    commit(world, a, freed=tuple(range(1, top + 1)))
    b = world.written("b", tenant="zeta", segments=1)
    scrub(world)
    destroyed(world, "a")
    assert stages(world) == [False]
    commit(world, b, filled=(1,))
    assert not world.certificates.go_on()
    assert stages(world) == [True]


def test_slot_that_was_dirty_already_counts_for_all_that_had_it(world: World) -> None:
    """Its date is older than the volume that freed it, and is noted all the same (I8)."""
    b = dirty(world)
    commit(world, b, freed=(1,))
    c = world.written("c", tenant="acme", segments=1)
    fill(world, c)  # what b freed is among it, dated with the end of a
    destroyed(world, "b")
    assert stages(world) == [False, False]
    commit(world, c, filled=tuple(range(1, SLOTS)[: len(world.leases.group(c.id, c.epoch, 0))]))
    scrub(world)
    assert stages(world) == [True, True]


def test_volume_of_an_earlier_version_waits_for_every_older_slot(world: World) -> None:
    """Nobody noted what it freed: any of them may be its own (I8)."""
    b = dirty(world)
    c = world.written("c", tenant="acme", segments=1)
    with world.keeper.changing() as change:
        before = replace(change.volume(c.id), slots_since=None)
        change.put(volume_key(c.id), encode(before))
    commit(world, c, freed=(1,))
    destroyed(world, "c")
    with world.keeper.reading() as view:
        end = view.birth_record(c.id).destruction
    assert end is not None
    assert end.slots_since is None
    assert stages(world) == [False, False]
    commit(world, b, filled=(1,))
    assert not world.certificates.go_on()
    assert stages(world) == [True, True]


def test_ephemeral_volume_notes_the_slots_of_every_attachment(world: World) -> None:
    """Those of an earlier one held its bytes too."""
    volume = world.volumes.create("e", tenant="acme", size_bytes=1 << 30, ephemeral=True)
    served = world.attachments.attach("e")
    grants = world.leases.lease(volume.id, served.epoch, count=1, above=SegmentId(0))
    fill(world, Written(volume, served.epoch, list(grants)))
    world.attachments.detach("e")
    world.forget()
    b = world.written("b", tenant="zeta", segments=1)
    scrub(world)
    destroyed(world, "e")
    assert stages(world) == [False]
    commit(world, b, filled=(1,))
    assert not world.certificates.go_on()
    assert stages(world) == [True]


def test_certificate_that_cannot_be_finished_holds_no_other_back(world: World) -> None:
    """One whose record of birth is damaged is refused, and said to be."""
    b = dirty(world)
    commit(world, b, filled=(1,))
    a = VolumeId(world.certificates.page(after=b"", limit=1)[0].record.volumes[0])
    with world.keeper.changing() as change:
        change.put(birth_key(a), encode(replace(change.birth_record(a), destruction=None)))
    world.written("c", tenant="acme", segments=1)
    world.destroy("c")
    world.forget()
    while world.scrubbing.turn():
        pass
    assert world.certificates.go_on()
    assert stages(world) == [False, True]
    assert world.certificates.trouble


def test_slots_that_a_volume_forgets_that_it_freed_are_found_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above sees it when what was freed in life is not noted."""
    commits = Leases.commit

    def forgetful(leases: Leases, volume: VolumeId, *args: object, **named: object) -> int:
        percent = commits(leases, volume, *args, **named)  # type: ignore[arg-type] # as it was called
        with world.keeper.changing() as change:
            record: VolumeRecord = replace(change.volume(volume), slots_since=())
            change.put(volume_key(volume), encode(record))
        return percent

    monkeypatch.setattr(Leases, "commit", forgetful)
    with pytest.raises(AssertionError):
        test_slot_that_a_volume_freed_in_life_holds_its_certificate_back(world)
