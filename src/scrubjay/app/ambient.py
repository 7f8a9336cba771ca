"""The machine's own clock and randomness: the one place that reads them."""

from __future__ import annotations

import os
import time

__all__ = ["SystemClock", "SystemEntropy"]


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
