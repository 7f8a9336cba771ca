"""What a verification says: checks, remarks, and a verdict in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from scrubjay.base.errors import Invalid
from scrubjay.evidence.statement import Statement

__all__ = ["Check", "Outcome", "Report", "Verdict", "Work"]

_T = TypeVar("_T")


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

    def skip(self, name: str, why: str) -> None:
        """Note a check that could not be made: nothing is proven without it."""
        self._note(name, Outcome.NOT_CHECKED, why, optional=False)

    def leave(self, name: str, why: str) -> None:
        """Note an optional check for which nobody asked."""
        self._note(name, Outcome.NOT_CHECKED, why, optional=True)

    def _note(self, name: str, outcome: Outcome, sentence: str, *, optional: bool) -> None:
        self.checks.append(Check(name, outcome, sentence, optional))
