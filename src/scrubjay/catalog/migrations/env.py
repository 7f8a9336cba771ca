"""Alembic's entry: runs the migrations on the connection that the catalog hands in."""

from __future__ import annotations

from alembic import context

from scrubjay.catalog.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
