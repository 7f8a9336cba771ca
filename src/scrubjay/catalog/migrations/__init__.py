"""How older catalogs become newer ones, step by step, with alembic."""
