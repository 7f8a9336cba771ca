"""Defaults in a pool: what changes between two versions is announced, and waits where it can."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import msgspec
import pytest

from scrubjay.base.errors import Corrupt, Invalid, NotFound, Unavailable
from scrubjay.base.ids import TenantNo
from scrubjay.control.defaults import NOTICE, Defaults, parse_span
from scrubjay.control.events import Event, Events
from scrubjay.control.records import at
from scrubjay.control.told_records import DEFAULTS_KEY, StandingDefault
from scrubjay.evidence.defaults import Effect, Entry, Ledger, Setting
from tests.control.cutting import cuts
from tests.control.rig import (
    Disks,
    World,
    everything_kept,
    nothing_kept,
)

DAY = dt.date(2026, 1, 1)
SETTINGS = [
    Setting("kept", "how long", "scrubjay:x", held=True),
    Setting("mode", "who", "scrubjay:y"),
]
SOURCES = {
    "kept": [("1 day", Effect.FIRST)],
    "mode": [("0600", Effect.FIRST)],
}


def ledger_of(**values: list[tuple[str, Effect]]) -> Ledger:
    """A ledger with these values, oldest first, of each setting."""
    entries = []
    for name, history in values.items():
        before = ""
        for value, effect in history:
            entries.append(
                Entry(
                    setting=name,
                    value=value,
                    version="1",
                    day=DAY,
                    why="so it is",
                    effect=effect,
                    before=before,
                )
            )
            before = value
    return Ledger([each for each in SETTINGS if each.name in values], entries)


BEFORE = ledger_of(**SOURCES)
SHORTER = ledger_of(**{**SOURCES, "kept": [("1 day", Effect.FIRST), ("1 hour", Effect.WEAKER)]})
LONGER = ledger_of(**{**SOURCES, "kept": [("1 day", Effect.FIRST), ("9 days", Effect.STRONGER)]})
OPEN = ledger_of(**{**SOURCES, "mode": [("0600", Effect.FIRST), ("0666", Effect.WEAKER)]})


class Heard:
    """A hook that notes what it hears, and may fail."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str, str]] = []
        self.fails = False

    def __call__(self, setting: str, before: str, after: str) -> None:
        """Note it."""
        if self.fails:
            raise Unavailable("log: full")
        self.changes.append((setting, before, after))


def served(world: World, ledger: Ledger, hook: Heard | None = None) -> Defaults:
    """Begin to serve a pool under a ledger."""
    made = Defaults(world.keeper, Events(world.keeper), ledger, version="2", on_changed=hook)
    made.announce()
    return made


def events_of(world: World) -> list[Event]:
    """All events, oldest first."""
    return Events(world.keeper).page(after=0, limit=100)


def standing(defaults: Defaults, name: str) -> StandingDefault:
    """How a setting stands."""
    return next(each.standing for each in defaults.page() if each.setting.name == name)


def pass_time(world: World, span: dt.timedelta) -> None:
    """Let time go by."""
    world.clock.now += int(span.total_seconds()) * 1_000_000_000


def test_pool_served_for_the_first_time_announces_nothing(world: World) -> None:
    """Nothing changed for anybody; from now on it is known what stood."""
    defaults = served(world, BEFORE)
    assert events_of(world) == []
    assert defaults.value("mode") == "0600"
    assert defaults.span("kept") == dt.timedelta(days=1)


def test_pool_served_again_by_the_same_version_changes_nothing(world: World) -> None:
    """A restart is no news, and no commit."""
    served(world, BEFORE)
    generation = world.keeper.pool.generation
    served(world, BEFORE)
    assert world.keeper.pool.generation == generation


def test_default_that_is_weakened_waits_out_its_notice(world: World) -> None:
    """Announced with its moment, in force until then as it was, and told again when it is."""
    hook = Heard()
    served(world, BEFORE)
    defaults = served(world, SHORTER, hook)
    (told,) = events_of(world)
    assert (told.record.kind, told.tenant) == ("default-changed", None)
    assert told.record.facts == {
        "setting": "kept",
        "before": "1 day",
        "after": "1 hour",
        "version": "2",
    }
    effective_at = told.record.effective_at
    assert effective_at is not None
    assert effective_at >= told.record.at + NOTICE - dt.timedelta(minutes=1)
    assert "stays in force" in told.record.text

    pass_time(world, NOTICE - dt.timedelta(minutes=1))
    defaults.take_effect()
    assert (defaults.value("kept"), hook.changes) == ("1 day", [])

    pass_time(world, dt.timedelta(minutes=2))
    defaults.take_effect()
    assert defaults.value("kept") == "1 hour"
    assert hook.changes == [("kept", "1 day", "1 hour")]
    entered = events_of(world)[-1].record
    assert entered.kind == "default-in-force"
    assert entered.at >= effective_at
    assert standing(defaults, "kept").since == entered.effective_at
    assert served(world, SHORTER).value("kept") == "1 hour"
    assert len(events_of(world)) == 2


def test_notice_goes_on_over_restarts(world: World) -> None:
    """Starting the daemon anew neither shortens nor renews it."""
    served(world, BEFORE)
    first = standing(served(world, SHORTER), "kept").next_at
    pass_time(world, NOTICE / 2)
    again = served(world, SHORTER)
    assert standing(again, "kept").next_at == first
    assert again.value("kept") == "1 day"
    assert len(events_of(world)) == 1


def test_default_that_protects_better_takes_effect_at_once(world: World) -> None:
    """Nobody waits for protection."""
    hook = Heard()
    served(world, BEFORE)
    defaults = served(world, LONGER, hook)
    assert defaults.value("kept") == "9 days"
    assert hook.changes == [("kept", "1 day", "9 days")]
    (told,) = events_of(world)
    assert told.record.effective_at is not None
    assert told.record.effective_at - told.record.at < dt.timedelta(minutes=1)


def test_default_that_cannot_be_held_back_says_so(world: World) -> None:
    """The new version's code is what runs: nothing is pretended (I8)."""
    served(world, BEFORE)
    defaults = served(world, OPEN)
    assert defaults.value("mode") == "0666"
    assert "could not be held back" in events_of(world)[0].record.text


def test_change_that_is_withdrawn_in_time_never_was(world: World) -> None:
    """Going back to the older version before the day leaves all as it was, and tells that."""
    hook = Heard()
    served(world, BEFORE)
    served(world, SHORTER, hook)
    defaults = served(world, BEFORE, hook)
    pass_time(world, 2 * NOTICE)
    defaults.take_effect()
    assert defaults.value("kept") == "1 day"
    assert "withdrawn" in events_of(world)[-1].record.text
    assert hook.changes == []


def test_older_version_with_a_value_of_which_it_knows_nothing_waits(world: World) -> None:
    """It cannot say that its own value is no weaker, so it is held like one that is."""
    served(world, BEFORE)
    served(world, LONGER)
    defaults = served(world, BEFORE)
    assert defaults.value("kept") == "9 days"
    assert standing(defaults, "kept").next == "1 day"


def test_setting_that_comes_or_goes_is_told(world: World) -> None:
    """A new promise, and one that a version does not know."""
    served(world, ledger_of(kept=SOURCES["kept"]))
    served(world, BEFORE)
    assert "nothing was promised before" in events_of(world)[-1].record.text
    served(world, ledger_of(kept=SOURCES["kept"]))
    assert "does not promise it" in events_of(world)[-1].record.text


def test_hook_that_fails_hears_of_the_change_later(world: World) -> None:
    """The log of evidence misses none: also after the daemon died in between."""
    hook = Heard()
    hook.fails = True
    served(world, BEFORE)
    with pytest.raises(Unavailable):
        served(world, LONGER, hook)
    hook.fails = False
    served(world, LONGER, hook)
    served(world, LONGER, hook)
    assert hook.changes == [("kept", "1 day", "9 days")]


def test_record_of_defaults_that_is_damaged_is_corrupt(world: World) -> None:
    """Nothing is guessed about what was promised."""
    with world.keeper.changing() as change:
        change.put(DEFAULTS_KEY, b'{"version":"1","standing":[{"setting":"a"}]}')
    with pytest.raises(Corrupt):
        served(world, BEFORE)


@pytest.mark.parametrize(
    "text", ["", "1", "day", "-1 day", "1.5 days", "1 week", "9" * 9 + " days"]
)
def test_span_that_is_none_is_invalid(text: str) -> None:
    """A default that cannot be read is not taken for another."""
    with pytest.raises(Invalid):
        parse_span(text)


def test_announcement_cut_anywhere_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    """No power loss leaves a changed default of which nobody was told, or tells it twice."""
    world = World.make(tmp_path)
    served(world, BEFORE)
    shutil.copy(tmp_path / "catalog.db", tmp_path / "catalog.before")
    before, steps = world.disks.copied(), world.disks.watched()
    served(world, LONGER)
    world.close()
    seen = set()
    for disks in cuts(steps, before):
        for choose in (nothing_kept, everything_kept):
            folder = tmp_path / "again"
            folder.mkdir()
            shutil.copy(tmp_path / "catalog.before", folder / "catalog.db")
            found = World(Disks.after_power_loss(disks, choose), folder, seed=5)
            count = len(events_of(found))
            seen.add(count)
            assert served(found, LONGER).value("kept") == "9 days"
            assert len(events_of(found)) == 1
            found.close()
            shutil.rmtree(folder)
    assert seen == {0, 1}


def test_events_are_paged_and_filtered_by_tenant(world: World) -> None:
    """A tenant sees what is for it and for everybody, never what is for others."""
    events = Events(world.keeper)
    acme, zeta = (world.tenants.find(name) for name in ("acme", "zeta"))
    with world.keeper.changing() as change:
        numbers = [
            events.stage(change, "told", "to acme", tenant=TenantNo(acme.id)),
            events.stage(change, "told", "to all", facts={"a": "b"}),
            events.stage(change, "told", "to zeta", tenant=TenantNo(zeta.id)),
        ]
    assert numbers == [1, 2, 3]
    assert [each.tenant for each in events.page(after=0, limit=9)] == ["acme", None, "zeta"]
    seen = events.page(after=0, limit=9, tenant="zeta")
    assert [each.record.text for each in seen] == ["to all", "to zeta"]
    assert [each.number for each in events.page(after=1, limit=1)] == [2]
    assert events.page(after=3, limit=9) == []
    with pytest.raises(NotFound):
        events.page(after=0, limit=9, tenant="nobody")


def test_event_of_a_change_that_is_dropped_was_never_told(world: World) -> None:
    """An event is true: it is committed with what it tells of, and its number is free again."""
    events = Events(world.keeper)

    def refused() -> None:
        with world.keeper.changing() as change:
            events.stage(change, "told", "never")
            raise Invalid("no")

    with pytest.raises(Invalid):
        refused()
    with world.keeper.changing() as change:
        assert events.stage(change, "told", "this") == 1
    assert [each.record.text for each in events.page(after=0, limit=9)] == ["this"]


def test_events_beyond_one_chunk_are_all_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a tenant's events lie far apart."""
    monkeypatch.setattr("scrubjay.control.events._CHUNK", 2)
    events = Events(world.keeper)
    acme = TenantNo(world.tenants.find("acme").id)
    with world.keeper.changing() as change:
        for number in range(9):
            to = acme if number % 4 == 0 else None
            events.stage(change, "told", str(number), tenant=to)
    with world.keeper.changing() as change:
        zeta = TenantNo(world.tenants.find("zeta").id)
        events.stage(change, "told", "z", tenant=zeta)
    found = events.page(after=0, limit=100, tenant="acme")
    assert [each.record.text for each in found] == [str(number) for number in range(9)]
    assert at(world.clock.now) >= found[0].record.at


def test_standing_default_without_a_change_is_short() -> None:
    """What is not there is left out, as in every record."""
    text = msgspec.json.encode(StandingDefault(setting="a", value="b", since=at(0)))
    assert text == b'{"setting":"a","value":"b","since":"1970-01-01T00:00:00Z"}'
