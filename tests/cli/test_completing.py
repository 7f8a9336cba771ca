"""What a shell offers for names."""

from __future__ import annotations

from pathlib import Path

import pytest

from scrubjay.base.units import GIB
from scrubjay.cli import completing
from scrubjay.cli.session import connect
from scrubjay.client.replies import Tenant, Volume
from tests.api.rig import made_home


def test_names_are_offered_by_how_they_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Volumes come with their owners, so that one knows which is which."""
    with made_home() as (_, home):
        monkeypatch.setenv("SCRUBJAY_HOME", str(home))
        with connect() as daemon:
            for tenant in ("acme", "zeta"):
                daemon.send("POST", "tenants", Tenant, body={"name": tenant})
            for name in ("db0", "db1", "web"):
                wanted = {"name": name, "tenant": "acme", "size": GIB}
                daemon.send("POST", "volumes", Volume, body=wanted)
        assert completing.volumes("db") == [("db0", "acme"), ("db1", "acme")]
        assert completing.tenants("") == ["acme", "zeta"]
        assert completing.tenants("x") == []


def test_nothing_is_offered_without_a_daemon(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person in the middle of a word is told nothing, and sees no traceback."""
    monkeypatch.setenv("SCRUBJAY_HOME", str(tmp_path / "none"))
    assert completing.volumes("") == []
    assert completing.tenants("") == []
    printed = capsys.readouterr()
    assert not printed.out
    assert not printed.err
