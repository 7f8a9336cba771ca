"""The catalog's file: made, migrated, refused."""

from __future__ import annotations

import datetime as dt
import sqlite3
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import scrubjay.catalog
from scrubjay.base.errors import Conflict, Corrupt, Invalid, NotFound
from scrubjay.base.ids import TenantNo, VolumeId
from scrubjay.catalog.database import Database
from scrubjay.catalog.idempotency import Answer, Answers
from scrubjay.catalog.index import Identity, Index, TenantRow, VolumeRow
from scrubjay.catalog.schema import METADATA, REVISION


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a catalog is to be."""
    return tmp_path / "catalog.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    """A new catalog."""
    made = Database.create(path)
    yield made
    made.close()


def test_migrations_lead_to_what_the_code_calls_the_newest(database: Database) -> None:
    """The tables that migrations make are the tables that the code queries."""
    config = Config()
    root = Path(next(iter(scrubjay.catalog.__path__)))
    config.set_main_option("script_location", str(root / "migrations"))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]
    with database.reading() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, METADATA) == []


def test_catalog_is_readable_by_its_owner_alone(database: Database, path: Path) -> None:
    """Names of tenants are nobody else's business, in the write-ahead log neither."""
    Index(database).bring_forward(Identity(uuid.UUID(int=1), 1), [], [])
    for part in path.parent.iterdir():
        assert stat.S_IMODE(part.stat().st_mode) & 0o077 == 0, part


def test_catalog_commits_durably_before_it_answers(database: Database) -> None:
    """Write-ahead log with a full sync: what was answered survives a power loss (I4)."""
    with database.reading() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "secure_delete": 1,
    }


def test_catalog_made_where_a_file_is_leaves_it_alone(path: Path) -> None:
    """Nothing is overwritten."""
    path.write_bytes(b"mine")
    with pytest.raises(Conflict):
        Database.create(path)
    assert path.read_bytes() == b"mine"


def test_catalog_missing_says_how_to_make_it_anew(path: Path) -> None:
    """A lost catalog is no lost pool."""
    with pytest.raises(NotFound) as caught:
        Database.open(path)
    assert "home rebuild" in caught.value.hint


@pytest.mark.parametrize(
    "content", [b"no database at all" * 300, b"SQLite format 3\0" + b"x" * 9000]
)
def test_catalog_that_is_damaged_is_corrupt_and_says_how_to_make_it_anew(
    path: Path, content: bytes
) -> None:
    """Damage is told from absence, and the bytes are kept."""
    path.write_bytes(content)
    with pytest.raises(Corrupt) as caught:
        Database.open(path)
    assert "home rebuild" in caught.value.hint
    assert path.read_bytes() == content


def test_catalog_that_is_another_database_is_corrupt(path: Path) -> None:
    """Somebody else's tables are not migrated over."""
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    with pytest.raises(Corrupt, match="without a version"):
        Database.open(path)


def test_catalog_of_a_newer_version_is_refused_unchanged(database: Database, path: Path) -> None:
    """An older program does not guess at newer tables."""
    with database.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(Invalid, match="9999") as caught:
        Database.open(path)
    assert "newer" in caught.value.hint


def test_write_that_raises_on_the_way_is_undone(database: Database) -> None:
    """A transaction is whole or nothing."""
    index = Index(database)
    index.bring_forward(Identity(uuid.UUID(int=1), 1), [], [])
    rows = [VolumeRow(VolumeId(uuid.UUID(int=each)), "same", TenantNo(1)) for each in (1, 2)]
    with pytest.raises(Conflict):
        index.bring_forward(Identity(uuid.UUID(int=1), 2), [TenantRow(TenantNo(1), "t")], rows)
    assert index.identity() == Identity(uuid.UUID(int=1), 1)
    assert index.counts() == (0, 0)


def test_generation_remembered_never_goes_back(database: Database) -> None:
    """An older word about the pool does not weaken the newer one (I6)."""
    index = Index(database)
    assert index.identity() is None
    index.bring_forward(Identity(uuid.UUID(int=1), 5), [], [])
    index.remember(9)
    index.remember(7)
    assert index.identity() == Identity(uuid.UUID(int=1), 9)


def test_answers_are_kept_and_pruned_by_age(database: Database) -> None:
    """An answer is found under its key until its day is over."""
    answers = Answers(database)
    morning = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    first = Answer(b"f" * 32, 201, {"etag": '"a"'}, b"{}")
    answers.keep("k1", first, created_at=morning)
    answers.keep("k2", first, created_at=morning + dt.timedelta(hours=30))
    with pytest.raises(Conflict):
        answers.keep("k1", first, created_at=morning)
    assert answers.find("k1") == first
    answers.prune(before=morning + dt.timedelta(hours=1))
    assert answers.find("k1") is None
    assert answers.find("k2") == first
