"""Requests that nobody means: whatever is sent, the API answers, and stays as it is."""

from __future__ import annotations

import string
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scrubjay.base.units import GIB
from tests.api.rig import client_of, made_home
from tests.control.rig import World

SEGMENTS = st.one_of(
    st.sampled_from(["db0", "acme", "1", "pools", "..", "%00", "0" * 36, "%F0%9F%92%A9"]),
    st.text(string.ascii_letters + string.digits + "-_.~%", max_size=40),
)
PATHS = st.one_of(
    st.sampled_from(
        [
            "/tenants",
            "/volumes",
            "/attachments",
            "/pools",
            "/operations",
            "/metrics",
            "/events",
            "/defaults",
            "/certificates",
            "/log",
        ]
    ),
    st.builds(
        lambda noun, segment: f"/{noun}/{segment}",
        st.sampled_from(["tenants", "volumes", "attachments", "pools", "operations"]),
        SEGMENTS,
    ),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["acme", "db0", "1GiB", "64TiB", "6d61"]),
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
BODIES = st.dictionaries(
    st.one_of(
        st.sampled_from(
            ["name", "tenant", "size", "volume", "socket_group", "hex", "scrub_within"]
        ),
        st.text(max_size=5),
    ),
    VALUES,
    max_size=4,
)
HEADERS = st.dictionaries(
    st.sampled_from(["if-match", "idempotency-key", "content-type", "accept", "range"]),
    st.text(string.printable.strip(), min_size=1, max_size=30).filter(str.strip),
    max_size=2,
)
QUERIES = st.dictionaries(
    st.sampled_from(["cursor", "limit", "tenant", "after", "x"]), st.text(max_size=12), max_size=2
)


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[tuple[World, httpx.Client]]:
    """A world that all requests share."""
    with made_home() as (world, home), client_of(home) as client:
        world.tenants.create("acme")
        world.volumes.create("db0", tenant="acme", size_bytes=GIB)
        yield world, client


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "POST", "PATCH", "PUT", "HEAD", "OPTIONS", "DELETE"]),
    path=PATHS,
    body=BODIES,
    headers=HEADERS,
    query=QUERIES,
)
def test_request_of_any_shape_is_answered_by_its_own_fault_or_done(
    fuzzed: tuple[World, httpx.Client],
    *,
    method: str,
    path: str,
    body: dict[str, object],
    headers: dict[str, str],
    query: dict[str, str],
) -> None:
    """No request breaks anything: never a 5xx, and every refusal is a problem (RFC 9457)."""
    _, client = fuzzed
    if method == "DELETE" and path == "/volumes/db0":
        path = "/volumes/db1"
    encoded = {name.encode(): value.encode() for name, value in headers.items()}
    response = client.request(method, path, json=body, headers=encoded, params=query)
    assert response.status_code < 500, response.text
    if response.status_code >= 400 and method != "HEAD":
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"]
    assert client.get("/volumes/db0").status_code == 200
