"""Which parts a daemon is made of, in the order in which they open."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import structlog

from scrubjay import __version__
from scrubjay.api.application import make_application
from scrubjay.api.server import Server, listen
from scrubjay.api.services import Services
from scrubjay.app.ambient import SystemClock, SystemEntropy
from scrubjay.app.evidence import open_certificates, open_log, open_retirements
from scrubjay.app.home import Home
from scrubjay.app.mirroring import settle_plan
from scrubjay.app.places import HeldPool, pool_path, warn_of_leaving
from scrubjay.app.sinks import open_sink, sink_path
from scrubjay.app.upkeep import Upkeep
from scrubjay.base.errors import ScrubjayError
from scrubjay.catalog.database import Database
from scrubjay.catalog.idempotency import Answers
from scrubjay.catalog.operations import Operations as OperationRows
from scrubjay.control.activity import Activity
from scrubjay.control.attachments import Attachments
from scrubjay.control.deadlines import PurgeMissed
from scrubjay.control.defaults import Defaults
from scrubjay.control.destroyed import Destroyed
from scrubjay.control.events import Events
from scrubjay.control.forgetting import Forgetting
from scrubjay.control.grounds import ground_of
from scrubjay.control.keeper import Change
from scrubjay.control.leases import Leases
from scrubjay.control.liveness import Liveness
from scrubjay.control.opening import open_keeper
from scrubjay.control.operations import Operations
from scrubjay.control.policy import Policies
from scrubjay.control.pool_status import Pools
from scrubjay.control.purging import Purging
from scrubjay.control.rotating import Rotating
from scrubjay.control.scan import Scans
from scrubjay.control.scrubbing import Scrubbing
from scrubjay.control.tenants import Tenants
from scrubjay.control.volumes import Volumes
from scrubjay.evidence.promises import LEDGER
from scrubjay.export.exporters import Exporters
from scrubjay.export.launcher import Launcher
from scrubjay.media.direct import DirectFile
from scrubjay.media.pace import Traffic, either

__all__ = ["open_parts"]

_DETACHES_AT_ONCE = 8
_WORK_TIMEOUT_S = 5
_log = structlog.get_logger(__name__)


def open_parts(
    home: Home, launcher: Launcher, parts: contextlib.ExitStack, *, leave_attached: bool
) -> None:
    """Open everything and begin to serve; `parts` closes it again, the last part first."""
    clock, entropy = SystemClock(), SystemEntropy()
    settle_plan(home, entropy)
    warn_of_leaving(home)
    sink = open_sink(home, entropy)
    parts.callback(sink.close)
    database = Database.open(home.catalog)
    parts.callback(database.close)
    medium = HeldPool(home)
    keeper = open_keeper(
        medium.open,
        sink,
        database,
        clock=clock,
        entropy=entropy,
        in_place=medium.expect_in_place,
    )
    parts.callback(keeper.close)
    log = open_log(home, keeper)
    events = Events(keeper)
    defaults = Defaults(keeper, events, LEDGER, version=__version__, on_changed=log.enter_default)
    defaults.announce()

    liveness = Liveness(home.volumes, above=(home.path, home.run))
    exporters = Exporters(
        launcher,
        Leases(keeper),
        liveness,
        entropy,
        channel=home.channel,
        pool=pool_path(home),
        pool_id=keeper.pool_id,
    )
    parts.callback(exporters.close)
    attachments = Attachments(keeper, liveness, exporters)
    if not leave_attached:
        parts.callback(_detach_all, attachments)
    operations = Operations(OperationRows(database), clock=clock, entropy=entropy)
    parts.callback(operations.stop, _WORK_TIMEOUT_S)
    volumes = Volumes(keeper, liveness)
    scrubbing = Scrubbing(
        keeper,
        lambda: medium.open_beside(kind=DirectFile),
        clock=clock,
        busy=either(Traffic.beneath(pool_path(home), clock), Activity(home.volumes, clock)),
        grounds=lambda: [ground_of(pool_path(home))],
        on_missed=log.enter_missed,
    )
    certificates = open_certificates(
        home,
        keeper,
        sink,
        log,
        liveness=liveness,
        serving=exporters,
        scrubbing=scrubbing,
    )
    open_retirements(home, keeper, sink, log).issue()
    rotating = Rotating(keeper, sink, clock=clock)
    forgetting = Forgetting(
        keeper,
        rotating,
        volumes=volumes,
        attachments=attachments,
        operations=operations,
        certificates=certificates,
        clock=clock,
    )
    forgetting.recover()
    attachments.give_back_all()
    operations.fail_left_behind()
    answers = Answers(database)
    upkeep = Upkeep(
        keeper,
        forgetting,
        operations,
        answers,
        defaults,
        log=log,
        certificates=certificates,
        clock=clock,
    )
    upkeep.start()
    parts.callback(upkeep.stop)
    forgetting.start()
    parts.callback(forgetting.stop)
    scrubbing.start()
    parts.callback(scrubbing.stop)

    def tell_missed(change: Change, missed: PurgeMissed) -> None:
        log.enter_purge_missed(change, missed)
        events.stage_purge_missed(change, missed)

    purging = Purging(
        keeper, rotating, attachments=attachments, liveness=liveness, on_missed=tell_missed
    )
    purging.start()
    parts.callback(purging.stop)
    services = Services(
        tenants=Tenants(keeper),
        volumes=volumes,
        attachments=attachments,
        forgetting=forgetting,
        certificates=certificates,
        destroyed=Destroyed(keeper, operations),
        log=log,
        pools=Pools(
            keeper,
            sink,
            liveness=liveness,
            forgetting=forgetting,
            scrubbing=scrubbing,
            pool_path=str(pool_path(home)),
            sink_path=sink_path(home),
        ),
        policies=Policies(keeper),
        scans=Scans(medium.open_beside, operations),
        operations=operations,
        answers=answers,
        defaults=defaults,
        events=events,
        clock=clock,
    )
    _answer(services, home, parts)


def _answer(services: Services, home: Home, parts: contextlib.ExitStack) -> None:
    """Begin to answer on the API's socket."""
    server = Server(make_application(services), listen(home.api))
    server.start()
    parts.callback(home.api.unlink, missing_ok=True)
    parts.callback(server.stop)


def _detach_all(attachments: Attachments) -> None:
    """Detach every volume, several at a time; one that fails costs no other."""

    def detach(volume: str) -> None:
        try:
            attachments.detach(volume)
        except ScrubjayError as error:
            _log.error("volume.detach_failed", volume=volume, error=error.message)

    with ThreadPoolExecutor(_DETACHES_AT_ONCE) as threads:
        for served in attachments.page(after="", limit=1 << 31):
            threads.submit(detach, str(served.volume))
