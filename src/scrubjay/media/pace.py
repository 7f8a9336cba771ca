"""How fast the pool may erase beside those who work: a token bucket with two rates.

`Pace` is asked before every piece of I/O and waits. While the device has nobody else to
serve, it lets the higher rate pass; else the lower one, which is what keeps the promise to
be done in time (`scrub_within`). `Traffic` tells which of the two it is, from what the
kernel counts for the device less what was let pass here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from scrubjay.base.errors import Invalid, Unavailable
from scrubjay.base.ports import Clock
from scrubjay.base.units import KIB, MIB

__all__ = ["Busy", "Pace", "Rates", "Traffic", "either"]

LOOK_AGAIN_S = 0.1
"""A wait is cut into such turns: what is busy now may be idle then."""
NS_PER_S = 1_000_000_000
SECTOR_BYTES = 512
"""The unit of /sys/dev/block/*/stat, whatever the device's sectors are."""
_READ_SECTORS, _WRITTEN_SECTORS = 2, 6
"""Their columns (Documentation/block/stat.rst)."""

Busy = Callable[[int], bool]
"""Bytes that Scrubjay's own upkeep moved since the last look -> whether others are busy."""
Wait = Callable[[float], bool]
"""Waits so many seconds; True at once when it is time to stop: `threading.Event().wait`."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes a second, reads and writes together."""

    idle_bytes_per_s: int = 256 * MIB
    busy_bytes_per_s: int = 8 * MIB

    def __post_init__(self) -> None:
        """Refuse a rate at which nothing would ever be done."""
        if not 0 < self.busy_bytes_per_s <= self.idle_bytes_per_s:
            message = f"rates {self.busy_bytes_per_s} busy, {self.idle_bytes_per_s} idle"
            raise Invalid(f"{message}: expected 0 < busy <= idle")

    @classmethod
    def within(cls, work_bytes: int, time_s: float, *, wanted: Self) -> Self:
        """Return the wanted rates, raised where so much work would else come too late."""
        needed = -int(-work_bytes // max(time_s, 1.0))
        return cls(
            idle_bytes_per_s=max(wanted.idle_bytes_per_s, needed),
            busy_bytes_per_s=max(wanted.busy_bytes_per_s, needed),
        )


def either(*signs: Busy) -> Busy:
    """Return what is busy where one of these is; each is told of all bytes."""

    def busy(own_bytes: int) -> bool:
        verdicts = [sign(own_bytes) for sign in signs]
        return any(verdicts)

    return busy


class Pace:
    """A token bucket; call it with the bytes of the next I/O, from one thread."""

    def __init__(self, clock: Clock, *, rates: Rates, busy: Busy, wait: Wait) -> None:
        self.rates = rates
        """May be set anew at any time, e.g. when a deadline comes near."""
        self._clock = clock
        self._busy = busy
        self._wait = wait
        self._tokens = 0.0
        self._then_ns = clock.monotonic_ns()
        self._own_bytes = 0

    def __call__(self, size_bytes: int) -> None:
        """Return when so many bytes may be moved; Unavailable when told to stop."""
        while True:
            rate = self._rate()
            self._refill(rate, size_bytes)
            if self._tokens >= size_bytes:
                self._tokens -= size_bytes
                self._own_bytes += size_bytes
                return
            if self._wait(min(LOOK_AGAIN_S, (size_bytes - self._tokens) / rate)):
                raise Unavailable("erasing: told to stop, expected to be done again later")

    def _rate(self) -> int:
        own, self._own_bytes = self._own_bytes, 0
        busy = self._busy(own)
        return self.rates.busy_bytes_per_s if busy else self.rates.idle_bytes_per_s

    def _refill(self, rate: int, size_bytes: int) -> None:
        """Add what time has earned; never more than one I/O ahead, so no pause is made up for."""
        now_ns = self._clock.monotonic_ns()
        earned = (now_ns - self._then_ns) * rate / NS_PER_S
        self._then_ns = now_ns
        self._tokens = min(self._tokens + earned, float(size_bytes))


class Traffic:
    """Whether others read from or write to a device; a Busy.

    What the page cache answers it does not see. Where the device cannot be told (btrfs,
    network), others are taken to be busy.
    """

    def __init__(
        self, stat_path: Path, clock: Clock, *, quiet_bytes_per_s: int = 256 * KIB
    ) -> None:
        self._stat_path = stat_path
        self._clock = clock
        self._quiet_bytes_per_s = quiet_bytes_per_s
        self._then_ns = clock.monotonic_ns()
        self._then_bytes = self._moved_bytes()
        self._own_bytes = 0
        self._verdict = True

    @classmethod
    def beneath(cls, path: Path, clock: Clock, *, root: Path = Path("/")) -> Self:
        """Watch the device that is at `path`, or the one that its file system lies on."""
        status = path.stat()
        device = status.st_rdev if stat.S_ISBLK(status.st_mode) else status.st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        return cls(root / "sys/dev/block" / number / "stat", clock)

    def __call__(self, own_bytes: int) -> bool:
        """Return whether others moved more than a little since the last look."""
        self._own_bytes += own_bytes
        now_ns = self._clock.monotonic_ns()
        elapsed_s = (now_ns - self._then_ns) / NS_PER_S
        if elapsed_s < LOOK_AGAIN_S:
            return self._verdict
        moved = self._moved_bytes()
        if moved is None or self._then_bytes is None:
            self._verdict = True
        else:
            others = moved - self._then_bytes - self._own_bytes
            self._verdict = others > self._quiet_bytes_per_s * elapsed_s
        self._then_ns, self._then_bytes, self._own_bytes = now_ns, moved, 0
        return self._verdict

    def _moved_bytes(self) -> int | None:
        try:
            fields = self._stat_path.read_text(encoding="ascii").split()
            sectors = int(fields[_READ_SECTORS]) + int(fields[_WRITTEN_SECTORS])
        except (OSError, ValueError, IndexError):
            return None
        return sectors * SECTOR_BYTES
