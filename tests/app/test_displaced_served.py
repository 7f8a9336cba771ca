"""Files of sink and pool that somebody restores or removes while a real daemon serves them."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.app.rig import Home, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def restore(path: Path) -> None:
    """Make a backup and put it back."""
    backup = path.with_name("backup")
    shutil.copy2(path, backup)
    backup.rename(path)


def taken_back(home: Home) -> None:
    """Do what the hint says: a copy from the daemon, which then ends and serves anew."""
    command = home.pool().sink.away.partition("`cp ")[2].partition("`")[0]
    source, target = command.split()
    shutil.copyfile(source, target)
    Path(target).chmod(0o600)
    home.end(signal.SIGTERM)
    home.serve()


@pytest.mark.parametrize("deed", [restore, Path.unlink])
def test_sink_that_is_replaced_while_it_serves_loses_no_pool(
    served: Home, deed: Callable[[Path], None]
) -> None:
    """Nothing is certified, the status names it, and its hint brings everything back (I3, I8)."""
    spared, _ = served.volume("spared"), served.volume("doomed")
    deed(served.path / "sink")
    served.run("volume", "destroy", "doomed", "--yes")
    until(lambda: served.pool().trouble)
    assert "WAITS" in served.run("volume", "show", "doomed").stdout
    for command in (("pool", "status"), ("sink", "show")):
        shown = served.run(*command).stdout
        assert "AWAY" in shown
        assert str(served.path / "sink") in shown
    assert served.pool().sink.epoch == 1
    assert served.run("certificate", "list").stdout == ""
    taken_back(served)
    until(lambda: served.pool().forgettings == 0)
    served.end(signal.SIGTERM)
    served.serve()
    assert spared.id in served.run("volume", "show", "spared").stdout
    served.run("volume", "show", "doomed", status=4)
    assert not served.pool().sink.away


def test_pool_that_is_moved_away_while_it_serves_takes_nothing_new(served: Home) -> None:
    """Every change is refused with the way back; moved back, the daemon goes on."""
    served.volume("db0")
    aside = (served.path / "pool").rename(served.path / "aside")
    for refused in (
        ("volume", "create", "db1", "--tenant", "acme", "--size", "64MiB"),
        ("volume", "attach", "db0"),
        ("volume", "destroy", "db0", "--yes", "--wait"),
        ("pool", "scan", "--hex", "6d61726b6572"),
    ):
        assert f"mv {aside}" in served.run(*refused, status=6).stderr
    assert "WAITS" in served.run("pool", "status").stdout
    aside.rename(served.path / "pool")
    served.run("volume", "destroy", "db0", "--yes", "--wait")
    assert not served.pool().trouble
