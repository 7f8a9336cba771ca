"""Certificates of media that a pool has left.

    noted       in the pool, before it is copied: which medium this is, by model and number
    left        the pool was opened elsewhere, and its sink has dropped the epoch before
    erased      all of the medium was overwritten; what was read back is in the pool
    certified   the envelope is a durable file; its leaf, and its record, are one commit

Each step is a commit of the pool, so what is certified was never in the hands of whoever can
edit the home's files. A crash leaves the step before it, and `issue` goes on from there:
each erasing that is on record is certified once.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Protocol
from uuid import UUID

import msgspec
import structlog

from scrubjay.base.errors import Corrupt, ScrubjayError
from scrubjay.base.units import PAGE_BYTES
from scrubjay.control.certificates import envelope_place
from scrubjay.control.keeper import Keeper
from scrubjay.control.log import Log, append
from scrubjay.control.looking import looks_at_sinks
from scrubjay.control.records import (
    CertificateRecord,
    certificate_key,
    decode,
    encode,
    named_key,
)
from scrubjay.control.retirement_records import (
    RETIREMENT_PREFIX,
    RetirementRecord,
    parse_retirement,
    retirement_key,
)
from scrubjay.evidence.bundle import make_bundle
from scrubjay.evidence.certificate import Certificate, certify_retired
from scrubjay.evidence.dsse import Envelope
from scrubjay.evidence.facts import Looked, RetireFacts
from scrubjay.evidence.retirement import failures_of
from scrubjay.evidence.stages import parse_statement
from scrubjay.evidence.statement import Move
from scrubjay.evidence.strict import decode as decode_strictly
from scrubjay.evidence.strict import encode as encode_strictly
from scrubjay.evidence.strict import plain
from scrubjay.evidence.tiles import Files
from scrubjay.media.pool import Pool
from scrubjay.media.superblock import COPY_OFFSETS_BYTES
from scrubjay.sinks.sink import Part, Sink

__all__ = [
    "Retirements",
    "assumed_of",
    "find_retirement",
    "logged_of",
    "put_retirement",
    "text_of",
]

_TEXT_MAX = 900
_COPIED = "Every slot that held something was copied to another medium, read back and compared."
_KEYS_LIVE = (
    "Volumes that were not destroyed keep their keys, as they go on elsewhere: of their data on "
    "this medium, only overwriting is the end. Blocks that survived it beneath (spare cells, "
    "replaced sectors) open for who has the pool and its sink, and for nobody else."
)
_FILE = (
    "It was a file: of the disks beneath it, only what the file system wrote in place was "
    "overwritten, and other files of theirs were not."
)
_LABELS = "Model and serial number are what the disk said of itself; nobody read its label."
_SPARE = (
    "A disk beneath is flash, or nothing tells that it is not: its spare areas may hold old "
    "blocks, which no overwriting and no reading back reaches."
)
_log = structlog.get_logger(__name__)


class Retirements:
    """Issues what is due for media that were erased; one caller at a time."""

    def __init__(self, keeper: Keeper, sink: Sink, log: Log, envelopes: Files) -> None:
        self._keeper = keeper
        self._sink = sink
        self._log = log
        self._envelopes = envelopes
        self.trouble = ""
        """Why the last certificate that was due could not be issued; "" where all were."""

    def issue(self) -> bool:
        """Issue every certificate that is due; return whether none is left."""
        self.trouble = ""
        for each in list(self._due()):
            try:
                self._issue(each)
            except ScrubjayError as error:
                self.trouble = error.message
                medium = str(each.medium.id)
                _log.error("retirement.refused", medium=medium, error=error.message)
        return not self.trouble

    def bundle(self, digest: str) -> bytes:
        """Return the file that an auditor checks; Corrupt where the certificate is not there."""
        self._log.publish()
        with self._keeper.reading() as view:
            key = view.get(named_key(digest))
            value = None if key is None else view.get(key)
        data = self._envelopes.read(envelope_place(digest))
        if value is None or data is None:
            raise Corrupt(f"certificate {digest}: its record or its file is gone, expected both")
        record = decode(CertificateRecord, value, where=f"certificate {digest}")
        envelope = decode_strictly(Envelope, data, what=f"certificate {digest}")
        return make_bundle(self._log.published, envelope, record.forgotten_index)

    def _due(self) -> Iterator[RetirementRecord]:
        with self._keeper.reading() as view:
            for key, value in view.scan(RETIREMENT_PREFIX):
                record = parse_retirement(key, value)
                if record.erased is not None and not record.certificate:
                    yield record

    def _issue(self, record: RetirementRecord) -> None:
        facts = self._facts(record)
        certificate = certify_retired(facts, self._log.signer)
        envelope = encode_strictly(certificate.envelope)
        self._envelopes.write(envelope_place(certificate.digest), envelope)
        if self._enter(record, certificate, facts.issued_at):
            medium = str(record.medium.id)
            _log.info("retirement.certified", medium=medium, certificate=certificate.digest)

    def _facts(self, record: RetirementRecord) -> RetireFacts:
        erased, left_at = record.erased, record.left_at
        assert erased is not None, "it is due"
        assert left_at is not None, "nothing is erased before the pool has left"
        now = max(self._keeper.now(), erased.wiped.read_back_at, erased.looked_at)
        parts = self._sink.parts()
        return RetireFacts(
            issued_at=now,
            pool=self._keeper.pool_id,
            medium=record.medium,
            move=Move(
                noted_at=record.noted_at,
                left_at=left_at,
                moved_to=record.moved_to,
                epoch_before=record.epoch_before,
                epoch_after=record.epoch_after,
            ),
            wiped=erased.wiped,
            looked=(
                _of_superblocks(record, erased.superblocks_opened, erased.looked_at),
                *looks_at_sinks(parts, record.epoch_after, lambda: now),
            ),
            logged=logged_of(record),
            assumed=(*assumed_of(record), *map(_residue, (p for p in parts if p.residue))),
        )

    def _enter(self, record: RetirementRecord, made: Certificate, at: dt.datetime) -> bool:
        """Enter a certificate with its leaf; return whether nobody did, or erased anew, before."""
        assert record.erased is not None, "it is due"
        failed = failures_of(record.erased.wiped) > 0
        grade = parse_statement(made.payload).predicate.grade.value
        with self._keeper.changing(frees=True) as change:
            if find_retirement(change, record.medium.id) != record:
                return False
            keys = (certificate_key(record.epoch_after, part) for part in count())
            key = next(each for each in keys if change.get(each) is None)
            issued = CertificateRecord(
                scope="medium",
                volumes=(),
                medium=record.medium.id,
                epoch_before=record.epoch_before,
                epoch_after=record.epoch_after,
                forgotten=made.digest,
                forgotten_index=append(change, made.entry),
                issued_at=at,
                worth="NOT PROVEN" if failed else grade,
            )
            change.put(key, encode(issued))
            change.put(named_key(made.digest), key)
            certified = msgspec.structs.replace(record, certificate=made.digest)
            change.put(retirement_key(record.medium.id), encode(certified))
        return True


class _Source(Protocol):
    def get(self, key: bytes) -> bytes | None: ...


def find_retirement(source: _Source, medium: UUID) -> RetirementRecord | None:
    """Return what a pool knows of a medium that it leaves; None where it knows nothing."""
    key = retirement_key(medium)
    value = source.get(key)
    return None if value is None else parse_retirement(key, value)


def put_retirement(pool: Pool, record: RetirementRecord) -> None:
    """Write down in a pool what is known of such a medium; durable when it returns."""
    with pool.change(frees=True) as staged:
        staged.put(retirement_key(record.medium.id), encode(record))


def logged_of(record: RetirementRecord) -> tuple[str, ...]:
    """Return what was recorded of a medium's end, in sentences."""
    moved = (
        f"The pool was opened elsewhere under epoch {record.epoch_after} of its sink, which had "
        f"dropped epoch {record.epoch_before}: no superblock of this medium opens any more."
    )
    if record.erased is None:
        return (_COPIED, moved)
    wiped = record.erased.wiped
    erased = (
        f"All {wiped.bytes_erased} bytes were erased ({wiped.pattern}), and "
        f"{wiped.pages_read} of {wiped.pages} pages were read back."
    )
    tail_bytes = wiped.bytes_erased % PAGE_BYTES
    tail = (
        f"The last {tail_bytes} bytes, less than a page, were read back through the system's "
        "cache, whatever is said of the others."
    )
    return (_COPIED, moved, erased, *([tail] if tail_bytes else []))


def assumed_of(record: RetirementRecord) -> tuple[str, ...]:
    """Return what nobody checked, in sentences."""
    disks = record.medium.disks
    assumed = [_KEYS_LIVE]
    if record.medium.kind == "file":
        assumed.append(_FILE)
    if disks and any(each.serial for each in disks):
        assumed.append(_LABELS)
    if not disks or not all(each.serial for each in disks):
        assumed.append("No serial number was to be had of what lies beneath: see its place.")
    if not disks or not all(each.rotates for each in disks):
        assumed.append(_SPARE)
    return tuple(assumed)


def text_of(text: str | Path) -> str:
    """Return words, or a path, as evidence takes them: what cannot be seen is a question mark."""
    seen = os.fsencode(text).decode(errors="backslashreplace")
    return plain(seen)[:_TEXT_MAX] or "?"


def _of_superblocks(record: RetirementRecord, opened: int, at: dt.datetime) -> Looked:
    copies = len(COPY_OFFSETS_BYTES)
    method = "asked the sink for the key that opens each copy, before they were overwritten"
    medium = str(record.medium.id)
    return Looked("superblocks", medium, method, at, copies, copies, opened)


def _residue(part: Part) -> str:
    return text_of(
        f"The sink on {part.worth.place} is not used to open what may have survived of the "
        f"superblocks: {part.residue}."
    )
