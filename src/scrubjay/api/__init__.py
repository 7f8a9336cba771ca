"""The REST API under `/v1`: nouns, problems with stable codes, operations, cursors, ETags."""
