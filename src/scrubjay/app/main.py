"""The command `scrubjay`: the clients' commands, and those that make and serve a home.

What serves is imported only by the commands that serve: the others start in a fifth of
the time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from scrubjay.app.home import Home
from scrubjay.app.offline import (
    AskOwnerAuth,
    Endurance,
    Policy,
    agreed_to_lose,
    retire_medium,
    sink_commands,
    tpm_words,
)
from scrubjay.base.errors import Invalid
from scrubjay.cli.main import make_commands, run
from scrubjay.cli.output import AsJson, counted, note, print_json, size_text
from scrubjay.cli.pools import commands as pool_commands
from scrubjay.cli.session import confirm
from scrubjay.client.places import find_home
from scrubjay.control.attesting import attests

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    commands = make_commands(attests=attests)
    commands.command(epilog="Example: SCRUBJAY_HOME=/srv/scrubjay scrubjay init --pool-size 20GiB")(
        init
    )
    commands.command(epilog="Example: scrubjay serve")(serve)
    home = typer.Typer(no_args_is_help=True, help="The home itself, while no daemon serves it.")
    home.callback()(_home)
    home.command(epilog="Example: scrubjay home rebuild")(rebuild)
    commands.add_typer(home, name="home")
    commands.add_typer(sink_commands, name="sink")
    pool_commands.command("retire", epilog="Example: scrubjay pool retire --to /dev/vg/pool")(
        retire_medium
    )
    run(commands)


def init(
    *,
    pool_size: Annotated[
        str | None,
        typer.Option(help="As in 20GiB; else 20GiB, or half of the free space if that is less."),
    ] = None,
    pool_device: Annotated[
        Path | None,
        typer.Option(help="A disk, partition or LVM volume for the pool, instead of a file."),
    ] = None,
    overwrite_contents: Annotated[
        bool,
        typer.Option("--overwrite-contents", help="Use the device though it holds something."),
    ] = False,
    sink: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLACE",
            help="Where the keys lie: file (in the home), file:/ABSOLUTE/PATH, tpm2, "
            "tpm2:/dev/TPM. Several make a mirror, of which losing one loses nothing.",
        ),
    ] = None,
    ask_owner_auth: AskOwnerAuth = False,
    tpm_policy: Policy = "",
    tpm_endurance: Endurance = 0,
    label: Annotated[str, typer.Option(help="What to call the pool.")] = "main",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: AsJson = False,
) -> None:
    """Make a home: a pool, the sink that holds its keys, a catalog.

    It lies in $SCRUBJAY_HOME, an absolute path of at most 53 bytes.

    Without it: /var/lib/scrubjay for root, ~/.local/share/scrubjay for others.
    """
    from scrubjay.app.ambient import SystemClock, SystemEntropy  # noqa: PLC0415 - see above
    from scrubjay.app.making import PoolDevice, make_home  # noqa: PLC0415 - see above
    from scrubjay.app.sinks import parse_place  # noqa: PLC0415 - see above
    from scrubjay.control.names import check_name, parse_size  # noqa: PLC0415 - see above
    from scrubjay.export.hardening import harden  # noqa: PLC0415 - see above

    harden()
    place = _place()
    place.check_vacant()  # before what is free there matters
    if pool_device is not None and pool_size is not None:
        raise Invalid("pool: --pool-size and --pool-device, expected one of them")
    name, sinks = check_name("pool", label), [parse_place(each) for each in sink or ["file"]]
    device = None
    if pool_device is not None:
        agreed = agreed_to_lose(pool_device, overwrite=overwrite_contents, yes=yes)
        device = PoolDevice(pool_device, overwrite=agreed)
    made = make_home(
        place,
        pool_bytes=parse_size(pool_size) if pool_size is not None else None,
        device=device,
        sinks=sinks,
        words=tpm_words(
            ask_owner_auth=ask_owner_auth, policy=tpm_policy, endurance_cycles=tpm_endurance
        ),
        label=name,
        clock=SystemClock(),
        entropy=SystemEntropy(),
    )
    if json:
        print_json(made)
        return
    where = f" on {made.pool_path}" if device else ""
    typer.echo(
        f"Made {made.home}: a pool of {size_text(made.pool_bytes)}{where}, and a sink for its keys."
    )
    if not made.sink_places:
        typer.echo(f"Pool: {made.pool_path}\nSink: {made.sink_path}")
    for each in made.sink_places:
        typer.echo(f"  {each}")
    typer.echo(made.sink_worth)
    if made.sink_shared:
        note(f"warning: {made.sink_shared}")
    typer.echo(
        "Who has pool and sink has the data. Back up the sink nowhere: no copy of it can forget."
    )
    typer.echo(
        "\nNext:\n  scrubjay serve\n  scrubjay tenant create NAME      (in another terminal)"
    )


def serve(
    *,
    leave_attached: Annotated[
        bool,
        typer.Option(
            "--leave-attached",
            help="When told to end, leave volumes attached: for a service manager's restarts.",
        ),
    ] = False,
) -> None:
    """Serve the home, in the foreground, until Ctrl-C detaches everything and ends it."""
    from scrubjay.app import daemon  # noqa: PLC0415 - see above
    from scrubjay.app.logs import set_up_logs  # noqa: PLC0415 - see above

    set_up_logs()
    daemon.serve(_place(), leave_attached=leave_attached)


def rebuild(
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: AsJson = False,
) -> None:
    """Make the catalog anew from pool and sink.

    Everything comes back but the history of operations.

    The catalog before it, if there is one, is kept under another name.
    """
    from scrubjay.app.ambient import SystemClock, SystemEntropy  # noqa: PLC0415 - see above
    from scrubjay.app.making import rebuild_catalog  # noqa: PLC0415 - see above
    from scrubjay.export.hardening import harden  # noqa: PLC0415 - see above

    harden()
    place = _place()
    place.check()
    if place.catalog.exists():
        with place.held():
            pass  # where a daemon holds it, there is nothing to ask
        confirm(
            f"Replace the catalog {place.catalog}?", subject=f"catalog {place.catalog}", yes=yes
        )
    rebuilt = rebuild_catalog(place, clock=SystemClock(), entropy=SystemEntropy())
    if json:
        print_json(rebuilt)
        return
    typer.echo(
        f"catalog made anew from generation {rebuilt.generation}: "
        f"{counted(rebuilt.tenants, 'tenant')}, {counted(rebuilt.volumes, 'volume')}"
    )
    if rebuilt.replaced:
        typer.echo(f"the one before is {rebuilt.replaced}")


def _home() -> None:
    """The home itself, while no daemon serves it."""


def _place() -> Home:
    return Home(find_home(os.environ, uid=os.geteuid()))


if __name__ == "__main__":
    main()
