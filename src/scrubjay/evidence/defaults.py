"""Defaults are promises: a ledger of those that security rests on, and of their changes.

A change is an entry at the end; what was written before it stays as it is, which a chain of
digests shows. `promises` holds the ledger that this version ships with.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from scrubjay.base.errors import Invalid
from scrubjay.evidence.strict import Record, Text, encode

__all__ = ["Effect", "Entry", "Ledger", "Setting"]


class Effect(StrEnum):
    """What a change does to the protection of tenants."""

    FIRST = "first"
    """Nothing was promised before."""
    STRONGER = "stronger"
    WEAKER = "weaker"


@dataclass(frozen=True, slots=True)
class Setting:
    """Something that has a default: its name, what it means, and where the code keeps it."""

    name: str
    means: str
    where: str
    """`module:name`, as an import finds it."""
    held: bool = False
    """Whether a daemon can go on with the value before, until a change has been announced."""


class Entry(Record, frozen=True):
    """One line of the ledger: the value of a setting from a version on, and why."""

    setting: Text
    value: Text
    version: Text
    day: dt.date
    why: Text
    effect: Effect = Effect.FIRST
    before: str = ""


class Ledger:
    """Settings and their entries, in the order in which these were made."""

    def __init__(self, settings: Iterable[Setting], entries: Iterable[Entry]) -> None:
        self.settings = {each.name: each for each in settings}
        self.entries = tuple(entries)

    def check(self) -> None:
        """Raise Invalid where the ledger contradicts itself."""
        newest: dict[str, Entry] = {}
        day = dt.date.min
        for number, entry in enumerate(self.entries):
            where = f"entry {number} of the ledger, {entry.setting}"
            if entry.setting not in self.settings:
                raise Invalid(f"{where}: of no setting, expected a known one")
            if entry.day < day:
                raise Invalid(f"{where}: of {entry.day}, expected {day} or later")
            before = newest[entry.setting].value if entry.setting in newest else ""
            if entry.before != before:
                raise Invalid(f"{where}: before {entry.before!r}, expected {before!r}")
            if entry.value == before:
                raise Invalid(f"{where}: {before!r} as before, expected a change")
            if (entry.effect is Effect.FIRST) != (entry.setting not in newest):
                raise Invalid(f"{where}: {entry.effect}, expected first once and never again")
            newest[entry.setting], day = entry, entry.day
        if missing := self.settings.keys() - newest.keys():
            raise Invalid(f"setting {min(missing)}: no entry in the ledger, expected one")

    def history(self, name: str) -> list[Entry]:
        """Return the entries of a setting, oldest first."""
        return [each for each in self.entries if each.setting == name]

    def newest(self, name: str) -> Entry:
        """Return the entry that says what a setting's default is."""
        return self.history(name)[-1]

    def weakens(self, name: str, *, since: str) -> bool:
        """Return whether any change since a value weakened protection.

        A value that the ledger does not know is of another version: then nobody can say, and
        the answer is yes.
        """
        history = self.history(name)
        known = [at for at, each in enumerate(history) if each.value == since]
        if not known:
            return True
        return any(each.effect is Effect.WEAKER for each in history[known[-1] + 1 :])

    def chain(self) -> list[str]:
        """Return a digest per entry, over it and all before it: SHA-256, in hex."""
        digests: list[str] = []
        digest = b""
        for entry in self.entries:
            digest = hashlib.sha256(digest + encode(entry)).digest()
            digests.append(digest.hex())
        return digests
