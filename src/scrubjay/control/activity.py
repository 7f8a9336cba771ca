"""Whether tenants are being served just now, as the processors tell.

What the page cache answers never reaches the device, so that its counters (media/pace.py,
`Traffic`) call a tenant idle whom upkeep at full speed would make wait. Exporters do nothing
but serve: when one of them used processor time, somebody is at work. Anybody may read how
much that was, also of processes that are closed to debuggers.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from scrubjay.base.ports import Clock

__all__ = ["Activity"]

_LOOK_EVERY_NS = 100_000_000
_LIST_EVERY_NS = 1_000_000_000
"""Which exporters there are is read so often."""
_HOLD_NS = 1_000_000_000
"""The unit is 10 ms of processor time: a tenant who does little shows now and then."""
_UTIME, _STIME = 11, 12
"""Fields 14 and 15 of /proc/PID/stat (proc(5)), counted from behind the name."""


class _Holder(msgspec.Struct):
    """What an exporter writes into its lock's file (export/lockfile.py), as far as needed."""

    pid: int


class Activity:
    """Looks at the exporters whose locks lie in a folder; a Busy (media/pace.py)."""

    def __init__(self, folder: Path, clock: Clock, *, root: Path = Path("/")) -> None:
        self._folder = folder
        self._clock = clock
        self._root = root
        self._pids: list[int] = []
        self._ticks: dict[int, int] = {}
        self._looked_ns = self._listed_ns = clock.monotonic_ns() - _LIST_EVERY_NS
        self._busy_until_ns = clock.monotonic_ns() - 1

    def __call__(self, _own_bytes: int = 0) -> bool:
        """Return whether an exporter has done anything within the last second."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._looked_ns >= _LOOK_EVERY_NS:
            self._looked_ns = now_ns
            if self._look(now_ns):
                self._busy_until_ns = now_ns + _HOLD_NS
        return now_ns <= self._busy_until_ns

    def _look(self, now_ns: int) -> bool:
        """Return whether an exporter used processor time since the last look."""
        if now_ns - self._listed_ns >= _LIST_EVERY_NS:
            self._listed_ns = now_ns
            self._pids = [pid for path in self._folder.glob("*.lock") if (pid := _pid_in(path))]
        before, self._ticks = self._ticks, {pid: self._used(pid) for pid in self._pids}
        return any(ticks > before.get(pid, ticks) for pid, ticks in self._ticks.items())

    def _used(self, pid: int) -> int:
        """Return the processor time of a process in the kernel's ticks; 0 where it is gone."""
        try:
            text = (self._root / f"proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            fields = text.rpartition(")")[2].split()
            return int(fields[_UTIME]) + int(fields[_STIME])
        except (OSError, ValueError, IndexError):
            return 0


def _pid_in(path: Path) -> int:
    """Return who holds, or held, a lock; 0 where its file does not say."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Holder).pid
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return 0
