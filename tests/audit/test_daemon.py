"""The audit's way to a daemon: only what it made, and no more than the API offers."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from scrubjay.audit.daemon import DaemonStorage
from scrubjay.base.errors import Conflict, NotFound
from scrubjay.client.connection import Connection

DONE = {
    "id": "o", "kind": "k", "subject": "s", "state": "done", "created_at": "2026-01-01T00:00:00Z",
    "progress": {"done": 0, "total": 0, "unit": ""}, "result": {},
}  # fmt: skip
FAILED = DONE | {
    "state": "failed",
    "problem": {"code": "conflict", "title": "t", "status": 409, "detail": "no", "hint": ""},
}
MISSING = {"code": "not-found", "title": "t", "status": 404, "detail": "no", "hint": ""}


class Api:
    """A daemon that answers by a table, and notes what it was asked."""

    def __init__(self, answers: dict[str, list[tuple[int, object]]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer the next of what is set for this request."""
        what = f"{request.method} {request.url.path.removeprefix('/v1/')}"
        self.asked.append(what)
        status, body = self.answers[what].pop(0)
        return httpx.Response(status, content=json.dumps(body))

    def storage(self) -> DaemonStorage:
        """The audit's view of it."""
        connection = Connection(Path("api"), transport=httpx.MockTransport(self))
        return DaemonStorage(connection, new_key=lambda: "key", wait=lambda _s: None)


def routes(*methods: str) -> dict[str, object]:
    """An OpenAPI document with these methods on a tenant."""
    return {"openapi": "3.1", "paths": {"/v1/tenants/{tenant}": {each: {} for each in methods}}}


def test_tenant_is_closed_where_the_api_has_a_way() -> None:
    """Waiting until it is done; one that is gone already is fine."""
    api = Api(
        {
            "GET openapi.json": [(200, routes("get", "delete"))] * 2,
            "DELETE tenants/a": [(202, DONE | {"state": "running"}), (404, MISSING)],
            "GET operations/o": [(200, DONE | {"state": "running"}), (200, DONE)],
        }
    )
    assert api.storage().close_tenant("a")
    assert api.storage().close_tenant("a")
    assert api.asked.count("GET operations/o") == 2


def test_tenant_stays_where_the_api_has_no_way() -> None:
    """And nothing is tried."""
    api = Api({"GET openapi.json": [(200, routes("get"))]})
    assert not api.storage().close_tenant("a")
    assert api.asked == ["GET openapi.json"]


def test_volume_that_was_not_made_here_is_not_touched() -> None:
    """Only by the ids that the daemon gave to what this audit made."""
    storage = Api({}).storage()
    for call in (storage.detach, storage.attach):
        with pytest.raises(NotFound):
            call("somebody's")


def test_destroy_that_fails_is_raised_and_of_what_is_not_there_is_done() -> None:
    """A forgetting that failed is no success."""
    api = Api({"DELETE volumes/v": [(202, FAILED), (404, MISSING)]})
    with pytest.raises(Conflict):
        api.storage().destroy("v")
    api.storage().destroy("v")
