"""What a verification says: checks, remarks, and a verdict in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, TypeVar

from scrubjay.base.errors import Invalid
from scrubjay.evidence.statement import (
    Certified,
    Deadline,
    Forgotten,
    Retired,
    Scrubbed,
    Statement,
)
from scrubjay.evidence.strict import plain

__all__ = [
    "Check",
    "Outcome",
    "Report",
    "Stage",
    "Verdict",
    "Work",
    "deadlines_of",
    "rows_of",
    "words_of",
]

_T = TypeVar("_T")


Stage = Literal["forgotten", "scrubbed", "retired"]


class Outcome(Enum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


class Verdict(Enum):
    """What follows from all checks."""

    ERASED = "ERASED"
    CONDITIONAL = "ERASED, CONDITIONAL"
    NOT_PROVEN = "NOT PROVEN"


@dataclass(frozen=True, slots=True)
class Check:
    """One check, its outcome, and a sentence for an auditor."""

    name: str
    outcome: Outcome
    sentence: str
    optional: bool = False
    """Without it a verdict is possible."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that a verification found."""

    verdict: Verdict
    reason: str
    """Why the verdict is no better; empty for ERASED."""
    checks: tuple[Check, ...]
    remarks: tuple[str, ...]
    """What is no failure and yet has to be known."""
    statement: Statement | None = None
    """The certificate, where its signature verified."""
    first: Statement | None = None
    """The first stage that it refers to, likewise."""

    @property
    def stages(self) -> tuple[Certified, ...]:
        """What is certified, the first stage first; nothing where no signature verified."""
        found = (self.first, self.statement)
        return tuple(each.predicate for each in found if each is not None)

    def check(self, name: str) -> Check:
        """Return the check of this name; KeyError if there is none."""
        return {each.name: each for each in self.checks}[name]

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that failed."""
        return tuple(each.name for each in self.checks if each.outcome is Outcome.FAILED)


@dataclass(slots=True)
class Work:
    """Checks under way: each runs once what it needs is known, and is noted either way."""

    checks: list[Check] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def find(self, name: str, look: Callable[[], tuple[_T, str]]) -> _T | None:
        """Note a check, and return what it found; None where it failed."""
        try:
            found, sentence = look()
        except Invalid as error:
            self._note(name, Outcome.FAILED, error.message, optional=False)
            return None
        self._note(name, Outcome.PASSED, sentence, optional=False)
        return found

    def check(self, name: str, look: Callable[[], str]) -> None:
        """Note a check that finds nothing but its sentence."""
        self.find(name, lambda: (None, look()))

    def fail(self, name: str, why: str) -> None:
        """Note a check that failed before anything was found."""
        self._note(name, Outcome.FAILED, why, optional=False)

    def skip(self, name: str, why: str) -> None:
        """Note a check that could not be made: nothing is proven without it."""
        self._note(name, Outcome.NOT_CHECKED, why, optional=False)

    def leave(self, name: str, why: str) -> None:
        """Note an optional check for which nobody asked."""
        self._note(name, Outcome.NOT_CHECKED, why, optional=True)

    def remark(self, sentence: str) -> None:
        """Note what is no failure and yet has to be known."""
        self.remarks.append(plain(sentence))

    def _note(self, name: str, outcome: Outcome, sentence: str, *, optional: bool) -> None:
        """Note a check; a sentence may repeat what a stranger wrote, so it is made harmless."""
        self.checks.append(Check(name, outcome, plain(sentence), optional))


def rows_of(checks: Sequence[Check]) -> tuple[tuple[str, Outcome, str], ...]:
    """Return (name, outcome, sentence) of each check; what was skipped for one reason, once.

    Such a row stands where the first of them does, and names the others behind its reason.
    """
    alike: dict[str, list[str]] = {}
    for each in checks:
        if each.outcome is Outcome.NOT_CHECKED:
            alike.setdefault(each.sentence, []).append(each.name)
    rows = []
    for each in checks:
        names = alike.get(each.sentence, []) if each.outcome is Outcome.NOT_CHECKED else []
        if len(names) > 1 and each.name == names[0]:
            sentence = f"{each.sentence} ({', '.join(names)})"
            rows.append((f"{len(names)} checks", each.outcome, sentence))
        elif len(names) <= 1:
            name = f"{each.name} (optional)" if each.optional else each.name
            rows.append((name, each.outcome, each.sentence))
    return tuple(rows)


def words_of(
    stages: Sequence[Certified], kind: Literal["logged", "asserted", "assumed"]
) -> tuple[str, ...]:
    """Return the sentences of one kind, each behind the stages that hold it."""
    found: dict[str, list[Stage]] = {}
    for each in stages:
        lists = {"logged": each.logged, "asserted": each.asserted, "assumed": each.assumed}
        for sentence in lists[kind]:
            found.setdefault(sentence, []).append(_stage_of(each))
    return tuple(f"{' and '.join(dict.fromkeys(said))}: {words}" for words, said in found.items())


def deadlines_of(stages: Sequence[Certified]) -> tuple[tuple[Stage, Deadline], ...]:
    """Return all deadlines, with their stage, but those whose later state is known.

    A first stage's deadline that was pending is left out where the second one has it too:
    what was missed never is.
    """
    later = {
        (each.name, each.from_at, each.within_s)
        for stage in stages
        if isinstance(stage, Scrubbed)
        for each in stage.deadlines
    }
    return tuple(
        (_stage_of(stage), each)
        for stage in stages
        for each in stage.deadlines
        if not (
            isinstance(stage, Forgotten)
            and each.state == "pending"
            and (each.name, each.from_at, each.within_s) in later
        )
    )


def _stage_of(predicate: Certified) -> Stage:
    if isinstance(predicate, Retired):
        return "retired"
    return "scrubbed" if isinstance(predicate, Scrubbed) else "forgotten"
