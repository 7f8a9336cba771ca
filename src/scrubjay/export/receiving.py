"""Waiting for a client: awake for a moment where that is likely to be enough, then asleep.

To fall asleep and be woken by another processor takes some 40 us of both, most of it in a
virtual machine's exits; a client with one request in flight answers sooner than that. So a
connection looks again a few times before it sleeps (as KVM's halt polling does): at queue
depth 1 that is half as many requests again, for no more processor time. A client that
stays away for longer is not waited for awake the next time, and one that has just sent many
short requests never: while we sleep the next ones gather, and a batch of many is cheap.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from time import perf_counter

from scrubjay.export.sending import Stream

__all__ = ["Receiver"]

_LOOKS_MAX = 32
"""Some 50 us: no more than falling asleep would have cost."""
_SOON_S = 100e-6


class Receiver:
    """Receives for one connection."""

    def __init__(self, stream: Stream, *, clock: Callable[[], float] = perf_counter) -> None:
        self._receive_into = stream.recv_into
        self._clock = clock
        self._looks = 0
        """How often to look before sleeping."""

    def receive(self, buffer: memoryview, *, gather: bool) -> int:
        """Wait for bytes, asleep to `gather` some; return how many came, 0 at the end."""
        if gather:
            return self._receive_into(buffer, 0, 0)
        since_s = self._clock()
        for _ in range(self._looks):
            try:
                return self._receive_into(buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
        received = self._receive_into(buffer, 0, 0)
        if self._clock() - since_s < _SOON_S:
            self._looks = min(2 * self._looks + 4, _LOOKS_MAX)
        else:
            self._looks //= 2
        return received
