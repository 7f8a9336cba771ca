"""`scrubjay certificate ...`: showing certificates, and checking them without a daemon."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import stat
import sys
import time
import uuid
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from scrubjay.base.errors import Invalid, NotFound, Unavailable
from scrubjay.base.ids import VolumeId
from scrubjay.cli.output import AsJson, ago, counted, note, print_facts, print_json, print_table
from scrubjay.cli.session import connect, part
from scrubjay.client.replies import Certificate, CertificateShown, EvidenceLog
from scrubjay.evidence.attesting import Attests
from scrubjay.evidence.note import KEY_TEXT_MAX, decode_base64
from scrubjay.evidence.page import Person, render
from scrubjay.evidence.questions import Asked, Newer
from scrubjay.evidence.report import Outcome, Report, Verdict, words_of
from scrubjay.evidence.strict import plain
from scrubjay.evidence.verify import verify as verify_bundle

__all__ = ["commands"]

commands = typer.Typer(
    no_args_is_help=True, help="Proof of what was destroyed, and of media that were erased."
)

_NOT_PROVEN = 1
_DIGITS = 12
"""Of an id, in lists: 80 columns hold the rest."""
_FILE_BYTES_MAX = 1 << 23
_NAME_SHOWN_MAX = 200
_MARKS = {Outcome.PASSED: "passed", Outcome.FAILED: "FAILED", Outcome.NOT_CHECKED: "-"}
_Id = Annotated[
    str, typer.Argument(metavar="ID", help="Its id, or the first digits of it; or a volume's id.")
]
_Format = Annotated[
    Literal["json", "html", "text"],
    typer.Option("--format", help="json: the file to hand over; html: a page to print."),
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
    format_: _Format = "json",
    name: Annotated[str, typer.Option(help="html: who answers for it.")] = "",
    organisation: Annotated[str, typer.Option(help="html: and for whom.")] = "",
) -> None:
    """Print a certificate with all its proofs: as a file, as a page, or for a terminal."""
    with connect() as daemon:
        found = daemon.get(f"certificates/{part(certificate)}", CertificateShown)
        bundle = daemon.read(f"certificates/{found.id}/bundle")
        log = daemon.get("log", EvidenceLog)
    if format_ == "json":
        sys.stdout.write(bundle.decode())
        return
    report = verify_bundle(bundle, log.key, now=_now(), attests=_attests(context))
    if format_ == "html":
        digest = hashlib.sha256(bundle).hexdigest()
        person = Person(name=name, organisation=organisation)
        sys.stdout.write(render(report, digest=digest, person=person))
        return
    volumes = "\n".join(f"{each.id} (blinding value {each.blinding})" for each in found.volumes)
    about = ("medium", found.medium) if found.medium else ("volumes", volumes)
    print_facts([("certificate", found.id), ("stage", found.stage), about])
    _print_report(report)


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
        Path | None, typer.Option(help="A checkpoint from elsewhere that has to continue this log.")
    ] = None,
    proof: Annotated[
        Path | None, typer.Option(help="With --newer: the hashes that prove it, a line each.")
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
        _read(file),
        _key(key),
        newer=_newer(newer, proof),
        witnesses=witness or (),
        volume=_asked(volume),
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


@commands.command("key", epilog="Example: scrubjay certificate key > log.pub")
def key_(*, json: AsJson = False) -> None:
    """Print the key of this pool's log, and where it stands, for auditors to keep."""
    with connect() as daemon:
        log = daemon.get("log", EvidenceLog)
    if json:
        print_json(log)
        return
    typer.echo(log.key)
    note(f"the log has {counted(log.size, 'entry').replace('entrys', 'entries')}")


def _about(certificate: Certificate) -> str:
    if certificate.medium:
        return "a medium"
    volumes = counted(certificate.volume_count, "volume")
    return f"{volumes} of a tenant" if certificate.scope == "tenant" else volumes


def _attests(context: typer.Context) -> Attests | None:
    return cast("Attests | None", context.find_root().obj)


def _print_report(report: Report) -> None:
    print_table(
        ["CHECK", "RESULT", "WHAT WAS FOUND"],
        [(each.name, _MARKS[each.outcome], each.sentence) for each in report.checks],
        empty="",
    )
    for heading, sentences in (
        ("To know:", report.remarks),
        ("Logged by the machine:", words_of(report.stages, "logged")),
        ("Asserted by a person:", words_of(report.stages, "asserted")),
        ("Assumed, and checked by nobody:", words_of(report.stages, "assumed")),
    ):
        if sentences:
            typer.echo(f"\n{heading}")
            for each in sentences:
                typer.echo(f"  - {each}")
    typer.echo(f"\n{report.verdict.value}")
    if report.reason:
        typer.echo(report.reason)


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


def _key(given: str) -> str:
    """Return the key's text; a name that is a file's stands for what it holds."""
    path = Path(given)
    if "+" in given and not os.path.lexists(path):
        return given
    return _read(path, bytes_max=KEY_TEXT_MAX).decode("utf-8", errors="replace").strip()


def _newer(checkpoint: Path | None, proof: Path | None) -> Newer | None:
    if checkpoint is None:
        if proof is not None:
            raise Invalid("--proof: without --newer", hint="give the checkpoint that it leads to")
        return None
    lines = [] if proof is None else _read(proof).decode("ascii", errors="replace").split()
    return Newer(_read(checkpoint), tuple(decode_base64(line) for line in lines))


def _asked(volume: str | None) -> Asked | None:
    if volume is None:
        return None
    name, _, blinding = volume.partition(":")
    try:
        return Asked(VolumeId(uuid.UUID(name)), bytes.fromhex(blinding))
    except ValueError as error:
        raise Invalid(
            f"--volume {volume[:80]!r}: expected a volume's id, a colon, its blinding value",
            hint="both are shown by: scrubjay certificate show ID --format text",
        ) from error


def _read(path: Path, *, bytes_max: int = _FILE_BYTES_MAX) -> bytes:
    """Return the bytes of a regular file, or of stdin; a pipe by its name could block for ever."""
    name = plain(str(path))[:_NAME_SHOWN_MAX]
    try:
        data = sys.stdin.buffer.read(bytes_max + 1) if name == "-" else _read_file(path, bytes_max)
    except FileNotFoundError as error:
        raise NotFound(f"file {name}: not there") from error
    except OSError as error:
        raise Unavailable(f"file {name}: {error.strerror}") from error
    except ValueError as error:
        raise Invalid(f"file {name}: not a name that a file can have") from error
    if data is None:
        raise Invalid(f"file {name}: no regular file", hint="- reads from standard input")
    if len(data) > bytes_max:
        raise Invalid(f"file {name}: longer than {bytes_max} bytes, expected less")
    return data


def _read_file(path: Path, bytes_max: int) -> bytes | None:
    """Return one byte more than is wanted, at most; None where it is no regular file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(bytes_max + 1)


def _now() -> dt.datetime:
    return dt.datetime.fromtimestamp(time.time(), dt.UTC)  # noqa: TID251 - it is the auditor's own clock
