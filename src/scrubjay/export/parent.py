"""The parent of all exporters: started before any key exists, forks them, reaps them.

    python -m scrubjay.export.parent --home HOME

Single-threaded, with everything imported that an exporter needs, so that a fork costs
milliseconds and shares its memory. Holds no key, opens no pool and no database (design,
section 8, line 6). Lives in a session of its own: neither the daemon's end nor the
parent's touches the exporters, and a daemon that starts finds the parent by its socket.

Says `ready` on its standard output once it listens, and closes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import select
import signal
import socket
import sys
from collections import deque
from pathlib import Path
from types import FrameType

import msgspec

from scrubjay import __version__
from scrubjay.base.errors import Conflict, Denied, Invalid, ScrubjayError, Unavailable
from scrubjay.export import exporter  # imports all that an exporter will need
from scrubjay.export.channel import peer_of
from scrubjay.export.hardening import harden, name_process
from scrubjay.export.journal import Journal
from scrubjay.export.messages import (
    Child,
    Done,
    End,
    Exit,
    Family,
    Fork,
    Forked,
    ListFamily,
    Message,
    ToParent,
    decoded,
    failure,
)
from scrubjay.export.packets import received

__all__ = ["Parent", "main"]

_CLIENTS_MAX = 16
_EXITS_KEPT = 64
_DECODER = msgspec.msgpack.Decoder(ToParent)


def main(arguments: list[str]) -> int:
    """Run the parent until it is told to end."""
    try:
        run = _home(arguments) / "run"
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a daemon waits for its own in a mask
        harden()
        if os.getsid(0) != os.getpid():
            with contextlib.suppress(PermissionError):  # a group's leader already
                os.setsid()
        (run / "volumes").mkdir(parents=True, exist_ok=True)
        lock = _hold(run / "parent.lock")
        listener = _listen(run / "parent.sock")
    except ScrubjayError as error:
        _say(f"{error.code}: {error}")
        return error.exit_status
    name_process("scrubjay-parent")
    gc.collect()
    gc.freeze()  # what is there now is shared by every fork: no collection touches it
    _say("ready")
    _close_output()
    try:
        Parent(listener, Journal(process="parent")).run()
    finally:
        (run / "parent.sock").unlink(missing_ok=True)
        os.close(lock)
    return 0


class Parent:
    """Forks on request; one packet is one request or one reply."""

    def __init__(self, listener: socket.socket, journal: Journal) -> None:
        self._listener = listener
        self._journal = journal
        self._clients: dict[int, socket.socket] = {}
        self._children: dict[int, Child] = {}
        self._exits: deque[Exit] = deque(maxlen=_EXITS_KEPT)
        self._ended = False
        self._wake, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def run(self) -> None:
        """Serve until told to end."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._ended:
            for descriptor, _ in poll.poll():
                if descriptor == self._wake:
                    os.read(self._wake, 4096)
                elif descriptor == self._listener.fileno():
                    self._welcome(poll)
                elif not self._serve(self._clients[descriptor]):
                    poll.unregister(descriptor)
                    self._clients.pop(descriptor).close()
            self._reap()

    def _welcome(self, poll: select.poll) -> None:
        client, _ = self._listener.accept()
        try:
            peer_of(client)
        except Denied as error:
            self._journal.say("parent.refused", reason=error.message)
            client.close()
            return
        if len(self._clients) >= _CLIENTS_MAX:
            client.close()
            return
        client.settimeout(0)
        self._clients[client.fileno()] = client
        poll.register(client, select.POLLIN)

    def _serve(self, client: socket.socket) -> bool:
        """Answer one request; False once the client has gone, or is to go."""
        descriptors: list[int] = []
        try:
            packet, descriptors = received(client)
            if not packet:
                return False
            request = decoded(_DECODER, packet)
            try:
                answer = self._answer(request, descriptors)
            except ScrubjayError as error:
                answer = failure(error, to=request.id)
            client.send(msgspec.msgpack.encode(answer))
        except (OSError, Denied) as error:
            self._journal.say("parent.refused", reason=str(error))
            return False
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _answer(self, request: ToParent, descriptors: list[int]) -> Message:
        match request:
            case Fork():
                if len(descriptors) != 1:
                    raise Invalid(f"fork: {len(descriptors)} descriptors, expected 1")
                return Forked(id=request.id, pid=self._fork(request, descriptors[0]))
            case ListFamily():
                self._reap()
                return Family(
                    id=request.id,
                    version=__version__,
                    pid=os.getpid(),
                    children=tuple(self._children.values()),
                    exits=tuple(self._exits),
                )
            case End():
                self._ended = True
                return Done(id=request.id)

    def _fork(self, order: Fork, report: int) -> int:
        try:
            pid = os.fork()
        except OSError as error:
            raise Unavailable(f"fork: {error.strerror}, expected a process") from None
        if not pid:
            self._become(order, report)
        self._children[pid] = Child(order.volume, order.epoch, pid)
        return pid

    def _become(self, order: Fork, report: int) -> None:
        """Be an exporter from here on, with nothing of the parent's; never returns."""
        status = 70  # EX_SOFTWARE, unless it ends in order
        try:
            signal.set_wakeup_fd(-1)
            for each in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(each, signal.SIG_DFL)
            os.setsid()
            os.closerange(3, report)
            os.closerange(report + 1, os.sysconf("SC_OPEN_MAX"))
            status = exporter.main(order, report)
        except BaseException as error:  # noqa: BLE001 - a fork must not run on as its parent
            self._journal.say("exporter.failed", volume=str(order.volume), reason=repr(error))
        finally:
            os._exit(status)  # the parent's clean-up is not ours to do

    def _reap(self) -> None:
        """Let go of children that ended, and remember how."""
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            code = os.waitstatus_to_exitcode(status)
            child = self._children.pop(pid, None)
            if child is not None:
                self._exits.append(Exit(child.volume, child.epoch, pid, code))
                if code:  # else it has said so itself
                    volume = str(child.volume)
                    self._journal.say("exporter.ended", volume=volume, child=pid, status=code)

    def _end(self, _signal: int, _frame: FrameType | None) -> None:
        self._ended = True


def _home(arguments: list[str]) -> Path:
    match arguments:
        case ["--home", home]:
            return Path(home)
        case _:
            raise Invalid("parent: unknown arguments, expected --home HOME")


def _hold(path: Path) -> int:
    """Hold the parent's lock, as the only one of this home."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Conflict(f"lock {path}: held by another parent, expected none") from None
    return lock


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)  # the lock is ours, so nobody listens there
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.bind(str(path))
        listener.listen()
    except OSError as error:
        listener.close()
        raise Unavailable(f"socket {path}: {error.strerror}, expected to listen there") from None
    return listener


def _say(word: str) -> None:
    """Tell whoever started this."""
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def _close_output() -> None:
    """Let go of who waited for `ready`."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _nothing(_signal: int, _frame: FrameType | None) -> None:
    """Let the signal end the poll."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
