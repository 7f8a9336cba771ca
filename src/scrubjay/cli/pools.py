"""`scrubjay pool ...`."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from scrubjay.base.errors import NotFound
from scrubjay.cli.output import AsJson, ago, counted, print_facts, print_json, size_text
from scrubjay.cli.session import connect, new_key, wait_for
from scrubjay.client.connection import Connection
from scrubjay.client.replies import Operation, Pool

__all__ = ["commands"]

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
        pool = _pool(daemon)
    if json:
        print_json(pool)
        return
    free = pool.slots_free * pool.slot_bytes
    print_facts(
        [
            ("pool", f"{pool.label} ({pool.id})"),
            ("created", ago(pool.created_at)),
            ("size", f"{size_text(pool.size_bytes)}, {counted(pool.slots, 'slot')}"),
            ("free", f"{size_text(free)}, {counted(pool.slots_free, 'slot')}"),
            ("volumes' data", counted(pool.slots_leased, "slot")),
            ("metadata", f"{counted(pool.slots_metadata, 'slot')}, generation {pool.generation}"),
            ("tenants", str(pool.tenants)),
            ("volumes", f"{pool.volumes}, {pool.attached} attached"),
            ("forgetting", f"{counted(pool.forgettings, 'volume')} to go"),
            ("sink", f"{pool.sink.kind}, epoch {pool.sink.epoch}, {pool.sink.worth}"),
            *(("", finding) for finding in pool.sink.findings),
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
        pool = _pool(daemon)
        operation = daemon.send(
            "POST", f"pools/{pool.id}/scans", Operation, body={"hex": hex_}, key=new_key()
        )
        operation = wait_for(daemon, operation)
    found = msgspec.json.decode(operation.result, type=_Scan)
    if json:
        print_json(found)
    elif found.matches:
        places = ", ".join(str(each) for each in found.offsets)
        typer.echo(
            f"found {counted(found.matches, 'time')} in {size_text(found.bytes_scanned)}, "
            f"at byte {places}"
        )
    else:
        typer.echo(f"not found in {size_text(found.bytes_scanned)}")
    if found.matches:
        raise typer.Exit(_FOUND)


def _pool(daemon: Connection) -> Pool:
    for pool in daemon.all("pools", Pool):
        return pool
    raise NotFound("pool: this daemon has none")
