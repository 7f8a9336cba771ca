"""The daemon with keys in a TPM or in several sinks, and with its pool on a device.

What it does when one of them is away, is another's, or has another name by now.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from scrubjay.client.replies import Operation
from tests.app.rig import Home, read, until, write
from tests.media import loops
from tests.sinks.emulator import MISSING, PROGRAM, Emulator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DATA = b"a tenant's plaintext, 32 bytes.." * 4096
SIZE_BYTES = 385 << 20


@pytest.fixture
def tpm() -> Iterator[Emulator]:
    """A TPM."""
    if shutil.which(PROGRAM) is None:
        pytest.skip(MISSING)
    emulator = Emulator()
    yield emulator
    emulator.close()


def test_volume_is_served_and_destroyed_with_the_keys_in_a_tpm(place: Home, tpm: Emulator) -> None:
    """Made, written, read again after a power cut of the TPM, forgotten in it (I3)."""
    said = place.run("init", "--pool-size", "384MiB", "--sink", f"tpm2:{tpm.socket}").stdout
    assert "TPM" in said
    place.serve()
    place.volume("db0")
    write(place.attach("db0"), DATA)
    place.run("volume", "detach", "db0")
    assert place.end(signal.SIGTERM) == 0
    tpm.restart()
    place.serve()
    assert read(place.attach("db0"), len(DATA)) == DATA
    place.run("volume", "destroy", "db0", "--yes", "--wait")
    sink = place.pool().sink
    assert (sink.kind, sink.epoch, sink.worth) == ("tpm2", 2, "CONDITIONAL")
    assert sink.budget is not None
    assert "wears out" in place.run("pool", "status").stdout
    assert place.end(signal.SIGTERM) == 0
    before = (place.path / "pool").read_bytes()
    tpm.clear()
    assert "another TPM" in place.run("serve", status=3).stderr
    assert (place.path / "pool").read_bytes() == before


def test_mirror_serves_without_a_member_and_destroys_when_it_is_replaced(
    served: Home, tmp_path: Path
) -> None:
    """Away: data is served, a destroy waits and says so; replaced: it ends."""
    served.volume("db0")
    served.volume("db1")
    for name in ("db0", "db1"):
        write(served.attach(name), DATA)
    served.end(signal.SIGTERM)
    usb, spare = tmp_path / "usb.sink", tmp_path / "spare.sink"
    served.run("sink", "add", f"file:{usb}")
    usb.unlink()
    served.serve()
    assert read(served.attach("db0"), len(DATA)) == DATA
    with served.client() as client:
        operation = client.send("DELETE", "volumes/db1", Operation)
    until(lambda: "is away" in served.log.read_text())
    assert served.pool().forgettings == 1
    assert [each.away for each in served.pool().sink.members] == [False, True]
    shown = served.run("sink", "show").stdout
    assert "AWAY" in shown
    served.run("volume", "show", "db1")
    served.run("sink", "replace", "2", f"file:{spare}", "--yes", status=5)
    served.end(signal.SIGTERM)
    said = served.run("sink", "replace", "2", f"file:{spare}", "--yes").stdout
    assert "it may still hold a key" in said
    served.serve()
    until(lambda: served.pool().forgettings == 0)
    with served.client() as client:
        assert client.get(f"operations/{operation.id}", Operation).state == "done"
    served.run("volume", "show", "db1", status=4)
    assert read(served.attach("db0"), len(DATA)) == DATA


def test_pool_on_a_device_is_served_rebuilt_scanned_and_found_by_another_name(
    place: Home, tmp_path: Path
) -> None:
    """What lies on a device is not lost by mistake, and no other one is taken for the pool's."""
    images = [loops.image_of(tmp_path / name, SIZE_BYTES) for name in ("disk", "another")]
    with loops.loop(images[0]) as device:
        made_on(place, device)
        place.serve()
        place.volume("db0")
        write(place.attach("db0"), DATA)
        place.run("pool", "scan", "--hex", DATA[:32].hex())
        assert place.end(signal.SIGTERM) == 0
        place.run("home", "rebuild", "--yes")
    assert "expected it there" in place.run("serve", status=4).stderr
    with loops.loop(images[1]) as another, loops.loop(images[0]) as again:
        if another != device:
            pytest.skip("needs the loop device that was free a moment ago")
        assert again != device
        place.serve()
        assert read(place.attach("db0"), len(DATA)) == DATA
        assert place.end(signal.SIGTERM) == 0
        assert "found_elsewhere" in place.log.read_text()
    assert not any(images[1].read_bytes()), "what has the name now is not touched"


def test_pool_is_retired_by_its_owner_while_nobody_uses_it(served: Home, tmp_path: Path) -> None:
    """Refused while it is served or attached; then moved, erased, told, and served again."""
    served.volume("db0")
    write(served.attach("db0"), DATA)
    new = tmp_path / "elsewhere"
    retire = ("pool", "retire", "--to", str(new), "--yes", "--json")
    assert "one daemon" in served.run(*retire, status=5).stderr
    served.end(signal.SIGKILL)
    assert "attached" in served.run(*retire, status=5).stderr
    served.serve()
    assert served.end(signal.SIGTERM) == 0
    assert "expected where the pool" in served.run("pool", "retire", status=2).stderr
    assert "no terminal" in served.run("pool", "retire", "--to", str(new), status=2).stderr
    told = json.loads(served.run(*retire).stdout)
    assert (told["clean"], told["pages"]) == (True, told["pages_read"])
    assert json.loads((served.path / "retired" / f"{told['id']}.json").read_text()) == told
    assert not (served.path / "pool").exists()
    assert json.loads(served.run("sink", "show", "--json").stdout)["epoch"] == 2
    served.serve()
    assert read(served.attach("db0"), len(DATA)) == DATA
    assert json.loads(served.run("sink", "show", "--json").stdout)["epoch"] == 2


def made_on(place: Home, device: Path) -> None:
    """Make a home on a device that holds a file system, which takes some insisting."""
    loops.run("mkfs.ext4", "-q", "-F", str(device))
    where = ("init", "--pool-device", str(device))
    assert "ext4" in place.run(*where, status=5).stderr
    assert "All of it would be lost" in place.run(*where, "--overwrite-contents", status=2).stderr
    assert "expected one of them" in place.run(*where, "--pool-size", "1GiB", status=2).stderr
    assert not place.path.exists()
    place.run(*where, "--overwrite-contents", "--yes")
    assert not (place.path / "pool").exists()
