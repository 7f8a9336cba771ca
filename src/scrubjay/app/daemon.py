"""The daemon's life: what `scrubjay serve` runs, from the first lock to the last sync.

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
from types import FrameType

import structlog

from scrubjay import __version__
from scrubjay.app.ambient import swaps
from scrubjay.app.home import Home
from scrubjay.export.hardening import harden, name_process
from scrubjay.export.launcher import Launcher

__all__ = ["serve"]

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_log = structlog.get_logger(__name__)


def serve(home: Home, *, leave_attached: bool) -> None:
    """Serve a home until a signal says to end.

    `leave_attached` is for a service manager, whose restarts should interrupt nobody.
    """
    harden()
    name_process("scrubjay")
    told = _Told()
    home.check()
    home.make_folders()
    with home.held(), contextlib.ExitStack() as parts:
        launcher = Launcher(home.path)
        if not leave_attached:
            parts.callback(launcher.end)
        with ThreadPoolExecutor(1) as thread:
            started = thread.submit(launcher.ensure)
            # Half a second of imports, while the parent has its own; nothing is opened yet.
            from scrubjay.app.wiring import open_parts  # noqa: PLC0415 - as said above

            family = started.result()
        _warn_of_swap()
        open_parts(home, launcher, parts, leave_attached=leave_attached)
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


def _warn_of_swap() -> None:
    """Say so where keys could reach a disk by way of swap (I2)."""
    if found := swaps():
        _log.warning(
            "swap is on: keys in this daemon's memory could be written there",
            swaps=found,
            hint="encrypt the swap with a key that is new at each start, or turn it off",
        )
