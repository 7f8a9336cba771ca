"""A home opened in this process: the daemon's parts, and engines in place of exporters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from scrubjay.app.home import Home
from scrubjay.base.ports import Entropy
from scrubjay.media.file import PoolFile
from scrubjay.sinks.file import FileSink
from tests.model.daemon import Daemon
from tests.model.exporters import Exporter, LocalExporters

__all__ = ["Opened", "opened"]


class Opened:
    """A home in use."""

    def __init__(self, daemon: Daemon, exporters: LocalExporters) -> None:
        self.daemon = daemon
        self._exporters = exporters

    def attach(self, name: str) -> Exporter:
        """Serve a volume."""
        return self._exporters.served[self.daemon.attachments.attach(name).volume]

    def grow(self, name: str, size_bytes: int) -> int:
        """Grow a volume that is served; return its size."""
        shown = self.daemon.volumes.resize(name, size_bytes=size_bytes, check=lambda _: None)
        self.daemon.attachments.tell_size(shown)
        return shown.record.size_bytes

    def detach(self, name: str) -> None:
        """End serving it, in order."""
        self.daemon.attachments.detach(name)

    def kill(self, name: str) -> None:
        """End serving it at once."""
        self._exporters.kill(self.daemon.attachments.find(name).volume)


@contextlib.contextmanager
def opened(home: Home, entropy: Entropy) -> Iterator[Opened]:
    """Open a home as `scrubjay serve` does; whatever is still served at the end is killed."""
    with contextlib.ExitStack() as parts:
        parts.enter_context(home.held())
        sink = FileSink.open(home.sink, entropy)
        parts.callback(sink.close)
        pool = PoolFile.open(home.pool, hold=True)
        parts.callback(pool.close)
        handle = PoolFile.open(home.pool, hold=False)
        parts.callback(handle.close)
        exporters = LocalExporters(
            lambda: daemon.leases, lambda: handle, on_slot=lambda *_: None, revive=lambda: None
        )
        daemon = Daemon.open(pool, sink, home.path, exporters=exporters, entropy=entropy)
        parts.callback(daemon.close)
        parts.callback(exporters.lose_power)
        yield Opened(daemon, exporters)
