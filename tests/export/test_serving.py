"""One connection, byte by byte, in receives that the tests lay down (I1, I4, bad input)."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import pytest

from scrubjay.base.units import KIB, MIB, SECTOR_BYTES
from scrubjay.export.flushing import Flusher, Waiter
from scrubjay.export.serving import OUT_BYTES, PIECE_BYTES, RECEIVE_BYTES
from scrubjay.nbd import wire
from tests.export.volume import (
    PATIENCE_S,
    Script,
    Talk,
    Volume,
    joined,
    patience,
    serving,
    some,
    status,
    write_of,
)

HOLE = wire.STATE_HOLE | wire.STATE_ZERO
FUA, NO_HOLE, DF = wire.CMD_FLAG_FUA, wire.CMD_FLAG_NO_HOLE, wire.CMD_FLAG_DF
FAST_ZERO, REQ_ONE = wire.CMD_FLAG_FAST_ZERO, wire.CMD_FLAG_REQ_ONE


@pytest.fixture
def volume() -> Iterator[Volume]:
    """Eight MiB, never written."""
    with serving() as served:
        yield served


# --- Reads and writes --------------------------------------------------------------------


@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, 4096),
        (4096, 1),
        (4095, 2),
        (1, 4095),
        (511, 512),
        (4096, 12288),
        (4095, 4098),
        (8191, 300_001),
        (0, PIECE_BYTES),
        (0, PIECE_BYTES + 4096),
        (1, PIECE_BYTES),
        (4097, RECEIVE_BYTES),
        (3 * MIB + 5, 5 * MIB - 5),
        (0, 8 * MIB),
    ],
)
def test_write_of_any_alignment_reads_back_and_changes_nothing_else(
    volume: Volume, structured: bool, offset: int, length: int
) -> None:
    """I1: what is written is read, its neighbours stay, however it lies to sectors and buffers."""
    before, data = some(8 * MIB, 2), some(length)
    talk = volume.talk(structured=structured)
    assert volume.write(talk, 0, before).error == 0
    assert volume.write(talk, offset, data).error == 0
    answer = volume.request(talk, wire.CMD_READ, offset=offset, length=length)
    assert answer.error == 0
    assert answer.data == data
    whole = volume.request(talk, wire.CMD_READ, length=8 * MIB).data
    assert whole == before[:offset] + data + before[offset + length :]


@pytest.mark.parametrize("structured", [True, False])
def test_requests_of_the_longest_payload_are_streamed(structured: bool) -> None:
    """I1: 32 MiB, aligned or not, pass through buffers of one MiB whole."""
    data = some(wire.PAYLOAD_BYTES_MAX)
    with serving(size_bytes=48 * MIB) as volume:
        client = volume.client(structured=structured)
        for offset in (0, 8 * MIB + 777):
            assert client.ask(wire.CMD_WRITE, offset=offset, data=data).error == 0
            answer = client.ask(wire.CMD_READ, offset=offset, length=len(data))
            assert answer.error == 0
            assert answer.data == data


def test_write_in_tiny_receives_arrives_whole(volume: Volume) -> None:
    """I1: a client may dribble; nothing is lost at the edge of any piece."""
    talk = volume.talk()
    data, random = some(700_000), Random(3)
    cookie, stream = write_of(talk, 4096 + 13, data)
    after = talk.ask(wire.CMD_READ, offset=4096, length=SECTOR_BYTES)
    stream += after[1]
    pieces, at = [], 0
    while at < len(stream):
        size = random.choice((1, 2, 27, 28, 29, 4095, 4096, 4097, 60_000))
        pieces.append(stream[at : at + size])
        at += size
    volume.play(talk, *pieces)
    assert status([(cookie, b""), after], talk) == [0, 0]
    assert volume.read(4096 + 13, len(data)) == data
    assert volume.read(0, 4096 + 13) == bytes(4096 + 13)


def test_requests_that_came_with_the_handshake_are_served_first(volume: Volume) -> None:
    """What a client sent before it saw the handshake's end is not lost."""
    talk = volume.talk()
    write, read = write_of(talk, 0, some(9000)), talk.ask(wire.CMD_READ, length=9000)
    volume.play(talk, write[1][5000:] + read[1], rest=write[1][:5000])
    assert talk.answers[read[0]].data == some(9000)


@pytest.mark.parametrize("length", [1, 100, 4096, 5000, 16384])
def test_one_receive_of_many_writes_is_one_append(volume: Volume, length: int) -> None:
    """All writes that arrive together are one write call, those below a sector too."""
    talk = volume.talk()
    batch = [write_of(talk, i * 32768, some(length, i)) for i in range(25)]
    volume.play(talk, joined(batch))
    assert volume.simulated.writes == 1
    assert status(batch, talk) == [0] * 25


def test_reads_see_the_writes_before_them_in_the_same_receive(volume: Volume) -> None:
    """I1: a batch is served in order, though it is appended at its end."""
    talk = volume.talk(structured=False)
    batch, expected = [], []
    for version in range(1, 9):
        batch.append(write_of(talk, 0, bytes([version]) * 8192))
        batch.append(write_of(talk, 4000, bytes([version + 100]) * 200))
        batch.append(talk.ask(wire.CMD_READ, length=8192))
        mixed = bytearray(bytes([version]) * 8192)
        mixed[4000:4200] = bytes([version + 100]) * 200
        expected.append(mixed)
    volume.play(talk, joined(batch))
    assert [talk.answers[cookie].data for cookie, _ in batch[2::3]] == expected


# --- Buffers that fill -------------------------------------------------------------------


@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize("length", [512, 4096, 4097, 300_000, PIECE_BYTES, 2 * MIB])
def test_more_replies_than_the_out_buffer_holds_all_arrive(
    volume: Volume, structured: bool, length: int
) -> None:
    """Requests that wait in the buffer for room to answer them are not waited for."""
    talk = volume.talk(structured=structured)
    data = some(8 * MIB)
    volume.write(talk, 0, data)
    count = max(6 * MIB // length, 3)
    reads = [talk.ask(wire.CMD_READ, offset=i * 512, length=length) for i in range(min(count, 900))]
    assert len(reads) * length > 2 * OUT_BYTES or length == 512
    volume.play(talk, joined(reads))
    for i, (cookie, _) in enumerate(reads):
        assert talk.answers[cookie].data == data[i * 512 : i * 512 + length]


def test_receive_full_of_small_requests_is_answered_whole(volume: Volume) -> None:
    """A MiB of the smallest requests has more replies than fit: they are sent in turns."""
    talk = volume.talk()
    kinds = (
        (wire.CMD_CACHE, 0, 0),
        (wire.CMD_BLOCK_STATUS, 0, 0),
        (wire.CMD_READ, 0, 0),
        (99, 0, wire.EINVAL),
        (wire.CMD_READ, 1 << 40, wire.EINVAL),
        (wire.CMD_TRIM, 0, 0),
    )
    volume.write(talk, 0, some(4096))
    asked = [(kind, talk.ask(kind[0], offset=kind[1], length=512)) for kind in kinds * 4000]
    volume.play(talk, b"".join(head for _, (_, head) in asked))
    assert talk.pending == 0
    assert all(talk.answers[cookie].error == kind[2] for kind, (cookie, _) in asked)


def test_replies_to_writes_behind_reads_that_filled_the_buffer_all_arrive(volume: Volume) -> None:
    """Even 16 bytes need room: writes wait for the next turn as reads do."""
    talk = volume.talk()
    batch = [talk.ask(wire.CMD_READ, length=PIECE_BYTES)]
    while len(batch) * (28 + 4096) < OUT_BYTES - PIECE_BYTES:
        batch.append(talk.ask(wire.CMD_READ, length=4096))
    while sum(len(each) for _, each in batch) < RECEIVE_BYTES - 4096 - 28:
        batch.append(write_of(talk, 4 * MIB, some(4096)))
    volume.play(talk, joined(batch))
    assert talk.pending == 0
    assert set(status(batch, talk)) == {0}


# --- The format of replies ---------------------------------------------------------------


def test_replies_to_a_simple_client_are_simple(volume: Volume) -> None:
    """Without structured replies every reply is 16 bytes, and a read's data follows them."""
    talk = volume.talk(structured=False)
    write, read = write_of(talk, 0, some(4096)), talk.ask(wire.CMD_READ, length=4096)
    short, bad = talk.ask(wire.CMD_READ, offset=7, length=3), talk.ask(77)
    script = volume.play(talk, write[1] + read[1] + short[1] + bad[1])
    reply = wire.SIMPLE_REPLY.pack
    magic = wire.SIMPLE_REPLY_MAGIC
    assert bytes(script.told) == (
        reply(magic, 0, write[0])
        + reply(magic, 0, read[0])
        + some(4096)
        + reply(magic, 0, short[0])
        + some(4096)[7:10]
        + reply(magic, wire.EINVAL, bad[0])
    )


def test_replies_to_a_structured_client_are_one_chunk_where_they_fit(volume: Volume) -> None:
    """A READ is one chunk with DONE, a failure an error chunk without a word of ours."""
    talk = volume.talk()
    write, read = write_of(talk, 0, some(4096)), talk.ask(wire.CMD_READ, length=4096)
    short = talk.ask(wire.CMD_READ, offset=7, length=3)
    bad = talk.ask(wire.CMD_READ, offset=8 * MIB, length=1)
    script = volume.play(talk, write[1] + read[1] + short[1] + bad[1])
    chunk, data = wire.DATA_CHUNK.pack, wire.CHUNK_OFFSET_DATA
    magic, done = wire.CHUNK_MAGIC, wire.CHUNK_DONE
    assert bytes(script.told) == (
        wire.SIMPLE_REPLY.pack(wire.SIMPLE_REPLY_MAGIC, 0, write[0])
        + chunk(magic, done, data, read[0], 8 + 4096, 0)
        + some(4096)
        + chunk(magic, done, data, short[0], 8 + 3, 7)
        + some(4096)[7:10]
        + wire.ERROR_CHUNK.pack(magic, done, wire.CHUNK_ERROR, bad[0], 6, wire.EINVAL, 0)
    )


@pytest.mark.parametrize("offset", [0, 4096 + 1])
def test_long_read_is_one_chunk_only_where_df_asks_for_it(volume: Volume, offset: int) -> None:
    """DF: one content chunk; without it several, so that a late failure can still be told."""
    talk = volume.talk()
    chunks = {}
    for flags in (0, DF):
        cookie, head = talk.ask(wire.CMD_READ, offset=offset, length=2 * MIB, flags=flags)
        script = volume.play(talk, head)
        told, at, found = script.told, 0, []
        while at < len(told):
            _, done, kind, _, length = wire.CHUNK.unpack_from(told, at)
            found.append((done, kind))
            at += wire.CHUNK.size + length
        chunks[flags] = found
        assert len(talk.answers[cookie].data) == 2 * MIB
    assert chunks[DF] == [(wire.CHUNK_DONE, wire.CHUNK_OFFSET_DATA)]
    assert len(chunks[0]) > 2
    assert all(kind == wire.CHUNK_OFFSET_DATA for _, kind in chunks[0])


@dataclass
class _Watched:
    """A waiter whose answer is noticed."""

    waiter: Waiter
    answered: threading.Event

    def answer(self, cookies: list[wire.Cookie], error: int) -> None:
        """Pass it on, and tell."""
        self.waiter.answer(cookies, error)
        self.answered.set()


class _Noticed(Flusher):
    """Another flusher, with an event for its answers."""

    def __init__(self, flusher: Flusher, answered: threading.Event) -> None:
        self._flusher = flusher
        self._answered = answered

    def enqueue(self, waiter: Waiter, cookies: list[wire.Cookie]) -> None:
        """Pass them on."""
        self._flusher.enqueue(_Watched(waiter, self._answered), cookies)


@pytest.mark.parametrize(("structured", "flags"), [(False, 0), (True, DF)])
def test_flush_answered_during_a_long_read_does_not_come_between_its_bytes(
    volume: Volume, structured: bool, flags: int
) -> None:
    """I1: the flusher's reply waits for the end of a read that is one chunk in many sends."""
    talk = volume.talk(structured=structured)
    data = some(4 * MIB)
    volume.write(talk, 0, data)
    flush = talk.ask(wire.CMD_FLUSH)
    read = talk.ask(wire.CMD_READ, length=4 * MIB, flags=flags)
    script = Script([flush[1] + read[1]])
    answered = threading.Event()
    connection = volume.connection(script, talk, flusher=_Noticed(volume.flusher, answered))
    volume.simulated.on_read = lambda: answered.wait(PATIENCE_S) if script.sends else None
    connection.run()
    talk.hear(script.told)
    assert status([flush, read], talk) == [0, 0]
    assert talk.answers[read[0]].data == data


# --- FLUSH and FUA -----------------------------------------------------------------------


def test_flush_and_fua_are_answered_behind_a_sync_and_others_are_not(volume: Volume) -> None:
    """I4: no reply to FLUSH or FUA before a sync that began behind the append."""
    client = volume.client()
    held, entered = threading.Event(), threading.Event()
    writes_at_sync = []

    def on_sync() -> None:
        writes_at_sync.append(volume.simulated.writes)
        entered.set()
        patience(held)

    volume.simulated.on_sync = on_sync
    batch = [
        client.talk.ask(wire.CMD_FLUSH),
        write_of(client.talk, 0, some(4096), FUA),
        write_of(client.talk, 5000, some(10), FUA),
        client.talk.ask(wire.CMD_WRITE_ZEROES, offset=8192, length=4096, flags=FUA),
        client.talk.ask(wire.CMD_TRIM, length=4096, flags=FUA),
    ]
    plain = write_of(client.talk, 12288, some(4096))
    client.send(joined([*batch, plain]))
    assert client.hear(plain[0]).error == 0
    patience(entered)
    assert not any(cookie in client.talk.answers for cookie, _ in batch)
    held.set()
    assert [client.hear(cookie).error for cookie, _ in batch] == [0] * 5
    assert writes_at_sync[-1] == volume.simulated.writes


def test_flush_before_disc_is_answered_before_the_end(volume: Volume) -> None:
    """DISC finishes what is under way: a FLUSH that waits for its sync gets its answer."""
    client = volume.client()
    held, entered = threading.Event(), threading.Event()

    def on_sync() -> None:
        entered.set()
        patience(held)

    volume.simulated.on_sync = on_sync
    cookie, flush = client.talk.ask(wire.CMD_FLUSH)
    client.sock.sendall(flush + client.talk.ask(wire.CMD_DISC)[1])
    patience(entered)
    assert not client.ends_within(0.2)
    held.set()
    client.talk.hear(client.left_alone())
    assert client.talk.answers[cookie].error == 0


def test_flushes_of_many_are_answered_by_few_syncs(volume: Volume) -> None:
    """One sync answers all who wait: a receive full of FLUSHes costs no more than one."""
    talk, syncs = volume.talk(), []
    volume.simulated.on_sync = lambda: syncs.append(1)
    batch = [talk.ask(wire.CMD_FLUSH) for _ in range(30_000)]
    volume.play(talk, joined(batch))
    assert talk.pending == 0
    assert len(syncs) == 1


# --- TRIM, WRITE_ZEROES, CACHE, BLOCK_STATUS -----------------------------------------------


def extents(volume: Volume, talk: Talk, offset: int, length: int) -> list[tuple[int, int]]:
    """What BLOCK_STATUS says."""
    answer = volume.request(talk, wire.CMD_BLOCK_STATUS, offset=offset, length=length)
    assert answer.error == 0
    return list(answer.extents)


@pytest.mark.parametrize(
    ("command", "flags", "zeroed", "hole"),
    [
        (wire.CMD_TRIM, 0, (8192, 40960), (8192, 32768)),
        (wire.CMD_WRITE_ZEROES, 0, (5000, 41000), (8192, 32768)),
        (wire.CMD_WRITE_ZEROES, FAST_ZERO, (5000, 41000), (8192, 32768)),
        (wire.CMD_WRITE_ZEROES, FUA, (5000, 41000), (8192, 32768)),
        (wire.CMD_WRITE_ZEROES, NO_HOLE, (5000, 41000), None),
        (wire.CMD_WRITE_ZEROES, NO_HOLE | FUA, (5000, 41000), None),
    ],
)
def test_zeroed_range_reads_as_zeros_and_shows_as_what_it_is(
    volume: Volume, command: int, flags: int, zeroed: tuple[int, int], hole: tuple[int, int] | None
) -> None:
    """I1: WRITE_ZEROES is exact, TRIM drops whole sectors; NO_HOLE keeps them allocated."""
    talk, data = volume.talk(), bytearray(some(64 * KIB))
    volume.write(talk, 0, bytes(data))
    assert volume.request(talk, command, offset=5000, length=36000, flags=flags).error == 0
    data[zeroed[0] : zeroed[1]] = bytes(zeroed[1] - zeroed[0])
    assert volume.read(0, 64 * KIB) == data
    expected = [(64 * KIB, 0)]
    if hole:
        expected = [(hole[0], 0), (hole[1], HOLE), (64 * KIB - sum(hole), 0)]
    assert extents(volume, talk, 0, 64 * KIB) == expected


def test_fast_zero_without_holes_is_refused_at_once(volume: Volume) -> None:
    """FAST_ZERO with NO_HOLE would have to write them all: ENOTSUP, and nothing changes."""
    talk = volume.talk()
    volume.write(talk, 0, some(8192))
    answer = volume.request(
        talk, wire.CMD_WRITE_ZEROES, length=8192, flags=FAST_ZERO | NO_HOLE | FUA
    )
    assert answer.error == wire.ENOTSUP
    assert volume.read(0, 8192) == some(8192)


def test_zeros_without_holes_over_many_pieces_are_written_and_allocated(volume: Volume) -> None:
    """NO_HOLE over more than the buffers hold is done in pieces, and all of it is there."""
    talk = volume.talk()
    batch = [
        write_of(talk, 0, some(5 * MIB)),
        talk.ask(wire.CMD_WRITE_ZEROES, offset=777, length=4 * MIB, flags=NO_HOLE),
        talk.ask(wire.CMD_READ, offset=0, length=5 * MIB),
    ]
    volume.play(talk, joined(batch))
    expected = bytearray(some(5 * MIB))
    expected[777 : 777 + 4 * MIB] = bytes(4 * MIB)
    assert talk.answers[batch[2][0]].data == expected
    assert extents(volume, talk, 0, 8 * MIB) == [(5 * MIB, 0), (3 * MIB, HOLE)]


def test_trim_of_what_was_never_written_appends_nothing(volume: Volume) -> None:
    """Nothing is dropped where there is nothing: a fresh volume may be discarded whole."""
    talk = volume.talk()
    for command in (wire.CMD_TRIM, wire.CMD_WRITE_ZEROES):
        assert volume.request(talk, command, length=8 * MIB).error == 0
    assert volume.simulated.writes == 0


def test_block_status_starts_and_ends_where_it_was_asked_to(volume: Volume) -> None:
    """Unaligned ranges are described exactly, and REQ_ONE brings one extent."""
    talk = volume.talk()
    volume.write(talk, 8192, some(4096))
    assert extents(volume, talk, 5000, 10_000) == [(3192, HOLE), (4096, 0), (2712, HOLE)]
    one = volume.request(talk, wire.CMD_BLOCK_STATUS, offset=9000, length=9000, flags=REQ_ONE)
    assert one.extents == ((3288, 0),)
    assert extents(volume, talk, 8 * MIB - 1, 1) == [(1, HOLE)]


def test_block_status_of_every_other_sector_ends_early_and_goes_on_later(volume: Volume) -> None:
    """More extents than one reply holds: a client that asks again sees them all."""
    talk = volume.talk()
    with serving(size_bytes=64 * MIB) as large:
        talk = large.talk()
        batch = [write_of(talk, i * 8192, b"\1") for i in range(8000)]
        large.play(talk, joined(batch))
        at, found = 0, []
        while at < 64 * MIB:
            got = extents(large, talk, at, 64 * MIB - at)
            found += got
            at += sum(size for size, _ in got)
    assert found[:16000] == [(4096, 0), (4096, HOLE)] * 7999 + [(4096, 0), found[15999]]
    assert at == 64 * MIB


def test_cache_announces_what_a_read_will_need(volume: Volume) -> None:
    """CACHE tells the medium where the data lies, and answers whatever the medium does."""
    talk = volume.talk()
    volume.write(talk, 0, some(64 * KIB))
    assert volume.request(talk, wire.CMD_CACHE, offset=100, length=8 * MIB - 100).error == 0
    assert sum(length for _, length in volume.simulated.advised) == 64 * KIB + 4 * 16


def test_cache_of_a_whole_volume_is_taken_as_far_as_it_is_useful() -> None:
    """Advice about 4 GiB would hold the volume's lock for long: some of it is enough."""
    with serving(size_bytes=48 * MIB) as volume:
        talk = volume.talk()
        for at in range(0, 48 * MIB, 8 * MIB):
            volume.write(talk, at, some(8 * MIB))
        assert volume.request(talk, wire.CMD_CACHE, length=48 * MIB).error == 0
        assert sum(length for _, length in volume.simulated.advised) < 33 * MIB
