"""`/v1/metrics`: how the pool is, for Prometheus.

Each answer is made anew from what the pool says; there is no registry that outlives it.
Counters are kept in the pool, so that a restart does not turn them back.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scrubjay.api.problems import PROBLEMS
from scrubjay.api.services import Services, ServicesHere
from scrubjay.control.pool_status import PoolStatus

__all__ = ["router"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The text format that every version of Prometheus reads, and what makes it."""
router = APIRouter(prefix="/v1/metrics", tags=["metrics"], responses=PROBLEMS)


@router.get("", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def show_metrics(services: ServicesHere) -> Response:
    """Show gauges and counters in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Pool(services))
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE})


class _Pool(Collector):
    """The pool at one moment."""

    def __init__(self, services: Services) -> None:
        self._status = services.pools.status()
        self._now_s = services.clock.now_ns() / 1_000_000_000

    def describe(self) -> Iterator[Metric]:
        """Say nothing beforehand: it is asked once."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield what Prometheus is told."""
        status, scrub, purge = self._status, self._status.scrubbing, self._status.purge
        yield _slots(status)
        yield _moved(status)
        waits_s, dead_s = self._ago_s(scrub.waiting_since), self._ago_s(purge.waiting_since)
        for name, text, value in (
            ("purge_oldest_wait_seconds", "How long the oldest dead byte is readable", dead_s),
            ("purge_within_seconds", "Time within which it is forgotten", purge.within_s),
            ("purge_late_volumes", "Volumes in which one is for longer", len(purge.missed)),
            ("purge_waiting_stripes", "Stripes given up, not yet forgotten", purge.stripes),
            ("scrub_oldest_wait_seconds", "How long the oldest waiting slot waits", waits_s),
            ("scrub_within_seconds", "Time within which a slot is scrubbed", scrub.within_s),
            ("scrub_late_slots", "Slots that wait for longer than that", scrub.late_slots),
            ("scrub_leased_slots", "Slots in use again, not yet overwritten", scrub.leased_slots),
            ("scrub_withheld_slots", "Slots that could not be scrubbed", scrub.withheld_slots),
            ("forgettings_pending", "Volumes decided to be forgotten", status.forgettings),
            ("forgetting_blocked", "1 while a sink or the pool is away", _is_blocked(status)),
            ("epoch", "Epoch of the sink", status.sink.epoch),
            ("pool_generation", "Commits of the pool", status.generation),
            ("volumes", "Volumes", status.volumes),
            ("attached_volumes", "Volumes being served", status.attached),
        ):
            yield GaugeMetricFamily(f"scrubjay_{name}", text, value)
        for name, text, value in (
            ("scrubbed_slots", "Slots overwritten and read back", scrub.scrubbed_slots),
            (
                "scrubbed_bytes",
                "Bytes of those slots",
                scrub.scrubbed_slots * status.slot_bytes,
            ),
            ("scrub_failures", "Slots not overwritten, or not clean", scrub.failures),
            ("scrub_deadlines_missed", "Slots not scrubbed in time", scrub.missed_slots),
            ("purge_deadlines_missed", "Volumes not purged in time", purge.missed_deadlines),
            ("purge_moved_bytes", "Bytes moved in order to purge", purge.moved_bytes),
        ):
            yield CounterMetricFamily(f"scrubjay_{name}", text, value)

    def _ago_s(self, since: dt.datetime | None) -> float:
        return max(0.0, self._now_s - since.timestamp()) if since else 0.0


def _is_blocked(status: PoolStatus) -> bool:
    """Whether nothing can be forgotten, whether or not something waits for it."""
    away = [status.sink.away, *(each.away for each in status.sink.members)]
    return bool(status.trouble) or any(away)


def _moved(status: PoolStatus) -> Metric:
    """Return what purging has moved for each tenant, by its number: names may be given again."""
    text = "Bytes moved in order to purge, charged to the tenant"
    moved = CounterMetricFamily("scrubjay_tenant_purge_moved_bytes", text, labels=["tenant"])
    for tenant, moved_bytes in sorted(status.purge.moved_by_tenant.items()):
        moved.add_metric([str(tenant)], moved_bytes)
    return moved


def _slots(status: PoolStatus) -> Metric:
    """Return how many slots are in each state; their sum is all that the pool has."""
    slots = GaugeMetricFamily("scrubjay_slots", "Slots of 16 MiB by state", labels=["state"])
    waiting = status.scrubbing.waiting_slots
    for state, count in (
        ("clean", max(0, status.slots_free - waiting)),
        ("waiting", waiting),
        ("leased", status.slots_leased),
        ("metadata", status.slots_metadata),
    ):
        slots.add_metric([state], count)
    return slots
