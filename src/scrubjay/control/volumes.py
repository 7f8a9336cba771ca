"""Volumes: made, shown, listed, grown. What ends them is forgetting.py."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

from scrubjay.base.errors import Conflict, Invalid, NotFound
from scrubjay.base.ids import TenantNo, VolumeId
from scrubjay.catalog.index import VolumeRow
from scrubjay.control.births import enter_birth
from scrubjay.control.keeper import Change, Keeper
from scrubjay.control.lineages import FIRST_BRANCH, NO_CHECKPOINT, new_lineage
from scrubjay.control.liveness import Liveness
from scrubjay.control.names import as_id, check_name, check_volume_size
from scrubjay.control.records import (
    BirthRecord,
    TenantRecord,
    VolumeRecord,
    encode,
    volume_key,
)
from scrubjay.control.tenants import resolve_tenant, unavailable
from scrubjay.control.view import View
from scrubjay.keys import path

__all__ = ["Volume", "Volumes", "resolve_volume", "withheld"]


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume as the API shows it."""

    id: VolumeId
    record: VolumeRecord
    tenant: str
    attached: bool


@dataclass(frozen=True, slots=True)
class _Born:
    name: str
    owner: TenantRecord
    size_bytes: int
    keys: Literal["tree", "memory"]
    request: str


class Volumes:
    """What the API does to volumes."""

    def __init__(self, keeper: Keeper, liveness: Liveness) -> None:
        self._keeper = keeper
        self._liveness = liveness

    def create(
        self,
        name: str,
        *,
        tenant: str,
        size_bytes: int,
        ephemeral: bool = False,
        request: str = "",
    ) -> Volume:
        """Make a volume in a lineage of its own; Conflict where the name is taken.

        The keys of an `ephemeral` one are in its exporter's memory alone (lineages.py).
        `request` is the digest of the request: the same one again finds what it made.
        """
        check_name("volume", name)
        check_volume_size(size_bytes)
        with self._keeper.naming() as change:
            owner = resolve_tenant(self._keeper, change, tenant)
            if owner.state != "active":
                raise unavailable(owner)
            taken = self._keeper.index.volume_named(name)
            if taken is not None:
                if request and change.birth_record(taken.id).request == request:
                    return self.shown(change, taken.id)
                raise _taken(name, change.volume(taken.id))
            born = _Born(name, owner, size_bytes, "memory" if ephemeral else "tree", request)
            volume, record = self._stage(change, born)
        return Volume(volume, record, owner.name, attached=False)

    def find(self, reference: str) -> Volume:
        """Return the volume of a name or id; NotFound where there is none."""
        with self._keeper.reading() as view:
            return self.shown(view, resolve_volume(self._keeper, view, reference))

    def page(self, *, after: str, limit: int, tenant: str | None = None) -> list[Volume]:
        """Return up to `limit` volumes in order of names, from behind `after` on."""
        with self._keeper.reading() as view:
            owner = None
            if tenant is not None:
                owner = TenantNo(resolve_tenant(self._keeper, view, tenant).id)
            volumes: list[Volume] = []
            wanted = limit
            while wanted:
                rows = self._keeper.index.volumes(after=after, limit=wanted, tenant=owner)
                for row in rows:
                    after = row.name
                    with contextlib.suppress(NotFound):  # gone since the index was asked
                        volumes.append(self.shown(view, row.id))
                wanted = limit - len(volumes) if len(rows) == wanted else 0
            return volumes

    def resize(self, reference: str, *, size_bytes: int, check: Callable[[Volume], None]) -> Volume:
        """Let a volume grow; `check` may raise before anything changes."""
        check_volume_size(size_bytes)
        with self._keeper.changing() as change:
            volume = self.shown(change, resolve_volume(self._keeper, change, reference))
            record = volume.record
            check(volume)
            if record.state != "ready":
                raise withheld(record)
            if size_bytes < record.size_bytes:
                raise Invalid(
                    f"volume {record.name}: is {record.size_bytes} bytes, "
                    f"expected to grow, not to shrink to {size_bytes}",
                    hint="copy what you need to a smaller volume, then destroy this one",
                )
            grown = msgspec.structs.replace(record, size_bytes=size_bytes)
            if grown != record:
                change.put(volume_key(volume.id), encode(grown))
        return Volume(volume.id, grown, volume.tenant, volume.attached)

    def _stage(self, change: Change, born: _Born) -> tuple[VolumeId, VolumeRecord]:
        name, tenant = born.name, TenantNo(born.owner.id)
        lineage = new_lineage(change, tenant)
        volume = VolumeId(uuid.UUID(bytes=self._keeper.entropy.token(16), version=4))
        now = self._keeper.now()
        record = VolumeRecord(
            name=name,
            tenant=tenant,
            lineage=lineage,
            branch=FIRST_BRANCH,
            size_bytes=born.size_bytes,
            created_at=now,
            state="ready",
            attach_epoch=0,
            checkpoint=NO_CHECKPOINT,
            keys=born.keys,
            slots_since=(),
        )
        birth = BirthRecord(
            volume=volume,
            pool=self._keeper.pool_id,
            tenant=tenant,
            lineage=lineage,
            branch=FIRST_BRANCH,
            size_bytes=born.size_bytes,
            created_at=now,
            encrypted_from_sector=0,
            cipher="AES-256-GCM",
            epoch=self._keeper.epoch,
            request=born.request,
            keys=born.keys,
        )
        change.put(volume_key(volume), encode(record))
        enter_birth(change, birth, now=now, entropy=self._keeper.entropy)
        if born.keys == "tree":
            change.birth([path.lineage(tenant, lineage)])
        change.index_as(
            lambda index, generation: index.add_volume(
                VolumeRow(volume, name, tenant), generation=generation
            )
        )
        return volume, record

    def shown(self, view: View, volume: VolumeId) -> Volume:
        """Return a volume as `view` has it."""
        record = view.volume(volume)
        owner = view.tenant(TenantNo(record.tenant))
        return Volume(volume, record, owner.name, self._liveness.attached(volume))


def resolve_volume(keeper: Keeper, view: View, reference: str) -> VolumeId:
    """Return the volume of a name or id; NotFound where there is none."""
    row = keeper.index.volume_named(reference)
    if row is not None:
        return row.id
    spelled = as_id(reference)
    if spelled is not None and view.get(volume_key(VolumeId(spelled))) is not None:
        return VolumeId(spelled)
    raise NotFound(f"volume {reference[:80]!r}: unknown", hint="see: scrubjay volume list")


def withheld(record: VolumeRecord) -> Conflict:
    """Return what to say about a volume whose end is decided."""
    return Conflict(
        f"volume {record.name}: is being destroyed", hint="nobody can undo that; make a new one"
    )


def _taken(name: str, by: VolumeRecord) -> Conflict:
    if by.state == "destroying":
        return Conflict(f"volume {name}: is being destroyed", hint="wait a moment, then retry")
    return Conflict(
        f"volume {name}: exists", hint="names are the pool's, of all tenants: choose another"
    )
