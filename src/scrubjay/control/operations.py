"""Long work as operations: asked for, going on with progress, and how it ended.

How far it has come lives in memory; that it was asked for and how it ended, in the
catalog. An operation that a dead daemon leaves behind is ended at the next start: as
what recovery found, or as failed.
"""

from __future__ import annotations

import datetime as dt
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog

from scrubjay.base.errors import NotFound, ScrubjayError, Unavailable
from scrubjay.base.ports import Clock, Entropy
from scrubjay.catalog.operations import OperationRow, OperationState
from scrubjay.catalog.operations import Operations as Rows
from scrubjay.control.records import at

__all__ = ["KEPT", "VOLUME_DESTROY", "Operations", "Progress", "Work", "problem_of"]

KEPT = dt.timedelta(days=30)
VOLUME_DESTROY = "volume.destroy"
"""What forgetting.py calls the destruction of a volume; its subject is `volume NAME (ID)`."""
_log = structlog.get_logger(__name__)

Work = Callable[["Progress"], Mapping[str, object]]
"""Does it, says how far it came, and returns the result."""


@dataclass(slots=True)
class Progress:
    """How far an operation has come; `total` is 0 where nobody knows."""

    done: int = 0
    total: int = 0
    unit: str = ""
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the daemon ends: work that can stop early stops."""


class Operations:
    """The operations of one daemon."""

    def __init__(self, rows: Rows, *, clock: Clock, entropy: Entropy) -> None:
        self._rows = rows
        self._clock = clock
        self._entropy = entropy
        self._progress: dict[uuid.UUID, Progress] = {}
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()

    def begin(self, kind: str, subject: str) -> uuid.UUID:
        """Enter an operation that whoever calls will end."""
        (operation,) = self.begin_all(kind, [subject])
        return operation

    def begin_all(self, kind: str, subjects: Sequence[str]) -> list[uuid.UUID]:
        """Enter operations, one for each subject, all at once."""
        now = self._now()
        rows = [OperationRow(self._new_id(), kind, subject, "running", now) for subject in subjects]
        self._rows.add(rows)
        with self._lock:
            self._progress |= {row.id: Progress() for row in rows}
        return [row.id for row in rows]

    def run(self, kind: str, subject: str, work: Work) -> uuid.UUID:
        """Enter an operation and do its work in a thread of its own."""
        operation = self.begin(kind, subject)
        thread = threading.Thread(
            target=self._work, args=(operation, work), name=f"{kind}-{operation}", daemon=True
        )
        with self._lock:
            self._threads.add(thread)
        thread.start()
        return operation

    def succeed(self, operations: Iterable[uuid.UUID], result: Mapping[str, object]) -> None:
        """Write down that operations are done."""
        text = msgspec.json.encode(result, order="sorted").decode()
        self._end(list(operations), "done", result=text)

    def succeed_each(self, results: Mapping[uuid.UUID, Mapping[str, object]]) -> None:
        """Write down that operations are done, each with a result of its own, all at once."""
        texts = {
            each: msgspec.json.encode(result, order="sorted").decode()
            for each, result in results.items()
        }
        self._rows.done(texts, ended_at=self._now())
        with self._lock:
            for each in results:
                self._progress.pop(each, None)

    def fail(self, operations: Iterable[uuid.UUID], error: ScrubjayError) -> None:
        """Write down that operations failed, and why."""
        self._end(list(operations), "failed", problem=problem_of(error))

    def find(self, operation: uuid.UUID) -> tuple[OperationRow, Progress]:
        """Return one operation and how far it has come; NotFound for an unknown one."""
        row = self._rows.find(operation)
        if row is None:
            raise NotFound(f"operation {operation}: unknown")
        return row, self._progress_of(row)

    def page(
        self, *, before: tuple[dt.datetime, str] | None, limit: int
    ) -> list[tuple[OperationRow, Progress]]:
        """Return operations, newest first."""
        return [
            (row, self._progress_of(row)) for row in self._rows.page(before=before, limit=limit)
        ]

    def volumes_called(self, name: str) -> list[uuid.UUID]:
        """Return the volumes of this name that were destroyed, as long as operations are kept."""
        rows = self._rows.beginning(kind=VOLUME_DESTROY, subject=f"volume {name} (")
        subjects = (re.fullmatch(r"volume (\S+) \((\S+)\)", row.subject) for row in rows)
        return [uuid.UUID(each[2]) for each in subjects if each and each[1] == name]

    def running(self) -> list[OperationRow]:
        """Return the operations that have not ended, whoever began them."""
        return self._rows.running()

    def left_behind(self) -> list[OperationRow]:
        """Return the operations that an earlier daemon did not end."""
        with self._lock:
            ours = set(self._progress)
        return [row for row in self.running() if row.id not in ours]

    def adopt(self, operation: uuid.UUID, kind: str = "", subject: str = "") -> None:
        """Go on with an operation of an earlier daemon, which whoever calls will end.

        With `kind` and `subject` one whose row is lost is entered anew.
        """
        if kind and self._rows.find(operation) is None:
            self._rows.add([OperationRow(operation, kind, subject, "running", self._now())])
        with self._lock:
            self._progress[operation] = Progress()

    def fail_left_behind(self) -> None:
        """End what nobody adopted: its daemon died, and it did not go on."""
        for row in self.left_behind():
            lost = Unavailable(
                f"operation {row.id}: its daemon ended before it did", hint="ask for it again"
            )
            self.fail([row.id], lost)

    def prune(self, kept: dt.timedelta = KEPT) -> None:
        """Drop what ended longer ago than that."""
        self._rows.prune(before=self._now() - kept)

    def stop(self, timeout_s: float) -> None:
        """Ask all work to stop, and wait for it."""
        with self._lock:
            threads = list(self._threads)
            for progress in self._progress.values():
                progress.stopping.set()
        for thread in threads:
            thread.join(timeout_s)

    def _work(self, operation: uuid.UUID, work: Work) -> None:
        try:
            result = work(self._progress[operation])
        except ScrubjayError as error:
            self.fail([operation], error)
        except Exception as error:  # noqa: BLE001 - a thread's end: whoever waits must hear of it
            _log.exception("operation.broke", operation=str(operation))
            self.fail([operation], Unavailable(f"operation {operation}: {type(error).__name__}"))
        else:
            self.succeed([operation], result)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _end(
        self,
        operations: list[uuid.UUID],
        state: OperationState,
        *,
        result: str = "",
        problem: str = "",
    ) -> None:
        self._rows.end(
            operations, state=state, ended_at=self._now(), result=result, problem=problem
        )
        with self._lock:
            for each in operations:
                self._progress.pop(each, None)

    def _progress_of(self, row: OperationRow) -> Progress:
        with self._lock:
            return self._progress.get(row.id) or Progress()

    def _new_id(self) -> uuid.UUID:
        return uuid.UUID(bytes=self._entropy.token(16), version=4)

    def _now(self) -> dt.datetime:
        return at(self._clock.now_ns())


def problem_of(error: ScrubjayError) -> str:
    """Return an error as the JSON of a problem (RFC 9457)."""
    return msgspec.json.encode(
        {
            "type": f"urn:scrubjay:error:{error.code}",
            "title": type(error).__name__,
            "status": error.http_status,
            "code": error.code,
            "detail": error.message,
            "hint": error.hint,
        }
    ).decode()
