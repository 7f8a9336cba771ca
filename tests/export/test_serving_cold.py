"""Reads that have to wait for the medium are announced together (a cold page cache)."""

from collections.abc import Iterator

import pytest

from scrubjay.nbd import wire
from tests.export.volume import Volume, serving


@pytest.fixture
def volume() -> Iterator[Volume]:
    """Eight MiB, written in single sectors."""
    with serving() as served:
        for sector in range(32):
            served.write(served.talk(), sector * 4096, bytes([sector + 1]) * 4096)
        yield served


def batch(volume: Volume) -> list[bytes]:
    """Four batches of eight reads."""
    talk = volume.talk()
    receives = [
        b"".join(
            talk.ask(wire.CMD_READ, offset=sector * 4096, length=4096)[1]
            for sector in range(first, first + 8)
        )
        for first in range(0, 32, 8)
    ]
    volume.play(talk, *receives)
    return receives


def test_reads_after_one_that_waited_are_announced_as_a_batch(volume: Volume) -> None:
    """Once a batch had to wait, the next asks for all that it will read before it reads."""
    volume.simulated.on_read = lambda: setattr(
        volume.simulated, "waits", volume.simulated.waits + 1
    )
    batch(volume)
    assert len(volume.simulated.advised) == 3 * 8


def test_reads_that_never_wait_are_not_announced(volume: Volume) -> None:
    """A warm cache is not asked for anything: each call would cost as much as a read."""
    batch(volume)
    assert not volume.simulated.advised
