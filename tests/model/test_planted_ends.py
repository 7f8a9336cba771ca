"""The model's checks of ephemeral volumes and of closings can fail: a story, told with bugs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from scrubjay.base.units import KIB, MIB
from scrubjay.control import attachments
from scrubjay.control.keeper import Change
from scrubjay.engine.ephemeral import EphemeralDisk, OwnKeys
from scrubjay.engine.lessor import Grant
from tests.model.house import House

Plant = Callable[[pytest.MonkeyPatch], None]


def tell(house: House) -> None:
    """Write, reset, lose and detach an ephemeral volume beside one that lasts; close a tenant."""
    house.tenant("acme")
    house.tenant("zeta")
    house.create("scratch", tenant="acme", size_bytes=MIB, ephemeral=True)
    house.create("db", tenant="acme", size_bytes=MIB)
    house.create("z", tenant="zeta", size_bytes=MIB)
    for name in ("scratch", "db", "z"):
        house.attach(name)
        house.write(name, (0, 100 * KIB))
        house.flush(name)
    house.reset("scratch")
    house.write("scratch", (8 * KIB, 30 * KIB))
    house.checkpoint("scratch")
    house.restart("older")
    house.read("scratch", 0, MIB)
    house.kill("scratch")
    house.attach("scratch")
    house.write("scratch", (0, 50 * KIB))
    house.crash()
    house.attach("scratch")
    house.write("scratch", (4 * KIB, 50 * KIB))
    house.detach("scratch")
    house.attach("scratch")
    house.attach("z")
    house.close_tenant("acme")
    house.read("z", 0, MIB)
    house.finish()


def test_story_of_ends_ends_well(house: House) -> None:
    """And everything that it is about happens in it."""
    tell(house)
    assert {"reset", "tenant closed", "power failed"} <= set(house.events)


def resets_nothing(patch: pytest.MonkeyPatch) -> None:
    """A reset that says it is done."""
    patch.setattr(EphemeralDisk, "reset", lambda _disk: None)


def frees_nothing(patch: pytest.MonkeyPatch) -> None:
    """A reset whose slots nobody ever gets back."""

    def give_back(disk: EphemeralDisk) -> None:
        disk._held -= len(disk._abandoned)  # noqa: SLF001 - a bug
        disk._abandoned = ()  # noqa: SLF001 - a bug

    patch.setattr(EphemeralDisk, "give_back", give_back)


def begins_where_it_ended(patch: pytest.MonkeyPatch) -> None:
    """An attachment in the lineage of the one before."""
    patch.setattr(attachments, "blank", lambda _change, _volume, record, now: record)


def writes_its_keys_down(patch: pytest.MonkeyPatch) -> None:
    """An exporter that keeps a copy of its keys on the medium."""
    real = OwnKeys.lease

    def lease(keys: OwnKeys, count: int) -> Sequence[Grant]:
        grants = real(keys, count)
        local = keys._lessor  # noqa: SLF001 - a bug
        medium = local.leases()._keeper.pool._media[0]  # type: ignore[attr-defined] # noqa: SLF001 - a bug
        medium.write(medium.size_bytes - 4096, grants[0].key.ljust(4096, b"\0"))
        return grants

    patch.setattr(OwnKeys, "lease", lease)


def closes_and_keeps_the_key(patch: pytest.MonkeyPatch) -> None:
    """A rotation to a new epoch of a tree that still has the tenant."""

    def rotate_only(change: Change, _paths: object, *, epoch: int, epoch_key: bytes) -> None:
        change.staged.rotate(epoch, epoch_key=epoch_key, root=change.staged.root)  # type: ignore[arg-type] # a number

    patch.setattr(Change, "forget", rotate_only)


@pytest.mark.slow
@pytest.mark.parametrize(
    "plant",
    [
        resets_nothing,
        frees_nothing,
        begins_where_it_ended,
        writes_its_keys_down,
        closes_and_keeps_the_key,
    ],
)
def test_story_told_with_a_bug_is_found_out(
    house: House, monkeypatch: pytest.MonkeyPatch, plant: Plant
) -> None:
    """Whatever is planted, some check raises."""
    with monkeypatch.context() as patch:
        plant(patch)
        with pytest.raises(Exception) as found:  # noqa: PT011 - each check has its own words
            tell(house)
    assert not isinstance(found.value, (TypeError, AttributeError)), found.value
