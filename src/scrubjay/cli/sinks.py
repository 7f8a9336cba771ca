"""How a sink is shown, by `scrubjay pool status` and by `scrubjay sink show`."""

from __future__ import annotations

from scrubjay.cli.output import counted
from scrubjay.client.replies import Sink, SinkBudget

__all__ = ["sink_facts"]

_DAY_S = 86_400
_HOUR_S = 3600


def sink_facts(sink: Sink) -> list[tuple[str, str]]:
    """Return a line for what it is worth, and one for whatever else somebody has to know."""
    state = "AWAY" if sink.away else sink.worth
    facts = [("sink", f"{sink.kind}, epoch {sink.epoch}, {state}")]
    if sink.where and not sink.members:
        facts.append(("", f"at {sink.where}"))
    if sink.away:
        facts.append(("AWAY", f"{sink.away}. Until then nothing is forgotten"))
    facts += [("", finding) for finding in sink.findings]
    facts += _signs(sink.key)
    for each in sink.members:
        state = "AWAY" if each.away else each.worth
        facts.append(("", f"{each.number}: {each.kind} {each.where}, {state}: {each.finding}"))
        facts += _signs(each.key)
    for gone in sink.expelled:
        if not gone.destroyed:
            listed = " and ".join(map(str, gone.epochs))
            facts.append(
                (
                    "",
                    f"{gone.number}: {gone.kind} {gone.where}, EXPELLED: may hold epoch {listed}",
                )
            )
    if sink.owed:
        listed = " and ".join(map(str, sink.owed))
        facts.append(("owed", f"epoch {listed}: destroys wait until every member dropped it"))
    if sink.budget is not None:
        facts += _budget(sink.budget)
    return facts


def _signs(key: str) -> list[tuple[str, str]]:
    """Return the name that an auditor is to be given before there is a certificate."""
    return [("", f"signs with the key {key}")] if key else []


def _budget(budget: SinkBudget) -> list[tuple[str, str]]:
    now = f"{counted(budget.left, 'rotation')} at once"
    if budget.wait_s:
        now = f"none now, the next in {_time_text(budget.wait_s)}"
    often = f"then one in {_time_text(budget.interval_s)}"
    return [("wears out", f"{now}, {often} ({budget.reason}; {budget.certainty})")]


def _time_text(time_s: float) -> str:
    if time_s >= 2 * _DAY_S:
        return f"{time_s / _DAY_S:.0f} days"
    if time_s >= _HOUR_S:
        return f"{time_s / _HOUR_S:.1f} h"
    return f"{time_s:.0f} s"
