"""Looking whether what was forgotten is gone: the facts of a certificate (I8).

Each look says how it was made, at how much, and what was still there. Nothing here says
"erased": evidence derives that from the counts, and refuses where they do not bear it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar, cast, get_args

from scrubjay.base.errors import Invalid
from scrubjay.base.ids import LineageNo, TenantNo, VolumeId
from scrubjay.control.births import digest_of_birth, subject_of, tenant_of
from scrubjay.control.grounds import ScrubbedMedium
from scrubjay.control.keeper import Keeper
from scrubjay.control.liveness import Liveness
from scrubjay.control.records import BirthRecord, CertificateRecord, DestructionRecord
from scrubjay.control.view import View
from scrubjay.evidence.certificate import Certificate
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

__all__ = ["Found", "Later", "Looking", "Serving", "ended"]

_T = TypeVar("_T")
_SinkKind = Literal["file", "tpm2", "pkcs11", "memory"]
_HOST = "this host's memory"
_END_OF_TIME = dt.datetime.max.replace(microsecond=0, tzinfo=dt.UTC)
_NAMED = Kept(
    None, "the operation names the volume for 30 days, copies of the database longer: no data"
)
_TOLD = "an operator said that it was destroyed"
_KEEPS = "The pool keeps each volume's birth record: ids, sizes, times; no data and no key."
_BEHIND = "The clock stood before a moment on record: later ones are given as no earlier than it."
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
    looked: tuple[Looked, ...]
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
        self._catalog = catalog
        self._log = log
        self._swaps = swaps

    def subjects(self, record: CertificateRecord) -> tuple[Subject, ...]:
        """Return the volumes of a certificate, as evidence speaks of them."""
        with self._keeper.reading() as view:
            return tuple(_subject(view, view.birth_record(VolumeId(v))) for v in record.volumes)

    def last_of(self, record: CertificateRecord) -> dt.datetime:
        """Return the last moment on record before the sink dropped the old epoch."""
        with self._keeper.reading() as view:
            births = [view.birth_record(VolumeId(each)) for each in record.volumes]
        ends = [ended(each) for each in births]
        return max(each.exporter_at or each.decided_at for each in ends)

    def after(self, record: CertificateRecord, *, since: dt.datetime) -> Found:
        """Look everywhere, after the sink dropped the old epoch at `since`."""
        parts = self._sink.parts()
        with self._keeper.changing() as tree:
            births = [tree.birth_record(VolumeId(each)) for each in record.volumes]
            keys = _count(births, lambda birth: tree.has_key(_path_of(birth)))
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
            sinks=tuple(_dropped(each) for each in parts if not each.residue),
            media=tuple(
                Medium(each.ground.kind, str(each.id), each.ground.place) for each in self._media()
            ),
            held=(
                Held("nodes", pool, "the pool's tree", "keys"),
                Held("cache", "daemon", _HOST, "keys"),
                Held("exporter", "processes", _HOST, "keys"),
                Held("catalog", "index", str(self._catalog), "traces"),
                *self._kept(parts),
            ),
            looked=(
                *(_of_sink(each, record, now()) for each in parts if not each.residue),
                *self._of_superblocks(record, now()),
                look("nodes", pool, "asked the tree of keys, as committed, for each key", keys),
                look("cache", "daemon", "asked for sessions that hold keys", connected),
                look("exporter", "processes", "tried to take each exporter's lock", served),
                look("catalog", "index", "searched for the volumes' rows", rows),
            ),
        )

    def later(self, first: Certificate) -> Later:
        """Say what became of the copies that a first certificate said are kept."""
        kept = self._kept(self._sink.parts())
        named = {(each.kind, each.id) for each in kept}
        gone = [
            each
            for each in parse_statement(first.payload).predicate.inventory
            if each.state == "kept" and each.kind == "replica" and (each.kind, each.id) not in named
        ]
        return Later(
            held=(*kept, *(Held(each.kind, each.id, each.place, each.holds) for each in gone)),
            looked=tuple(
                Looked(each.kind, each.id, _TOLD, self._keeper.now(), 1, 1, 0) for each in gone
            ),
            asserted=tuple(f"The sink on {each.place} was destroyed." for each in gone),
        )

    def logged(self, *, since: dt.datetime) -> tuple[str, ...]:
        """Return what was recorded beside."""
        behind = (_BEHIND,) if self._keeper.now() < since else ()
        swap = () if self._swaps() else (_NO_SWAP,)
        return (_KEEPS, *swap, *behind)

    def assumed(self) -> tuple[str, ...]:
        """Return what nobody checked, beside what no certificate can check."""
        return tuple(
            f"No key in the daemon's memory was written to the swap on {each}."
            for each in self._swaps()
        )

    def _kept(self, parts: Sequence[Part]) -> tuple[Held, ...]:
        """Return what is left for a time, or for good."""
        return (
            Held("catalog", "operations", str(self._catalog), "traces", _NAMED),
            Held("log", "log", str(self._log), "traces", _LOGGED),
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
            withheld_at=end.decided_at,
            exporter=end.exporter,
            exporter_at=end.exporter_at,
        ),
    )


def _path_of(birth: BirthRecord) -> path.Path:
    return path.lineage(TenantNo(birth.tenant), LineageNo(birth.lineage))


def _dropped(part: Part) -> SinkDropped:
    return SinkDropped(
        kind=_kind_of(part.kind),
        id=part.sink_id,
        place=part.worth.place,
        worth=part.worth.grade.value,
        reason=part.worth.reason,
    )


def _residue(part: Part) -> Held:
    kept = Kept(_END_OF_TIME, part.residue)
    return Held("replica", str(part.sink_id), part.worth.place, "keys", kept)


def _of_sink(part: Part, record: CertificateRecord, at: dt.datetime) -> Looked:
    older = sum(epoch < record.epoch_after for epoch in part.epochs)
    return Looked(
        "sink",
        str(part.sink_id),
        f"asked it which epochs it holds: {' and '.join(map(str, part.epochs)) or 'none'}",
        at,
        total=max(1, len(part.epochs)),
        examined=max(1, len(part.epochs)),
        mismatches=older if part.epochs else 1,
    )


def _kind_of(kind: str) -> _SinkKind:
    if kind in get_args(_SinkKind):
        return cast("_SinkKind", kind)
    raise Invalid(f"sink of kind {kind}: expected one of {', '.join(get_args(_SinkKind))}")


def _count(items: Iterable[_T], wrong: Callable[[_T], bool]) -> int:
    return sum(map(wrong, items))
