"""Our own client moves every byte, and the second tenant's check notices a single wrong one."""

from pathlib import Path

import pytest

from demo.clients import Nbdcopy, Ours, QemuImg, choose_clients
from demo.disk import Disk
from demo.pattern import EMPTY, STRIDE_BYTES, Pattern
from demo.report import MIB, Unproven
from tests.demo.volumes import served

SIZE_BYTES = 9 * MIB


def test_clients_are_other_peoples_where_there_are_any() -> None:
    """Two programs share the work, one does both, none leaves it to ours."""
    both = choose_clients(lambda _: "/there")
    one = choose_clients(lambda program: "/there" if program == "nbdcopy" else None)
    none = choose_clients(lambda _: None)
    assert [type(each) for each in both] == [QemuImg, Nbdcopy]
    assert [type(each) for each in one] == [Nbdcopy, Nbdcopy]
    assert [type(each) for each in none] == [Ours, Ours]


def test_our_client_reads_back_what_it_wrote(tmp_path: Path) -> None:
    """Pieces that do not fill a request, and runs of zeros, come back in place."""
    image, back = tmp_path / "image", tmp_path / "back"
    image.write_bytes(b"begin".ljust(3 * MIB, b"\0") + b"middle" * 200_000 + b"end")
    with served(tmp_path, size_bytes=SIZE_BYTES) as (uri, content):
        Ours().write(image, uri)
        Ours().read(uri, back)
        assert back.read_bytes() == content == image.read_bytes().ljust(SIZE_BYTES, b"\0")


def test_pattern_written_checks_and_a_wrong_byte_does_not(tmp_path: Path) -> None:
    """I1: his own bytes, zeros elsewhere; one byte of somebody else's is noticed anywhere."""
    pattern = Pattern("bob", piece_bytes=3 * MIB)
    with served(tmp_path, size_bytes=SIZE_BYTES) as (uri, content), Disk(uri) as disk:
        assert EMPTY.check(disk) == SIZE_BYTES
        assert pattern.write(disk) == 2 * 3 * MIB
        assert pattern.check(disk) == SIZE_BYTES
        for place in (0, 3 * 4096 + 511, 5 * MIB, STRIDE_BYTES - 1, SIZE_BYTES - 1):
            content[place] ^= 1
            with pytest.raises(Unproven, match="bob"):
                pattern.check(disk)
            content[place] ^= 1
        assert any(content)
        with pytest.raises(Unproven):
            EMPTY.check(disk)
