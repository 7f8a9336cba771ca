"""The audit and the ledger from the command line, against a real daemon and real exporters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.app.rig import Home, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def names(home: Home) -> list[str]:
    """The volumes there are."""
    return [each["name"] for each in json.loads(home.run("volume", "list", "--json").stdout)]


def test_audit_of_a_daemon_finds_nothing_and_leaves_no_volume(served: Home) -> None:
    """Through the API and NBD, as a tenant runs it."""
    shown = served.run("audit", "remanence", "--cycles", "3", "--size-mib", "2", "--json")
    report = json.loads(shown.stdout)
    assert (report["cycles"], report["foreign_blocks"], report["raw_marks"]) == (3, 0, 0)
    assert report["blocks_read"] == 3 * (2 * 512 + 2 * 1024)
    assert report["raw_bytes"] >= 384 << 20
    assert names(served) == []
    text = served.run("audit", "remanence", "--cycles", "1", "--size-mib", "1").stdout
    assert "nothing came back" in text
    assert served.run("audit", "remanence", "--cycles", "0", status=2).stdout == ""


def test_audit_that_is_interrupted_leaves_no_volume(served: Home) -> None:
    """Ctrl-C in the middle: status 130, and nothing is there any more."""
    audit = subprocess.Popen(
        [sys.executable, "-m", "scrubjay.app.main", "audit", "remanence", "--cycles", "1000"],
        env=served.environ(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - as a shell starts it
    )
    until(lambda: names(served))
    os.kill(audit.pid, signal.SIGINT)
    out, _ = audit.communicate(timeout=60)
    assert audit.returncode == 130, out
    assert names(served) == []


def test_defaults_of_a_daemon_have_moments_and_no_news(served: Home) -> None:
    """A pool that is served for the first time announces nothing; one served again neither."""
    for _ in range(2):
        found = json.loads(served.run("defaults", "--json").stdout)
        assert all(each["in_force_since"] for each in found)
        assert json.loads(served.run("event", "list", "--json").stdout) == []
        served.end(signal.SIGTERM)
        served.serve()
