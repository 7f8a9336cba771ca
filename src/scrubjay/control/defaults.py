"""The defaults that stand in this pool, and what tenants are told of their changes (I8).

The pool remembers with which defaults it was last served. A daemon whose ledger says
something else announces each difference to every tenant, in the commit that writes it down
and before anything is served. A change that weakens protection waits for `NOTICE`, where the
daemon can go on with the value before; where it cannot, the event says that it took effect
with the new version. Everything else takes effect at once.

A change that is withdrawn before its day (an older version, or a corrected one) never was.
"""

from __future__ import annotations

import datetime as dt
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog

from scrubjay.base.errors import Invalid
from scrubjay.control.events import Events
from scrubjay.control.keeper import Change, Keeper
from scrubjay.control.records import decode, encode
from scrubjay.control.told_records import DEFAULTS_KEY, DefaultsRecord, StandingDefault
from scrubjay.evidence.defaults import Entry, Ledger, Setting

__all__ = ["NOTICE", "Default", "Defaults", "parse_span"]

NOTICE = dt.timedelta(days=7)
_CHANGED, _IN_FORCE = "default-changed", "default-in-force"
"""Kinds of events: a change is announced; an announced one took effect."""
_SPAN = re.compile(r"([0-9]{1,6}) (second|minute|hour|day)s?")
_log = structlog.get_logger(__name__)

Hook = Callable[[str, str, str], None]
"""Hears of (setting, before, after) when a change takes effect; perhaps twice, after a crash."""


@dataclass(frozen=True, slots=True)
class Default:
    """A setting as the API shows it: its history in the ledger, and how it stands here."""

    setting: Setting
    history: list[Entry]
    standing: StandingDefault


class Defaults:
    """The defaults of one pool, under one version's ledger."""

    def __init__(
        self,
        keeper: Keeper,
        events: Events,
        ledger: Ledger,
        *,
        version: str,
        on_changed: Hook | None = None,
    ) -> None:
        ledger.check()
        self._keeper = keeper
        self._events = events
        self._ledger = ledger
        self._version = version
        self._on_changed = on_changed
        self._lock = threading.Lock()
        self._standing: dict[str, StandingDefault] = {}

    def announce(self) -> None:
        """Write down what this version's ledger changes, and tell everybody: before serving."""
        with self._lock:
            with self._keeper.changing(frees=True) as change:
                value = change.get(DEFAULTS_KEY)
                if value is None:
                    standing = self._first()
                else:
                    before = decode(DefaultsRecord, value, where="defaults")
                    standing = self._compared(change, before)
                self._put(change, standing)
            self._remember(standing)
            self._tell()

    def take_effect(self) -> None:
        """Put announced changes into force whose moment has come, and say so."""
        with self._lock:
            now = self._keeper.now()
            if not any(_is_due(each, now) for each in self._standing.values()):
                self._tell()
                return
            with self._keeper.changing(frees=True) as change:
                standing = [
                    self._entered(change, each, now) if _is_due(each, now) else each
                    for each in self._standing.values()
                ]
                self._put(change, standing)
            self._remember(standing)
            self._tell()

    def value(self, name: str) -> str:
        """Return the value that is in force here, which may be the one before the newest."""
        return self._standing[name].value

    def span(self, name: str) -> dt.timedelta:
        """Return a value that is a time."""
        return parse_span(self.value(name))

    def page(self) -> list[Default]:
        """Return every setting, in the ledger's order."""
        return [
            Default(setting, self._ledger.history(name), self._standing[name])
            for name, setting in self._ledger.settings.items()
        ]

    # --- private ------------------------------------------------------------------------

    def _first(self) -> list[StandingDefault]:
        """Return what stands in a pool that was never served with a ledger: nothing changed."""
        return [
            StandingDefault(
                setting=name, value=self._ledger.newest(name).value, since=self._keeper.now()
            )
            for name in self._ledger.settings
        ]

    def _compared(self, change: Change, before: DefaultsRecord) -> list[StandingDefault]:
        """Return what stands from now on, having staged an event for each difference."""
        old = {each.setting: each for each in before.standing}
        for name in old.keys() - self._ledger.settings.keys():
            text = f"{name} was {old[name].value}; Scrubjay {self._version} does not promise it"
            self._say(change, text, name, old[name].value, "", at=self._keeper.now())
        return [self._followed(change, name, old.get(name)) for name in self._ledger.settings]

    def _followed(
        self, change: Change, name: str, before: StandingDefault | None
    ) -> StandingDefault:
        newest, now = self._ledger.newest(name), self._keeper.now()
        if before is None:
            text = f"{name} is {newest.value}; nothing was promised before"
            self._say(change, text, name, "", newest.value, at=now)
            return StandingDefault(
                setting=name, value=newest.value, since=now, untold=self._untold("")
            )
        if newest.value == (before.next or before.value):
            return before
        if newest.value == before.value:
            text = f"{name} stays {before.value}: its change to {before.next} is withdrawn"
            self._say(change, text, name, before.next, before.value, at=now)
            return msgspec.structs.replace(before, next="", next_at=None)
        return self._changed(change, before, newest)

    def _changed(self, change: Change, before: StandingDefault, newest: Entry) -> StandingDefault:
        """Stage the event of a change; return how the setting stands from now on."""
        name, now = newest.setting, self._keeper.now()
        text = f"{name} changes from {before.value} to {newest.value}: {newest.why}"
        weaker = self._ledger.weakens(name, since=before.value)
        if weaker and self._ledger.settings[name].held:
            at = now + NOTICE
            text += f"; {before.value} stays in force until then"
            self._say(change, text, name, before.value, newest.value, at=at)
            return msgspec.structs.replace(before, next=newest.value, next_at=at)
        if weaker:
            text += f"; it could not be held back, and took effect with Scrubjay {self._version}"
        self._say(change, text, name, before.value, newest.value, at=now)
        return StandingDefault(
            setting=name, value=newest.value, since=now, untold=self._untold(before.value)
        )

    def _entered(
        self, change: Change, before: StandingDefault, now: dt.datetime
    ) -> StandingDefault:
        """Stage that an announced change is in force."""
        text = f"{before.setting} is {before.next} from now on; it was {before.value}"
        self._say(change, text, before.setting, before.value, before.next, at=now, kind=_IN_FORCE)
        return StandingDefault(
            setting=before.setting,
            value=before.next,
            since=now,
            untold=self._untold(before.value),
        )

    def _say(
        self,
        change: Change,
        text: str,
        name: str,
        before: str,
        after: str,
        *,
        at: dt.datetime,
        kind: str = _CHANGED,
    ) -> None:
        facts = {"setting": name, "before": before, "after": after, "version": self._version}
        self._events.stage(change, kind, text, effective_at=at, facts=facts)
        _log.warning("default.changed", setting=name, before=before, after=after, at=at.isoformat())

    def _untold(self, before: str) -> str | None:
        return None if self._on_changed is None else before

    def _tell(self) -> None:
        """Have the hook hear of what took effect, and note that it has."""
        untold = {n: each for n, each in self._standing.items() if each.untold is not None}
        if self._on_changed is None or not untold:
            return
        for name, each in untold.items():
            self._on_changed(name, each.untold or "", each.value)
        standing = [msgspec.structs.replace(each, untold=None) for each in self._standing.values()]
        with self._keeper.changing(frees=True) as change:
            self._put(change, standing)
        self._remember(standing)

    def _put(self, change: Change, standing: list[StandingDefault]) -> None:
        record = DefaultsRecord(version=self._version, standing=tuple(standing))
        if change.get(DEFAULTS_KEY) != (value := encode(record)):
            change.put(DEFAULTS_KEY, value)

    def _remember(self, standing: list[StandingDefault]) -> None:
        self._standing = {each.setting: each for each in standing}


def parse_span(text: str) -> dt.timedelta:
    """Return the time that a default spells, as in "1 day" or "24 hours"; else Invalid."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise Invalid(f"span {text[:40]!r}: expected a number and a unit, as in 24 hours")
    return dt.timedelta(**{f"{match[2]}s": int(match[1])})


def _is_due(standing: StandingDefault, now: dt.datetime) -> bool:
    return standing.next_at is not None and standing.next_at <= now
