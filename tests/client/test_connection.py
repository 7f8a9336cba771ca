"""The client: what the daemon says, as types and as errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from scrubjay.base import errors
from scrubjay.base.errors import Conflict, Corrupt, Invalid, NotFound, ScrubjayError, Unavailable
from scrubjay.client.connection import Connection, error_of
from scrubjay.client.places import api_socket, find_home
from scrubjay.client.replies import Problem, Tenant, Volume
from tests.api.rig import made_home


@pytest.fixture
def daemon() -> Iterator[Connection]:
    """A connection to a daemon with the tenant acme."""
    with made_home() as (world, home), Connection(api_socket(home)) as connection:
        world.tenants.create("acme")
        yield connection


def test_reply_is_decoded_into_its_type(daemon: Connection) -> None:
    """Fields are what the API calls them."""
    tenant = daemon.get("tenants/acme", Tenant)
    assert (tenant.id, tenant.name, tenant.state) == (1, "acme", "active")


def test_collection_is_read_through_all_its_pages(daemon: Connection) -> None:
    """Whoever lists sees everything, whatever a page holds."""
    for index in range(7):
        body = {"name": f"v{index}", "tenant": "acme", "size": "1GiB"}
        daemon.send("POST", "volumes", Volume, body=body, key=f"k{index}")
    names = [each.name for each in daemon.all("volumes", Volume, limit=3)]
    assert names == [f"v{index}" for index in range(7)]


@pytest.mark.parametrize(
    "kind",
    [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, ScrubjayError)
    ],
)
def test_problem_becomes_the_error_that_it_was_made_from(kind: type[ScrubjayError]) -> None:
    """Exit statuses are the same on both sides of the socket."""
    problem = Problem(kind.code, "t", kind.http_status, "volume 7: observed", "do this")
    error = error_of(problem)
    assert type(error) is kind
    assert (error.message, error.hint) == ("volume 7: observed", "do this")


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [("outdated", 409, Conflict), ("gone-stale", 404, NotFound), ("unheard-of", 418, Unavailable)],
)
def test_problem_of_an_unknown_code_becomes_what_its_status_says(
    code: str, status: int, kind: type[ScrubjayError]
) -> None:
    """A newer daemon's errors are still errors."""
    assert type(error_of(Problem(code, "t", status, "d"))) is kind


def test_daemon_that_is_not_there_is_unavailable_with_the_command_that_starts_it(
    tmp_path: Path,
) -> None:
    """The hint is what to type."""
    with pytest.raises(Unavailable) as caught, Connection(tmp_path / "api.sock"):
        pass
    assert "scrubjay serve" in caught.value.hint


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(200, content=b"<html>"), Corrupt),
        (httpx.Response(200, json={"id": "seven"}), Corrupt),
        (httpx.Response(502, content=b"bad gateway"), Unavailable),
    ],
)
def test_answer_of_something_else_is_an_error_and_no_crash(
    answer: httpx.Response, kind: type[ScrubjayError], tmp_path: Path
) -> None:
    """What is not of this API is said to be so."""
    transport = httpx.MockTransport(lambda _request: answer)
    with Connection(tmp_path / "s", transport=transport) as daemon, pytest.raises(kind):
        daemon.get("tenants/acme", Tenant)


def test_home_is_where_the_environment_or_the_user_says() -> None:
    """$SCRUBJAY_HOME, else /var/lib for root, else the XDG data folder."""
    assert find_home({"SCRUBJAY_HOME": "/srv/x", "HOME": "/h"}, uid=7) == Path("/srv/x")
    assert find_home({"HOME": "/root"}, uid=0) == Path("/var/lib/scrubjay")
    assert find_home({"XDG_DATA_HOME": "/d"}, uid=7) == Path("/d/scrubjay")
    ignored = {"XDG_DATA_HOME": "d", "HOME": "/h"}
    assert find_home(ignored, uid=7) == Path("/h/.local/share/scrubjay")


@pytest.mark.parametrize("environ", [{}, {"SCRUBJAY_HOME": "relative"}])
def test_home_that_nothing_names_is_invalid(environ: dict[str, str]) -> None:
    """Nothing is made in the current folder by accident."""
    with pytest.raises(Invalid):
        find_home(environ, uid=7)
