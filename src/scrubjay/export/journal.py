"""Where the parent and its exporters say what an operator must know: lines of JSON on stderr.

The daemon's logging is too heavy to be carried by every exporter. Lines are limited, so
that a broken disk under a busy volume does not fill the log's disk as well.
"""

from __future__ import annotations

import os
import time

import msgspec

__all__ = ["Journal"]

_LINES_PER_WINDOW = 60
_WINDOW_S = 60


class Journal:
    """One process's lines; may be used from any thread."""

    def __init__(self, *, process: str, descriptor: int = 2) -> None:
        self._process = process
        self._descriptor = descriptor
        self._window_s = 0.0
        self._lines = 0

    def say(self, event: str, **fields: str | int) -> None:
        """Write one line, unless there were too many lately."""
        now_s = time.monotonic()
        if now_s - self._window_s > _WINDOW_S:
            self._window_s, self._lines = now_s, 0
        self._lines += 1
        if self._lines > _LINES_PER_WINDOW:
            return
        if self._lines == _LINES_PER_WINDOW:
            event, fields = "journal.full", {"silent_s": _WINDOW_S}
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = {"at": stamp, "process": self._process, "pid": os.getpid(), "event": event}
        try:
            os.write(self._descriptor, msgspec.json.encode(line | fields) + b"\n")
        except OSError:
            return  # the log's disk is full, or its reader is gone: serving goes on
