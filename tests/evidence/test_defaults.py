"""The ledger of defaults: whole, only ever appended to, and refused where it lies."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from scrubjay.base.errors import Invalid
from scrubjay.evidence.defaults import Effect, Entry, Ledger, Setting
from scrubjay.evidence.promises import LEDGER

CHAIN = Path(__file__).with_name("defaults.chain")
SETTING = Setting("a", "what it is", "scrubjay:__version__")
DAY = dt.date(2026, 1, 1)


def entry(value: str, before: str = "", effect: Effect = Effect.FIRST, **other: object) -> Entry:
    """An entry of the setting `a`."""
    fields: dict[str, object] = {"setting": "a", "version": "1", "day": DAY, "why": "so"}
    return Entry(value=value, before=before, effect=effect, **(fields | other))  # type: ignore[arg-type] # a test's shorthand


FIRST = entry("1")


def test_ledger_that_ships_is_whole() -> None:
    """Each setting has a first entry, and each later one says rightly what was before."""
    LEDGER.check()
    assert len(LEDGER.settings) > 20


def appended(ledger: Ledger, golden: list[str]) -> bool:
    """Whether a ledger is what it was, with nothing but new entries behind it."""
    return ledger.chain()[: len(golden)] == golden


def test_ledger_that_ships_has_only_been_appended_to() -> None:
    """What was promised once is not edited. A new entry adds its line to defaults.chain."""
    golden = CHAIN.read_text(encoding="ascii").split()
    assert appended(LEDGER, golden)
    assert len(golden) == len(LEDGER.entries), f"new lines: {LEDGER.chain()[len(golden) :]}"


@pytest.mark.parametrize("field", ["value", "why", "version", "setting"])
def test_ledger_whose_past_was_edited_is_found_out(field: str) -> None:
    """The check can fail: one word of one old entry is enough."""
    golden = LEDGER.chain()
    for at in (0, len(LEDGER.entries) - 1):
        entries = list(LEDGER.entries)
        fields = {name: getattr(entries[at], name) for name in entries[at].__struct_fields__}
        entries[at] = Entry(**(fields | {field: "another"}))
        assert not appended(Ledger(LEDGER.settings.values(), entries), golden)
    dropped = Ledger(LEDGER.settings.values(), LEDGER.entries[:-1])
    assert not appended(dropped, golden)
    swapped = [LEDGER.entries[1], LEDGER.entries[0], *LEDGER.entries[2:]]
    assert not appended(Ledger(LEDGER.settings.values(), swapped), golden)


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ([], "no entry"),
        ([entry("1", setting="b")], "of no setting"),
        ([entry("1", "0")], "before '0'"),
        ([entry("1", effect=Effect.WEAKER)], "expected first once"),
        ([FIRST, entry("2", "1")], "expected first once"),
        ([FIRST, entry("1", "1", Effect.STRONGER)], "expected a change"),
        ([FIRST, entry("2", "3", Effect.STRONGER)], "before '3'"),
        ([FIRST, entry("2", "1", Effect.STRONGER, day=dt.date(2025, 1, 1))], "or later"),
    ],
)
def test_ledger_that_contradicts_itself_is_refused(entries: list[Entry], complaint: str) -> None:
    """A history that cannot have been is Invalid, and the message says where."""
    with pytest.raises(Invalid, match=complaint):
        Ledger([SETTING], entries).check()


def test_change_over_several_versions_is_weaker_if_one_of_them_was() -> None:
    """Who skips versions is told of what they did between them; who knows more is not trusted."""
    ledger = Ledger(
        [SETTING],
        [
            FIRST,
            entry("2", "1", Effect.WEAKER),
            entry("3", "2", Effect.STRONGER),
            entry("1", "3", Effect.STRONGER),
        ],
    )
    ledger.check()
    assert not ledger.weakens("a", since="2")
    assert not ledger.weakens("a", since="3")
    assert not ledger.weakens("a", since="1")
    assert ledger.weakens("a", since="unheard of")
    assert Ledger([SETTING], ledger.entries[:3]).weakens("a", since="1")
    assert ledger.newest("a").before == "3"
