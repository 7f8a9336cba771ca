"""What the API does: tenants, volumes, attachments, pools, operations, end to end."""

from __future__ import annotations

import httpx

from scrubjay.base.ids import TenantNo
from scrubjay.base.units import GIB
from scrubjay.control.events import Events
from scrubjay.evidence.promises import LEDGER
from tests.api.rig import finished
from tests.control.rig import World


def test_volume_lives_from_creation_to_forgetting(served: tuple[World, httpx.Client]) -> None:
    """Create, attach, grow, detach, destroy: each answer says how it is then."""
    world, client = served
    made = client.post("/volumes", json={"name": "db0", "tenant": "acme", "size": GIB})
    assert made.status_code == 201
    volume = made.json()
    assert made.headers["location"] == f"/v1/volumes/{volume['id']}"
    assert (volume["state"], volume["attached"], volume["size_bytes"]) == ("ready", False, GIB)

    served_at = client.post("/attachments", json={"volume": "db0"}).json()
    assert served_at["uri"] == f"nbd+unix:///db0?socket={served_at['socket']}"
    assert client.get("/attachments").json()["items"] == [served_at]
    assert client.get(f"/attachments/{volume['id']}").json() == served_at
    again = client.post("/attachments", json={"volume": "db0"})
    assert again.status_code == 409

    client.patch("/volumes/db0", json={"size": "2GiB"})
    assert ("resize", world.volumes.find("db0").id) in world.exporters.calls

    assert client.delete("/attachments/db0").status_code == 204
    assert client.delete("/attachments/db0").status_code == 404

    asked = client.delete("/volumes/db0")
    assert asked.status_code == 202
    operation = asked.json()
    assert asked.headers["location"] == f"/v1/operations/{operation['id']}"
    ended = finished(client, operation["id"])
    assert ended["state"] == "done"
    assert client.get("/volumes/db0").status_code == 404
    assert client.get("/pools").json()["items"][0]["sink"]["epoch"] == 2


def test_pool_is_shown_by_its_id_and_scanned_as_an_operation(client: httpx.Client) -> None:
    """The scan's result is in its operation; other ids are not found."""
    (pool,) = client.get("/pools").json()["items"]
    assert client.get(f"/pools/{pool['id']}").json()["slots"] == pool["slots"]
    other = "00000000-0000-0000-0000-000000000007"
    assert client.get(f"/pools/{other}").status_code == 404
    assert client.post(f"/pools/{other}/scans", json={"hex": "ff"}).status_code == 404
    asked = client.post(f"/pools/{pool['id']}/scans", json={"hex": b"SCRUBJAY".hex()})
    assert asked.status_code == 202
    result = finished(client, asked.json()["id"])["result"]
    assert isinstance(result, dict)
    assert result["matches"] == 2
    assert result["offsets"] == [0, 64 << 10]


def test_tenant_is_shown_with_its_tag_and_place(client: httpx.Client) -> None:
    """Names and ids both work."""
    made = client.post("/tenants", json={"name": "newco"})
    assert made.headers["location"] == "/v1/tenants/2"
    shown = client.get("/tenants/newco")
    assert shown.json() == made.json() == client.get("/tenants/2").json()
    assert shown.headers["etag"] == made.headers["etag"]


def test_operations_are_listed_newest_first(client: httpx.Client) -> None:
    """What was asked for can be found without its id."""
    for name in ("a", "b", "c"):
        client.post("/volumes", json={"name": name, "tenant": "acme", "size": GIB})
        finished(client, client.delete(f"/volumes/{name}").json()["id"])
    first = client.get("/operations", params={"limit": 2}).json()
    second = client.get("/operations", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    subjects = [each["subject"].split()[1] for each in first["items"] + second["items"]]
    assert subjects == ["c", "b", "a"]
    assert second["next_cursor"] is None


def test_events_are_paged_by_cursor_and_by_number(served: tuple[World, httpx.Client]) -> None:
    """Who keeps the last id goes on behind it; a tenant's are those for all and its own."""
    world, client = served
    world.tenants.create("zeta")
    events = Events(world.keeper)
    with world.keeper.changing() as change:
        for number in range(5):
            to = TenantNo(2) if number == 3 else None
            events.stage(change, "told", f"event {number}", tenant=to, facts={"a": "b"})
    first = client.get("/events", params={"limit": 3}).json()
    rest = client.get("/events", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [each["id"] for each in first["items"] + rest["items"]] == [1, 2, 3, 4, 5]
    assert rest["next_cursor"] is None
    assert rest["items"][0] | {"at": None} == {
        "id": 4, "at": None, "kind": "told", "tenant": "zeta", "text": "event 3",
        "effective_at": None, "facts": {"a": "b"},
    }  # fmt: skip
    assert [each["id"] for each in client.get("/events?after=4").json()["items"]] == [5]
    acmes = client.get("/events?tenant=acme").json()["items"]
    assert [each["id"] for each in acmes] == [1, 2, 3, 5]
    for query in ("cursor=MTp4", "cursor=MTotMQ", "after=-1", f"after={1 << 63}", "tenant="):
        assert client.get(f"/events?{query}").status_code in (404, 422), query


def test_defaults_are_shown_with_their_history_and_moment(client: httpx.Client) -> None:
    """All that the ledger has, and since when it holds in this pool."""
    shown = {each["setting"]: each for each in client.get("/defaults").json()["items"]}
    assert set(shown) == set(LEDGER.settings)
    sealed = shown["encryption.cipher"]
    assert sealed["value"] == sealed["history"][-1]["value"] == "AES-256-GCM"
    assert sealed["history"][0]["effect"] == "first"
    assert sealed["in_force_since"].endswith("Z")
    assert (sealed["next"], sealed["next_at"]) == ("", None)


def test_name_with_strange_letters_in_a_path_is_not_found(client: httpx.Client) -> None:
    """A path is data, however it is spelled."""
    for name in ("%2e%2e", "a%2Fb", "%00", "%C3%A4", "x" * 3000):
        assert client.get(f"/volumes/{name}").status_code in (404, 422), name


def test_tenant_closed_over_the_api_names_what_it_had(client: httpx.Client) -> None:
    """If-Match is heeded; the result names every volume, and pages of all list it still."""
    client.post("/tenants", json={"name": "gone"})
    client.post("/volumes", json={"name": "g0", "tenant": "gone", "size": GIB})
    stale = client.delete("/tenants/gone", headers={"If-Match": '"other"'})
    assert stale.status_code == 412
    asked = client.delete("/tenants/gone")
    assert asked.status_code == 202
    assert asked.headers["location"] == f"/v1/operations/{asked.json()['id']}"
    ended = finished(client, asked.json()["id"])
    assert ended["state"] == "done"
    result = ended["result"]
    assert isinstance(result, dict)
    assert len(result["volumes"]) == 1
    assert "gone" not in [each["name"] for each in client.get("/tenants").json()["items"]]
    first = client.get("/tenants", params={"closed": True, "limit": 1}).json()
    rest = client.get("/tenants", params={"closed": True, "cursor": first["next_cursor"]}).json()
    states = {each["name"]: each["state"] for each in first["items"] + rest["items"]}
    assert states["gone"] == "closed"


def test_destroy_says_since_when_the_volume_is_withheld(
    served: tuple[World, httpx.Client],
) -> None:
    """The answer is the operation, and what holds from then on; asked again it is the same."""
    _, client = served
    for name, flag in (("s0", {"scrub_data": "true"}), ("s1", {"scrub_data": "false"}), ("s2", {})):
        client.post("/volumes", json={"name": name, "tenant": "acme", "size": GIB})
        answer = client.delete(f"/volumes/{name}", params=flag)
        assert answer.status_code == 202
        said = answer.json()
        assert (said["kind"], said["shared"]) == ("volume.destroy", [])
        assert said["scrub_first"] == (name == "s0")
        assert said["withheld_at"] >= said["created_at"]
        assert finished(client, said["id"])["state"] == "done"
    client.post("/volumes", json={"name": "s3", "tenant": "acme", "size": GIB})
    assert client.delete("/volumes/s3", params={"scrub_data": "perhaps"}).status_code == 422
    assert client.get("/volumes/s3").json()["state"] == "ready"


def test_ephemeral_volume_is_shown_as_such_and_reset(
    served: tuple[World, httpx.Client],
) -> None:
    """Reset answers with the volume; one that keeps its data is a conflict."""
    world, client = served
    body = {"name": "e0", "tenant": "acme", "size": GIB, "ephemeral": True}
    made = client.post("/volumes", json=body).json()
    assert made["ephemeral"]
    client.post("/attachments", json={"volume": "e0"})
    answer = client.post("/volumes/e0/reset")
    assert (answer.status_code, answer.json()["attached"]) == (200, True)
    assert world.exporters.calls[-1][0] == "reset"
    client.post("/volumes", json={"name": "e1", "tenant": "acme", "size": GIB})
    assert client.post("/volumes/e1/reset").status_code == 409
    assert client.post("/volumes/nobody/reset").status_code == 404
