"""`/v1/certificates`: lists count volumes, and only one certificate tells which they are."""

from __future__ import annotations

import uuid

import httpx

from scrubjay.base.ids import VolumeId
from scrubjay.evidence.questions import Asked
from scrubjay.evidence.report import Outcome
from scrubjay.evidence.verify import verify
from tests.control.rig import World
from tests.control.test_certificates import destroy


def _destroyed(world: World) -> list[str]:
    """Destroy three volumes in one rotation; return their ids."""
    names = ("a", "b", "c")
    ids = [str(world.volumes.create(each, tenant="acme", size_bytes=1 << 30).id) for each in names]
    destroy(world, *names)
    return ids


def test_list_of_certificates_counts_volumes_and_blinds_nobody(
    served: tuple[World, httpx.Client],
) -> None:
    """A blinding value tells whose volume was destroyed: a list hands out none."""
    world, client = served
    ids = _destroyed(world)
    answer = client.get("/certificates")
    items = answer.json()["items"]
    assert sum(each["volume_count"] for each in items) == 3
    assert not any("volumes" in each for each in items)
    assert not any(each in answer.text for each in (*ids, "blinding"))


def test_certificate_alone_shows_its_volumes_with_their_blinding_values(
    served: tuple[World, httpx.Client],
) -> None:
    """With them, an auditor sees that the bundle is about his volume."""
    world, client = served
    ids = _destroyed(world)
    listed = client.get("/certificates").json()["items"]
    seen = []
    for each in listed:
        shown = client.get(f"/certificates/{each['id']}").json()
        assert {**each, "volumes": shown["volumes"]} == shown
        assert len(shown["volumes"]) == shown["volume_count"]
        bundle = client.get(f"/certificates/{each['id']}/bundle").content
        for volume in shown["volumes"]:
            seen.append(volume["id"])
            asked = Asked(VolumeId(uuid.UUID(volume["id"])), bytes.fromhex(volume["blinding"]))
            report = verify(bundle, str(world.log.key), volume=asked)
            assert report.check("volume").outcome is Outcome.PASSED
    assert sorted(seen) == sorted(ids)


def test_list_is_narrowed_to_a_volume_and_a_tenant_page_by_page(
    served: tuple[World, httpx.Client],
) -> None:
    """By id, by the name it had, by owner; and the id shows the certificate."""
    world, client = served
    (first, *_) = _destroyed(world)
    world.volumes.create("d", tenant="acme", size_bytes=1 << 30)
    destroy(world, "d")
    (by_id,) = client.get("/certificates", params={"volume": first}).json()["items"]
    (by_name,) = client.get("/certificates", params={"volume": "a"}).json()["items"]
    assert by_id == by_name
    assert client.get(f"/certificates/{first}").json()["id"] == by_id["id"]
    assert client.get(f"/certificates/{first}/bundle").status_code == 200
    page = client.get("/certificates", params={"volume": "d", "limit": 1}).json()
    assert (len(page["items"]), page["next_cursor"]) == (1, None)
    page = client.get("/certificates", params={"tenant": "acme", "limit": 1}).json()
    assert page["next_cursor"] is not None
    refused = client.get("/certificates", params={"volume": "nobody"})
    assert refused.status_code == 404
