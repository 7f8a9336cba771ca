"""The commands that speak to the daemon, and how any command ends."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from scrubjay import __version__
from scrubjay.base.errors import ScrubjayError
from scrubjay.cli import pools, tenants, volumes
from scrubjay.cli.output import fail

__all__ = ["make_commands", "run"]

_INTERRUPTED = 130
_EPILOG = (
    "Begin with: scrubjay init\n\n"
    "SCRUBJAY_HOME names the home; without it: /var/lib/scrubjay for root, "
    "~/.local/share/scrubjay for others.\n\n"
    "Exit status: 0 done, 1 found or declined, 2 invalid, 3 denied, 4 not found, 5 conflict, "
    "6 unavailable, 7 no space, 8 corrupt, 130 interrupted."
)


def make_commands() -> typer.Typer:
    """Return the command line, without what `app` adds to it."""
    commands = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,  # they show values, and values may be secret
        context_settings={"help_option_names": ["-h", "--help"]},
        help="A storage cloud that forgets, remembers and keeps secrets.",
        epilog=_EPILOG,
    )
    commands.callback()(_begin)
    commands.add_typer(tenants.commands, name="tenant")
    commands.add_typer(volumes.commands, name="volume")
    commands.add_typer(pools.commands, name="pool")
    return commands


def run(commands: typer.Typer) -> None:
    """Run the command line and end the process with the status that docs/errors.md lists."""
    try:
        commands(prog_name="scrubjay")
    except ScrubjayError as error:
        fail(error)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer hands it over like this
    if wanted:
        typer.echo(f"scrubjay {__version__}")
        raise typer.Exit


def _begin(
    *,
    _show: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """A storage cloud that forgets, remembers and keeps secrets."""
