"""Evidence in a daemon: the log, what is looked at, the certificates, wired together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import structlog

from scrubjay.app.ambient import swaps
from scrubjay.app.home import Home
from scrubjay.app.places import open_pool_medium
from scrubjay.app.sinks import open_sink
from scrubjay.base.errors import NoSpace, Unavailable
from scrubjay.base.ports import Clock, Entropy
from scrubjay.catalog.database import Database
from scrubjay.control.births import enter_births
from scrubjay.control.certificates import Certificates
from scrubjay.control.keeper import Keeper
from scrubjay.control.liveness import Liveness
from scrubjay.control.log import Log
from scrubjay.control.looking import Looking, Serving
from scrubjay.control.opening import open_keeper
from scrubjay.control.retirements import Retirements
from scrubjay.control.scrubbing import Scrubbing
from scrubjay.evidence.folder import Folder
from scrubjay.sinks.sink import Sink

__all__ = ["open_certificates", "open_log", "open_offline", "open_retirements"]

_log = structlog.get_logger(__name__)


def open_log(home: Home, keeper: Keeper) -> Log:
    """Open the log of a home; births that it does not know are entered."""
    log = Log(keeper, Folder(home.evidence / "log"))
    try:
        enter_births(keeper)
    except NoSpace as error:
        _log.warning("births.wait", error=error.message, hint=error.hint)
    _publish_key(home, log)
    return log


def _publish_key(home: Home, log: Log) -> None:
    """Have the log's key lie beside the log; nothing depends on it."""
    key, folder = f"{log.key}\n".encode(), Folder(home.evidence)
    try:
        if folder.read("log.pub") != key:
            folder.write("log.pub", key)
    except Unavailable as error:
        _log.warning("log.key_unpublished", error=error.message, hint=error.hint)


def open_certificates(
    home: Home,
    keeper: Keeper,
    sink: Sink,
    log: Log,
    *,
    liveness: Liveness,
    serving: Serving,
    scrubbing: Scrubbing,
) -> Certificates:
    """Open the certificates of a home."""
    looking = Looking(
        keeper,
        sink,
        liveness=liveness,
        serving=serving,
        media=scrubbing.media,
        catalog=home.catalog,
        log=home.evidence / "log",
        swaps=swaps,
    )
    return Certificates(keeper, log, looking, envelopes=Folder(home.evidence), scrubbing=scrubbing)


def open_retirements(home: Home, keeper: Keeper, sink: Sink, log: Log) -> Retirements:
    """Open what issues the certificates of media that the pool has left."""
    return Retirements(keeper, sink, log, Folder(home.evidence))


@contextlib.contextmanager
def open_offline(
    home: Home, *, clock: Clock, entropy: Entropy
) -> Iterator[tuple[Keeper, Retirements]]:
    """Open as much of a home as it takes to certify a medium, while no daemon serves it."""
    with contextlib.ExitStack() as parts:
        sink = open_sink(home, entropy)
        parts.callback(sink.close)
        database = Database.open(home.catalog)
        parts.callback(database.close)
        keeper = open_keeper(
            lambda: [open_pool_medium(home, hold=True)],
            sink,
            database,
            clock=clock,
            entropy=entropy,
        )
        parts.callback(keeper.close)
        yield keeper, open_retirements(home, keeper, sink, open_log(home, keeper))
