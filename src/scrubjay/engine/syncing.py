"""Syncing what a volume appended: one at a time, and never again after a failure (I4)."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scrubjay.base.units import SEGMENT_BYTES

if TYPE_CHECKING:
    from scrubjay.base.ports import Medium
    from scrubjay.engine.log import Appender

__all__ = ["Syncer"]


class Syncer:
    """Syncs the segments that some streams appended to; safe for threads."""

    def __init__(self, medium: Medium, streams: Sequence[Appender]) -> None:
        self._medium = medium
        self._streams = streams
        self._syncing = threading.Lock()
        self._failed = 0

    def sync(self) -> None:
        """Make durable all that was appended; after an OSError every later call fails as well."""
        with self._syncing:  # who finds nothing left to sync must wait for who took it
            if self._failed:
                raise OSError(self._failed, "a sync failed before")
            bases: set[int] = set()
            for stream in self._streams:
                while stream.unsynced:
                    bases.add(stream.unsynced.popleft())
            try:
                self._medium.sync([(base, SEGMENT_BYTES) for base in bases])
            except OSError as error:
                self._failed = error.errno or errno.EIO
                raise
