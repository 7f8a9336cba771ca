"""`scrubjay tenant ...`."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from scrubjay.cli import completing
from scrubjay.cli.output import AsJson, ago, counted, print_json, print_table, size_text
from scrubjay.cli.pools import only_pool
from scrubjay.cli.session import confirm, connect, new_key, part, wait_for
from scrubjay.client.replies import Operation, Tenant, Volume

__all__ = ["commands"]


class _Closed(msgspec.Struct, frozen=True):
    epoch_after: int
    volumes: list[msgspec.Raw]
    certificates: list[str]


commands = typer.Typer(no_args_is_help=True, help="Owners of volumes.")


@commands.command(epilog="Example: scrubjay tenant create acme")
def create(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Up to 63 of a-z, 0-9, '.', '_', '-'.")
    ],
    *,
    json: AsJson = False,
) -> None:
    """Make a tenant. Tenants never share a key, or a byte."""
    with connect() as daemon:
        tenant = daemon.send("POST", "tenants", Tenant, body={"name": name}, key=new_key())
    if json:
        print_json(tenant)
    else:
        typer.echo(f"tenant {tenant.name} created")


@commands.command("list", epilog="Example: scrubjay tenant list --json")
def list_(
    *,
    closed: Annotated[
        bool, typer.Option("--all", "-a", help="Also those that were closed.")
    ] = False,
    json: AsJson = False,
) -> None:
    """List the tenants."""
    with connect() as daemon:
        tenants = list(daemon.all("tenants", Tenant, closed="true" if closed else None))
    if json:
        print_json(tenants)
        return
    print_table(
        ["NAME", "ID>", "STATE", "CREATED"],
        [(each.name, str(each.id), each.state, ago(each.created_at)) for each in tenants],
        empty="no tenants; make one with: scrubjay tenant create NAME",
    )


@commands.command(epilog="Example: scrubjay tenant close acme --yes --wait")
def close(
    tenant: Annotated[
        str,
        typer.Argument(metavar="TENANT", help="Its name or id.", autocompletion=completing.tenants),
    ],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when all is forgotten.")] = False,
    json: AsJson = False,
) -> None:
    """Close a tenant, and destroy everything that it has: withheld at once, then forgotten.

    Its name is free again afterwards, for another tenant.
    """
    with connect() as daemon:
        doomed = daemon.get(f"tenants/{part(tenant)}", Tenant)
        subject = f"tenant {doomed.name}"
        volumes = list(daemon.all("volumes", Volume, tenant=str(doomed.id), limit=1000))
        size = size_text(sum(each.size_bytes for each in volumes))
        what = f"{subject} and destroy its {counted(len(volumes), 'volume')}, {size}"
        if attached := sum(each.attached for each in volumes):
            what += f" ({attached} attached: whoever uses them is cut off)"
        confirm(f"Close {what}? Nobody can undo this.", subject=subject, yes=yes)
        operation = daemon.send("DELETE", f"tenants/{doomed.id}", Operation)
        if wait:
            operation = wait_for(daemon, operation, why=lambda: only_pool(daemon).trouble)
    if json:
        print_json(operation)
    elif operation.state == "done":
        end = msgspec.json.decode(operation.result, type=_Closed)
        ever = counted(len(end.volumes), "volume")
        typer.echo(
            f"tenant {doomed.name} closed; {ever} that it ever had "
            f"can be opened by nobody as of epoch {end.epoch_after}"
        )
        for each in end.certificates:
            typer.echo(f"certificate {each}")
        if not end.certificates:
            typer.echo("no certificate is issued: it never had a volume")
    else:
        typer.echo(
            f"tenant {doomed.name} is withheld; its keys are being forgotten "
            "(see: scrubjay pool status)"
        )
    if not json:
        typer.echo("its certificates, from soon on and for good:")
        typer.echo(f"    scrubjay certificate list --tenant {doomed.id}")
