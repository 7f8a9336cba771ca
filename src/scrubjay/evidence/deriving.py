"""What a certificate derives and nobody enters: results, states and the grade (I8)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from scrubjay.evidence.statement import (
    Copy,
    CopyKind,
    Deadline,
    DeadlineState,
    MediumRetired,
    SinkDropped,
    Subject,
    Verification,
    Worth,
)

__all__ = [
    "deadline_state",
    "decided_at",
    "due_at",
    "grade_of",
    "grade_of_medium",
    "has_passed",
    "is_erased",
    "meaning_of",
    "passed",
    "spell",
]

_ORDER: Mapping[Worth, int] = {"CONDITIONAL": 0, "Clear": 1, "Purge": 2}
_END_OF_TIME = dt.datetime.max.replace(tzinfo=dt.UTC)
_NEVER_EMPTY = frozenset({"sink", "superblocks", "nodes"})
"""Where nothing was examined, nothing was verified; elsewhere there may be nothing."""


def has_passed(kind: CopyKind, *, total: int, examined: int, mismatches: int) -> bool:
    """Whether a verification found what was to be found; only slots may be sampled."""
    if mismatches or examined > total:
        return False
    if total == 0:
        return kind not in _NEVER_EMPTY
    return examined > 0 if kind == "medium" else examined == total


def passed(look: Verification) -> bool:
    """Whether a verification's own counts say that it passed."""
    return has_passed(
        look.kind, total=look.total, examined=look.examined, mismatches=look.mismatches
    )


def is_erased(copy: Copy, verified: Iterable[Verification]) -> bool:
    """Whether a verification of this very copy passed."""
    return any((each.kind, each.id) == (copy.kind, copy.id) and passed(each) for each in verified)


def due_at(deadline: Deadline) -> dt.datetime:
    """Return the moment at which it is missed."""
    try:
        return deadline.from_at + dt.timedelta(seconds=deadline.within_s)
    except OverflowError:
        return _END_OF_TIME


def deadline_state(
    *, due: dt.datetime, met_at: dt.datetime | None, now: dt.datetime
) -> DeadlineState:
    """Return "pending", "met" or "missed"."""
    if met_at is not None:
        return "met" if met_at <= due else "missed"
    return "pending" if now <= due else "missed"


def meaning_of(deadline: Deadline) -> str:
    """Return what a deadline's being met means, to follow its name and state; "" if nothing more.

    A destruction says nothing of what upkeep had forgotten inside a volume that lived; it does
    of what was dead there and was not forgotten yet.
    """
    if deadline.name != "purge_within" or deadline.met_at is None:
        return ""
    when = "by then" if deadline.state == "met" else "only later"
    return (
        f" (the volumes were forgotten whole {when}, and with them whatever had been overwritten "
        f"inside; it is counted from {spell(deadline.from_at)}; nothing is said of what was "
        "forgotten inside while they lived)"
    )


def decided_at(scope: Literal["volumes", "tenant"], subjects: Sequence[Subject]) -> dt.datetime:
    """Return when the first of the ends was decided that one forgetting carried out.

    A closing names volumes too that had ended before, each by a forgetting of its own; of
    those that it ended itself the decision is the last one.
    """
    dates = [each.end.decided_at for each in subjects]
    return max(dates) if scope == "tenant" else min(dates)


def grade_of(sinks: Sequence[SinkDropped], inventory: Sequence[Copy]) -> tuple[Worth, str]:
    """Return what an erasure amounts to, and why: the worst of the sinks and of what is kept."""
    kept = [each for each in inventory if each.state == "kept" and each.holds == "keys"]
    worst = min((each.worth for each in sinks), key=_ORDER.__getitem__)
    value: Worth = "CONDITIONAL" if kept else worst
    reasons = [
        f"{each.kind} sink on {each.place}: {each.reason}" for each in sinks if each.worth == worst
    ]
    reasons += [f"keys are kept in {each.kind} on {each.place}: {each.because}" for each in kept]
    return value, "; ".join(reasons)


def grade_of_medium(
    medium: MediumRetired, *, technique: str, reads: str, failures: int
) -> tuple[Worth, str]:
    """Return what erasing all of a medium amounts to, and why: Clear at best, by overwriting.

    Only disks that are known to rotate write in place; nothing is worth Clear that did not
    read back from the device itself.
    """
    where = f"{medium.kind} on {medium.place}: {medium.reason}"
    if failures:
        return "CONDITIONAL", f"{failures} pages did not read back as they were written"
    if technique != "overwrite":
        return "CONDITIONAL", f"a {technique}, which says little of what lies beneath"
    if reads != "device":
        return "CONDITIONAL", "what was read back may have come from a cache"
    if medium.worth != "Clear":
        return "CONDITIONAL", where
    if not medium.disks or not all(each.rotates for each in medium.disks):
        return "CONDITIONAL", "what lies beneath is not known to be rotating disks alone"
    return "Clear", where


def spell(moment: dt.datetime) -> str:
    """Return a moment for people: UTC, to the second."""
    try:
        return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
    except OverflowError:
        return moment.isoformat()
