"""The pool's policy: what is promised about deadlines, and how fast upkeep may go for it.

It is a record of the pool (`y`), not an option of the daemon: a promise does not depend on
how somebody started a process.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

import msgspec
import structlog

from scrubjay.base.durations import duration_text
from scrubjay.base.errors import Invalid, NotFound
from scrubjay.base.units import MIB, TIB
from scrubjay.control.keeper import Keeper
from scrubjay.control.records import (
    POLICY_KEY,
    RATE_MAX,
    RATE_MIN,
    WITHIN_S_MAX,
    WITHIN_S_MIN,
    PolicyRecord,
    encode,
)

__all__ = ["Policies"]

_log = structlog.get_logger(__name__)


class Policies:
    """What the API says of policies, and changes; there is one."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def show(self, pool: uuid.UUID) -> PolicyRecord:
        """Return the policy in force; NotFound for another pool's."""
        self._expect(pool)
        with self._keeper.reading() as view:
            return view.policy()

    def change(self, pool: uuid.UUID, changes: Mapping[str, int]) -> PolicyRecord:
        """Change fields of the policy, by their names; return it as it is then.

        It holds from the next look on, for what waits already too. Raises Invalid for a
        value that no policy has, NotFound for another pool.
        """
        self._expect(pool)
        with self._keeper.changing() as change:
            before = change.policy()
            after = msgspec.structs.replace(before, **changes)
            _check(after)
            if after != before:
                change.put(POLICY_KEY, encode(after))
        if after != before:
            _log.warning(
                "policy.changed",
                before=msgspec.structs.asdict(before),
                after=msgspec.structs.asdict(after),
            )
        return after

    def _expect(self, pool: uuid.UUID) -> None:
        if pool != self._keeper.pool_id:
            raise NotFound(f"pool {pool}: unknown", hint="see: scrubjay pool status")


def _check(policy: PolicyRecord) -> None:
    """Raise Invalid for what the record would not hold, or for rates that contradict."""
    spans = {"scrub_within": policy.scrub_within_s, "purge_within": policy.purge_within_s}
    idle, busy = policy.scrub_idle_bytes_per_s, policy.scrub_busy_bytes_per_s
    for name, span_s in spans.items():
        if not WITHIN_S_MIN <= span_s <= WITHIN_S_MAX:
            bounds = f"{duration_text(WITHIN_S_MIN)} to {duration_text(WITHIN_S_MAX)}"
            raise Invalid(f"policy: {name} {duration_text(span_s)}, expected {bounds}")
    for name, rate in (("scrub_bandwidth", idle), ("scrub_bandwidth_busy", busy)):
        if not RATE_MIN <= rate <= RATE_MAX:
            bounds = f"{RATE_MIN // MIB}MiB to {RATE_MAX // TIB}TiB a second"
            raise Invalid(f"policy: {name} {rate} bytes a second, expected {bounds}")
    if busy > idle:
        raise Invalid(
            f"policy: scrub_bandwidth_busy {busy}, expected at most scrub_bandwidth, {idle}",
            hint="beside tenants upkeep goes slower, never faster",
        )
