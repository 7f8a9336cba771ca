"""The daemon: what `scrubjay serve` runs, from the first lock to the last sync.

The parent of the exporters comes first, before a key or a database is opened (design,
section 8, line 6). What is opened is closed in the opposite order. An end by a signal
detaches every volume in order, unless the daemon was told to leave them; an end by
kill -9 interrupts nobody either.
"""

from __future__ import annotations

import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import structlog

from scrubjay import __version__
from scrubjay.api.application import make_application
from scrubjay.api.server import Server, listen
from scrubjay.api.services import Services
from scrubjay.app.ambient import SystemClock, SystemEntropy
from scrubjay.app.home import Home
from scrubjay.app.upkeep import Upkeep
from scrubjay.base.errors import ScrubjayError
from scrubjay.catalog.database import Database
from scrubjay.catalog.idempotency import Answers
from scrubjay.catalog.operations import Operations as OperationRows
from scrubjay.control.attachments import Attachments
from scrubjay.control.forgetting import Forgetting
from scrubjay.control.leases import Leases
from scrubjay.control.liveness import Liveness
from scrubjay.control.opening import open_keeper
from scrubjay.control.operations import Operations
from scrubjay.control.pool_status import Pools
from scrubjay.control.scan import Scans
from scrubjay.control.tenants import Tenants
from scrubjay.control.volumes import Volumes
from scrubjay.export.exporters import Exporters
from scrubjay.export.hardening import harden, name_process
from scrubjay.export.launcher import Launcher
from scrubjay.media.file import PoolFile
from scrubjay.sinks.file import FileSink

__all__ = ["Ends", "serve"]

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_DETACHES_AT_ONCE = 8
_WORK_TIMEOUT_S = 5
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ends:
    """What becomes of attached volumes when the daemon is told to end."""

    leave_attached: bool
    """For a service manager, whose restarts should interrupt nobody."""


def serve(home: Home, ends: Ends) -> None:
    """Serve a home until a signal says to end."""
    harden()
    name_process("scrubjay")
    told = _Told()
    home.check()
    home.make_folders()
    with home.held(), contextlib.ExitStack() as parts:
        launcher = Launcher(home.path)
        family = launcher.ensure()
        if not ends.leave_attached:
            parts.callback(launcher.end)
        _warn_of_swap()
        _open(home, launcher, parts, ends)
        _log.info("daemon.serving", home=str(home.path), version=__version__, parent=family.pid)
        _log.info("daemon.ending", signal=told.wait().name)
    _log.info("daemon.ended")


class _Told:
    """Notes the signals that say to end, from the first moment on.

    Through a pipe, since whatever thread the kernel interrupts, it is `wait` that must end.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC)
        for each in _STOP_SIGNALS:
            signal.signal(each, self._note)

    def wait(self) -> signal.Signals:
        """Return the signal, once there was one."""
        return signal.Signals(os.read(self._reader, 1)[0])

    def _note(self, number: int, _frame: FrameType | None) -> None:
        os.write(self._writer, bytes((number,)))


def _open(home: Home, launcher: Launcher, parts: contextlib.ExitStack, ends: Ends) -> None:
    """Open everything and begin to serve; `parts` closes it again, the last part first."""
    clock, entropy = SystemClock(), SystemEntropy()
    sink = FileSink.open(home.sink, entropy)
    parts.callback(sink.close)
    medium = PoolFile.open(home.pool, hold=True)
    parts.callback(medium.close)
    database = Database.open(home.catalog)
    parts.callback(database.close)
    keeper = open_keeper([medium], sink, database, clock=clock, entropy=entropy)
    parts.callback(keeper.pool.close)

    liveness = Liveness(home.volumes, above=(home.path, home.run))
    exporters = Exporters(
        launcher, Leases(keeper), liveness, entropy, channel=home.channel, pool=home.pool
    )
    parts.callback(exporters.close)
    attachments = Attachments(keeper, liveness, exporters)
    if not ends.leave_attached:
        parts.callback(_detach_all, attachments)
    operations = Operations(OperationRows(database), clock=clock, entropy=entropy)
    parts.callback(operations.stop, _WORK_TIMEOUT_S)
    volumes = Volumes(keeper, liveness)
    forgetting = Forgetting(
        keeper, sink, volumes=volumes, attachments=attachments, operations=operations, clock=clock
    )
    forgetting.recover()
    operations.fail_left_behind()
    answers = Answers(database)
    upkeep = Upkeep(keeper, operations, answers, clock=clock)
    upkeep.start()
    parts.callback(upkeep.stop)
    forgetting.start()
    parts.callback(forgetting.stop)

    services = Services(
        tenants=Tenants(keeper),
        volumes=volumes,
        attachments=attachments,
        forgetting=forgetting,
        pools=Pools(keeper, sink, liveness=liveness, forgetting=forgetting),
        scans=Scans(lambda: [PoolFile.open(home.pool, hold=False)], operations),
        operations=operations,
        answers=answers,
        clock=clock,
    )
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


def _warn_of_swap() -> None:
    """Say so where keys could reach a disk by way of swap (I2)."""
    with contextlib.suppress(OSError):
        swaps = Path("/proc/swaps").read_text(encoding="ascii").splitlines()[1:]
        if swaps:
            _log.warning(
                "swap is on: keys in this daemon's memory could be written there",
                swaps=[line.split()[0] for line in swaps],
                hint="encrypt the swap with a key that is new at each start, or turn it off",
            )
