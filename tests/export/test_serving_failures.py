"""What a client hears when the medium fails, lies, or runs out, and what it hears next."""

import threading
from collections.abc import Iterator

import pytest

from scrubjay.base.errors import Corrupt
from scrubjay.base.ports import Buffer
from scrubjay.base.units import KIB, MIB, SECTOR_BYTES
from scrubjay.export.serving import OUT_BYTES, PIECE_BYTES
from scrubjay.media.simulated import Fault, IoKind
from scrubjay.nbd import wire
from scrubjay.nbd.wire import Cookie
from tests.engine.rig import open_disk
from tests.export.volume import (
    Answer,
    Script,
    Volume,
    joined,
    patience,
    serving,
    some,
    status,
    write_of,
)

FUA, NO_HOLE, DF = wire.CMD_FLAG_FUA, wire.CMD_FLAG_NO_HOLE, wire.CMD_FLAG_DF


@pytest.fixture
def volume() -> Iterator[Volume]:
    """Eight MiB, never written."""
    with serving() as served:
        yield served


def rot(volume: Volume, lba: int) -> None:
    """Flip a bit of the unit that holds a sector."""
    with volume.disk.lock:
        ((at, _),) = volume.disk.extents(lba, 1)
    volume.simulated.flip((at + 100) * 8)


# --- An append that fails ----------------------------------------------------------------

FAULTS = [
    (Fault.ERROR, wire.EIO),
    (Fault.TORN, wire.EIO),
    (Fault.SHORT, wire.EIO),
    (Fault.NO_SPACE, wire.ENOSPC),
]


@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize(("fault", "error"), FAULTS)
def test_failed_append_refuses_the_writes_of_its_record_and_nothing_else(
    volume: Volume, fault: Fault, error: int, structured: bool
) -> None:
    """I1, I4, I5: no write of it is acknowledged or seen; reads and the FLUSH beside it are."""
    talk, old = volume.talk(structured=structured), some(64 * KIB)
    volume.write(talk, 0, old)

    def batch() -> list[tuple[Cookie, bytes]]:
        return [
            write_of(talk, 0, b"1" * 8192),
            talk.ask(wire.CMD_READ, offset=32768, length=32768),
            write_of(talk, 4096, b"2" * 16384, FUA),
            write_of(talk, 30_000, b"3" * 10),
            write_of(talk, 30_100, b"4" * 10, FUA),
            talk.ask(wire.CMD_FLUSH),
            talk.ask(wire.CMD_READ, offset=28672, length=4096),
        ]

    volume.simulated.inject(fault, kind=IoKind.WRITE)
    failed = batch()
    volume.play(talk, joined(failed))
    assert status(failed, talk) == [error, 0, error, error, error, 0, 0]
    assert talk.answers[failed[1][0]].data == old[32768:]
    assert volume.read(0, 64 * KIB) == old
    assert len(volume.complaints) == 1
    again = batch()
    volume.play(talk, joined(again))
    assert status(again, talk) == [0] * 7
    new = bytearray(old)
    new[:20480] = b"1" * 4096 + b"2" * 16384
    new[30_000:30_010], new[30_100:30_110] = b"3" * 10, b"4" * 10
    assert volume.read(0, 64 * KIB) == new
    reopened = open_disk(volume.simulated, volume.keeper)
    found = memoryview(bytearray(64 * KIB))
    reopened.read_bytes(0, found)
    assert found == new


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_failed_append_in_a_batch_of_several_refuses_its_own_requests(
    volume: Volume, failing: int
) -> None:
    """A TRIM is a record of its own: what was appended before and behind it stands."""
    talk, old = volume.talk(), some(64 * KIB)
    volume.write(talk, 0, old)
    batch = [
        write_of(talk, 0, b"1" * 4096),
        write_of(talk, 8192, b"2" * 4096, FUA),
        talk.ask(wire.CMD_TRIM, offset=16384, length=4096),
        write_of(talk, 24576, b"3" * 4096, FUA),
        write_of(talk, 32768, b"4" * 100),
    ]
    volume.simulated.inject(Fault.ERROR, after=failing, kind=IoKind.WRITE)
    volume.play(talk, joined(batch))
    records = [0, 0, 1, 2, 2]
    assert status(batch, talk) == [wire.EIO if r == failing else 0 for r in records]
    new = bytearray(old)
    for record, at, data in (
        (0, 0, b"1" * 4096),
        (0, 8192, b"2" * 4096),
        (1, 16384, bytes(4096)),
        (2, 24576, b"3" * 4096),
        (2, 32768, b"4" * 100),
    ):
        if record != failing:
            new[at : at + len(data)] = data
    assert volume.read(0, 64 * KIB) == new


@pytest.mark.parametrize("flags", [0, FUA])
@pytest.mark.parametrize("command", [wire.CMD_WRITE, wire.CMD_WRITE_ZEROES])
@pytest.mark.parametrize("failing", [0, 2, 5])
def test_failed_piece_of_a_long_write_fails_it_once_and_the_stream_goes_on(
    volume: Volume, command: int, flags: int, failing: int
) -> None:
    """I5: one error at its end; each sector old or new; the next request is found."""
    talk, old = volume.talk(), some(8 * MIB, 1)
    volume.write(talk, 0, old)
    data = some(4 * MIB, 2) if command == wire.CMD_WRITE else bytes(4 * MIB)
    more = NO_HOLE if command == wire.CMD_WRITE_ZEROES else 0
    cookie, head = talk.ask(command, offset=MIB + 99, length=4 * MIB, flags=flags | more)
    read = talk.ask(wire.CMD_READ, length=MIB)
    stream = head + (data if command == wire.CMD_WRITE else b"") + read[1]
    volume.simulated.inject(Fault.ERROR, after=failing, kind=IoKind.WRITE)
    volume.play(talk, *[stream[at : at + 400_000] for at in range(0, len(stream), 400_000)])
    assert talk.answers[cookie].error == wire.EIO
    assert talk.answers[read[0]] == Answer(0, old[:MIB])
    new = old[: MIB + 99] + data + old[5 * MIB + 99 :]
    found = volume.read(0, 8 * MIB)
    for at in range(0, 8 * MIB, SECTOR_BYTES):
        sector = slice(at, at + SECTOR_BYTES)
        assert found[sector] in (old[sector], new[sector])


def test_failed_append_under_a_receive_full_of_flushes_is_answered_whole(volume: Volume) -> None:
    """However many requests wait for the sync, their errors need no room beside the replies."""
    talk = volume.talk()
    batch = [write_of(talk, i % 2000 * 4096, b"x", FUA) for i in range(10_000)]
    read = talk.ask(wire.CMD_READ, length=PIECE_BYTES)
    assert len(batch) * wire.SIMPLE_REPLY.size > OUT_BYTES - PIECE_BYTES
    volume.simulated.inject(Fault.ERROR, kind=IoKind.WRITE)
    volume.play(talk, read[1] + joined(batch))
    assert talk.pending == 0
    assert set(status(batch, talk)) == {0, wire.EIO}


# --- A sync that fails ---------------------------------------------------------------------


def test_failed_sync_refuses_every_later_request_on_every_connection(volume: Volume) -> None:
    """I4: who waited for the sync gets EIO, and so does everybody from then on."""
    first, second = volume.client(), volume.client(structured=False)
    assert first.ask(wire.CMD_WRITE, data=some(8192)).error == 0
    volume.simulated.inject(Fault.ERROR, kind=IoKind.SYNC)
    assert first.ask(wire.CMD_FLUSH).error == wire.EIO
    assert len(volume.poisoned) == 1
    for client in (first, second, volume.client()):
        for command, flags, data in (
            (wire.CMD_READ, 0, b""),
            (wire.CMD_READ, DF, b""),
            (wire.CMD_WRITE, 0, some(4096)),
            (wire.CMD_WRITE, FUA, some(3 * MIB)),
            (wire.CMD_WRITE, 0, b"odd"),
            (wire.CMD_TRIM, 0, b""),
            (wire.CMD_WRITE_ZEROES, NO_HOLE, b""),
            (wire.CMD_CACHE, 0, b""),
            (wire.CMD_FLUSH, 0, b""),
        ):
            if flags == DF and client is second:
                continue
            length = 0 if command == wire.CMD_FLUSH else len(data) or 4096
            answer = client.ask(command, length=length, flags=flags, data=data)
            assert answer == Answer(wire.EIO), command
    assert first.ask(wire.CMD_BLOCK_STATUS, length=4096).error == wire.EIO
    assert volume.simulated.writes == 1


def test_failed_sync_is_not_made_good_by_another_one(volume: Volume) -> None:
    """I4: FLUSHes that waited behind the one that failed are not answered by a later success."""
    client, other = volume.client(), volume.client()
    entered, held, syncs = threading.Event(), threading.Event(), []

    def on_sync() -> None:
        syncs.append(1)
        entered.set()
        patience(held)

    volume.simulated.on_sync = on_sync
    volume.simulated.inject(Fault.ERROR, kind=IoKind.SYNC)
    first = client.say(wire.CMD_FLUSH)
    patience(entered)
    waiting = [
        client.say(wire.CMD_WRITE, data=some(4096), flags=FUA),
        client.say(wire.CMD_FLUSH),
    ]
    plain = client.say(wire.CMD_WRITE, offset=4096, data=some(4096))
    last = other.say(wire.CMD_FLUSH)
    assert client.hear(plain).error == 0  # so the others are at the flusher by now
    held.set()
    assert [client.hear(cookie).error for cookie in (first, *waiting)] == [wire.EIO] * 3
    assert other.hear(last).error == wire.EIO
    assert len(syncs) == 1


def test_flush_behind_a_checkpoint_whose_sync_failed_is_no_success(volume: Volume) -> None:
    """I4: a sync that succeeds after another one failed says nothing, whoever did the other."""
    client = volume.client()
    entered, held = threading.Event(), threading.Event()

    def on_sync() -> None:
        entered.set()
        patience(held)

    volume.simulated.on_sync = on_sync
    flush = client.say(wire.CMD_FLUSH)
    patience(entered)
    volume.disk.poisoned = wire.EIO
    held.set()
    assert client.hear(flush).error == wire.EIO


@pytest.mark.parametrize("command", [wire.CMD_WRITE, wire.CMD_WRITE_ZEROES])
def test_write_in_pieces_over_a_failed_sync_is_refused(volume: Volume, command: int) -> None:
    """I4: a volume that was poisoned meanwhile acknowledges nothing more."""
    talk = volume.talk()
    zeroes = command == wire.CMD_WRITE_ZEROES
    cookie, head = talk.ask(command, length=4 * MIB, flags=NO_HOLE if zeroes else 0)
    stream = head + (b"" if zeroes else some(4 * MIB))

    class Poisoning(Script):
        """Poisons the volume at its third receive."""

        def recv_into(self, buffer: memoryview, size_bytes: int = 0, flags: int = 0, /) -> int:
            if len(self._receives) < 6:
                volume.disk.poisoned = wire.EIO
            return super().recv_into(buffer)

    script = Poisoning([stream[at : at + 512 * KIB] for at in range(0, len(stream), 512 * KIB)])
    if zeroes:
        volume.simulated.on_write = lambda: setattr(volume.disk, "poisoned", wire.EIO)
    volume.connection(script, talk).run()
    talk.hear(script.told)
    assert talk.answers[cookie].error == wire.EIO
    assert volume.simulated.writes < 6


@pytest.mark.parametrize("structured", [True, False])
def test_read_in_pieces_over_a_failed_sync_does_not_end_well(
    volume: Volume, structured: bool
) -> None:
    """I4: it ends with an error where that can be said, and with the connection elsewhere."""
    talk = volume.talk(structured=structured)
    volume.write(talk, 0, some(4 * MIB))

    class Poisoning(Script):
        """Poisons the volume behind the first piece."""

        def sendall(self, data: Buffer, /) -> None:
            super().sendall(data)
            volume.disk.poisoned = wire.EIO

    cookie, head = talk.ask(wire.CMD_READ, length=4 * MIB)
    script = Poisoning([head + talk.ask(wire.CMD_FLUSH)[1]])
    volume.connection(script, talk).run()
    talk.hear(script.told)
    if structured:
        assert talk.answers[cookie].error == wire.EIO
    else:
        assert not talk.answers.keys() & {cookie, cookie + 1}
        assert script.told[16:] == some(4 * MIB)[: len(script.told) - 16]


# --- Bytes that are not what was written -----------------------------------------------------


@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize("unreadable", [True, False])
def test_corrupt_unit_fails_reads_of_it_alone_and_is_named_to_the_operator(
    volume: Volume, structured: bool, unreadable: bool
) -> None:
    """I1: EIO and not one byte, no word of ours to the client; its neighbours are read."""
    talk, data = volume.talk(structured=structured), some(128 * KIB)
    volume.write(talk, 0, data)
    if unreadable:
        with volume.disk.lock:
            ((at, size),) = volume.disk.extents(12, 1)
        volume.simulated.unreadable.update(range(at // 4096, (at + size) // 4096 + 1))
    else:
        rot(volume, 12)
    batch = [
        talk.ask(wire.CMD_READ, offset=0, length=32768),
        talk.ask(wire.CMD_READ, offset=12 * 4096, length=4096),
        talk.ask(wire.CMD_READ, offset=0, length=128 * KIB),
        talk.ask(wire.CMD_READ, offset=13 * 4096 + 5, length=10),
        write_of(talk, 12 * 4096 + 9, b"partly"),
        talk.ask(wire.CMD_READ, offset=24 * 4096, length=32768),
    ]
    script = volume.play(talk, joined(batch))
    assert status(batch, talk) == [0, wire.EIO, wire.EIO, wire.EIO, wire.EIO, 0]
    assert talk.answers[batch[0][0]].data == data[:32768]
    assert talk.answers[batch[5][0]].data == data[24 * 4096 :]
    assert all(talk.answers[cookie].message == "" for cookie, _ in batch)
    assert b"segment" not in script.told
    assert len(volume.complaints) == 4
    if not unreadable:
        assert "does not open for LBA 12" in volume.complaints[0]
    volume.simulated.unreadable.clear()
    whole = [write_of(talk, 12 * 4096, b"w" * 16384), talk.ask(wire.CMD_READ, length=128 * KIB)]
    volume.play(talk, joined(whole))
    expected = data[: 12 * 4096] + b"w" * 16384 + data[16 * 4096 :]
    assert talk.answers[whole[1][0]] == Answer(0, expected)


@pytest.mark.parametrize(("structured", "flags"), [(False, 0), (True, DF)])
def test_corrupt_unit_late_in_a_read_of_one_chunk_ends_the_connection_there(
    volume: Volume, structured: bool, flags: int
) -> None:
    """I1: the reply has begun and cannot be taken back; not a byte of anything follows it."""
    talk = volume.talk(structured=structured)
    volume.write(talk, 0, some(3 * MIB))
    rot(volume, 300)
    flush = talk.ask(wire.CMD_FLUSH)
    read = talk.ask(wire.CMD_READ, length=3 * MIB, flags=flags)
    after = talk.ask(wire.CMD_READ, length=4096)
    script = Script([read[1] + flush[1] + after[1], after[1]])
    volume.connection(script, talk).run()
    head = wire.DATA_CHUNK.size if structured else wire.SIMPLE_REPLY.size
    assert 0 < len(script.told) - head < 300 * 4096
    assert script.told[head:] == some(3 * MIB)[: len(script.told) - head]


def test_corrupt_unit_late_in_a_read_of_several_chunks_ends_the_reply_with_an_error(
    volume: Volume,
) -> None:
    """Without DF the reply can still say that it failed, and the connection goes on."""
    talk = volume.talk()
    volume.write(talk, 0, some(3 * MIB))
    rot(volume, 300)
    batch = [talk.ask(wire.CMD_READ, length=3 * MIB), talk.ask(wire.CMD_READ, length=MIB)]
    volume.play(talk, joined(batch))
    assert talk.answers[batch[0][0]].error == wire.EIO
    assert talk.answers[batch[1][0]] == Answer(0, some(MIB))


def test_trouble_in_upkeep_is_no_fault_of_the_client(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cleaning meets is named to the operator, and costs no client its connection."""
    troubles = iter([Corrupt("segment 9 offset 4096: rotten"), OSError(5, "no luck")])

    def maintain() -> None:
        trouble = next(troubles, None)
        if trouble:
            raise trouble

    monkeypatch.setattr(volume.disk, "maintain", maintain)
    client = volume.client()
    for turn in range(4):
        assert client.ask(wire.CMD_WRITE, data=some(6 * MIB, turn)).error == 0
    assert client.ask(wire.CMD_READ, length=6 * MIB).data == some(6 * MIB, 3)
    assert len(volume.complaints) == 2
