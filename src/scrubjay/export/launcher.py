"""The daemon's way to the parent: find it or start it, have it fork.

`ensure` comes first in `scrubjay serve`, before a key or a database is opened. A parent
that an earlier daemon started is used; one of another version is told to end and replaced,
which its exporters do not notice.
"""

from __future__ import annotations

import array
import os
import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TypeVar

import msgspec

from scrubjay import __version__
from scrubjay.base.errors import Denied, ScrubjayError, Unavailable
from scrubjay.export.channel import peer_of
from scrubjay.export.messages import (
    Done,
    End,
    Failed,
    Family,
    Fork,
    Forked,
    FromParent,
    ListFamily,
    Message,
    decoded,
    error_of,
)
from scrubjay.export.packets import PACKET_BYTES_MAX

__all__ = ["Launcher"]

_START_TIMEOUT_S = 20
_REPLY_TIMEOUT_S = 10
_END_TIMEOUT_S = 5
_REPORT_BYTES_MAX = 64 << 10
_LOG_BYTES_MAX = 1 << 20
_DECODER = msgspec.msgpack.Decoder(FromParent)
_REPORT = msgspec.msgpack.Decoder(Done | Failed)
_ReplyT = TypeVar("_ReplyT", bound=Message)


class Launcher:
    """Speaks to the parent of one home; may be used from any thread."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._path = home / "run" / "parent.sock"
        self._calling = threading.Lock()

    def ensure(self) -> Family:
        """Return the parent of this home, started if there is none."""
        with self._calling:
            family = self._find()
            if family is not None and family.version != __version__:
                self._end_parent(family.pid)
                family = None
            if family is None:
                self._start()
                family = self._call(ListFamily(), Family)
            return family

    def fork(self, order: Fork, *, timeout_s: float) -> None:
        """Have an exporter forked, and return when it serves; raise what kept it from that.

        Unavailable when time is up, or where it ended without a word.
        """
        mine, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                with self._calling:
                    if self._find() is None:  # killed: a new one is as clean, being executed
                        self._start()
                    forked = self._call(order, Forked, descriptor=theirs)
            finally:
                os.close(theirs)
            report = self._await_report(mine, order, timeout_s=timeout_s)
        finally:
            os.close(mine)
        if isinstance(report, Failed):
            _await_exit(forked.pid)
            raise error_of(report)

    def end(self) -> None:
        """Have the parent end; exporters go on. No parent is fine."""
        with self._calling:
            family = self._find()
            if family is not None:
                self._end_parent(family.pid)

    def _await_report(self, descriptor: int, order: Fork, *, timeout_s: float) -> Done | Failed:
        """Return how the start went, once the exporter has let go of the descriptor."""
        packet = b""
        deadline_s = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while poll.poll(max(0.0, deadline_s - time.monotonic()) * 1000):
            piece = os.read(descriptor, _REPORT_BYTES_MAX)
            packet += piece
            if piece:
                continue
            if packet:
                report: Done | Failed = decoded(_REPORT, packet)
                return report
            raise Unavailable(
                f"volume {order.volume}: its exporter ended before it was ready",
                hint="see the log of the exporters' parent",
            )
        raise Unavailable(
            f"volume {order.volume}: its exporter is not ready after {timeout_s} s",
            hint="attach it again: what was recovered so far is not lost",
        )

    def _find(self) -> Family | None:
        try:
            return self._call(ListFamily(), Family)
        except Denied:
            raise
        except ScrubjayError:
            return None

    def _start(self) -> None:
        run = self._path.parent
        run.mkdir(parents=True, exist_ok=True)
        log = _log(run / "exporters.log")
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "scrubjay.export.parent", "--home", str(self._home)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
        assert process.stdout is not None, "a pipe was asked for"
        with process.stdout as output:
            poll = select.poll()
            poll.register(output, select.POLLIN)
            said = output.readline() if poll.poll(_START_TIMEOUT_S * 1000) else b""
        if said.strip() != b"ready":
            process.kill()
            process.wait()
            why = said.decode(errors="replace").strip() or "no word"
            raise Unavailable(f"parent of exporters: {why}, expected it to be ready")
        # It lives on in a session of its own; where it ends before us, it is reaped here.
        threading.Thread(target=process.wait, name="parent", daemon=True).start()

    def _end_parent(self, pid: int) -> None:
        """Tell the parent to end, and wait until its lock is free."""
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            self._call(End(), Done)
            poll = select.poll()
            poll.register(process, select.POLLIN)
            if not poll.poll(_END_TIMEOUT_S * 1000):
                raise Unavailable(f"parent of exporters: process {pid} goes on, expected its end")
        finally:
            os.close(process)

    def _call(
        self, request: Message, reply: type[_ReplyT], *, descriptor: int | None = None
    ) -> _ReplyT:
        """Ask the parent over a connection of its own."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(_REPLY_TIMEOUT_S)
            try:
                connection.connect(str(self._path))
                peer_of(connection)
                ancillary = []
                if descriptor is not None:
                    rights = array.array("i", [descriptor])
                    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
                connection.sendmsg([msgspec.msgpack.encode(request)], ancillary)
                packet = connection.recv(PACKET_BYTES_MAX)
            except OSError as error:
                why = error.strerror or error
                raise Unavailable(
                    f"parent of exporters: {why}, expected an answer",
                    hint="restart the daemon: it starts the parent where there is none",
                ) from None
        if not packet:
            raise Unavailable("parent of exporters: refused the request, expected an answer")
        answer = decoded(_DECODER, packet)
        if isinstance(answer, Failed):
            raise error_of(answer)
        if not isinstance(answer, reply):
            raise Denied(f"reply: {type(answer).__name__}, expected {reply.__name__}")
        return answer


def _await_exit(pid: int) -> None:
    """Wait for the end of an exporter that has given up, so that its lock is free."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.poll(_END_TIMEOUT_S * 1000)
    os.close(process)


def _log(path: Path) -> int:
    """Open the log of the exporters, beginning a new one when it has grown."""
    if path.exists() and path.stat().st_size > _LOG_BYTES_MAX:
        path.replace(path.with_suffix(".log.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
