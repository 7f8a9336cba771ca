"""The database: an index of the pool's records, operations, and idempotency keys.

It holds nothing that the pool does not, apart from what may be forgotten with it; the
pool is right wherever the two differ.
"""
