"""Waiting for a client: awake where it pays, asleep where it does not."""

from __future__ import annotations

from scrubjay.base.ports import Buffer
from scrubjay.export.receiving import Receiver


class _Client:
    """A stream whose client answers after so many looks, or seconds asleep; and the clock."""

    def __init__(self, *, after_s: float, look_s: float = 2e-6) -> None:
        self.after_s = after_s
        self.look_s = look_s
        self.now_s = 0.0
        self.due_s = after_s
        self.looks = 0
        self.sleeps = 0

    def clock(self) -> float:
        return self.now_s

    def recv_into(self, buffer: memoryview, size_bytes: int, flags: int, /) -> int:
        assert not size_bytes
        if flags:
            self.looks += 1
            self.now_s += self.look_s
            if self.now_s < self.due_s:
                raise BlockingIOError
        else:
            self.sleeps += 1
            self.now_s = max(self.now_s, self.due_s)
        self.due_s = self.now_s + self.after_s
        buffer[:1] = b"x"
        return 1

    def send(self, data: Buffer, flags: int, /) -> int:
        raise NotImplementedError

    def sendall(self, data: Buffer, /) -> None:
        raise NotImplementedError

    def shutdown(self, how: int, /) -> None:
        raise NotImplementedError


def _waits(client: _Client, *, times: int) -> None:
    receiver = Receiver(client, clock=client.clock)
    buffer = memoryview(bytearray(8))
    for _ in range(times):
        assert receiver.receive(buffer, gather=False) == 1
        assert bytes(buffer[:1]) == b"x"


def test_client_that_answers_at_once_is_awaited_awake() -> None:
    """After a few turns nobody sleeps any more."""
    client = _Client(after_s=30e-6)
    _waits(client, times=100)
    assert client.sleeps < 10
    assert client.looks > 90


def test_client_that_is_slow_is_awaited_asleep() -> None:
    """No processor time goes into looking for who does not come."""
    client = _Client(after_s=0.01)
    _waits(client, times=100)
    assert client.sleeps == 100
    assert not client.looks


def test_client_that_becomes_slow_is_soon_awaited_asleep() -> None:
    """What was learned of a client is forgotten as quickly."""
    client = _Client(after_s=30e-6)
    receiver = Receiver(client, clock=client.clock)
    buffer = memoryview(bytearray(8))
    for _ in range(50):
        receiver.receive(buffer, gather=False)
    client.after_s, client.looks = 0.01, 0
    client.due_s = client.now_s + client.after_s
    for _ in range(50):
        receiver.receive(buffer, gather=False)
    assert client.looks < 100


def test_client_between_soon_and_slow_costs_little() -> None:
    """Who comes just after the looking ends is not looked for in vain, again and again."""
    client = _Client(after_s=150e-6)
    _waits(client, times=100)
    assert client.looks < 100


def test_client_whose_requests_are_to_gather_is_awaited_asleep() -> None:
    """Its next requests arrive meanwhile, and are served as one batch."""
    client = _Client(after_s=30e-6)
    receiver = Receiver(client, clock=client.clock)
    buffer = memoryview(bytearray(8))
    for gather in (False, True) * 50:
        assert receiver.receive(buffer, gather=gather) == 1
    assert client.sleeps >= 50
    for _ in range(50):
        receiver.receive(buffer, gather=False)
    assert client.looks > 50
