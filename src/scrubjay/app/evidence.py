"""Evidence in a daemon: the log, what is looked at, the certificates, wired together."""

from __future__ import annotations

from collections.abc import Sequence

from scrubjay.app.ambient import swaps
from scrubjay.app.home import Home
from scrubjay.control.births import enter_births
from scrubjay.control.certificates import Certificates, Within
from scrubjay.control.keeper import Keeper
from scrubjay.control.liveness import Liveness
from scrubjay.control.log import Log
from scrubjay.control.looking import Looking, Place, Serving
from scrubjay.evidence.folder import Folder
from scrubjay.sinks.sink import Sink

__all__ = ["open_evidence"]


def open_evidence(
    home: Home,
    keeper: Keeper,
    sink: Sink,
    *,
    liveness: Liveness,
    serving: Serving,
    places: Sequence[Place],
) -> tuple[Log, Certificates]:
    """Open the log and the certificates of a home; births that it does not know are entered."""
    log = Log(keeper, Folder(home.evidence / "log"))
    Folder(home.evidence).write("log.pub", f"{log.key}\n".encode())
    enter_births(keeper)
    looking = Looking(
        keeper,
        sink,
        liveness=liveness,
        serving=serving,
        places=places,
        catalog=home.catalog,
        log=home.evidence / "log",
        swaps=swaps,
    )
    certificates = Certificates(
        keeper, log, looking, envelopes=Folder(home.evidence), within=Within()
    )
    return log, certificates
