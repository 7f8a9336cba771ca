"""Scrubjay: a self-hosted storage cloud that forgets, remembers and keeps secrets."""

__all__ = ["__version__"]

__version__ = "0.1.0.dev0"
