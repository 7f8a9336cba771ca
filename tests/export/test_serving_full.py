"""A pool that is full, or merely late: who waits, who is refused, and that nothing is lost."""

import threading
from random import Random

from scrubjay.base.units import KIB, MIB
from scrubjay.export.serving import PIECE_BYTES
from scrubjay.nbd import wire
from tests.engine.rig import checkpoint, open_disk
from tests.export.volume import Answer, joined, patience, serving, some, status, write_of

FUA, NO_HOLE = wire.CMD_FLAG_FUA, wire.CMD_FLAG_NO_HOLE


def test_full_pool_refuses_writes_and_serves_everything_else() -> None:
    """I1: ENOSPC and nothing acknowledged lost; reads go on; a trim makes room again."""
    with serving(size_bytes=96 * MIB, slots=6) as volume:
        talk, other = volume.talk(), volume.talk(structured=False)
        image = bytearray(96 * MIB)
        full_at = 0
        for at in range(0, 96 * MIB, MIB):
            data = some(MIB, at // MIB)
            answer = volume.write(talk, at, data)
            if answer.error:
                assert answer.error == wire.ENOSPC
                full_at = at
                break
            image[at : at + MIB] = data
        assert 40 * MIB < full_at < 48 * MIB
        assert volume.disk.full
        waited = volume.upkeep.waits
        batch = [
            write_of(talk, full_at + 2 * MIB, b"x" * MIB),
            write_of(talk, full_at + 2 * MIB, b"x" * PIECE_BYTES),
            write_of(talk, full_at + 2 * MIB + 1, b"x" * PIECE_BYTES),
            write_of(talk, full_at + 3 * MIB, b"x" * MIB, FUA),
            talk.ask(wire.CMD_WRITE_ZEROES, offset=full_at + 4 * MIB, length=MIB, flags=NO_HOLE),
        ]
        volume.play(talk, joined(batch))
        assert status(batch, talk) == [wire.ENOSPC] * 5
        assert volume.upkeep.waits == waited
        assert volume.complaints == []
        for at in range(0, full_at, 4 * MIB):
            size = min(4 * MIB, full_at - at)
            answer = volume.request(other, wire.CMD_READ, offset=at, length=size)
            assert answer == Answer(0, bytes(image[at : at + size]))
        assert volume.request(talk, wire.CMD_FLUSH).error == 0
        assert volume.request(talk, wire.CMD_TRIM, length=36 * MIB).error == 0
        image[: 36 * MIB] = bytes(36 * MIB)
        checkpoint(volume.disk)
        volume.upkeep.feed()
        for at in range(0, 16 * MIB, MIB):
            assert volume.write(talk, at, some(MIB, at)).error == 0
            image[at : at + MIB] = some(MIB, at)
        assert volume.read(0, full_at) == image[:full_at]


def test_writes_wait_for_the_steward_and_lose_nothing(seed: int) -> None:
    """I1: where segments are merely late, writes pause, and all of them arrive, in order."""
    random = Random(seed)
    with serving(size_bytes=8 * MIB, slots=200, fed=False) as volume:
        disk, keeper = volume.disk, volume.keeper

        def lease_one() -> None:
            with disk.lock:
                disk.add_grants(keeper.lessor(keeper.epoch).lease(1))

        volume.upkeep.on_wait, volume.upkeep.leases = lease_one, False
        talk, image, stream = volume.talk(), bytearray(8 * MIB), []
        for _ in range(150):
            offset = random.randrange(8 * MIB - 2 * MIB)
            length = random.choice((100, 4096, 70_000, PIECE_BYTES, MIB + 77, 2 * MIB))
            if random.random() < 0.5:
                offset &= -4096
            match random.randrange(6):
                case 0:
                    stream.append(
                        talk.ask(wire.CMD_WRITE_ZEROES, offset=offset, length=length, flags=NO_HOLE)
                    )
                    image[offset : offset + length] = bytes(length)
                case 1:
                    stream.append(talk.ask(wire.CMD_WRITE_ZEROES, offset=offset, length=length))
                    image[offset : offset + length] = bytes(length)
                case _:
                    data = random.randbytes(length)
                    stream.append(write_of(talk, offset, data, random.choice((0, FUA))))
                    image[offset : offset + length] = data
        last = talk.ask(wire.CMD_READ, length=8 * MIB)
        volume.play(talk, joined([*stream, last]))
        assert status(stream, talk) == [0] * len(stream)
        assert talk.answers[last[0]].data == image
        assert volume.upkeep.waits > 4
        reopened = open_disk(volume.simulated, keeper)
        found = memoryview(bytearray(8 * MIB))
        reopened.read_bytes(0, found)
        assert found == image


def test_connection_that_waits_for_space_keeps_nobody_else_from_reading() -> None:
    """A paused write holds no lock."""
    with serving(fed=False) as volume:
        held, entered = threading.Event(), threading.Event()

        def wait() -> None:
            entered.set()
            patience(held)
            volume.upkeep.feed()

        volume.upkeep.on_wait = wait
        writer, reader = volume.client(), volume.client()
        write = writer.say(wire.CMD_WRITE, data=some(64 * KIB))
        patience(entered)
        assert reader.ask(wire.CMD_READ, length=4096) == Answer(0, bytes(4096))
        assert reader.ask(wire.CMD_FLUSH).error == 0
        held.set()
        assert writer.hear(write).error == 0
        assert reader.ask(wire.CMD_READ, length=64 * KIB).data == some(64 * KIB)


def test_write_that_waits_for_space_ends_with_its_volume() -> None:
    """A volume that ends, or is poisoned, while a write in pieces waits answers it and goes on."""
    with serving(fed=False) as volume:

        def close() -> None:
            volume.disk.poisoned = wire.ESHUTDOWN

        volume.upkeep.on_wait = close
        talk = volume.talk()
        batch = [write_of(talk, 5, some(3 * MIB)), write_of(talk, 0, some(4096))]
        volume.play(talk, joined(batch))
        assert status(batch, talk) == [wire.ESHUTDOWN] * 2
