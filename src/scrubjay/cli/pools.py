"""`scrubjay pool ...`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated

import msgspec
import typer

from scrubjay.base.durations import duration_text, parse_duration
from scrubjay.base.errors import NotFound
from scrubjay.base.units import STRIPE_BYTES
from scrubjay.cli.output import AsJson, ago, counted, print_facts, print_json, size_text
from scrubjay.cli.session import confirm, connect, new_key, wait_for
from scrubjay.cli.sinks import sink_facts
from scrubjay.client.connection import Connection
from scrubjay.client.replies import Operation, Policy, Pool

__all__ = ["commands", "only_pool"]

commands = typer.Typer(no_args_is_help=True, help="What holds the volumes.")

_FOUND = 1


class _Scan(msgspec.Struct, frozen=True):
    bytes_scanned: int
    matches: int
    offsets: list[int]


@commands.command(epilog="Example: scrubjay pool status --json")
def status(*, json: AsJson = False) -> None:
    """Show the pool: how full it is, and what its sink is worth."""
    with connect() as daemon:
        pool = only_pool(daemon)
    if json:
        print_json(pool)
        return
    free = pool.slots_free * pool.slot_bytes
    print_facts(
        [
            ("pool", f"{pool.label} ({pool.id})"),
            *([("", f"at {pool.path}")] if pool.path else []),
            ("created", ago(pool.created_at)),
            ("size", f"{size_text(pool.size_bytes)}, {counted(pool.slots, 'slot')}"),
            ("free", f"{size_text(free)}, {counted(pool.slots_free, 'slot')}"),
            *_scrubbing(pool),
            ("volumes' data", counted(pool.slots_leased, "slot")),
            ("metadata", f"{counted(pool.slots_metadata, 'slot')}, generation {pool.generation}"),
            ("tenants", str(pool.tenants)),
            ("volumes", f"{pool.volumes}, {pool.attached} attached"),
            ("forgetting", f"{counted(pool.forgettings, 'volume')} to go"),
            *([("WAITS", pool.trouble)] if pool.trouble else []),
            ("purging", _purging(pool)),
            *([("LATE", ", ".join(pool.purge.missed))] if pool.purge.missed else []),
            *sink_facts(pool.sink),
        ],
        wrapped=True,
    )


@commands.command(epilog="Example: scrubjay pool policy --scrub-within 12h")
def policy(
    *,
    scrub_within: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Overwrite freed slots within this time, as in 12h; 1m to 366d."
        ),
    ] = None,
    purge_within: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Forget overwritten sectors of live volumes within this time; 1m to 366d.",
        ),
    ] = None,
    scrub_bandwidth: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="A second, while nobody uses the device: 1MiB to 1TiB."),
    ] = None,
    scrub_bandwidth_busy: Annotated[
        str | None, typer.Option(metavar="SIZE", help="The same, while tenants use it.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: AsJson = False,
) -> None:
    """Show what is promised about deadlines, or change it. A longer deadline asks first.

    A change holds at once, for what waits already too, and is no default that tenants are told of.

    Rates are raised by themselves where a deadline would be missed.
    """
    wanted = {
        "scrub_within": None if scrub_within is None else parse_duration(scrub_within),
        "purge_within": None if purge_within is None else parse_duration(purge_within),
        "scrub_bandwidth": scrub_bandwidth,
        "scrub_bandwidth_busy": scrub_bandwidth_busy,
    }
    changes = {name: value for name, value in wanted.items() if value is not None}
    with connect() as daemon:
        path = f"pools/{only_pool(daemon).id}/policy"
        shown = daemon.get(path, Policy)
        if changes:
            _confirm_longer(shown, changes, yes=yes)
            shown = daemon.send("PATCH", path, Policy, body=changes)
    if json:
        print_json(shown)
        return
    print_facts(
        [
            ("scrub within", duration_text(shown.scrub_within_s)),
            ("purge within", duration_text(shown.purge_within_s)),
            ("scrub bandwidth", f"{size_text(shown.scrub_idle_bytes_per_s)} a second"),
            ("beside tenants", f"{size_text(shown.scrub_busy_bytes_per_s)} a second"),
        ]
    )


@commands.command(epilog="Example: scrubjay pool scan --hex 6d61726b6572")
def scan(
    *,
    hex_: Annotated[
        str, typer.Option("--hex", metavar="MARK", help="The bytes to look for, in hex.")
    ],
    json: AsJson = False,
) -> None:
    """Look for bytes in the raw media. Exit status 1 if they occur."""
    with connect() as daemon:
        pool = only_pool(daemon)
        operation = daemon.send(
            "POST", f"pools/{pool.id}/scans", Operation, body={"hex": hex_}, key=new_key()
        )
        operation = wait_for(daemon, operation)
    found = msgspec.json.decode(operation.result, type=_Scan)
    if json:
        print_json(found)
    elif found.matches:
        places = ", ".join(str(each) for each in found.offsets)
        if found.matches > len(found.offsets):
            places += f" and {found.matches - len(found.offsets)} more"
        typer.echo(
            f"found {counted(found.matches, 'time')} in {size_text(found.bytes_scanned)}, "
            f"at byte {places}"
        )
    else:
        typer.echo(f"not found in {size_text(found.bytes_scanned)}")
    if found.matches:
        raise typer.Exit(_FOUND)


def _scrubbing(pool: Pool) -> list[tuple[str, str]]:
    """Say what waits to be overwritten, and loudly what waits for too long."""
    scrub = pool.scrubbing
    within = duration_text(scrub.within_s)
    facts = [("to scrub", _waiting(pool) if scrub.waiting_slots else "nothing")]
    if scrub.leased_slots:
        slots = counted(scrub.leased_slots, "slot")
        facts.append(
            ("", f"{slots} in use again, not overwritten since {_since(scrub.leased_since)}")
        )
    if scrub.withheld_slots:
        slots = counted(scrub.withheld_slots, "slot")
        facts.append(("FAILED", f"{slots} did not read back as zeros: see the daemon's log"))
    if scrub.late_slots:
        slots = counted(scrub.late_slots, "slot")
        facts.append(("LATE", f"{slots} not overwritten within {within}, as was promised"))
    if scrub.missed_slots:
        slots = counted(scrub.missed_slots, "slot")
        facts.append(("missed", f"{slots} since the pool was made"))
    return facts


def _waiting(pool: Pool) -> str:
    scrub = pool.scrubbing
    size = size_text(scrub.waiting_slots * pool.slot_bytes)
    parts = [
        f"{counted(scrub.waiting_slots, 'slot')}, {size}",
        f"since {_since(scrub.waiting_since)}, due {_since(scrub.due_at)}",
    ]
    if scrub.done_slots:
        total = scrub.done_slots + scrub.waiting_slots
        done = size_text(scrub.done_slots * pool.slot_bytes)
        parts.append(f"{scrub.done_slots} of {total} done, {done}")
    if scrub.done_by is not None:
        rate = size_text(scrub.rate_bytes_per_s)
        parts.append(f"expected {_since(scrub.done_by)} at {rate} a second")
    return "; ".join(parts)


def _since(moment: dt.datetime | None) -> str:
    return "unknown" if moment is None else ago(moment)


def _confirm_longer(shown: Policy, changes: Mapping[str, int | str], *, yes: bool) -> None:
    """Ask before a promise is weakened."""
    before = {"scrub_within": shown.scrub_within_s, "purge_within": shown.purge_within_s}
    for name, before_s in before.items():
        after_s = changes.get(name, before_s)
        if isinstance(after_s, int) and after_s > before_s:
            what = f"{name} from {duration_text(before_s)} to {duration_text(after_s)}"
            confirm(
                f"Weaken {what}? Erased data stays on the media for longer.",
                subject=f"policy: {what} is weaker",
                yes=yes,
            )


def _purging(pool: Pool) -> str:
    purge = pool.purge
    if purge.waiting_since is None or purge.due_at is None:
        return "nothing waits"
    dead = f"oldest dead since {ago(purge.waiting_since)}, due {ago(purge.due_at)}"
    if not purge.stripes:
        return dead
    return (
        f"{dead}; {size_text(purge.stripes * STRIPE_BYTES)} of it moved away from, to be forgotten"
    )


def only_pool(daemon: Connection) -> Pool:
    """Return the pool that a daemon serves."""
    for pool in daemon.all("pools", Pool):
        return pool
    raise NotFound("pool: this daemon has none")
