"""Answers that were given to POSTs with an Idempotency-Key, so that a repeat gets the same."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass

import sqlalchemy as sa

from scrubjay.catalog.database import Database
from scrubjay.catalog.schema import idempotency

__all__ = ["Answer", "Answers"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered, and the digest of what had been asked."""

    fingerprint: bytes
    status: int
    headers: dict[str, str]
    body: bytes


class Answers:
    """The answers by key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, key: str) -> Answer | None:
        """Return the answer that was given under `key`."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(idempotency).where(idempotency.c.key == key)).first()
        if row is None:
            return None
        return Answer(row.fingerprint, row.status, json.loads(row.headers), row.body)

    def keep(self, key: str, answer: Answer, *, created_at: dt.datetime) -> None:
        """Keep an answer, durably."""
        with self._database.writing() as connection:
            connection.execute(
                sa.insert(idempotency),
                {
                    "key": key,
                    "fingerprint": answer.fingerprint,
                    "status": answer.status,
                    "headers": json.dumps(answer.headers),
                    "body": answer.body,
                    "created_at": created_at.astimezone(dt.UTC).replace(tzinfo=None),
                },
            )

    def prune(self, *, before: dt.datetime) -> None:
        """Drop answers from before a moment."""
        moment = before.astimezone(dt.UTC).replace(tzinfo=None)
        with self._database.writing() as connection:
            connection.execute(sa.delete(idempotency).where(idempotency.c.created_at < moment))
