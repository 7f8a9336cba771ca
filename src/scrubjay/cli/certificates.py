"""`scrubjay certificate ...`: showing certificates, and checking them without a daemon."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from scrubjay.base.errors import Invalid, NotFound
from scrubjay.cli.given import asked_of, key_of, newer_of, read_file
from scrubjay.cli.output import (
    AsJson,
    ago,
    counted,
    note,
    print_facts,
    print_json,
    print_table,
    wrapped,
)
from scrubjay.cli.session import connect, part
from scrubjay.client.places import find_home
from scrubjay.client.replies import Certificate, CertificateShown, EvidenceLog
from scrubjay.evidence.attesting import Attests
from scrubjay.evidence.continuing import kept_checkpoint, prove_continuation
from scrubjay.evidence.folder import Folder
from scrubjay.evidence.note import encode_base64, parse_key
from scrubjay.evidence.page import Person, render
from scrubjay.evidence.questions import Asked
from scrubjay.evidence.rebundling import bundle_from
from scrubjay.evidence.report import Outcome, Report, Verdict, rows_of, words_of
from scrubjay.evidence.verify import verify as verify_bundle

__all__ = ["commands"]

commands = typer.Typer(
    no_args_is_help=True, help="Proof of what was destroyed, and of media that were erased."
)

_NOT_PROVEN = 1
_DIGITS = 12
"""Of an id, in lists: 80 columns hold the rest."""
_MARKS = {Outcome.PASSED: "passed", Outcome.FAILED: "FAILED", Outcome.NOT_CHECKED: "-"}
_Id = Annotated[
    str, typer.Argument(metavar="ID", help="Its id, or the first digits of it; or a volume's id.")
]
_Format = Annotated[
    Literal["json", "html", "text"] | None,
    typer.Option(
        "--format", help="json, as without it: the file to hand over; html: a page; text."
    ),
]
_BUNDLE = typer.Argument(
    metavar="FILE", help="What `certificate show` printed; - reads from standard input."
)


@commands.command("list", epilog="Example: scrubjay certificate list")
def list_(
    *,
    volume: Annotated[
        str | None,
        typer.Option(help="Only those about this one: its id; for 30 days the name it had."),
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(help="Only those about volumes of this owner, closed or not.")
    ] = None,
    json: AsJson = False,
) -> None:
    """List the certificates, the oldest first.

    The ids are those of first stages, which stay. Volumes that are gone have no names.
    """
    with connect() as daemon:
        asked = {"volume": volume, "tenant": tenant, "limit": 1000}
        found = list(daemon.all("certificates", Certificate, **asked))
    if json:
        print_json(found)
        return
    print_table(
        ["ID", "STAGE", "ABOUT", "WORTH", "ISSUED"],
        [
            (
                each.forgotten[:_DIGITS],
                each.stage,
                _about(each),
                each.worth,
                ago(each.issued_at),
            )
            for each in found
        ],
        empty="no certificates; each destroyed volume gets one: scrubjay volume destroy NAME"
        if volume is None and tenant is None
        else "no certificate about that yet; what is being forgotten: scrubjay pool status",
    )


@commands.command(epilog="Example: scrubjay certificate show 3f2a91c07bd4 > c.json")
def show(
    context: typer.Context,
    certificate: _Id,
    *,
    format_: _Format = None,
    json: AsJson = False,
    name: Annotated[str, typer.Option(help="html: who answers for it.")] = "",
    position: Annotated[str, typer.Option(help="html: as what.")] = "",
    organisation: Annotated[str, typer.Option(help="html: and for whom.")] = "",
    location: Annotated[str, typer.Option(help="html: where it was done.")] = "",
    contact: Annotated[str, typer.Option(help="html: how to reach that person.")] = "",
    volume: Annotated[
        str | None,
        typer.Option(metavar="ID", help="html: name this volume of it, for its owner to see."),
    ] = None,
) -> None:
    """Print a certificate with all its proofs: as a file, as a page, or for a terminal.

    Without an option to the contrary a page knows volumes by their blinded ids alone.
    """
    if json and format_ not in (None, "json"):
        raise Invalid(f"--format {format_}: with --json, expected one of them")
    with connect() as daemon:
        found = daemon.get(f"certificates/{part(certificate)}", CertificateShown)
        data = daemon.read(f"certificates/{found.id}/bundle")
        log = daemon.get("log", EvidenceLog)
    asked = None if volume is None else _named(found, volume)
    if format_ in (None, "json"):
        sys.stdout.write(data.decode())
        return
    report = verify_bundle(data, log.key, volume=asked, now=_now(), attests=_attests(context))
    if format_ == "html":
        digest = hashlib.sha256(data).hexdigest()
        person = Person(name, position, organisation, location, contact)
        sys.stdout.write(render(report, digest=digest, person=person, volume=asked))
        return
    volumes = [f"{each.id}:{each.blinding}" for each in found.volumes]
    about = [found.medium] if found.medium else volumes
    heading = "medium" if found.medium else "volumes"
    print_facts(
        [
            ("id", found.id),
            ("first id", found.forgotten),
            ("stage", found.stage),
            *(("" if number else heading, each) for number, each in enumerate(about)),
        ]
    )
    if volumes:
        typer.echo("Each volume by its id and blinding value, as verify --volume wants them.")
    typer.echo()
    _print_report(report)


@commands.command(
    epilog="Example: scrubjay certificate bundle 3f2a91c07bd4 --from evidence > c.json"
)
def bundle(
    certificate: Annotated[
        str, typer.Argument(metavar="ID", help="Its id, of either stage, or the first digits.")
    ],
    *,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from", help="The folder `evidence` of a home, or a copy; else this home's."
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="The log's key; else the folder's file log.pub.")
    ] = None,
    json: AsJson = False,  # noqa: ARG001 - it is JSON
) -> None:
    """Make the file that `verify` checks from a folder of evidence, with no daemon.

    It is what `certificate show` prints while a daemon serves. It takes no volume's id: the pool
    alone knows those.
    """
    folder = from_ or find_home(os.environ, uid=os.geteuid()) / "evidence"
    log_key = parse_key(key_of(str(folder / "log.pub") if key is None else key))
    made = bundle_from(Folder(folder), Folder(folder / "log"), certificate, log_key)
    sys.stdout.write(made.decode())


@commands.command(
    epilog="Example: scrubjay certificate verify c.json --key log.pub",
)
def verify(
    context: typer.Context,
    file: Annotated[Path, _BUNDLE],
    *,
    key: Annotated[str, typer.Option(help="The log's key: its text, or a file that holds it.")],
    volume: Annotated[
        str | None,
        typer.Option(metavar="ID:BLINDING", help="Is the certificate about this volume?"),
    ] = None,
    newer: Annotated[
        Path | None,
        typer.Option(help="A later checkpoint from elsewhere that has to continue this log."),
    ] = None,
    proof: Annotated[
        Path | None, typer.Option(help="With --newer: what `certificate proof` printed.")
    ] = None,
    witness: Annotated[
        list[str] | None, typer.Option(help="A witness's key that has to have cosigned the log.")
    ] = None,
    sink_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="The key with which a TPM has to have signed: see sink show."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Check a certificate, with no daemon and no network. Exit status 1 if it is not proven.

    The log's key is what everything rests on: get it by another way than the certificate.
    """
    report = verify_bundle(
        read_file(file),
        key_of(key),
        newer=newer_of(newer, proof),
        witnesses=witness or (),
        volume=None if volume is None else asked_of(volume),
        now=_now(),
        attests=_attests(context),
        sink_keys=sink_key or (),
    )
    if json:
        print_json(_as_json(report))
    else:
        _print_report(report)
    if report.verdict is Verdict.NOT_PROVEN:
        raise typer.Exit(_NOT_PROVEN)


@commands.command(
    epilog="Example: scrubjay certificate proof --from kept --log copy/log > proof.txt"
)
def proof(
    *,
    from_: Annotated[
        Path,
        typer.Option("--from", help="The checkpoint that was kept, or a certificate's file."),
    ],
    to: Annotated[
        Path | None, typer.Option(help="A later one, instead of the log's newest.")
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(help="The published log, or a copy; else the folder of this home."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Prove that the published log continues a checkpoint that was kept, with no daemon.

    Prints what `certificate verify --newer LATER --proof FILE` reads. Exit status 8 where the
    log does not continue it: then its history was rewritten.
    """
    folder = log or find_home(os.environ, uid=os.geteuid()) / "evidence" / "log"
    later = None if to is None else kept_checkpoint(read_file(to))
    found = prove_continuation(Folder(folder), kept_checkpoint(read_file(from_)), newer=later)
    if json:
        hashes = [encode_base64(each) for each in found.hashes]
        print_json({"old_size": found.old.size, "new_size": found.new.size, "proof": hashes})
        return
    sys.stdout.write(found.lines)
    note(f"the log's {_entries(found.new.size)} begin with the {found.old.size} of the checkpoint")


@commands.command("key", epilog="Example: scrubjay certificate key > log.pub")
def key_(*, json: AsJson = False) -> None:
    """Print the key of this pool's log, and where it stands, for auditors to keep."""
    with connect() as daemon:
        log = daemon.get("log", EvidenceLog)
    if json:
        print_json(log)
        return
    typer.echo(log.key)
    note(f"the log has {_entries(log.size)}")


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


def _named(certificate: CertificateShown, volume: str) -> Asked:
    """Return a volume with its blinding value; NotFound where the certificate is not about it."""
    for each in certificate.volumes:
        if volume.lower() == each.id:
            return asked_of(f"{each.id}:{each.blinding}")
    raise NotFound(
        f"--volume {volume[:80]!r}: no volume of this certificate",
        hint="its volumes are listed by: scrubjay certificate show ID --format text",
    )


def _about(certificate: Certificate) -> str:
    if certificate.medium:
        return "a medium"
    volumes = counted(certificate.volume_count, "volume")
    return f"{volumes} of a tenant" if certificate.scope == "tenant" else volumes


def _attests(context: typer.Context) -> Attests | None:
    return cast("Attests | None", context.find_root().obj)


def _print_report(report: Report) -> None:
    """Print a report: the verdict, each check, what it rests on, and the verdict once more.

    Whoever reads the beginning alone, or the end alone, has read how it ended.
    """
    _print_verdict(report)
    typer.echo()
    print_table(
        ["CHECK", "RESULT", "WHAT WAS FOUND"],
        [(name, _MARKS[outcome], sentence) for name, outcome, sentence in rows_of(report.checks)],
        empty="",
    )
    if report.verdict is Verdict.NOT_PROVEN and report.stages:
        typer.echo("\nIt is NOT PROVEN: what follows is what the certificate says, no more.")
    for heading, sentences in (
        ("To know:", report.remarks),
        ("Logged by the machine:", words_of(report.stages, "logged")),
        ("Asserted by a person:", words_of(report.stages, "asserted")),
        ("Assumed, and checked by nobody:", words_of(report.stages, "assumed")),
    ):
        if sentences:
            typer.echo(f"\n{heading}")
            for each in sentences:
                typer.echo(wrapped(f"  - {each}", indent="    "))
    typer.echo()
    _print_verdict(report)


def _print_verdict(report: Report) -> None:
    typer.echo(report.verdict.value)
    if report.reason:
        typer.echo(wrapped(report.reason))


def _as_json(report: Report) -> dict[str, object]:
    return {
        "verdict": report.verdict.value,
        "reason": report.reason,
        "checks": [
            {"name": each.name, "outcome": each.outcome.value, "sentence": each.sentence}
            for each in report.checks
        ],
        "remarks": report.remarks,
        "logged": words_of(report.stages, "logged"),
        "asserted": words_of(report.stages, "asserted"),
        "assumed": words_of(report.stages, "assumed"),
    }


def _now() -> dt.datetime:
    return dt.datetime.fromtimestamp(time.time(), dt.UTC)  # noqa: TID251 - it is the auditor's own clock
