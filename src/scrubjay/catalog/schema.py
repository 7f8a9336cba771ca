"""The catalog's tables, as the newest migration leaves them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

__all__ = [
    "METADATA",
    "REVISION",
    "idempotency",
    "operations",
    "pool",
    "tenants",
    "volumes",
]

REVISION = "0001"
"""The newest migration; a test keeps it so."""

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

pool = Table(
    "pool",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("generation", BigInteger, nullable=False),
)
"""One row: which pool this is an index of, and up to which commit."""

tenants = Table(
    "tenants",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", String(63), nullable=False, unique=True),
)

volumes = Table(
    "volumes",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("tenant", Integer, ForeignKey("tenants.id"), nullable=False, index=True),
)

operations = Table(
    "operations",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("kind", String(40), nullable=False),
    Column("subject", String(80), nullable=False),
    Column("state", String(12), nullable=False),
    Column("created_at", DateTime, nullable=False),
    Column("ended_at", DateTime),
    Column("result", Text),
    Column("problem", Text),
    Index("ix_operations_state", "state"),
    Index("ix_operations_created_at", "created_at", "id"),
)

idempotency = Table(
    "idempotency",
    METADATA,
    Column("key", String(255), primary_key=True),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("status", Integer, nullable=False),
    Column("headers", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", DateTime, nullable=False, index=True),
)
