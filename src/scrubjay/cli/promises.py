"""`scrubjay defaults` and `scrubjay event ...`: what holds by itself, and what changed."""

from __future__ import annotations

from typing import Annotated

import typer

from scrubjay.base.errors import Denied, NotFound, Unavailable
from scrubjay.cli import completing
from scrubjay.cli.output import AsJson, ago, note, print_facts, print_json, print_table
from scrubjay.cli.session import connect
from scrubjay.client.replies import Default, DefaultEntry, Event
from scrubjay.evidence.promises import LEDGER

__all__ = ["defaults", "events"]

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
    else:
        print_table(
            ["SETTING", "VALUE", "SINCE", "BEFORE", "HERE SINCE", "ANNOUNCED", "WHY"],
            [_row(each) for each in found],
            empty="no defaults",
        )


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


def _show(default: Default) -> None:
    facts = [("setting", default.setting), ("means", default.means), ("value", default.value)]
    if default.in_force_since:
        facts.append(("in force", f"here since {ago(default.in_force_since)}"))
    if default.next:
        facts.append(("announced", _announced(default)))
    facts += [
        ("history" if at == 0 else "", _line(each)) for at, each in enumerate(default.history)
    ]
    print_facts([*facts, ("in the code", default.where)])


def _line(entry: DefaultEntry) -> str:
    change = f"{entry.before} -> {entry.value}" if entry.before else entry.value
    return f"{entry.version}, {entry.day}: {change} ({entry.effect}): {entry.why}"


def _entry_in_force(default: Default) -> DefaultEntry:
    """Return the newest entry with the value in force; where there is none, the newest."""
    matching = [each for each in default.history if each.value == default.value]
    return (matching or default.history)[-1]


def _announced(default: Default) -> str:
    return f"{default.next} from {ago(default.next_at)}" if default.next and default.next_at else ""
