"""The manners that the API keeps: problems, keys, tags, cursors, limits, OpenAPI."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from scrubjay.api.application import BODY_BYTES_MAX
from scrubjay.api.paging import cursor_of
from scrubjay.api.server import listen, peer_uid
from scrubjay.base.errors import Invalid
from scrubjay.base.units import GIB
from tests.control.rig import World

_BEYOND_TIME = cursor_of(f"9999-12-31T23:59:59-23:59 {uuid.UUID(int=0)}")
VOLUME = {"name": "db0", "tenant": "acme", "size": "1GiB"}


def problem_of(response: httpx.Response) -> dict[str, object]:
    """Return a problem, having checked that it is one (RFC 9457)."""
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert isinstance(problem, dict)
    assert problem["status"] == response.status_code
    assert problem["type"] == f"urn:scrubjay:error:{problem['code']}"
    assert problem["detail"]
    return problem


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "status"),
    [
        ("GET", "/volumes/none", None, "not-found", 404),
        ("GET", "/nothing", None, "not-found", 404),
        ("GET", "/operations/7", None, "invalid", 422),
        ("PUT", "/volumes", None, "not-allowed", 405),
        ("POST", "/tenants", {"name": "acme"}, "conflict", 409),
        ("POST", "/tenants", {"name": "A!"}, "invalid", 422),
        ("POST", "/tenants", {}, "invalid", 422),
        ("POST", "/tenants", {"name": "x", "more": 1}, "invalid", 422),
        ("POST", "/tenants", {"name": 7}, "invalid", 422),
        ("POST", "/volumes", VOLUME | {"size": "10GB"}, "invalid", 422),
        ("POST", "/volumes", VOLUME | {"size": -1}, "invalid", 422),
        ("POST", "/volumes", VOLUME | {"size": True}, "invalid", 422),
        ("POST", "/volumes", VOLUME | {"size": 1e300}, "invalid", 422),
        ("POST", "/volumes", VOLUME | {"tenant": "zeta"}, "not-found", 404),
        ("POST", "/attachments", {"volume": "none"}, "not-found", 404),
        ("GET", "/volumes?limit=0", None, "invalid", 422),
        ("GET", "/volumes?limit=1001", None, "invalid", 422),
        ("GET", "/volumes?cursor=zzz", None, "invalid", 422),
        ("GET", "/operations?cursor=MTp4", None, "invalid", 422),
        ("GET", f"/operations?cursor={_BEYOND_TIME}", None, "invalid", 422),
    ],
)
def test_request_that_fails_is_answered_with_a_problem(
    client: httpx.Client,
    method: str,
    path: str,
    *,
    body: Mapping[str, object] | None,
    code: str,
    status: int,
) -> None:
    """Every error has a stable code, a status that fits, and says what was observed."""
    response = client.request(method, path, json=body)
    problem = problem_of(response)
    assert (problem["code"], response.status_code) == (code, status)


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[]", b'"x"', b"", b"{" * 5000, b"NaN"])
def test_body_that_is_no_json_object_is_a_problem(client: httpx.Client, body: bytes) -> None:
    """Garbage is refused, whatever it is made of."""
    headers = {"content-type": "application/json"}
    problem = problem_of(client.post("/tenants", content=body, headers=headers))
    assert problem["code"] == "invalid"


def test_body_longer_than_any_that_could_be_meant_is_refused(client: httpx.Client) -> None:
    """The daemon keeps no more of it than the limit, also where no length was announced."""
    long = b'{"name": "' + b"x" * BODY_BYTES_MAX + b'"}'
    headers = {"content-type": "application/json"}
    announced = client.post("/tenants", content=long, headers=headers)
    assert problem_of(announced)["code"] == "too-large"
    chunked = client.post("/tenants", content=iter([long]), headers=headers)
    assert problem_of(chunked)["code"] == "too-large"


def test_header_longer_than_the_limit_ends_the_connection_and_no_other(
    client: httpx.Client,
) -> None:
    """A hostile request costs its sender, and nobody else."""
    try:
        refused = client.get("/volumes", headers={"x": "y" * (1 << 20)}).status_code
    except httpx.HTTPError:
        refused = 400
    assert refused == 400
    assert client.get("/volumes").status_code == 200


def test_repeat_with_the_same_key_gets_the_same_answer(client: httpx.Client) -> None:
    """A POST that is sent again does nothing twice."""
    headers = {"idempotency-key": "one"}
    first = client.post("/volumes", json=VOLUME, headers=headers)
    second = client.post("/volumes", json=VOLUME, headers=headers)
    assert first.status_code == second.status_code == 201
    assert first.content == second.content
    assert first.headers["location"] == second.headers["location"]
    assert first.headers["etag"] == second.headers["etag"]
    assert second.headers["idempotency-replayed"] == "true"
    assert len(client.get("/volumes").json()["items"]) == 1


def test_repeat_after_its_answer_was_lost_finds_what_was_made(
    served: tuple[World, httpx.Client],
) -> None:
    """A daemon that died between the pool's commit and its answer makes nothing twice."""
    world, client = served
    headers = {"idempotency-key": "one"}
    first = client.post("/volumes", json=VOLUME, headers=headers)
    with world.database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM idempotency")
    second = client.post("/volumes", json=VOLUME, headers=headers)
    assert (second.status_code, second.json()["id"]) == (201, first.json()["id"])
    other = client.post("/volumes", json=VOLUME, headers={"idempotency-key": "two"})
    assert problem_of(other)["code"] == "conflict"


def test_repeat_with_another_request_under_the_same_key_is_invalid(client: httpx.Client) -> None:
    """A key stands for one request."""
    headers = {"idempotency-key": "one"}
    client.post("/tenants", json={"name": "a"}, headers=headers)
    problem = problem_of(client.post("/tenants", json={"name": "b"}, headers=headers))
    assert problem["code"] == "invalid"
    assert [each["name"] for each in client.get("/tenants").json()["items"]] == ["a", "acme"]


def test_repeat_of_a_request_that_failed_is_tried_again(client: httpx.Client) -> None:
    """A failure changed nothing, so the same key may succeed later."""
    headers = {"idempotency-key": "one"}
    body = VOLUME | {"tenant": "later"}
    assert client.post("/volumes", json=body, headers=headers).status_code == 404
    client.post("/tenants", json={"name": "later"})
    assert client.post("/volumes", json=body, headers=headers).status_code == 201


def test_requests_with_one_key_at_once_make_one_thing(
    served: tuple[World, httpx.Client],
) -> None:
    """Of two at once, one makes it; the other gets the same, or is told to wait."""
    _, client = served
    answers: list[httpx.Response] = []

    def post() -> None:
        headers = {"idempotency-key": "one"}
        answers.append(client.post("/volumes", json=VOLUME, headers=headers))

    threads = [threading.Thread(target=post) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    made = {each.json()["id"] for each in answers if each.status_code == 201}
    assert len(made) == 1
    assert {each.status_code for each in answers} <= {201, 409}


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ä"])
def test_key_that_is_no_key_is_invalid(client: httpx.Client, key: str) -> None:
    """Keys are short and printable."""
    headers = {b"idempotency-key": key.encode()}
    problem = problem_of(client.post("/tenants", json={"name": "a"}, headers=headers))
    assert problem["code"] == "invalid"


def test_change_on_condition_of_a_tag_is_done_only_while_it_holds(client: httpx.Client) -> None:
    """Nobody undoes what he has not seen (RFC 9110, If-Match)."""
    made = client.post("/volumes", json=VOLUME)
    tag = made.headers["etag"]
    assert client.get("/volumes/db0").headers["etag"] == tag
    grown = client.patch("/volumes/db0", json={"size": "2GiB"}, headers={"if-match": tag})
    assert grown.status_code == 200
    assert grown.headers["etag"] != tag
    late = client.patch("/volumes/db0", json={"size": "3GiB"}, headers={"if-match": tag})
    assert (problem_of(late)["code"], late.status_code) == ("outdated", 412)
    late = client.delete("/volumes/db0", headers={"if-match": tag})
    assert problem_of(late)["code"] == "outdated"
    assert client.get("/volumes/db0").json()["size_bytes"] == 2 * GIB
    assert client.delete("/volumes/db0", headers={"if-match": "*"}).status_code == 202


def test_tag_of_a_volume_stays_while_it_is_only_used(served: tuple[World, httpx.Client]) -> None:
    """Attaching and writing change nothing that a tag stands for."""
    _, client = served
    tag = client.post("/volumes", json=VOLUME).headers["etag"]
    client.post("/attachments", json={"volume": "db0"})
    shown = client.get("/volumes/db0")
    assert shown.json()["attached"] is True
    assert shown.headers["etag"] == tag


def test_collection_read_by_cursors_has_every_item_once(client: httpx.Client) -> None:
    """Also where items are made and destroyed in between."""
    names = [f"v{index:02}" for index in range(7)]
    for name in names:
        client.post("/volumes", json=VOLUME | {"name": name})
    seen: list[str] = []
    cursor = None
    while True:
        query = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = client.get("/volumes", params=query).json()
        seen += [each["name"] for each in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        client.post("/volumes", json=VOLUME | {"name": f"a{len(seen)}"})
    assert seen == names


def test_openapi_names_every_route_and_its_problems(client: httpx.Client) -> None:
    """A client can be made from it."""
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/v1/tenants",
        "/v1/tenants/{tenant}",
        "/v1/tenants/{tenant}/purge",
        "/v1/volumes",
        "/v1/volumes/{volume}",
        "/v1/volumes/{volume}/purge",
        "/v1/volumes/{volume}/reset",
        "/v1/attachments",
        "/v1/attachments/{volume}",
        "/v1/pools",
        "/v1/pools/{pool}",
        "/v1/pools/{pool}/scans",
        "/v1/certificates",
        "/v1/certificates/{certificate}",
        "/v1/certificates/{certificate}/bundle",
        "/v1/log",
        "/v1/pools/{pool}/policy",
        "/v1/metrics",
        "/v1/operations",
        "/v1/operations/{operation}",
        "/v1/defaults",
        "/v1/events",
    }
    for path in document["paths"].values():
        for route in path.values():
            assert {"4XX", "5XX"} <= set(route["responses"])
    names = [route["operationId"] for path in document["paths"].values() for route in path.values()]
    assert len(names) == len(set(names))


def test_socket_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Its mode keeps others out, and who connects is asked for by the kernel's word."""
    path = tmp_path / "api.sock"
    path.write_text("left by a dead daemon")
    with listen(path) as listener, socket.socket(socket.AF_UNIX) as caller:
        assert path.stat().st_mode & 0o777 == 0o600
        caller.connect(str(path))
        accepted, _ = listener.accept()
        with accepted:
            assert peer_uid(accepted) == path.stat().st_uid


def test_socket_path_that_is_too_long_is_invalid(tmp_path: Path) -> None:
    """The limit of the kernel is said in words."""
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    with pytest.raises(Invalid, match="too long"):
        listen(folder / "api.sock")


def test_stranger_is_answered_with_a_problem_and_nothing_else(
    served: tuple[World, httpx.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reaches the socket all the same gets 403, and no route of his request runs."""
    world, client = served
    monkeypatch.setattr("scrubjay.api.server.peer_uid", lambda _peer: 54321)
    client.headers["connection"] = "close"
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(world.folder / "run" / "api.sock")),
        base_url="http://scrubjay/v1",
    ) as stranger:
        for response in (stranger.get("/tenants"), stranger.post("/tenants", json={"name": "x"})):
            assert response.status_code == 403
            assert problem_of(response)["code"] == "denied"
    assert [each.name for each in world.tenants.page(after="", limit=9)] == ["acme"]


def test_error_that_nobody_foresaw_says_nothing_about_itself(
    served: tuple[World, httpx.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug is logged and answered; its text, which may hold a secret, is not shown (I2)."""
    world, client = served

    def broken(_reference: str) -> None:
        raise RuntimeError("key 0xdeadbeef")

    monkeypatch.setattr(type(world.volumes), "find", lambda _self, ref: broken(ref))
    response = client.get("/volumes/db0")
    assert response.status_code == 503
    assert "deadbeef" not in json.dumps(problem_of(response))
