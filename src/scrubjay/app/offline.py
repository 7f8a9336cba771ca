"""Commands about where pool and keys lie: `scrubjay sink ...` and `scrubjay pool retire`.

They work while no daemon serves the home, as `home rebuild` does; why, say mirroring.py and
retiring.py. What a daemon can show, `sink show` asks it for.
"""

from __future__ import annotations

import dataclasses
import getpass
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from scrubjay.app.home import Home
from scrubjay.app.logs import set_up_logs, set_up_notes
from scrubjay.base.errors import Conflict
from scrubjay.cli.output import AsJson, note, print_facts, print_json, size_text
from scrubjay.cli.pools import only_pool
from scrubjay.cli.session import confirm, connect
from scrubjay.cli.sinks import sink_facts
from scrubjay.client.places import find_home
from scrubjay.client.replies import Sink

if TYPE_CHECKING:  # what opens a home takes half a second to import
    from scrubjay.app.mirroring import SinkChange, Sinks
    from scrubjay.app.retired import Certified
    from scrubjay.app.sinks import TpmWords
    from scrubjay.control.sink_status import SinkStatus

__all__ = [
    "AskOwnerAuth",
    "Endurance",
    "Policy",
    "agreed_to_lose",
    "retire_medium",
    "sink_commands",
    "tpm_words",
]

_FOUND = 1

AskOwnerAuth = Annotated[
    bool,
    typer.Option(
        "--ask-owner-auth",
        help="Ask for the TPM's owner authorisation; without a terminal, read a line from stdin.",
    ),
]
Policy = Annotated[
    str,
    typer.Option(
        "--tpm-policy",
        help="Your word: which validated security policy says that this TPM zeroises NV data.",
    ),
]
Endurance = Annotated[
    int,
    typer.Option(
        "--tpm-endurance",
        min=0,
        help="Writes that the TPM's memory endures, from its data sheet; 0: assume 100,000.",
    ),
]
_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
_Place = Annotated[
    str, typer.Argument(help="file:/ABSOLUTE/PATH, tpm2, tpm2:/dev/TPM, or file: in the home.")
]
_Number = Annotated[int, typer.Argument(help="The member's number, see: scrubjay sink show")]

sink_commands = typer.Typer(
    no_args_is_help=True, help="Where the root of the keys lies, while no daemon serves."
)


@sink_commands.command("show", epilog="Example: scrubjay sink show")
def show_sink(*, json: AsJson = False) -> None:
    """Show the sinks: what each is worth, who is away, what is owed, what wears out."""
    try:
        found = _converted(_sinks().show())
    except Conflict:  # a daemon serves the home, so it knows
        with connect() as daemon:
            found = only_pool(daemon).sink
    if json:
        print_json(found)
    else:
        print_facts(sink_facts(found), wrapped=True)


@sink_commands.command("add", epilog="Example: scrubjay sink add file:/mnt/usb/jay.sink")
def add_sink(
    place: _Place,
    *,
    ask_owner_auth: AskOwnerAuth = False,
    tpm_policy: Policy = "",
    tpm_endurance: Endurance = 0,
    json: AsJson = False,
) -> None:
    """Keep the keys in one more sink, so that losing one loses nothing.

    A single sink becomes a mirror: it is made anew beside where it was, and overwritten there.

    All of them are needed to forget: a destroy waits while one is away.
    """
    from scrubjay.app.sinks import parse_place  # noqa: PLC0415 - as in main.py

    sinks = _sinks(
        tpm_words(ask_owner_auth=ask_owner_auth, policy=tpm_policy, endurance_cycles=tpm_endurance)
    )
    _tell(sinks.add(parse_place(place)), json=json)


@sink_commands.command("expel", epilog="Example: scrubjay sink expel 2")
def expel_sink(
    number: _Number,
    *,
    destroyed: Annotated[
        bool,
        typer.Option("--destroyed", help="Your word: it is out of reach, and destroyed."),
    ] = False,
    ask_owner_auth: AskOwnerAuth = False,
    yes: _Yes = False,
    json: AsJson = False,
) -> None:
    """End a sink's membership. Its keys are overwritten if it can be reached.

    One that cannot be reached may keep them: until you say --destroyed, forgetting is CONDITIONAL.
    """
    sinks = _sinks(tpm_words(ask_owner_auth=ask_owner_auth, policy="", endurance_cycles=0))
    confirm(f"Expel sink {number}, and destroy its keys?", subject=f"sink {number}", yes=yes)
    _tell(sinks.expel(number, destroyed=destroyed), json=json)


@sink_commands.command("replace", epilog="Example: scrubjay sink replace 2 tpm2")
def replace_sink(
    number: _Number,
    place: _Place,
    *,
    ask_owner_auth: AskOwnerAuth = False,
    tpm_policy: Policy = "",
    tpm_endurance: Endurance = 0,
    yes: _Yes = False,
    json: AsJson = False,
) -> None:
    """Put a new sink in the place of one, also of one that is lost. The old one's keys go."""
    from scrubjay.app.sinks import parse_place  # noqa: PLC0415 - as in main.py

    parsed = parse_place(place)
    sinks = _sinks(
        tpm_words(ask_owner_auth=ask_owner_auth, policy=tpm_policy, endurance_cycles=tpm_endurance)
    )
    question = f"Replace sink {number} by {place}, and destroy its keys?"
    confirm(question, subject=f"sink {number}", yes=yes)
    _tell(sinks.replace(number, parsed), json=json)


def retire_medium(
    *,
    to: Annotated[
        Path | None,
        typer.Option(
            help="The new file or block device, an absolute path; left out to go on after a cut."
        ),
    ] = None,
    overwrite_contents: Annotated[
        bool,
        typer.Option("--overwrite-contents", help="Use a device though it holds something."),
    ] = False,
    sample: Annotated[
        bool, typer.Option("--sample", help="Read back some pages of what was erased, not all.")
    ] = False,
    random: Annotated[
        bool,
        typer.Option("--random", help="Erase with random bytes, which no flash can elide."),
    ] = False,
    yes: _Yes = False,
    json: AsJson = False,
) -> None:
    """Move the pool to another medium, erase the one that it leaves, and say what was found.

    While no daemon serves the home and no volume is attached. A certificate, with model and
    serial number, is issued and put into the log. Exit status 1 if a page read back wrongly.
    """
    from scrubjay.app.ambient import SystemClock, SystemEntropy  # noqa: PLC0415 - as in main.py
    from scrubjay.app.places import pool_path  # noqa: PLC0415 - as in main.py
    from scrubjay.app.retiring import Target, check_target, retire  # noqa: PLC0415 - as in main.py
    from scrubjay.export.hardening import harden  # noqa: PLC0415 - as in main.py
    from scrubjay.media.erase import Technique  # noqa: PLC0415 - as in main.py

    harden()
    set_up_logs()
    home = _home()
    home.check()
    with home.held():
        pass  # where a daemon holds it, there is nothing to ask
    target = None
    if to is not None:
        check_target(home, to)
        overwrite = agreed_to_lose(to, overwrite=overwrite_contents, yes=yes)
        target = Target(to, overwrite=overwrite)
        confirm(
            f"Move the pool from {pool_path(home)} to {to}, and erase where it was?",
            subject=f"pool {pool_path(home)}",
            yes=yes,
        )
    with _bar() as progress:
        retired = retire(
            home,
            target,
            clock=SystemClock(),
            entropy=SystemEntropy(),
            sample=sample,
            technique=Technique.OVERWRITE_RANDOM if random else Technique.OVERWRITE,
            progress=progress,
        )
    if json:
        print_json(retired)
    else:
        print_facts(
            [
                ("pool", f"moved to {retired.moved_to}"),
                ("medium", f"{retired.place}, {size_text(retired.size_bytes)} ({retired.id})"),
                *(
                    ("disk", f"{each.node} {each.model} serial {each.serial or 'unknown'}".strip())
                    for each in retired.disks
                ),
                ("erased", f"{retired.pattern}, {retired.pages} pages, {retired.method}"),
                ("", retired.reason),
                (
                    "read back",
                    f"{retired.pages_read} pages, {retired.mismatches + retired.unreadable} wrong",
                ),
                ("sink", f"epoch {retired.epoch_before} dropped, {retired.epoch_after} held"),
                ("facts", str(home.retired / f"{retired.id}.json")),
                *certificate_facts(retired.certified),
            ]
        )
    if not retired.clean:
        raise typer.Exit(_FOUND)


def certificate_facts(certified: Certified | None) -> list[tuple[str, str]]:
    """Say which certificate there is, and how to verify it; or why there is none yet."""
    if certified is None:
        return []
    if not certified.digest:
        return [("certificate", f"not yet: {certified.waits}"), ("", "serve the home to issue it")]
    command = f"scrubjay certificate verify {certified.bundle} --key {certified.key}"
    return [("certificate", certified.digest), ("verify", command)]


def agreed_to_lose(device: Path, *, overwrite: bool, yes: bool) -> bool:
    """List what a device holds, and ask; return whether it may be overwritten."""
    from scrubjay.media.fresh import contents_of  # noqa: PLC0415 - as in main.py

    if not overwrite or not device.is_block_device():
        return False
    held = contents_of(device)
    if held:
        note(f"{device} holds:")
        for each in held:
            note(f"    {each}")
        note("All of it would be lost.")
        confirm(f"Overwrite {device}?", subject=f"device {device}", yes=yes)
    return True


def tpm_words(*, ask_owner_auth: bool, policy: str, endurance_cycles: int) -> TpmWords:
    """Return what somebody knows of a TPM; the secret comes from the terminal, or from stdin."""
    from scrubjay.app.sinks import TpmWords  # noqa: PLC0415 - as in main.py

    secret = ""
    if ask_owner_auth:
        ask = sys.stdin.isatty()
        secret = getpass.getpass("TPM owner authorisation: ") if ask else sys.stdin.readline()
    return TpmWords(secret.rstrip("\n").encode(), policy, endurance_cycles)


# --- leaves ---------------------------------------------------------------------------


def _sinks(words: TpmWords | None = None) -> Sinks:
    from scrubjay.app.ambient import SystemClock, SystemEntropy  # noqa: PLC0415 - as in main.py
    from scrubjay.app.mirroring import Sinks as Opened  # noqa: PLC0415 - as in main.py
    from scrubjay.export.hardening import harden  # noqa: PLC0415 - as in main.py

    harden()
    set_up_notes()
    return Opened(_home(), clock=SystemClock(), entropy=SystemEntropy(), words=words)


def _home() -> Home:
    return Home(find_home(os.environ, uid=os.geteuid()))


def _converted(status: SinkStatus) -> Sink:
    return msgspec.convert(dataclasses.asdict(status), Sink)


def _tell(change: SinkChange, *, json: bool) -> None:
    if json:
        print_json(change)
        return
    for each in change.added:
        typer.echo(f"added: {each}")
    if len(change.added) > 1:
        typer.echo(f"the single sink became a mirror: {change.added[0]} took its place,")
        typer.echo("and the file or TPM in which it lay is overwritten")
    if change.shared:
        note(f"warning: {change.shared}")
    if change.removed:
        typer.echo(f"removed: {change.removed}")
    if change.destroyed:
        typer.echo("its keys are overwritten, or you said so: nothing of it opens this pool")
    elif change.removed:
        typer.echo(f"it may still hold a key ({change.why_not}): destroy it, then say so with")
        typer.echo("    scrubjay sink expel NUMBER --destroyed")
    print_facts(sink_facts(_converted(change.sink)), wrapped=True)


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    """Lend a bar for each step; it is drawn on a terminal only."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    tasks: dict[str, TaskID] = {}

    def progress(step: str, done: int, total: int) -> None:
        if step not in tasks:
            tasks[step] = bar.add_task(step, total=total)
        bar.update(tasks[step], completed=done)

    with bar:
        yield progress
