"""What a client that does not listen may cost the others, and its exporter."""

import pytest

from scrubjay.nbd import wire
from tests.export.volume import serving

FLUSH = wire.REQUEST.pack(wire.REQUEST_MAGIC, 0, wire.CMD_FLUSH, 1, 0, 0)


def test_client_that_takes_no_answer_delays_no_flush_of_another() -> None:
    """The flusher is everybody's: it waits for no client, and no client grows without end."""
    with serving() as volume:
        deaf, quick = volume.client(), volume.client()
        deaf.sock.settimeout(3)
        with pytest.raises(TimeoutError):  # it is not heard while it does not listen
            deaf.sock.sendall(FLUSH * 2_000_000)
        for turn in range(20):
            assert quick.ask(wire.CMD_WRITE, offset=turn * 4096, data=b"w" * 4096).error == 0
            assert quick.ask(wire.CMD_FLUSH).error == 0
