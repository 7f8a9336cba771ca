"""Operations: long work that was asked for, how it stands, and how it ended."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from scrubjay.catalog.database import Database
from scrubjay.catalog.schema import operations

__all__ = ["OperationRow", "OperationState", "Operations"]

OperationState = Literal["running", "done", "failed"]


@dataclass(frozen=True, slots=True)
class OperationRow:
    """One operation; `result` and `problem` are JSON texts, "" until it ended."""

    id: uuid.UUID
    kind: str
    subject: str
    state: OperationState
    created_at: dt.datetime
    ended_at: dt.datetime | None = None
    result: str = ""
    problem: str = ""


class Operations:
    """The operations, newest first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, rows: Sequence[OperationRow]) -> None:
        """Enter new operations."""
        values = [
            {
                "id": str(row.id),
                "kind": row.kind,
                "subject": row.subject,
                "state": row.state,
                "created_at": _stored(row.created_at),
            }
            for row in rows
        ]
        if values:
            with self._database.writing() as connection:
                connection.execute(sa.insert(operations), values)

    def end(
        self,
        ids: Sequence[uuid.UUID],
        *,
        state: OperationState,
        ended_at: dt.datetime,
        result: str = "",
        problem: str = "",
    ) -> None:
        """Write down how these operations ended; what has ended stays as it is."""
        with self._database.writing() as connection:
            connection.execute(
                sa.update(operations)
                .where(operations.c.id.in_([str(each) for each in ids]))
                .where(operations.c.state == "running")
                .values(state=state, ended_at=_stored(ended_at), result=result, problem=problem)
            )

    def done(self, results: Mapping[uuid.UUID, str], *, ended_at: dt.datetime) -> None:
        """Write down that these operations are done, each with its result."""
        values = [{"which": str(each), "text": text} for each, text in results.items()]
        if values:
            with self._database.writing() as connection:
                connection.execute(
                    sa.update(operations)
                    .where(operations.c.id == sa.bindparam("which"))
                    .where(operations.c.state == "running")
                    .values(state="done", ended_at=_stored(ended_at), result=sa.bindparam("text")),
                    values,
                )

    def find(self, operation: uuid.UUID) -> OperationRow | None:
        """Return one operation."""
        return next(iter(self._select(operations.c.id == str(operation), 1)), None)

    def beginning(self, *, kind: str, subject: str) -> list[OperationRow]:
        """Return the operations of a kind whose subject begins like this, newest first."""
        alike = operations.c.subject.startswith(subject, autoescape=True)
        return self._select((operations.c.kind == kind) & alike, None)

    def running(self) -> list[OperationRow]:
        """Return the operations that have not ended."""
        return self._select(operations.c.state == "running", None)

    def page(self, *, before: tuple[dt.datetime, str] | None, limit: int) -> list[OperationRow]:
        """Return up to `limit` operations, newest first, from behind `before` on."""
        where: sa.ColumnElement[bool] = sa.true()
        if before is not None:
            where = sa.tuple_(operations.c.created_at, operations.c.id) < sa.tuple_(
                sa.literal(_stored(before[0])), sa.literal(before[1])
            )
        return self._select(where, limit)

    def prune(self, *, before: dt.datetime) -> None:
        """Drop operations that ended before a moment."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(operations).where(operations.c.ended_at < _stored(before)))

    def _select(self, where: sa.ColumnElement[bool], limit: int | None) -> list[OperationRow]:
        query = (
            sa.select(operations)
            .where(where)
            .order_by(operations.c.created_at.desc(), operations.c.id.desc())
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [_row(each) for each in connection.execute(query)]


def _row(row: sa.Row[Any]) -> OperationRow:
    return OperationRow(
        id=uuid.UUID(row.id),
        kind=row.kind,
        subject=row.subject,
        state=row.state,
        created_at=row.created_at.replace(tzinfo=dt.UTC),
        ended_at=row.ended_at and row.ended_at.replace(tzinfo=dt.UTC),
        result=row.result or "",
        problem=row.problem or "",
    )


def _stored(moment: dt.datetime) -> dt.datetime:
    """SQLite keeps no zone: all of them are UTC."""
    return moment.astimezone(dt.UTC).replace(tzinfo=None)
