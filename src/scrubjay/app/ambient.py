"""The machine's own clock and randomness: the one place that reads them."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["SystemClock", "SystemEntropy", "swaps"]


class SystemClock:
    """Time, as the system has it."""

    def now_ns(self) -> int:
        """Nanoseconds since 1970 UTC; may jump."""
        return time.time_ns()  # noqa: TID251 - this is the Clock

    def monotonic_ns(self) -> int:
        """Nanoseconds since some moment; never goes back."""
        return time.monotonic_ns()


class SystemEntropy:
    """Randomness out of the kernel's generator (getrandom(2))."""

    def token(self, size_bytes: int) -> bytes:
        """Return `size_bytes` unpredictable bytes."""
        return os.urandom(size_bytes)  # noqa: TID251 - this is the Entropy


def swaps() -> list[str]:
    """Return where the system swaps to; "unknown" where that cannot be read."""
    try:
        lines = Path("/proc/swaps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ["unknown"]
    return [line.split()[0] for line in lines[1:] if line.strip()]
