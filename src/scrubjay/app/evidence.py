"""Evidence in a daemon: the log, what is looked at, the certificates, wired together."""

from __future__ import annotations

from scrubjay.app.ambient import swaps
from scrubjay.app.home import Home
from scrubjay.control.births import enter_births
from scrubjay.control.certificates import Certificates
from scrubjay.control.keeper import Keeper
from scrubjay.control.liveness import Liveness
from scrubjay.control.log import Log
from scrubjay.control.looking import Looking, Serving
from scrubjay.control.scrubbing import Scrubbing
from scrubjay.evidence.folder import Folder
from scrubjay.sinks.sink import Sink

__all__ = ["open_certificates", "open_log"]


def open_log(home: Home, keeper: Keeper) -> Log:
    """Open the log of a home; births that it does not know are entered."""
    log = Log(keeper, Folder(home.evidence / "log"))
    Folder(home.evidence).write("log.pub", f"{log.key}\n".encode())
    enter_births(keeper)
    return log


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
