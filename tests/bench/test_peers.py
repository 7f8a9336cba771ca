"""Promises about the servers that Scrubjay is compared with."""

from pathlib import Path

import pytest

from bench import peers
from scrubjay.base.errors import Unavailable
from scrubjay.base.units import MIB


@pytest.mark.slow
@pytest.mark.real("nbdkit", "qemu-img")
def test_pids_of_a_server_that_was_killed_name_its_end(tmp_path: Path) -> None:
    """A peer that dies between turns is named, so that nobody looks for the fault in fio."""
    peer = peers.nbdkit(tmp_path, size_bytes=MIB)
    peer.start()
    assert peer.server is not None
    peer.server.kill()
    peer.server.wait()
    with pytest.raises(Unavailable, match="nbdkit: ended with status -9"):
        peer.pids()


@pytest.mark.slow
@pytest.mark.real("qemu-nbd", "qemu-img")
def test_qemu_luks_keeps_its_passphrase_out_of_argv(tmp_path: Path) -> None:
    """The passphrase is in a file for its owner alone; argv names the file (I2)."""
    peer = peers.qemu_luks(tmp_path, size_bytes=MIB)
    try:
        peer.start()
        argv = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in peer.pids())
    finally:
        peer.stop()
    passphrase = tmp_path / "qemu.key"
    assert passphrase.stat().st_mode & 0o777 == 0o600
    assert passphrase.read_bytes() not in argv
    assert peer.disk.read_bytes().startswith(b"QFI\xfb")


def test_wait_for_a_server_that_ends_at_once_says_so(tmp_path: Path) -> None:
    """A server that cannot start is an error at once, not after a minute."""
    broken = peers.FileServer(
        name="broken",
        disk=tmp_path / "disk",
        socket=tmp_path / "sock",
        prepare=[],
        serve=["false"],
    )
    with pytest.raises(Unavailable, match="ended with status 1"):
        broken.start()
