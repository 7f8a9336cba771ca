"""Several connections on one volume: what NBD's multi-conn promises (I1, I4)."""

import threading
from collections.abc import Iterator
from random import Random

import pytest

from scrubjay.base.units import KIB, MIB
from scrubjay.nbd import wire
from tests.engine.rig import open_disk
from tests.export.volume import Client, Volume, patience, serving

FUA, NO_HOLE = wire.CMD_FLAG_FUA, wire.CMD_FLAG_NO_HOLE


@pytest.fixture
def volume() -> Iterator[Volume]:
    """Eight MiB, never written."""
    with serving() as served:
        yield served


def test_write_acknowledged_on_one_connection_is_read_on_another(volume: Volume, seed: int) -> None:
    """I1: what one client was told is written, every client reads from then on."""
    random = Random(seed)
    clients = [volume.client(structured=bool(i % 2)) for i in range(4)]
    image = bytearray(8 * MIB)
    for _ in range(150):
        offset, length = random.randrange(7 * MIB), random.choice((10, 4096, 9000, 600_000))
        data = random.randbytes(length)
        assert random.choice(clients).ask(wire.CMD_WRITE, offset=offset, data=data).error == 0
        image[offset : offset + length] = data
        at = random.randrange(max(0, offset - 5000), offset + length)
        size = random.randrange(1, min(700_000, len(image) - at))
        answer = random.choice(clients).ask(wire.CMD_READ, offset=at, length=size)
        assert answer.data == image[at : at + size]


@pytest.mark.parametrize("flush", [wire.CMD_FLUSH, wire.CMD_WRITE])
def test_flush_on_one_connection_covers_what_was_acknowledged_on_another(
    volume: Volume, flush: int
) -> None:
    """I4: a FLUSH, or a FUA write, on A that follows B's acknowledgement survives power loss."""
    first, second = volume.client(), volume.client()
    for turn in range(8):
        data = Random(turn).randbytes(300_000)
        assert first.ask(wire.CMD_WRITE, offset=turn * 300_000, data=data).error == 0
        assert second.ask(wire.CMD_WRITE, offset=4 * MIB + turn * 100, data=data[:99]).error == 0
        if flush == wire.CMD_FLUSH:
            assert second.ask(flush).error == 0
        else:
            assert second.ask(flush, offset=7 * MIB, data=data[:4096], flags=FUA).error == 0
        survivor = volume.simulated.crash(lambda _: 0)
        disk = open_disk(survivor, volume.keeper.copy())
        found = memoryview(bytearray(300_000))
        disk.read_bytes(turn * 300_000, found)
        assert found == data
        disk.read_bytes(4 * MIB + turn * 100, found[:99])
        assert found[:99] == data[:99]


def test_writes_after_a_flush_may_be_lost_and_nothing_else(volume: Volume) -> None:
    """I4, I5: the test above can fail: what no FLUSH covered is old after a power loss."""
    client = volume.client()
    assert client.ask(wire.CMD_WRITE, data=b"1" * 4096).error == 0
    assert client.ask(wire.CMD_FLUSH).error == 0
    assert client.ask(wire.CMD_WRITE, data=b"2" * 4096).error == 0
    disk = open_disk(volume.simulated.crash(lambda _: 0), volume.keeper.copy())
    found = memoryview(bytearray(4096))
    disk.read_bytes(0, found)
    assert found == b"1" * 4096


def test_clients_at_once_with_upkeep_between_them_each_read_their_own(seed: int) -> None:
    """I1: batches of several threads, cleaning slices and checkpoints do not mix."""
    with serving(size_bytes=32 * MIB, slots=40) as volume:
        clients = [volume.client(structured=bool(i % 2)) for i in range(4)]
        images = [bytearray(8 * MIB) for _ in clients]
        failures: list[BaseException] = []
        over = threading.Event()

        def work(number: int) -> None:
            try:
                _churn(clients[number], images[number], number * 8 * MIB, Random(seed + number))
            except BaseException as failure:  # noqa: BLE001 - raised again in the test's thread
                failures.append(failure)

        def keep_up() -> None:
            while not over.wait(0.05):
                _upkeep(volume)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        steward = threading.Thread(target=keep_up)
        for each in (*threads, steward):
            each.start()
        for each in threads:
            each.join()
        over.set()
        steward.join()
        assert not failures, failures
        for number, image in enumerate(images):
            reader = clients[(number + 1) % 4]
            answer = reader.ask(wire.CMD_READ, offset=number * 8 * MIB, length=8 * MIB)
            assert answer.data == image
        assert volume.disk.counters.checkpoints > 0
        assert volume.complaints == []


def _churn(client: Client, image: bytearray, base: int, random: Random) -> None:
    for _ in range(120):
        length = random.choice((100, 4096, 4096, 20_000, 300_000, MIB))
        offset = random.randrange(len(image) - length)
        if random.random() < 0.5:
            offset &= -4096
        match random.randrange(8):
            case 0:
                answer = client.ask(wire.CMD_WRITE_ZEROES, offset=base + offset, length=length)
                image[offset : offset + length] = bytes(length)
            case 1:
                answer = client.ask(wire.CMD_FLUSH)
            case 2 | 3:
                answer = client.ask(wire.CMD_READ, offset=base + offset, length=length)
                assert answer.data == image[offset : offset + length]
            case _:
                data = random.randbytes(length)
                flags = random.choice((0, 0, 0, FUA))
                answer = client.ask(wire.CMD_WRITE, offset=base + offset, data=data, flags=flags)
                image[offset : offset + length] = data
        assert answer.error == 0


def _upkeep(volume: Volume) -> None:
    """What a steward does, only oftener."""
    disk = volume.disk
    for _ in range(20):
        with disk.lock:
            volume.disk.clean()
    slices = disk.checkpoint()
    while True:
        with disk.lock:
            if next(slices, volume) is volume:
                break
    disk.sync()
    disk.commit_checkpoint()


def test_slow_reader_delays_no_other_client(volume: Volume) -> None:
    """A client that takes none of its replies holds no lock of the volume."""
    slow, quick = volume.client(), volume.client()
    assert quick.ask(wire.CMD_WRITE, data=b"q" * 4096).error == 0
    batch = [slow.talk.ask(wire.CMD_READ, length=4 * MIB) for _ in range(3)]
    slow.sock.sendall(b"".join(head for _, head in batch))
    for turn in range(20):
        assert quick.ask(wire.CMD_WRITE, offset=turn * 4096, data=b"w" * 4096).error == 0
        assert quick.ask(wire.CMD_READ, offset=turn * 4096, length=4096).data == b"w" * 4096
    for cookie, _ in batch:
        assert slow.hear(cookie).error == 0


@pytest.mark.slow
def test_zeros_over_a_whole_volume_let_others_in_between() -> None:
    """A request that is served in many pieces without a word from its client yields."""
    with serving(size_bytes=192 * MIB, slots=40) as large:
        zeroing, reading = large.client(), large.client()
        started = threading.Event()
        large.simulated.on_write = started.set
        zeros = zeroing.say(wire.CMD_WRITE_ZEROES, length=192 * MIB, flags=NO_HOLE)
        patience(started)
        before = []
        for _ in range(20):
            assert reading.ask(wire.CMD_READ, length=4096).error == 0
            before.append(large.disk.counters.written_bytes)
        assert before[-1] < 128 * MIB
        assert zeroing.hear(zeros).error == 0
        assert reading.ask(wire.CMD_READ, offset=KIB, length=4096).data == bytes(4096)


@pytest.mark.parametrize("command", [wire.CMD_TRIM, wire.CMD_BLOCK_STATUS, wire.CMD_CACHE])
def test_many_requests_over_gigabytes_let_others_in_between(command: int) -> None:
    """28 bytes name 4 GiB: one receive full of them does not keep the volume to itself."""
    with serving(size_bytes=4096 * MIB, slots=40) as large:
        client = large.talk()
        requests = [client.ask(command, length=4095 * MIB)[1] for _ in range(40)]
        script = large.play(client, b"".join(requests))
        assert len(script.sends) == len(requests)
        assert {answer.error for answer in client.answers.values()} == {0}
