"""Opening the SQLite file: settings, migrations, and what its errors mean.

Write-ahead log and a full sync at every commit: what a request was told is kept through
a power loss. A file from a newer version is refused, an older one is migrated.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import os
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from scrubjay.base.errors import Conflict, Corrupt, Invalid, NotFound, Unavailable
from scrubjay.catalog.schema import REVISION

__all__ = ["Database"]

_REBUILD = "stop the daemon, then run: scrubjay home rebuild"


class Database:
    """One catalog file, open. Reads see one moment; writes are one transaction each."""

    def __init__(self, engine: sa.Engine, path: Path) -> None:
        self._engine = engine
        self._path = path

    @classmethod
    def create(cls, path: Path) -> Database:
        """Make a new, empty catalog at `path`; Conflict where there is a file."""
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError as error:
            raise Conflict(f"catalog {path}: exists, expected none") from error
        database = cls(_engine(path), path)
        database._migrate()
        return database

    @classmethod
    def open(cls, path: Path) -> Database:
        """Open the catalog at `path` and migrate it to this version.

        NotFound where there is none, Corrupt where it is none, Invalid where a newer
        version made it; the hints say what to do.
        """
        if not path.exists():
            raise NotFound(f"catalog {path}: missing", hint=_REBUILD)
        database = cls(_engine(path), path)
        database._migrate()
        return database

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Run one read transaction."""
        with self._speaking(), self._engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Run one write transaction; durable on leaving, undone by an exception."""
        with self._speaking(), self._engine.connect() as connection:
            writer = connection.execution_options(writes=True)
            with writer.begin():
                yield writer

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _migrate(self) -> None:
        with self.writing() as connection:
            known = sa.inspect(connection).get_table_names()
            found = (
                connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
                if "alembic_version" in known
                else None
            )
            if found == REVISION:
                return
            if found is not None and str(found) > REVISION:
                raise Invalid(
                    f"catalog {self._path}: schema {found}, expected at most {REVISION}",
                    hint="a newer Scrubjay made it: use that one",
                )
            if found is None and known:
                raise Corrupt(
                    f"catalog {self._path}: tables without a version, expected a catalog",
                    hint=_REBUILD,
                )
            _upgrade(connection)

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        """Say in this project's words what the database raises."""
        try:
            yield
        except IntegrityError as error:
            raise Conflict(f"catalog {self._path}: {error.orig}") from error
        except OperationalError as error:
            raise Unavailable(f"catalog {self._path}: {error.orig}") from error
        except DatabaseError as error:
            raise Corrupt(f"catalog {self._path}: {error.orig}", hint=_REBUILD) from error


def _engine(path: Path) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        # The driver begins no transaction by itself: `_begin` does.
        connect_args={"isolation_level": None, "timeout": 10},
        hide_parameters=True,
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: sa.engine.interfaces.DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "secure_delete = ON",  # a name that is gone leaves the file
        "trusted_schema = OFF",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command  # noqa: PLC0415 - takes half a second, and is rarely needed
    from alembic.config import Config  # noqa: PLC0415 - as above

    with importlib.resources.as_file(
        importlib.resources.files("scrubjay.catalog") / "migrations"
    ) as scripts:
        config = Config()
        config.set_main_option("script_location", str(scripts).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
