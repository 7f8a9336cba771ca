"""Scrubjay measured side by side with what people use; `docs/performance.md` says how."""
