"""A medium retired between two daemons: its certificate is listed, shown, and verified offline."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from scrubjay.client.replies import Certificate
from tests.app.rig import Home, read, write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DATA = b"a tenant's plaintext, 32 bytes.." * 4096


def test_certificate_of_a_medium_is_issued_listed_shown_and_verified(home: Home) -> None:
    """By the commands for volumes, from the bundle beside the facts or from the daemon."""
    home.serve()
    home.volume("db0")
    write(home.attach("db0"), DATA)
    assert home.end(signal.SIGTERM) == 0
    new = home.path.with_name("elsewhere")
    said = home.run("pool", "retire", "--to", str(new), "--yes", "--sample").stdout
    command = next(line for line in said.splitlines() if "certificate verify" in line)
    _, bundle, _, key = command.split("scrubjay certificate ")[1].split()
    verified = home.run("certificate", "verify", bundle, "--key", key).stdout
    assert "ERASED" in verified
    assert "erased" in verified
    home.serve()
    with home.client() as client:
        (listed,) = client.all("certificates", Certificate)
    assert (listed.stage, listed.scope, listed.volume_count) == ("retired", "medium", 0)
    assert listed.id in said
    assert "a medium" in home.run("certificate", "list").stdout
    shown = home.run("certificate", "show", listed.id[:12]).stdout
    assert json.loads(shown)["envelope"] == json.loads(Path(bundle).read_text())["envelope"]
    assert listed.medium is not None
    assert listed.medium in home.run("certificate", "show", listed.id, "--format", "text").stdout
    page = home.run("certificate", "show", listed.id, "--format", "html").stdout
    assert "Serial number" in page
    assert read(home.attach("db0"), len(DATA)) == DATA


def test_certificate_that_waited_is_issued_when_the_daemon_starts(home: Home) -> None:
    """Without a catalog nothing could be issued; afterwards it is there once."""
    home.serve()
    home.volume("db0")
    assert home.end(signal.SIGTERM) == 0
    catalog = (home.path / "catalog.db").rename(home.path.with_name("catalog"))
    new = home.path.with_name("elsewhere")
    said = home.run("pool", "retire", "--to", str(new), "--yes", "--sample").stdout
    assert "not yet: the home has no catalog" in said
    catalog.rename(home.path / "catalog.db")
    for _ in range(2):
        home.serve()
        with home.client() as client:
            (listed,) = client.all("certificates", Certificate)
        assert listed.stage == "retired"
        assert home.end(signal.SIGTERM) == 0
