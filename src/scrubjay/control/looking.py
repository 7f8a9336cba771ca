"""Looking whether what was forgotten is gone: the facts of a certificate (I8).

Each look says how it was made, at how much, and what was still there. Nothing here says
"erased": evidence derives that from the counts, and refuses where they do not bear it.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, TypeVar, cast, get_args

from scrubjay.base.errors import Invalid
from scrubjay.base.ids import LineageNo, TenantNo, VolumeId
from scrubjay.control.attesting import attested
from scrubjay.control.births import digest_of_birth, subject_of, tenant_of
from scrubjay.control.grounds import ScrubbedMedium
from scrubjay.control.keeper import Keeper
from scrubjay.control.liveness import Liveness
from scrubjay.control.records import BirthRecord, CertificateRecord, DestructionRecord, entry_key
from scrubjay.control.view import View
from scrubjay.evidence.attesting import challenge_of
from scrubjay.evidence.certificate import Certificate
from scrubjay.evidence.entries import parse_entry
from scrubjay.evidence.facts import Held, Kept, Looked, Medium
from scrubjay.evidence.stages import parse_statement
from scrubjay.evidence.statement import (
    Birth,
    CopyKind,
    End,
    Ledger,
    SinkDropped,
    Subject,
)
from scrubjay.keys import path
from scrubjay.sinks.sink import Part, Sink

__all__ = ["Found", "Later", "Looking", "Serving", "ended", "looks_at_sinks"]

_T = TypeVar("_T")
_SinkKind = Literal["file", "tpm2", "pkcs11", "memory"]
_TEXT_MAX = 900
_NUMBERED_MAX = 20
_HOST = "this host's memory"
_END_OF_TIME = dt.datetime.max.replace(microsecond=0, tzinfo=dt.UTC)
_NAMED = Kept(
    None, "the operation names the volume for 30 days, copies of the database longer: no data"
)
_OF_TREE = "asked the tree of keys for each volume's; of an ephemeral one it never had any"
_TOLD = "an operator said that it was destroyed, and nobody looked"
_KEEPS = "The pool keeps each volume's birth record: ids, sizes, times; no data and no key."
_BEHIND = "The clock stood before a moment on record: later ones are given as no earlier than it."
_LATE = "While they lived the volumes missed {} of purging (purge_within): the log tells of each."
_OF_MEMORY = (
    "{} ephemeral: the keys of its segments were in its exporter's memory alone, never under the"
    " sink or in the pool, and went with that process. What it held before a detach, a reset or a"
    " crash went then, with no certificate. The grade is the sink's, as if the keys had been there."
)
_MEMORY_GONE = (
    "Nobody kept an image of the memory in which keys of ephemeral volumes were: no core dump, no"
    " hibernation, no swap, no snapshot of a running virtual machine."
)
_NO_SWAP = "No swap was in use when this was issued."
_LOGGED = Kept(None, "births and ends under blinded ids, which is what proves them: no data")


class Serving(Protocol):
    """Who serves volumes, as far as the daemon is in touch with them."""

    def connected(self) -> set[VolumeId]:
        """Return the volumes whose exporters the daemon speaks with."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What there is, and what a look at it showed."""

    sinks: tuple[SinkDropped, ...]
    media: tuple[Medium, ...]
    held: tuple[Held, ...]
    looked: tuple[Looked, ...]


@dataclass(frozen=True, slots=True)
class Later:
    """What became of copies since."""

    held: tuple[Held, ...]
    asserted: tuple[str, ...]


class Looking:
    """Where copies of a volume, or of its keys, can be."""

    def __init__(
        self,
        keeper: Keeper,
        sink: Sink,
        *,
        liveness: Liveness,
        serving: Serving,
        media: Callable[[], Sequence[ScrubbedMedium]],
        catalog: Path,
        log: Path,
        swaps: Callable[[], Sequence[str]],
    ) -> None:
        self._keeper = keeper
        self._sink = sink
        self._liveness = liveness
        self._serving = serving
        self._media = media
        self._catalog = _plain(catalog)
        self._log = _plain(log)
        self._swaps = swaps

    def subjects(self, record: CertificateRecord) -> tuple[Subject, ...]:
        """Return the volumes of a certificate, as evidence speaks of them."""
        with self._keeper.reading() as view:
            return tuple(_subject(view, view.birth_record(VolumeId(v))) for v in record.volumes)

    def last_of(self, record: CertificateRecord) -> dt.datetime:
        """Return the last moment on record before the sink dropped the old epoch."""
        with self._keeper.reading() as view:
            births = [view.birth_record(VolumeId(each)) for each in record.volumes]
            logged = [_logged_at(view, each) for each in births]
        ends = [each.exporter_at or each.decided_at for each in map(ended, births)]
        return max(*ends, *logged, record.rotated_at or ends[0])

    def after(
        self, record: CertificateRecord, subjects: Sequence[Subject], *, since: dt.datetime
    ) -> Found:
        """Look everywhere, after the sink dropped the old epoch of these subjects at `since`."""
        parts = self._sink.parts()
        with self._keeper.changing() as tree:
            births = [tree.birth_record(VolumeId(each)) for each in record.volumes]
            kept = [each for each in births if each.keys == "tree"]
            keys = _count(kept, lambda birth: tree.has_key(_path_of(birth)))
        volumes = [VolumeId(each) for each in record.volumes]
        total = len(births)

        def now() -> dt.datetime:
            return max(since, self._keeper.now())

        served = _count(volumes, self._liveness.attached)
        connected = len(self._serving.connected().intersection(volumes))
        rows = self._keeper.index.count_volumes(volumes)
        pool = str(self._keeper.pool_id)

        def look(kind: CopyKind, name: str, method: str, mismatches: int) -> Looked:
            return Looked(kind, name, method, now(), total, total, mismatches)

        return Found(
            sinks=self._dropped(parts, record, subjects, since),
            media=tuple(
                Medium(each.ground.kind, str(each.id), _plain(each.ground.place))
                for each in self._media()
            ),
            held=(
                Held("nodes", pool, "the pool's tree", "keys"),
                Held("cache", "daemon", _HOST, "keys"),
                Held("exporter", "processes", _HOST, "keys"),
                Held("catalog", "index", self._catalog, "traces"),
                *self._kept(parts),
            ),
            looked=(
                *looks_at_sinks(parts, record.epoch_after, now),
                *self._of_superblocks(record, now()),
                look("nodes", pool, _OF_TREE, keys),
                look("cache", "daemon", "asked for sessions that hold keys", connected),
                look("exporter", "processes", "tried to take each exporter's lock", served),
                look("catalog", "index", "searched for the volumes' rows", rows),
            ),
        )

    def later(self, first: Certificate) -> Later:
        """Say what became of the copies that a first certificate said are kept.

        What somebody said was destroyed since was not looked at: it stays kept, and is told.
        """
        kept = self._kept(self._sink.parts())
        named = {(each.kind, each.id) for each in kept}
        gone = [
            Held(each.kind, each.id, each.place, each.holds, Kept(each.until, _TOLD))
            for each in parse_statement(first.payload).predicate.inventory
            if each.state == "kept" and each.kind == "replica" and (each.kind, each.id) not in named
        ]
        told = tuple(f"The sink on {each.place} was destroyed." for each in gone)
        return Later(held=(*kept, *gone), asserted=told)

    def dead_since(self, record: CertificateRecord) -> dt.datetime | None:
        """Return since when the oldest was dead that its rotation made unreadable; None: nothing.

        A closing names volumes too that ended before, each by a rotation of its own.
        """
        ends = [each for each in self._ends(record) if each.epoch_after == record.epoch_after]
        return min((each.dead_since or each.decided_at for each in ends), default=None)

    def logged(self, record: CertificateRecord, *, since: dt.datetime) -> tuple[str, ...]:
        """Return what was recorded beside."""
        missed = sum(each.purges_missed for each in self._ends(record))
        late = (_LATE.format(_deadlines(missed)),) if missed else ()
        behind = (_BEHIND,) if self._keeper.now() < since else ()
        swap = () if self._swaps() else (_NO_SWAP,)
        ephemeral = self._ephemeral(record)
        memory = (_OF_MEMORY.format(_volumes(ephemeral, len(record.volumes))),) if ephemeral else ()
        return (_KEEPS, *memory, *late, *swap, *behind)

    def assumed(self, record: CertificateRecord) -> tuple[str, ...]:
        """Return what nobody checked, beside what no certificate can check."""
        memory = (_MEMORY_GONE,) if self._ephemeral(record) else ()
        return memory + tuple(
            f"No key in the daemon's memory was written to the swap on {_plain(each)}."
            for each in self._swaps()
        )

    def _dropped(
        self,
        parts: Sequence[Part],
        record: CertificateRecord,
        subjects: Sequence[Subject],
        since: dt.datetime,
    ) -> tuple[SinkDropped, ...]:
        """Return every sink that took part, with what its TPM signs of it, if it has one."""
        pool = self._keeper.pool_id

        def challenge(part: Part) -> bytes:
            return challenge_of(
                pool=pool,
                sink=part.sink_id,
                epoch_after=record.epoch_after,
                forgotten_at=since,
                subjects=subjects,
            )

        return tuple(
            attested(_dropped(each), each, self._sink, partial(challenge, each), pool=pool)
            for each in parts
            if not each.residue
        )

    def _ephemeral(self, record: CertificateRecord) -> list[int]:
        """Return which of a certificate's volumes had their keys in memory, counted from 1."""
        with self._keeper.reading() as view:
            births = [view.birth_record(VolumeId(each)) for each in record.volumes]
        return [number for number, birth in enumerate(births, 1) if birth.keys == "memory"]

    def _ends(self, record: CertificateRecord) -> list[DestructionRecord]:
        with self._keeper.reading() as view:
            return [ended(view.birth_record(VolumeId(each))) for each in record.volumes]

    def _kept(self, parts: Sequence[Part]) -> tuple[Held, ...]:
        """Return what is left for a time, or for good."""
        return (
            Held("catalog", "operations", self._catalog, "traces", _NAMED),
            Held("log", "log", self._log, "traces", _LOGGED),
            *(_residue(each) for each in parts if each.residue),
        )

    def _of_superblocks(self, record: CertificateRecord, at: dt.datetime) -> list[Looked]:
        """Read every superblock anew: none may be sealed under an epoch that was dropped."""
        looks: dict[str, list[bool]] = {}
        for copy in self._keeper.pool.copies():
            good = copy.epoch >= record.epoch_after
            looks.setdefault(str(copy.medium_id), []).append(good)
        method = f"read each copy from the medium: its epoch is {record.epoch_after} or later"
        return [
            Looked(
                "superblocks",
                medium,
                method,
                at,
                total=len(copies),
                examined=len(copies),
                mismatches=copies.count(False),
            )
            for medium, copies in looks.items()
        ]


def ended(birth: BirthRecord) -> DestructionRecord:
    """Return how a volume ended; Invalid where it did not."""
    if birth.destruction is None:
        raise Invalid(f"volume {birth.volume}: lives, expected one that was destroyed")
    return birth.destruction


def _subject(view: View, birth: BirthRecord) -> Subject:
    if birth.log_index is None:
        raise Invalid(f"volume {birth.volume}: its birth is not in the log, expected there")
    end = ended(birth)
    return Subject(
        id=subject_of(birth),
        tenant=tenant_of(view, birth),
        birth=Birth(
            record=digest_of_birth(birth),
            born_at=birth.created_at,
            epoch=birth.epoch,
            cipher=birth.cipher,
            encrypted_from_sector=birth.encrypted_from_sector,
            log_index=birth.log_index,
        ),
        ledger=Ledger(root=end.ledger_root, count=end.segments),
        end=End(
            decided_at=end.decided_at,
            withheld_at=end.exporter_at or end.decided_at,
            exporter=end.exporter,
            exporter_at=end.exporter_at,
        ),
    )


def _volumes(numbers: Sequence[int], total: int) -> str:
    """Return "The volume was", or which of them were, as the certificate lists them."""
    if total == 1:
        return "The volume was"
    if len(numbers) > _NUMBERED_MAX:
        return f"Of {total} volumes, {len(numbers)} were, each,"
    each = "Volume" if len(numbers) == 1 else "Volumes"
    verb = "was" if len(numbers) == 1 else "were, each,"
    return f"{each} {', '.join(map(str, numbers))} of {total} {verb}"


def _deadlines(count: int) -> str:
    return "1 deadline" if count == 1 else f"{count} deadlines"


def _logged_at(view: View, birth: BirthRecord) -> dt.datetime:
    """Return when a birth was logged."""
    stored = None if birth.log_index is None else view.get(entry_key(birth.log_index))
    if stored is None:
        raise Invalid(f"volume {birth.volume}: its birth is not in the log, expected there")
    return parse_entry(stored).at


def _plain(text: str | Path) -> str:
    """Return words as evidence takes them: what cannot be seen is spelled out."""
    seen = os.fsencode(text).decode(errors="backslashreplace")
    plain = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in seen
    )
    return plain[:_TEXT_MAX] or "?"


def _path_of(birth: BirthRecord) -> path.Path:
    return path.lineage(TenantNo(birth.tenant), LineageNo(birth.lineage))


def _dropped(part: Part) -> SinkDropped:
    return SinkDropped(
        kind=_kind_of(part.kind),
        id=part.sink_id,
        place=_plain(part.worth.place),
        worth=part.worth.grade.value,
        reason=_plain(part.worth.reason),
    )


def _residue(part: Part) -> Held:
    kept = Kept(_END_OF_TIME, _plain(part.residue))
    return Held("replica", str(part.sink_id), _plain(part.worth.place), "keys", kept)


def looks_at_sinks(
    parts: Iterable[Part], epoch_after: int, now: Callable[[], dt.datetime]
) -> Iterator[Looked]:
    """Yield what each sink was found to hold; all that is older than `epoch_after` is too much.

    Not of those that are out of reach.
    """
    for part in parts:
        if part.residue:
            continue
        older = sum(epoch < epoch_after for epoch in part.epochs)
        held = len(part.epochs) + part.remains
        yield Looked(
            "sink",
            str(part.sink_id),
            f"asked it which keys it holds: of epoch {' and '.join(map(str, part.epochs)) or '?'}",
            now(),
            total=max(1, held),
            examined=held,
            mismatches=older + part.remains,
        )


def _kind_of(kind: str) -> _SinkKind:
    if kind in get_args(_SinkKind):
        return cast("_SinkKind", kind)
    raise Invalid(f"sink of kind {kind}: expected one of {', '.join(get_args(_SinkKind))}")


def _count(items: Iterable[_T], wrong: Callable[[_T], bool]) -> int:
    return sum(map(wrong, items))
