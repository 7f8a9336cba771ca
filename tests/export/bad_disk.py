"""An exporter whose disk fails syncs once a file is there: `python -m tests.export.bad_disk`.

Takes the file's path and the report's descriptor as arguments, the order on standard input.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from scrubjay.base.ports import Extent, Medium
from scrubjay.export import exporter
from scrubjay.export.messages import Fork
from scrubjay.media.file import PoolFile


class BadDisk(PoolFile):
    """A pool file on such a disk."""

    fails: Path

    def sync(self, extents: Sequence[Extent] | None = None) -> None:
        """Sync, or fail."""
        if self.fails.exists():
            if self.fails.read_text() == "bug":
                raise ZeroDivisionError
            raise OSError(errno.EIO, "Input/output error")
        super().sync(extents)


def _open(pool: Path) -> Medium:
    return BadDisk.open(pool, hold=False)


if __name__ == "__main__":
    BadDisk.fails = Path(sys.argv[1])
    order = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Fork)
    sys.exit(exporter.main(order, int(sys.argv[2]), _open))
