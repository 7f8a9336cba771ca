"""The commands that speak to the daemon, and how any command ends."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer

from scrubjay import __version__
from scrubjay.base.errors import Invalid, ScrubjayError
from scrubjay.cli import audits, certificates, pools, promises, tenants, volumes
from scrubjay.cli.output import fail, watch_stdout
from scrubjay.evidence.attesting import Attests

__all__ = ["make_commands", "run"]

_BROKEN_PIPE = 141
"""As of a program that SIGPIPE ended."""
_BUG = 70
_DECLINED = 1
_NOT_PARSED: type[Exception] = typer.BadParameter.__mro__[2]
"""What every error of a command line is; its module is another one from version to version."""
_INTERRUPTED = 130
_EPILOG = (
    "Begin with: scrubjay init\n\n"
    "SCRUBJAY_HOME names the home; without it: /var/lib/scrubjay for root, "
    "~/.local/share/scrubjay for others.\n\n"
    "Exit status: 0 done, 1 found or declined, 2 invalid, 3 denied, 4 not found, 5 conflict, "
    "6 unavailable, 7 no space, 8 corrupt, 70 a bug, 130 interrupted."
)


def make_commands(*, attests: Attests | None = None) -> typer.Typer:
    """Return the command line, without what `app` adds to it.

    `attests` reads what TPMs signed; without it no certificate that has such is proven.
    """
    commands = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,  # they show values, and values may be secret
        context_settings={"help_option_names": ["-h", "--help"], "obj": attests},
        help="A storage cloud that forgets, remembers and keeps secrets.",
        epilog=_EPILOG,
    )
    commands.callback()(_begin)
    commands.add_typer(tenants.commands, name="tenant")
    commands.add_typer(volumes.commands, name="volume")
    commands.add_typer(pools.commands, name="pool")
    commands.add_typer(certificates.commands, name="certificate")
    commands.add_typer(audits.commands, name="audit")
    commands.add_typer(promises.events, name="event")
    commands.command(epilog="Example: scrubjay defaults --json")(promises.defaults)
    return commands


def run(commands: typer.Typer) -> None:
    """Run the command line and end the process with the status that docs/errors.md lists."""
    watch_stdout()
    try:
        try:
            _check_arguments()
            _run(commands)
        finally:
            typer.echo("", nl=False)  # which flushes: what fails, fails here
    except ScrubjayError as error:
        fail(error, as_json="--json" in sys.argv)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:  # who read has read enough
        sys.exit(_BROKEN_PIPE)
    except Exception:  # noqa: BLE001 - a bug, which is shown and has a status
        traceback.print_exc()
        sys.exit(_BUG)


def _run(commands: typer.Typer) -> None:
    """Run what was typed; what cannot be parsed is told to programs as every other error."""
    if "--json" not in sys.argv:
        commands(prog_name="scrubjay")
        return
    try:
        status = commands(prog_name="scrubjay", standalone_mode=False)
    except _NOT_PARSED as error:
        raise Invalid(f"command line: {error}", hint="see: --help") from error
    except typer.Abort:
        sys.exit(_DECLINED)
    sys.exit(status or 0)


def _check_arguments() -> None:
    for each in sys.argv[1:]:
        try:
            each.encode()
        except UnicodeEncodeError as error:
            raise Invalid(f"argument {each!r}: not UTF-8") from error


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
