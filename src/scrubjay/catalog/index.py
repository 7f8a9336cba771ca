"""The index of the pool's records: names to ids, in pages, and up to which commit."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from scrubjay.base.errors import Corrupt
from scrubjay.base.ids import TenantNo, VolumeId
from scrubjay.catalog import schema
from scrubjay.catalog.database import Database

__all__ = ["Identity", "Index", "TenantRow", "VolumeRow"]

_BATCH = 500
"""Ids in one query: SQLite takes a thousand."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which pool the catalog is an index of, and the newest commit that it has seen."""

    pool: uuid.UUID
    generation: int


@dataclass(frozen=True, slots=True)
class TenantRow:
    """What the index knows of a tenant."""

    id: TenantNo
    name: str


@dataclass(frozen=True, slots=True)
class VolumeRow:
    """What the index knows of a volume."""

    id: VolumeId
    name: str
    tenant: TenantNo


class Index:
    """Names and ids of what the pool holds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def identity(self) -> Identity | None:
        """Return what was remembered last; None in a catalog that was just made."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(schema.pool)).all()
        if len(rows) > 1:
            raise Corrupt(f"catalog: names {len(rows)} pools, expected one")
        return Identity(uuid.UUID(rows[0].id), rows[0].generation) if rows else None

    def remember(self, generation: int) -> None:
        """Remember that the pool has come this far; never goes back."""
        with self._database.writing() as connection:
            _remember(connection, generation)

    def bring_forward(
        self, identity: Identity, tenants: Iterable[TenantRow], volumes: Iterable[VolumeRow]
    ) -> None:
        """Replace the whole index by what the pool says."""
        with self._database.writing() as connection:
            for table in (schema.volumes, schema.tenants, schema.pool):
                connection.execute(sa.delete(table))
            connection.execute(
                sa.insert(schema.pool),
                {"id": str(identity.pool), "generation": identity.generation},
            )
            if rows := [_tenant_values(row) for row in tenants]:
                connection.execute(sa.insert(schema.tenants), rows)
            if rows := [_volume_values(row) for row in volumes]:
                connection.execute(sa.insert(schema.volumes), rows)

    def add_tenant(self, row: TenantRow, *, generation: int) -> None:
        """Enter a tenant that the pool holds as of `generation`."""
        with self._database.writing() as connection:
            connection.execute(sa.insert(schema.tenants), _tenant_values(row))
            _remember(connection, generation)

    def add_volume(self, row: VolumeRow, *, generation: int) -> None:
        """Enter a volume that the pool holds as of `generation`."""
        with self._database.writing() as connection:
            connection.execute(sa.insert(schema.volumes), _volume_values(row))
            _remember(connection, generation)

    def remove_volumes(self, volumes: Sequence[VolumeId], *, generation: int) -> None:
        """Strike out volumes that the pool no longer holds as of `generation`."""
        with self._database.writing() as connection:
            connection.execute(
                sa.delete(schema.volumes).where(
                    schema.volumes.c.id.in_([str(each) for each in volumes])
                )
            )
            _remember(connection, generation)

    def remove_tenant(self, tenant: TenantNo, *, generation: int) -> None:
        """Strike out a tenant that is closed as of `generation`; it has no volumes any more."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(schema.tenants).where(schema.tenants.c.id == tenant))
            _remember(connection, generation)

    def tenant_named(self, name: str) -> TenantRow | None:
        """Return the tenant of this name."""
        return next(iter(self._tenants(schema.tenants.c.name == name, 1)), None)

    def volume_named(self, name: str) -> VolumeRow | None:
        """Return the volume of this name."""
        return next(iter(self._volumes(schema.volumes.c.name == name, 1)), None)

    def tenants(self, *, after: str, limit: int) -> list[TenantRow]:
        """Return up to `limit` tenants in order of names, from behind `after` on."""
        return self._tenants(schema.tenants.c.name > after, limit)

    def volumes(self, *, after: str, limit: int, tenant: TenantNo | None = None) -> list[VolumeRow]:
        """Return up to `limit` volumes in order of names, from behind `after` on."""
        where = schema.volumes.c.name > after
        if tenant is not None:
            where &= schema.volumes.c.tenant == tenant
        return self._volumes(where, limit)

    def count_volumes(self, volumes: Sequence[VolumeId]) -> int:
        """Return how many of these volumes it knows."""
        table, total = schema.volumes, 0
        with self._database.reading() as connection:
            for first in range(0, len(volumes), _BATCH):
                ids = [str(each) for each in volumes[first : first + _BATCH]]
                query = sa.select(sa.func.count()).select_from(table).where(table.c.id.in_(ids))
                total += connection.scalar(query) or 0
        return total

    def counts(self) -> tuple[int, int]:
        """Return how many tenants and how many volumes there are."""
        with self._database.reading() as connection:
            tenants, volumes = (
                connection.scalar(sa.select(sa.func.count()).select_from(table))
                for table in (schema.tenants, schema.volumes)
            )
        return tenants or 0, volumes or 0

    def rows(self) -> list[TenantRow | VolumeRow]:
        """Return all that it knows."""
        return [*self._tenants(sa.true(), None), *self._volumes(sa.true(), None)]

    def _tenants(self, where: sa.ColumnElement[bool], limit: int | None) -> list[TenantRow]:
        table = schema.tenants
        query = sa.select(table).where(where).order_by(table.c.name).limit(limit)
        with self._database.reading() as connection:
            return [TenantRow(TenantNo(row.id), row.name) for row in connection.execute(query)]

    def _volumes(self, where: sa.ColumnElement[bool], limit: int | None) -> list[VolumeRow]:
        table = schema.volumes
        query = sa.select(table).where(where).order_by(table.c.name).limit(limit)
        with self._database.reading() as connection:
            return [
                VolumeRow(VolumeId(uuid.UUID(row.id)), row.name, TenantNo(row.tenant))
                for row in connection.execute(query)
            ]


def _remember(connection: sa.Connection, generation: int) -> None:
    table = schema.pool
    older = table.c.generation < generation
    connection.execute(sa.update(table).where(older).values(generation=generation))


def _tenant_values(row: TenantRow) -> dict[str, object]:
    return {"id": row.id, "name": row.name}


def _volume_values(row: VolumeRow) -> dict[str, object]:
    return {"id": str(row.id), "name": row.name, "tenant": row.tenant}
