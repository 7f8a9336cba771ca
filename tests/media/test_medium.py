"""Every implementation of Medium keeps the promises of the port (base/ports.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from scrubjay.base.ports import Medium
from scrubjay.base.units import MIB
from scrubjay.media.direct import DirectFile
from scrubjay.media.file import PoolFile
from scrubjay.media.simulated import SimulatedMedium
from tests.media import loops
from tests.media.remembering import RememberingMedium

SIZE_BYTES = 3 * MIB + 512

MAKERS: dict[str, Callable[[Path], Medium]] = {
    "file": lambda folder: PoolFile.create(folder / "pool", size_bytes=SIZE_BYTES),
    "sparse file": lambda folder: PoolFile.create(
        folder / "pool", size_bytes=SIZE_BYTES, sparse=True
    ),
    "opened file": lambda folder: _opened(folder / "pool"),
    "direct file": lambda folder: DirectFile.create(folder / "pool", size_bytes=SIZE_BYTES),
    "remembering": lambda folder: RememberingMedium(SimulatedMedium(SIZE_BYTES)),
    "simulated": lambda folder: SimulatedMedium(SIZE_BYTES),
    "simulated, large sectors": lambda folder: SimulatedMedium(SIZE_BYTES, sector_bytes=4096),
}
DEVICES: dict[str, Callable[[Path], Medium]] = {
    "device": lambda path: PoolFile.open(path, hold=False),
    "held device": lambda path: PoolFile.open(path, hold=True),
    "direct device": lambda path: DirectFile.open(path, hold=True),
}


@pytest.fixture(params=[*MAKERS, *DEVICES])
def medium(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Medium]:
    """Each implementation in turn, full of zeros."""
    if request.param in MAKERS:
        made = MAKERS[request.param](tmp_path)
        yield made
        made.close()
        return
    with loops.loop(loops.image_of(tmp_path / "disk", SIZE_BYTES)) as device:
        made = DEVICES[request.param](device)
        yield made
        made.close()


def test_medium_when_new_reads_as_zeros(medium: Medium) -> None:
    """I1: what was never written reads as zeros, over all of the stated size."""
    assert medium.size_bytes == SIZE_BYTES
    assert _read(medium, 0, SIZE_BYTES) == bytes(SIZE_BYTES)


@pytest.mark.parametrize(
    ("offset_bytes", "length_bytes"),
    [(0, 1), (511, 2), (4095, 2), (4096, 4096), (1000, 300_000), (SIZE_BYTES - 7, 7)],
)
def test_write_anywhere_is_read_back_before_and_after_sync(
    medium: Medium, offset_bytes: int, length_bytes: int
) -> None:
    """A write is seen by the next read, at any offset and length, and by nobody else's bytes."""
    data = bytes(range(1, 252)) * (length_bytes // 251 + 1)
    for written in (data[:length_bytes], bytearray(data[1 : length_bytes + 1])):
        assert medium.write(offset_bytes, memoryview(written)) == length_bytes
        assert _read(medium, offset_bytes, length_bytes) == written
        medium.sync()
        whole = _read(medium, 0, SIZE_BYTES)
        assert whole[offset_bytes : offset_bytes + length_bytes] == written
        assert not any(whole[:offset_bytes])
        assert not any(whole[offset_bytes + length_bytes :])


def test_read_across_the_end_is_short(medium: Medium) -> None:
    """A read returns fewer bytes only at the end, none behind it, and leaves the rest alone."""
    medium.write(SIZE_BYTES - 10, b"0123456789")
    out = bytearray(b"x" * 20)
    assert medium.read_into(SIZE_BYTES - 10, memoryview(out)) == 10
    assert out == b"0123456789" + b"x" * 10
    assert medium.read_into(SIZE_BYTES, memoryview(out)) == 0
    assert medium.read_into(SIZE_BYTES + MIB, memoryview(out)) == 0


@pytest.mark.parametrize("offset_bytes", [SIZE_BYTES - 10, SIZE_BYTES, SIZE_BYTES + MIB, -1])
def test_write_across_the_end_is_refused_whole(medium: Medium, offset_bytes: int) -> None:
    """A write never grows the medium and never lands in part."""
    with pytest.raises(OSError, match=r"past the end|no space"):
        medium.write(offset_bytes, b"x" * 11)
    assert not any(_read(medium, 0, SIZE_BYTES))
    assert medium.size_bytes == SIZE_BYTES


def test_advise_of_any_extents_changes_nothing(medium: Medium) -> None:
    """Announcing reads is allowed everywhere and costs at most time."""
    medium.write(4096, b"here")
    medium.advise([])
    medium.advise([(0, 4096), (4096, MIB), (SIZE_BYTES - 1, 1)])
    assert _read(medium, 4096, 4) == b"here"


def test_medium_after_close_refuses_everything(medium: Medium) -> None:
    """A handle that was given back does nothing more; closing twice is fine."""
    medium.close()
    medium.close()
    for call in (
        lambda: medium.read_into(0, memoryview(bytearray(1))),
        lambda: medium.write(0, b"x"),
        medium.sync,
        lambda: medium.advise([(0, 1)]),
    ):
        with pytest.raises(OSError, match="closed"):
            call()


def test_medium_under_several_threads_keeps_every_write(medium: Medium) -> None:
    """Writes and syncs of several threads do not lose each other."""

    def work(number: int) -> None:
        for step in range(50):
            at = (step * 4 + number) * 4096
            medium.write(at, bytes([number + 1]) * 4096)
            medium.sync()

    threads = [Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = _read(medium, 0, 200 * 4096)
    assert whole == b"".join(bytes([block % 4 + 1]) * 4096 for block in range(200))


def _opened(path: Path) -> Medium:
    PoolFile.create(path, size_bytes=SIZE_BYTES).close()
    return PoolFile.open(path, hold=False)


def _read(medium: Medium, offset_bytes: int, length_bytes: int) -> bytes:
    out = bytearray(length_bytes)
    assert medium.read_into(offset_bytes, memoryview(out)) == length_bytes
    return bytes(out)
