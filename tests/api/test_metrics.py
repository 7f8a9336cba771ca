"""`/v1/metrics`: what Prometheus reads, by its own parser."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

from scrubjay.base.units import SEGMENT_BYTES
from scrubjay.control.purge_deadlines import note_missed_purges
from tests.api.rig import finished
from tests.control.rig import World
from tests.control.test_purging import MASK, give_up


def _values(client: httpx.Client) -> dict[str, float]:
    """Return every sample by its name, with the state where it has one."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_metrics_of_a_new_pool_count_nothing_but_its_slots(client: httpx.Client) -> None:
    """Every counter is there from the beginning, so that its rate is known."""
    values = _values(client)
    states = {name: value for name, value in values.items() if name.startswith("scrubjay_slots")}
    assert states == {
        "scrubjay_slots clean": 15,
        "scrubjay_slots waiting": 0,
        "scrubjay_slots leased": 0,
        "scrubjay_slots metadata": 1,
    }
    for name in ("scrubbed_slots", "scrubbed_bytes", "scrub_failures", "scrub_deadlines_missed"):
        assert values[f"scrubjay_{name}_total"] == 0
    for name in ("purge_deadlines_missed", "purge_moved_bytes", "tenant_purge_moved_bytes"):
        assert sum(values[each] for each in values if each.startswith(f"scrubjay_{name}_t")) == 0
    assert values["scrubjay_purge_oldest_wait_seconds"] == 0
    assert values["scrubjay_purge_within_seconds"] == 86_400
    assert values["scrubjay_scrub_oldest_wait_seconds"] == 0
    assert values["scrubjay_scrub_within_seconds"] == 86_400
    assert values["scrubjay_epoch"] == 1
    assert values["scrubjay_forgettings_pending"] == 0


def test_metrics_say_that_nothing_can_be_forgotten_before_anybody_wants_to(
    served: tuple[World, httpx.Client],
) -> None:
    """An alarm that comes with the first destroy comes late."""
    world, client = served
    assert _values(client)["scrubjay_forgetting_blocked"] == 0
    world.displaced = "pool file: gone"
    assert _values(client)["scrubjay_forgetting_blocked"] == 1
    world.displaced = ""
    assert _values(client)["scrubjay_forgetting_blocked"] == 0


def test_metrics_follow_a_volume_from_attachment_to_scrubbing(
    served: tuple[World, httpx.Client],
) -> None:
    """What waits, since how long, and what was done and missed."""
    world, client = served
    world.written("db0", tenant="acme", segments=4)
    values = _values(client)
    assert (values["scrubjay_attached_volumes"], values["scrubjay_slots leased"]) == (1, 4)
    finished(client, client.delete("/volumes/db0").json()["id"])
    while world.forgetting.clear():
        pass
    world.clock.now += 2 * 86_400 * 1_000_000_000
    values = _values(client)
    assert values["scrubjay_slots waiting"] == values["scrubjay_scrub_late_slots"] == 4
    assert values["scrubjay_scrub_oldest_wait_seconds"] >= 2 * 86_400
    while world.scrubbing.turn():
        pass
    values = _values(client)
    assert values["scrubjay_slots waiting"] == values["scrubjay_scrub_late_slots"] == 0
    assert values["scrubjay_scrubbed_slots_total"] == 4
    assert values["scrubjay_scrubbed_bytes_total"] == 4 * SEGMENT_BYTES
    assert values["scrubjay_scrub_deadlines_missed_total"] == 4
    assert (values["scrubjay_epoch"], values["scrubjay_volumes"]) == (2, 0)


def test_metrics_of_purging_follow_a_volume_beyond_its_end(
    served: tuple[World, httpx.Client],
) -> None:
    """What waits and is late; what was moved for whom, which no destroy turns back."""
    world, client = served
    a = world.written("a", tenant="acme")
    give_up(world, a, (2, MASK), dead_h=30)
    values = _values(client)
    assert values["scrubjay_purge_waiting_stripes"] == MASK.bit_count()
    assert values["scrubjay_purge_late_volumes"] == 1
    assert values["scrubjay_purge_oldest_wait_seconds"] >= 30 * 3600
    assert values["scrubjay_purge_moved_bytes_total"] == 5000
    tenant = world.tenants.find("acme").id
    assert values[f"scrubjay_tenant_purge_moved_bytes_total {tenant}"] == 5000
    note_missed_purges(world.keeper, world.purging.status, world.tell_missed)
    assert _values(client)["scrubjay_purge_deadlines_missed_total"] == 1
    finished(client, client.delete("/volumes/a").json()["id"])
    values = _values(client)
    assert values["scrubjay_purge_late_volumes"] == 0
    assert values["scrubjay_purge_deadlines_missed_total"] == 1
    assert values["scrubjay_purge_moved_bytes_total"] == 5000
    assert values[f"scrubjay_tenant_purge_moved_bytes_total {tenant}"] == 5000
    told = {"moved_bytes": 5000, "missed_deadlines": 1}
    assert client.get("/tenants/acme/purge").json() == told
    assert client.get("/tenants/nobody/purge").status_code == 404
