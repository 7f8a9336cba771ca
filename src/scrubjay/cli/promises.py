"""`scrubjay defaults` and `scrubjay event ...`: what holds by itself, and what changed."""

from __future__ import annotations

from typing import Annotated

import typer

from scrubjay.base.durations import duration_text, parse_duration
from scrubjay.base.errors import Denied, Invalid, NotFound, Unavailable
from scrubjay.cli import completing
from scrubjay.cli.output import (
    AsJson,
    ago,
    fits_screen,
    note,
    print_facts,
    print_json,
    print_paragraphs,
    print_table,
)
from scrubjay.cli.pools import only_pool
from scrubjay.cli.session import connect
from scrubjay.client.replies import Default, DefaultEntry, Event, Policy
from scrubjay.evidence.promises import LEDGER

__all__ = ["defaults", "events"]

_BY_POLICY = ("scrub.within", "purge.within")
_HEADINGS = ("SETTING", "VALUE", "SINCE", "BEFORE", "HERE SINCE", "ANNOUNCED", "WHY")

events = typer.Typer(no_args_is_help=True, help="What tenants are told.")


def defaults(
    setting: Annotated[
        str | None, typer.Argument(metavar="[SETTING]", help="Show this one, with its history.")
    ] = None,
    *,
    json: AsJson = False,
) -> None:
    """List every default that security rests on: its value, since when, what it was, and why.

    With a daemon, also since which moment each is in force in its pool, and what is announced.

    Without one: what this version ships.
    """
    found = _asked()
    if setting is not None:
        found = [each for each in found if each.setting == setting]
        if not found:
            raise NotFound(f"default {setting[:80]!r}: unknown", hint="see: scrubjay defaults")
    if json:
        print_json(found)
    elif setting is not None:
        _show(found[0])
    elif fits_screen([_HEADINGS, *(rows := [_row(each) for each in found])]):
        print_table(_HEADINGS, rows, empty="no defaults")
    else:
        print_paragraphs([_paragraph(row) for row in rows])


@events.command("list", epilog="Example: scrubjay event list --tenant acme")
def list_(
    *,
    tenant: Annotated[
        str | None,
        typer.Option(
            help="Only those for this owner and those for everybody.",
            autocompletion=completing.tenants,
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """List what tenants were told, oldest first."""
    with connect() as daemon:
        found = list(daemon.all("events", Event, tenant=tenant, limit=1000))
    if json:
        print_json(found)
        return
    print_table(
        ["ID>", "AT", "KIND", "FOR", "IN EFFECT", "WHAT"],
        [
            (
                str(each.id),
                ago(each.at),
                each.kind,
                each.tenant or "everybody",
                ago(each.effective_at) if each.effective_at else "",
                each.text,
            )
            for each in found
        ],
        empty="no events",
    )


@events.callback()
def _group() -> None:
    """What tenants are told."""


def _asked() -> list[Default]:
    """Return what the daemon says; what this version ships where there is none."""
    try:
        with connect() as daemon:
            return list(daemon.all("defaults", Default))
    except (NotFound, Unavailable, Denied) as error:
        note(f"as shipped, of no pool: {error.message}")
        return [_shipped(name) for name in LEDGER.settings]


def _shipped(name: str) -> Default:
    setting = LEDGER.settings[name]
    history = [
        DefaultEntry(
            value=each.value,
            version=each.version,
            day=each.day,
            before=each.before,
            effect=each.effect.value,
            why=each.why,
        )
        for each in LEDGER.history(name)
    ]
    return Default(name, setting.means, setting.where, history[-1].value, history)


def _row(default: Default) -> tuple[str, ...]:
    entry = _entry_in_force(default)
    return (
        default.setting,
        default.value,
        f"{entry.version}, {entry.day}",
        entry.before or "-",
        ago(default.in_force_since) if default.in_force_since else "-",
        _announced(default),
        entry.why,
    )


def _paragraph(row: tuple[str, ...]) -> list[str]:
    """Return a row for a screen on which the table has no room."""
    setting, value, since, before, here_since, announced, why = row
    when = f"since {since}; here since {here_since}; before: {before}"
    return [f"{setting}: {value}", when, *([f"announced: {announced}"] if announced else []), why]


def _policy(default: Default) -> str:
    """Return what the pool's policy says in the place of a default, "" where it is that."""
    if default.setting not in _BY_POLICY or default.in_force_since is None:
        return ""
    with connect() as daemon:
        policy = daemon.get(f"pools/{only_pool(daemon).id}/policy", Policy)
    set_s = policy.scrub_within_s if default.setting == "scrub.within" else policy.purge_within_s
    try:
        same = set_s == parse_duration(default.value)
    except Invalid:  # a ledger may say it in other words
        same = False
    return "" if same else duration_text(set_s)


def _show(default: Default) -> None:
    facts = [("setting", default.setting), ("means", default.means), ("value", default.value)]
    if policy := _policy(default):
        facts.append(("policy", f"{policy}: this pool's own, in the place of the default"))
    if default.in_force_since:
        what = "the default here" if policy else "here"
        facts.append(("in force", f"{what} since {ago(default.in_force_since)}"))
    if default.next:
        facts.append(("announced", _announced(default)))
    facts += [
        ("history" if at == 0 else "", _line(each)) for at, each in enumerate(default.history)
    ]
    print_facts([*facts, ("in the code", default.where)], wrapped=True)


def _line(entry: DefaultEntry) -> str:
    change = f"{entry.before} -> {entry.value}" if entry.before else entry.value
    return f"{entry.version}, {entry.day}: {change} ({entry.effect}): {entry.why}"


def _entry_in_force(default: Default) -> DefaultEntry:
    """Return the newest entry with the value in force; where there is none, the newest."""
    matching = [each for each in default.history if each.value == default.value]
    return (matching or default.history)[-1]


def _announced(default: Default) -> str:
    return f"{default.next} from {ago(default.next_at)}" if default.next and default.next_at else ""
