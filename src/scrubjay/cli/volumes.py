"""`scrubjay volume ...`."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from scrubjay.cli import completing
from scrubjay.cli.output import (
    AsJson,
    ago,
    print_facts,
    print_json,
    print_table,
    size_text,
)
from scrubjay.cli.pools import only_pool
from scrubjay.cli.session import confirm, connect, new_key, part, wait_for
from scrubjay.client.replies import Attachment, Operation, Volume, VolumePurge

__all__ = ["commands"]

commands = typer.Typer(no_args_is_help=True, help="Virtual disks.")

_Name = Annotated[
    str,
    typer.Argument(metavar="VOLUME", help="Its name or id.", autocompletion=completing.volumes),
]


class _Forgotten(msgspec.Struct, frozen=True):
    epoch_after: int
    certificate: str


@commands.command(epilog="Example: scrubjay volume create db0 --tenant acme --size 10GiB")
def create(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Up to 63 of a-z, 0-9, '.', '_', '-'.")
    ],
    *,
    tenant: Annotated[str, typer.Option(help="Its owner.", autocompletion=completing.tenants)],
    size: Annotated[str, typer.Option(help="As in 512MiB, 10GiB or 1.5TiB; 1MiB to 64TiB.")],
    ephemeral: Annotated[
        bool,
        typer.Option("--ephemeral", help="Keys in memory alone: zeros again once detached."),
    ] = False,
    json: AsJson = False,
) -> None:
    """Make a volume. It reads as zeros, and takes no space until it is written."""
    body = {"name": name, "tenant": tenant, "size": size, "ephemeral": ephemeral}
    with connect() as daemon:
        volume = daemon.send("POST", "volumes", Volume, body=body, key=new_key())
    if json:
        print_json(volume)
    else:
        typer.echo(f"volume {volume.name} created, {size_text(volume.size_bytes)}")


@commands.command("list", epilog="Example: scrubjay volume list --tenant acme")
def list_(
    *,
    tenant: Annotated[
        str | None,
        typer.Option(help="Only those of this owner.", autocompletion=completing.tenants),
    ] = None,
    json: AsJson = False,
) -> None:
    """List the volumes."""
    with connect() as daemon:
        volumes = list(daemon.all("volumes", Volume, tenant=tenant, limit=1000))
    if json:
        print_json(volumes)
        return
    print_table(
        ["NAME", "TENANT", "SIZE>", "USED>", "STATE", "CREATED"],
        [
            (
                each.name,
                each.tenant,
                size_text(each.size_bytes),
                size_text(each.mapped_bytes),
                _state(each),
                ago(each.created_at),
            )
            for each in volumes
        ],
        empty="no volumes; make one with: scrubjay volume create NAME --tenant TENANT --size 10GiB",
    )


@commands.command(epilog="Example: scrubjay volume show db0")
def show(volume: _Name, *, json: AsJson = False) -> None:
    """Show one volume, and where it is served."""
    with connect() as daemon:
        found = daemon.get(f"volumes/{part(volume)}", Volume)
        served = daemon.get(f"attachments/{found.id}", Attachment) if found.attached else None
        purge = daemon.get(f"volumes/{found.id}/purge", VolumePurge)
        trouble = only_pool(daemon).trouble if found.state == "destroying" else ""
    if json:
        print_json(msgspec.structs.asdict(found) | {"attachment": served, "purge": purge})
        return
    facts = [
        ("name", found.name),
        ("id", found.id),
        ("tenant", found.tenant),
        ("size", f"{size_text(found.size_bytes)} ({found.size_bytes} bytes)"),
        ("used", f"{size_text(found.mapped_bytes)}, as of the last checkpoint"),
        ("state", _state(found)),
        *([("WAITS", trouble)] if trouble else []),
        ("created", ago(found.created_at)),
        ("purging", _purging(purge)),
    ]
    if found.ephemeral:
        facts.append(("keys", "in memory alone: once detached, all of it is forgotten"))
    print_facts(facts + ([("served at", served.uri)] if served else []))


@commands.command(epilog="Example: scrubjay volume resize db0 --size 20GiB")
def resize(
    volume: _Name,
    *,
    size: Annotated[str, typer.Option(help="The new size, as in 20GiB; a volume can only grow.")],
    json: AsJson = False,
) -> None:
    """Let a volume grow, attached or not. What is new reads as zeros.

    A client that is connected learns the new size when it connects anew.
    """
    with connect() as daemon:
        changed = daemon.send("PATCH", f"volumes/{part(volume)}", Volume, body={"size": size})
    if json:
        print_json(changed)
    else:
        typer.echo(f"volume {changed.name} is {size_text(changed.size_bytes)}")


@commands.command(epilog='Example: nbdcopy --flush disk.img "$(scrubjay volume attach db0)"')
def attach(
    volume: _Name,
    *,
    socket_group: Annotated[
        str | None, typer.Option(help="A group that may connect too, as a hypervisor's.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Serve a volume over NBD on a unix socket, and print its address."""
    body = {"volume": volume, "socket_group": socket_group}
    with connect() as daemon:
        served = daemon.send("POST", "attachments", Attachment, body=body, key=new_key())
    if json:
        print_json(served)
    else:
        typer.echo(served.uri)


@commands.command(epilog="Example: scrubjay volume detach db0")
def detach(
    volume: _Name,
    *,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask about an ephemeral one.")
    ] = False,
    json: AsJson = False,
) -> None:
    """End serving a volume. What was written is made durable; clients are cut off.

    An ephemeral volume is forgotten by this, and reads as zeros afterwards. No certificate is
    made of that: destroy the volume for one.
    """
    with connect() as daemon:
        served = daemon.get(f"attachments/{part(volume)}", Attachment)
        if daemon.get(f"volumes/{served.volume}", Volume).ephemeral:
            subject = f"volume {served.name}"
            question = f"Detach {subject}, which is ephemeral? All that it holds is forgotten."
            confirm(question, subject=subject, yes=yes)
        daemon.delete(f"attachments/{served.volume}")
    if json:
        print_json({"volume": served.volume, "name": served.name, "attached": False})
    else:
        typer.echo(f"volume {served.name} detached")


@commands.command(epilog="Example: scrubjay volume reset scratch --yes")
def reset(
    volume: _Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: AsJson = False,
) -> None:
    """Return an ephemeral volume to zeros, attached or not; its clients go on.

    What it held is forgotten, and no certificate is made of that: destroy the volume for one.
    """
    with connect() as daemon:
        emptied = daemon.get(f"volumes/{part(volume)}", Volume)
        subject = f"volume {emptied.name}"
        if emptied.ephemeral:
            confirm(f"Forget all that {subject} holds?", subject=subject, yes=yes)
        emptied = daemon.send("POST", f"volumes/{emptied.id}/reset", Volume)
    if json:
        print_json(emptied)
    else:
        typer.echo(f"volume {emptied.name} reads as zeros; what it held is forgotten")


@commands.command(epilog="Example: scrubjay volume destroy db0 --yes --wait")
def destroy(
    volume: _Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when its key is forgotten.")] = False,
    json: AsJson = False,
) -> None:
    """Destroy a volume: its data is withheld at once, its key is forgotten within seconds."""
    with connect() as daemon:
        doomed = daemon.get(f"volumes/{part(volume)}", Volume)
        subject = f"volume {doomed.name}"
        what = f"{subject}, {size_text(doomed.size_bytes)} of {doomed.tenant}"
        if doomed.attached:
            what += ", which is attached: whoever uses it is cut off"
        confirm(f"Destroy {what}? Nobody can undo this.", subject=subject, yes=yes)
        operation = daemon.send("DELETE", f"volumes/{doomed.id}", Operation)
        if wait:
            operation = wait_for(daemon, operation, why=lambda: only_pool(daemon).trouble)
    if json:
        print_json(operation)
    elif operation.state == "done":
        end = msgspec.json.decode(operation.result, type=_Forgotten)
        typer.echo(
            f"volume {doomed.name} destroyed; its key is forgotten as of epoch {end.epoch_after}"
        )
        typer.echo(f"certificate {end.certificate}")
    else:
        typer.echo(f"volume {doomed.name} is withheld; its key is being forgotten")
    if not json:
        typer.echo("its certificate, from soon on and for good:")
        typer.echo(f"    scrubjay certificate list --volume {doomed.id}")


def _purging(purge: VolumePurge) -> str:
    if purge.waiting_since is None or purge.due_at is None:
        return "nothing waits"
    when = "LATE, was due" if purge.missed else "due"
    dead = f"oldest dead since {ago(purge.waiting_since)}, {when} {ago(purge.due_at)}"
    return f"{dead}: {purge.reason}; {size_text(purge.moved_bytes)} moved so far"


def _state(volume: Volume) -> str:
    state = "attached" if volume.attached and volume.state == "ready" else volume.state
    return f"{state}, ephemeral" if volume.ephemeral else state
