"""`/v1/pools/{pool}/policy`: shown, changed by the field, refused as a problem."""

from __future__ import annotations

import uuid

import httpx
import pytest

from scrubjay.base.units import MIB


def _path(client: httpx.Client) -> str:
    (pool,) = client.get("/pools").json()["items"]
    return f"/pools/{pool['id']}/policy"


def test_policy_changes_by_the_field_as_numbers_or_text(client: httpx.Client) -> None:
    """What is left out stays as it is."""
    path = _path(client)
    before = client.get(path).json()
    assert before == {
        "scrub_within_s": 86_400,
        "purge_within_s": 86_400,
        "scrub_idle_bytes_per_s": 256 * MIB,
        "scrub_busy_bytes_per_s": 8 * MIB,
    }
    changed = client.patch(path, json={"scrub_within": "12h", "scrub_bandwidth": "64MiB"})
    assert changed.status_code == 200
    expected = before | {"scrub_within_s": 43_200, "scrub_idle_bytes_per_s": 64 * MIB}
    assert changed.json() == client.get(path).json() == expected
    again = client.patch(path, json={"purge_within": 3600, "scrub_bandwidth_busy": 4 * MIB})
    assert again.json() == expected | {"purge_within_s": 3600, "scrub_busy_bytes_per_s": 4 * MIB}
    assert client.patch(path, json={}).json() == again.json()


@pytest.mark.parametrize(
    "body",
    [
        {"scrub_within": "soon"},
        {"scrub_within": -1},
        {"scrub_within": 1.5},
        {"scrub_within": True},
        {"scrub_within": "1s"},
        {"scrub_bandwidth": "64MB"},
        {"scrub_bandwidth": "1KiB"},
        {"scrub_bandwidth_busy": "1GiB"},
        {"shred": "yes"},
        {"scrub_within_s": 60},
    ],
)
def test_policy_that_means_nothing_is_a_problem(
    client: httpx.Client, body: dict[str, object]
) -> None:
    """And changes nothing."""
    path = _path(client)
    before = client.get(path).json()
    refused = client.patch(path, json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
    assert client.get(path).json() == before


def test_policy_of_another_pool_is_not_found(client: httpx.Client) -> None:
    """To show and to change alike."""
    path = f"/pools/{uuid.UUID(int=7)}/policy"
    assert client.get(path).status_code == 404
    assert client.patch(path, json={"scrub_within": "12h"}).status_code == 404
