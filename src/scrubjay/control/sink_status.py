"""How a sink is: what forgetting there is worth, who belongs to it, what is owed, what wears."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from scrubjay.base.errors import ScrubjayError
from scrubjay.base.ids import Epoch
from scrubjay.sinks.attesting import signers_of
from scrubjay.sinks.locked import Placed
from scrubjay.sinks.mirrored import MirroredSink
from scrubjay.sinks.sink import Sink

__all__ = ["SinkBudget", "SinkGone", "SinkMember", "SinkStatus", "sink_status"]


@dataclass(frozen=True, slots=True)
class SinkMember:
    """One of a mirror's sinks."""

    number: int
    kind: str
    where: str
    epochs: list[int]
    worth: str
    """Its grade; "" while it is away."""
    finding: str
    """What that is worth in words, or why it is away."""
    away: bool
    key: str
    """The name of the key with which it signs, in hex; "" where it signs nothing or is away."""


@dataclass(frozen=True, slots=True)
class SinkGone:
    """A sink that was expelled; unless it is destroyed, it may hold the keys of these epochs."""

    number: int
    kind: str
    where: str
    epochs: list[int]
    destroyed: bool


@dataclass(frozen=True, slots=True)
class SinkBudget:
    """How often a sink that wears out can rotate; destroys beyond that wait."""

    interval_s: float
    burst: int
    left: int
    """Rotations that it affords at once, from now on."""
    wait_s: float
    """Until the next one, 0 where it can be now."""
    certainty: str
    reason: str


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """Where the root of the keys lies, and what forgetting there is worth."""

    kind: str
    epoch: int
    worth: str
    findings: list[str]
    members: list[SinkMember]
    """Empty unless it is a mirror."""
    expelled: list[SinkGone]
    owed: list[int]
    """Epochs that are still to be dropped somewhere: nothing else is forgotten before."""
    budget: SinkBudget | None
    """None where nothing wears out."""
    key: str
    """As a member's; "" for a mirror, whose members sign."""
    where: str
    """Its file or TPM; of a mirror, the record of its members."""
    away: str
    """Why a single sink cannot be reached, and what to do; "" where it can."""


def sink_status(
    sink: Sink, *, epoch: Epoch, created_at: dt.datetime, now: dt.datetime, where: str = ""
) -> SinkStatus:
    """Return how a sink is; members that are away are looked for anew."""
    members: list[SinkMember] = []
    expelled: list[SinkGone] = []
    owed: list[int] = []
    if isinstance(sink, MirroredSink):
        members = _members(sink)
        expelled = [
            SinkGone(
                each.member.number,
                each.member.kind,
                each.member.where,
                list(each.epochs),
                each.destroyed,
            )
            for each in sink.expelled()
        ]
        owed = list(sink.owed())
    worth = sink.worth()
    return SinkStatus(
        kind=sink.kind,
        epoch=epoch,
        worth=worth.grade.value,
        findings=[str(worth)],
        members=members,
        expelled=expelled,
        owed=owed,
        key=signers_of(sink).get(sink.sink_id, b"").hex(),
        where=where,
        away=_away(sink),
        budget=_budget(sink, rotations=epoch - 1, age_s=(now - created_at).total_seconds()),
    )


def _members(sink: MirroredSink) -> list[SinkMember]:
    members, signers = sink.members(), sink.signers()
    return [
        SinkMember(
            number=each.member.number,
            kind=each.member.kind,
            where=each.member.where,
            epochs=list(each.epochs),
            worth=each.worth.grade.value if each.worth else "",
            finding=f"{each.worth.place}: {each.worth.reason}" if each.worth else each.away,
            away=bool(each.away),
            key=signers.get(each.sink_id, b"").hex(),
        )
        for each in members
    ]


def _away(sink: Sink) -> str:
    """Say why a single sink is not where it was; a mirror says it of its members."""
    try:
        if isinstance(sink, Placed):
            sink.expect_in_place()
    except ScrubjayError as error:
        return f"{error.message}; {error.hint}" if error.hint else error.message
    return ""


def _budget(sink: Sink, *, rotations: int, age_s: float) -> SinkBudget | None:
    budget = sink.budget()
    if not budget.interval_min_s:
        return None
    return SinkBudget(
        interval_s=budget.interval_min_s,
        burst=budget.burst,
        left=max(0, budget.rotations(age_s) - rotations),
        wait_s=budget.wait_s(rotations=rotations, age_s=age_s),
        certainty=budget.certainty.value,
        reason=budget.reason,
    )
