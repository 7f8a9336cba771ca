"""`scrubjay tenant ...`."""

from __future__ import annotations

from typing import Annotated

import typer

from scrubjay.cli.output import AsJson, ago, print_json, print_table
from scrubjay.cli.session import connect, new_key
from scrubjay.client.replies import Tenant

__all__ = ["commands"]

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
def list_(*, json: AsJson = False) -> None:
    """List the tenants."""
    with connect() as daemon:
        tenants = list(daemon.all("tenants", Tenant))
    if json:
        print_json(tenants)
        return
    print_table(
        ["NAME", "ID>", "CREATED"],
        [(each.name, str(each.id), ago(each.created_at)) for each in tenants],
        empty="no tenants; make one with: scrubjay tenant create NAME",
    )
