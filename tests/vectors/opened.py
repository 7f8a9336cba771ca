"""A home opened in this process: the daemon's parts, and engines in place of exporters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from scrubjay.app.home import Home
from scrubjay.app.mirroring import settle_plan
from scrubjay.app.places import open_pool_medium
from scrubjay.app.sinks import open_sink
from scrubjay.base.ports import Entropy
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
        settle_plan(home, entropy)
        sink = open_sink(home, entropy)
        parts.callback(sink.close)
        pool = open_pool_medium(home, hold=True)
        parts.callback(pool.close)
        handle = open_pool_medium(home, hold=False)
        parts.callback(handle.close)
        exporters = LocalExporters(
            lambda: daemon.leases,
            lambda: handle,
            on_slot=lambda *_: None,
            revive=lambda: None,
            entropy=entropy,
        )
        daemon = Daemon.open(pool, sink, home.path, exporters=exporters, entropy=entropy)
        parts.callback(daemon.close)
        parts.callback(exporters.lose_power)
        yield Opened(daemon, exporters)
