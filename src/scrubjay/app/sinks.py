"""The sinks of a home: which kinds there are, how each is opened, made and destroyed.

A single sink is number 0 of its home; a mirror numbers its members (sinks/membership.py). A
TPM keeps the keys, and the home the credentials for them, as `tpm2.<number>`. No secret is an
argument or in the environment: who knows the TPM's owner authorisation hands it in as bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import structlog

from scrubjay.app.home import Home
from scrubjay.app.places import read_places
from scrubjay.base.errors import Conflict, Invalid, NotFound, ScrubjayError
from scrubjay.base.ids import Epoch
from scrubjay.base.ports import Entropy
from scrubjay.sinks.file import FileSink
from scrubjay.sinks.membership import Member, RecordFile
from scrubjay.sinks.mirrored import MirroredSink
from scrubjay.sinks.sink import Sink
from scrubjay.sinks.tpm.transport import DEFAULT_DEVICE
from scrubjay.sinks.tpm2 import TpmSink

__all__ = [
    "HomeSinks",
    "SinkPlace",
    "TpmWords",
    "make_sink",
    "open_sink",
    "parse_place",
    "place_in",
    "shared_disk",
    "single_member",
    "sink_path",
]

KINDS = ("file", "tpm2")
_NAMES_MAX = 1000
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SinkPlace:
    """A sink that somebody asks for: its kind, and where; "": where such a one lies by default."""

    kind: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class TpmWords:
    """What an operator knows of a TPM and nothing else tells."""

    owner_auth: bytes = field(default=b"", repr=False)
    policy: str = ""
    endurance_cycles: int = 0


def parse_place(text: str) -> SinkPlace:
    """Return what `file`, `file:/a/path`, `tpm2` or `tpm2:/dev/tpmrm1` mean; Invalid for others."""
    kind, colon, where = text.partition(":")
    if kind not in KINDS or (colon and not Path(where).is_absolute()):
        raise Invalid(
            f"sink {text!r}: expected file, file:/ABSOLUTE/PATH, tpm2 or tpm2:/dev/TPM",
            hint="docs/sinks.md says what each is worth",
        )
    return SinkPlace(kind, where)


def place_in(home: Home, place: SinkPlace, *, besides: Sequence[str] = ()) -> tuple[str, str]:
    """Return (kind, where) as a member says it; a file by default lies in the home."""
    if place.kind == "tpm2":
        return "tpm2", place.where or str(DEFAULT_DEVICE)
    if place.where:
        return "file", place.where
    names = ("sink", *(f"sink.{number}" for number in range(1, _NAMES_MAX)))
    free = (each for each in names if each not in besides and not (home.path / each).exists())
    return "file", next(free)


class HomeSinks:
    """Opens, makes and destroys the sinks that a home lists (`Members` of a mirror)."""

    def __init__(self, home: Home, entropy: Entropy, *, words: TpmWords | None = None) -> None:
        """Take what an operator said of the TPMs in which sinks are made."""
        self._home = home
        self._entropy = entropy
        self._words = words or TpmWords()
        self.made: list[Member] = []
        """Those that were made here, to be undone where what they belong to fails."""

    def open(self, member: Member) -> Sink:
        """Open a sink; NotFound, Denied or Corrupt say why it cannot be had."""
        path = self.path_of(member)
        match member.kind:
            case "file":
                return FileSink.open(path, self._entropy)
            case "tpm2":
                return TpmSink.open(path, self._entropy)
            case _:
                raise Invalid(
                    f"sink of kind {member.kind!r}: expected {' or '.join(KINDS)}",
                    hint="a newer Scrubjay made it: use that one",
                )

    def make(
        self, member: Member, *, sink_id: UUID, pool_id: UUID, epoch: Epoch, key: bytes
    ) -> Sink:
        """Make a sink that holds this epoch; Conflict where one lies already."""
        path = self.path_of(member)
        sink: Sink
        if member.kind == "file":
            self.check_vacant(member)
            sink = FileSink.create(
                path, self._entropy, sink_id=sink_id, pool_id=pool_id, epoch=epoch, key=key
            )
        else:
            sink = TpmSink.create(
                path,
                self._entropy,
                sink_id=sink_id,
                pool_id=pool_id,
                epoch=epoch,
                key=key,
                device=Path(member.where),
                owner_auth=self._words.owner_auth,
                policy=self._words.policy,
                endurance_cycles=self._words.endurance_cycles,
            )
        self.made.append(member)
        return sink

    def check_vacant(self, member: Member) -> None:
        """Raise Conflict where something lies at the place of a new sink; NotFound: no folder."""
        path = self.path_of(member)
        if not path.parent.is_dir():
            raise NotFound(
                f"sink {path}: no folder {path.parent}, expected one",
                hint="mount the disk first, or make the folder",
            )
        if member.kind == "file" and path.exists():
            raise Conflict(f"sink {path}: something lies there, expected nothing")

    def destroy(self, member: Member) -> None:
        """Have a sink hold nothing any more, one half made too; what it lay in goes.

        NotFound where there is nothing. Raises what keeps its keys from being overwritten.
        """
        path = self.path_of(member)
        if member.kind == "file":
            FileSink.wipe(path, self._entropy)
            return
        try:
            sink = TpmSink.open(path, self._entropy)
        except NotFound:
            if not path.exists():
                raise
        else:
            try:
                sink.destroy(self._words.owner_auth)
            except ScrubjayError as error:
                if sink.epochs():
                    raise
                _log.warning("sink.indices_stay", place=member.place, error=error.message)
            finally:
                sink.close()
        path.unlink(missing_ok=True)

    def undo(self) -> None:
        """Destroy what was made here."""
        while self.made:
            self.destroy(self.made.pop())

    def path_of(self, member: Member) -> Path:
        """Return the sink's file, or that of its credentials."""
        if member.kind == "file":
            return self._home.path / member.where
        return self._home.path / f"{member.kind}.{member.number}"


def single_member(home: Home) -> Member:
    """Return the home's single sink, as a mirror would list it."""
    places = read_places(home)
    return Member(0, places.sink_kind, places.sink_where)


def shared_disk(sinks: HomeSinks, members: Sequence[Member]) -> str:
    """Say which of these files lie on one file system, and are lost together; "" where none do."""
    found: dict[int, list[str]] = {}
    for each in members:
        path = sinks.path_of(each)
        if each.kind == "file" and path.exists():
            found.setdefault(path.stat().st_dev, []).append(str(path))
    together = next((each for each in found.values() if len(each) > 1), [])
    if not together:
        return ""
    return f"{' and '.join(together)} lie on one file system: losing its disk loses them all"


def sink_path(home: Home) -> str:
    """Return where the home's keys lie: its single sink, a TPM, or the record of its mirror."""
    single = single_member(home)
    if home.mirror.exists():
        return str(home.mirror)
    return str(home.path / single.where) if single.kind == "file" else single.where


def open_sink(home: Home, entropy: Entropy, *, sinks: HomeSinks | None = None) -> Sink:
    """Open whatever holds the home's keys: its mirror where there is one, else its single sink."""
    sinks = sinks or HomeSinks(home, entropy)
    if home.mirror.exists():
        return MirroredSink(RecordFile(home.mirror), sinks)
    return sinks.open(single_member(home))


def make_sink(
    home: Home,
    sinks: HomeSinks,
    places: Sequence[tuple[str, str]],
    *,
    sink_id: UUID,
    pool_id: UUID,
    epoch: Epoch,
    key: bytes,
) -> Sink:
    """Make a new home's sink: a single one, or a mirror where there are several places."""
    if len(places) == 1:
        member = Member(0, *places[0])
        return sinks.make(member, sink_id=sink_id, pool_id=pool_id, epoch=epoch, key=key)
    if len(set(places)) < len(places):
        raise Conflict("sinks: two in one place, expected each in its own")
    return MirroredSink.create(
        RecordFile(home.mirror),
        sinks,
        mirror_id=sink_id,
        pool_id=pool_id,
        places=list(places),
        epoch=epoch,
        key=key,
    )
