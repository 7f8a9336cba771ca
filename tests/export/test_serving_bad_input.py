"""What no client should send, and what it gets: an errno, or the end (bad input, I1, I5)."""

from collections.abc import Iterator

import pytest

from scrubjay.base.units import MIB, SECTOR_BYTES
from scrubjay.nbd import wire
from scrubjay.nbd.exports import SERVED
from scrubjay.nbd.transmission import DRAIN_BYTES_MAX
from tests.export.volume import PATIENCE_S, Script, Volume, joined, serving, some, status, write_of

DF, FUA = wire.CMD_FLAG_DF, wire.CMD_FLAG_FUA
NO_HOLE, FAST_ZERO = wire.CMD_FLAG_NO_HOLE, wire.CMD_FLAG_FAST_ZERO


@pytest.fixture
def volume() -> Iterator[Volume]:
    """Eight MiB, never written."""
    with serving() as served:
        yield served


END = 8 * MIB
REFUSED = [
    (wire.CMD_READ, 0, END, 1, wire.EINVAL),
    (wire.CMD_READ, 0, END - 4096, 8192, wire.EINVAL),
    (wire.CMD_READ, 0, 2**64 - 1, 4096, wire.EINVAL),
    (wire.CMD_READ, 0, 0, 0, wire.EINVAL),
    (wire.CMD_READ, NO_HOLE, 0, 4096, wire.EINVAL),
    (wire.CMD_READ, 1 << 15, 0, 4096, wire.EINVAL),
    (wire.CMD_TRIM, 0, END, 4096, wire.EINVAL),
    (wire.CMD_TRIM, 0, 0, 0, wire.EINVAL),
    (wire.CMD_TRIM, FAST_ZERO, 0, 4096, wire.EINVAL),
    (wire.CMD_WRITE_ZEROES, 0, END - 1, 2, wire.ENOSPC),
    (wire.CMD_WRITE_ZEROES, 0, 0, 2**32 - 1, wire.ENOSPC),
    (wire.CMD_WRITE_ZEROES, DF, 0, 4096, wire.EINVAL),
    (wire.CMD_CACHE, 0, END, 1, wire.EINVAL),
    (wire.CMD_BLOCK_STATUS, 0, END, 1, wire.EINVAL),
    (wire.CMD_BLOCK_STATUS, 0, 0, 0, wire.EINVAL),
    (wire.CMD_FLUSH, 0, 0, 1, wire.EINVAL),
    (wire.CMD_FLUSH, 0, 1, 0, wire.EINVAL),
    (8, 0, 0, 0, wire.EINVAL),
    (0xFFFF, 0xFFFF, 2**64 - 1, 2**32 - 1, wire.EINVAL),
]


@pytest.mark.parametrize("structured", [True, False])
def test_refused_requests_get_their_errno_and_leave_no_trace(
    volume: Volume, structured: bool
) -> None:
    """Each is answered by the specification's errno; what stands around them is served."""
    talk = volume.talk(structured=structured)
    batch = []
    for command, flags, offset, length, _ in REFUSED:
        batch.append(talk.ask(command, offset=offset, length=length, flags=flags))
        batch.append(write_of(talk, 4096, some(4096, len(batch))))
    volume.play(talk, joined(batch))
    assert status(batch[0::2], talk) == [error for *_, error in REFUSED]
    assert status(batch[1::2], talk) == [0] * len(REFUSED)
    assert volume.read(0, 4096) + volume.read(8192, 4096) == bytes(8192)


@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize(
    ("where", "flags", "error"),
    [
        ((END - 100, 200), 0, wire.ENOSPC),
        ((END, 4096), 0, wire.ENOSPC),
        ((2**63, 3 * MIB), FUA, wire.ENOSPC),
        ((0, 0), 0, wire.EINVAL),
        ((0, 4096), DF, wire.EINVAL),
        ((1, 1 * MIB + 17), NO_HOLE, wire.EINVAL),
        ((0, 32 * MIB + 1), 0, wire.ENOSPC),
        ((0, DRAIN_BYTES_MAX), 0, wire.ENOSPC),
    ],
)
def test_refused_write_has_its_payload_dropped_whole(
    volume: Volume, structured: bool, where: tuple[int, int], flags: int, error: int
) -> None:
    """The payload is no request, even where it looks like one, and the next request is heard."""
    offset, length = where
    talk = volume.talk(structured=structured)
    trap = wire.REQUEST.pack(wire.REQUEST_MAGIC, 0, wire.CMD_TRIM, 666, 0, END)
    volume.write(talk, 0, some(4096))
    cookie, head = talk.ask(wire.CMD_WRITE, offset=offset, length=length, flags=flags)
    read = talk.ask(wire.CMD_READ, length=4096)
    payload = (trap * (length // len(trap) + 1))[:length]
    volume.play(talk, head + payload + read[1])
    assert talk.answers[cookie].error == error
    assert talk.answers[read[0]].data == some(4096)


def test_write_longer_than_anybody_drains_ends_the_connection_at_its_header(
    volume: Volume,
) -> None:
    """It is hostile or out of step: what follows is payload, and nothing of it is obeyed."""
    talk = volume.talk()
    volume.write(talk, 0, some(4096))
    _, head = talk.ask(wire.CMD_WRITE, length=DRAIN_BYTES_MAX + 1)
    trap = talk.ask(wire.CMD_TRIM, length=4096)
    script = Script([head + trap[1] * 100, trap[1]])
    volume.connection(script, talk).run()
    assert not script.told
    assert script.unheard == 1
    assert volume.read(0, 4096) == some(4096)


@pytest.mark.parametrize("magic", [0, wire.REQUEST_MAGIC ^ 1, wire.SIMPLE_REPLY_MAGIC])
def test_wrong_magic_ends_the_connection_behind_the_requests_before_it(
    volume: Volume, magic: int
) -> None:
    """A stream that is out of step is not followed; what came before it was done."""
    talk = volume.talk()
    write = write_of(talk, 0, some(4096))
    bad = wire.REQUEST.pack(magic, 0, wire.CMD_TRIM, 5, 0, 4096)
    trap = talk.ask(wire.CMD_TRIM, length=4096)
    volume.play(talk, write[1] + bad + trap[1], trap[1])
    assert status([write], talk) == [0]
    assert trap[0] not in talk.answers
    assert volume.read(0, 4096) == some(4096)


def test_nothing_behind_disc_is_read(volume: Volume) -> None:
    """DISC ends it, though more may lie in the same receive."""
    talk = volume.talk()
    write = write_of(talk, 0, some(4096))
    disc, late = talk.ask(wire.CMD_DISC), write_of(talk, 4096, some(4096))
    script = volume.play(talk, write[1] + disc[1] + late[1], late[1])
    assert status([write], talk) == [0]
    assert len(script.told) == wire.SIMPLE_REPLY.size
    assert volume.read(4096, 4096) == bytes(4096)


@pytest.mark.parametrize("sent", [1, 27, 28, 5000, 200_000, 1_500_000])
def test_client_that_leaves_in_the_middle_of_a_write_leaves_whole_sectors(
    volume: Volume, sent: int
) -> None:
    """I5: of a write that never came whole each sector is old or new, and nobody is told."""
    talk, old, new = volume.talk(), some(2 * MIB, 1), some(2 * MIB, 2)
    volume.write(talk, 0, old)
    cookie, stream = write_of(talk, 0, new)
    volume.play(talk, stream[:sent])
    assert cookie not in talk.answers
    found = volume.read(0, 2 * MIB)
    for at in range(0, 2 * MIB, SECTOR_BYTES):
        sector = found[at : at + SECTOR_BYTES]
        assert sector == old[at : at + SECTOR_BYTES] or (
            at + SECTOR_BYTES + 28 <= sent and sector == new[at : at + SECTOR_BYTES]
        )


@pytest.mark.parametrize("structured", [True, False])
def test_read_only_export_refuses_changes_and_reads_on(volume: Volume, structured: bool) -> None:
    """EPERM for whatever changes, its payload dropped; reads and flushes are served."""
    volume.write(volume.talk(), 0, some(4096))
    talk = volume.talk(structured=structured, flags=SERVED | wire.FLAG_READ_ONLY)
    batch = [
        write_of(talk, 0, b"x" * 4096),
        write_of(talk, 0, b"x" * 100, FUA),
        talk.ask(wire.CMD_TRIM, length=4096),
        talk.ask(wire.CMD_WRITE_ZEROES, length=4096, flags=NO_HOLE),
        talk.ask(wire.CMD_FLUSH),
        talk.ask(wire.CMD_READ, length=4096),
    ]
    volume.play(talk, joined(batch))
    assert status(batch, talk) == [wire.EPERM] * 4 + [0, 0]
    assert talk.answers[batch[-1][0]].data == some(4096)


def test_grown_volume_serves_its_new_end_to_connections_that_were_there(volume: Volume) -> None:
    """A resize needs no new connection: the size is looked at in every batch."""
    client = volume.client()
    assert client.ask(wire.CMD_READ, offset=END, length=4096).error == wire.EINVAL
    volume.disk.resize(2 * END)
    assert client.ask(wire.CMD_WRITE, offset=2 * END - 4096, data=some(4096)).error == 0
    answer = client.ask(wire.CMD_READ, offset=2 * END - 4096, length=4096)
    assert answer.data == some(4096)


def test_client_that_vanishes_leaves_nothing_running(volume: Volume) -> None:
    """A reset socket ends its connection, also with replies and a FLUSH under way."""
    client = volume.client()
    flush = client.talk.ask(wire.CMD_FLUSH)[1]
    reads = client.talk.ask(wire.CMD_READ, length=8 * MIB)[1]
    client.sock.sendall(flush * 100 + reads * 20)
    client.sock.close()
    assert client.ends_within(PATIENCE_S)
