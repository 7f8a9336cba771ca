"""Certificates: issued when the sink has dropped the epoch, and again when slots were scrubbed.

    due         entered by the rotation's commit: which volumes, which epochs
    forgotten   everything was looked at; the envelope is a durable file, its leaf in the log
    scrubbed    no slot that held bytes of theirs does still: the second envelope and leaf

A crash before a leaf's commit leaves a file that no record names; what is due is issued
anew, with what is true then. A record under `q` tells that a stage is outstanding.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Literal, Protocol
from uuid import UUID

import msgspec
import structlog

from scrubjay.base.errors import Conflict, Corrupt, Invalid, NotFound, ScrubjayError
from scrubjay.base.ids import Epoch, VolumeId
from scrubjay.control.attesting import attests
from scrubjay.control.births import enter_birth
from scrubjay.control.dates import Ranges, covers
from scrubjay.control.destroyed import About, digest_meant
from scrubjay.control.grounds import ScrubbedMedium
from scrubjay.control.keeper import Change, Keeper
from scrubjay.control.log import Log, append
from scrubjay.control.looking import Looking, ended
from scrubjay.control.records import (
    CERTIFICATE_PREFIX,
    OUTSTANDING_PREFIX,
    CertificateRecord,
    birth_key,
    certificate_key,
    decode,
    encode,
    named_key,
    outstanding_key,
)
from scrubjay.control.view import View
from scrubjay.evidence.bundle import make_bundle
from scrubjay.evidence.certificate import Certificate, certify_forgotten, certify_scrubbed
from scrubjay.evidence.dsse import Envelope, digest_of, open_envelope
from scrubjay.evidence.entries import SUBJECTS_MAX
from scrubjay.evidence.facts import Facts, Looked, ScrubFacts
from scrubjay.evidence.stages import parse_statement
from scrubjay.evidence.statement import Forgotten, MediumScrubbed
from scrubjay.evidence.strict import decode as decode_strictly
from scrubjay.evidence.strict import encode as encode_strictly
from scrubjay.evidence.tiles import Files
from scrubjay.media.erase import SAMPLED_PAGES
from scrubjay.media.slots import Backlog

__all__ = ["Certificates", "Issued", "Scrubbing", "enter_due", "envelope_place"]

_SHOWN_MAX = 20
_log = structlog.get_logger(__name__)


class Scrubbing(Protocol):
    """What a scrubber knows."""

    def waits_since(self, at: dt.datetime) -> int | None:
        """Return since which second bytes of a use that had ended by `at` are left; None: none."""
        ...

    def backlog(self) -> Sequence[Backlog]:
        """Return since which seconds bytes of a former use are left in slots, used again or not."""
        ...

    def media(self) -> Sequence[ScrubbedMedium]:
        """Describe how the slots of each medium are scrubbed, and what that is worth."""
        ...


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate as the API shows it."""

    key: bytes
    record: CertificateRecord

    @property
    def id(self) -> str:
        """The digest of its newest stage."""
        return self.record.scrubbed or self.record.forgotten

    @property
    def issued_at(self) -> dt.datetime:
        """When its first stage was issued."""
        assert self.record.issued_at is not None, "it is issued"
        return self.record.issued_at

    @property
    def stage(self) -> Literal["forgotten", "scrubbed", "retired"]:
        """Which one that is; of a medium there is one alone."""
        if self.record.scope == "medium":
            return "retired"
        return "scrubbed" if self.record.scrubbed else "forgotten"


def enter_due(
    change: Change,
    volumes: Sequence[VolumeId],
    *,
    before: Epoch,
    after: Epoch,
    now: dt.datetime,
    scope: Literal["volumes", "tenant"] = "volumes",
) -> None:
    """Stage that certificates are due for volumes that a rotation forgets.

    A closing names all that the tenant ever had, also what was destroyed before.
    """
    parts = (part for part in count() if change.get(certificate_key(after, part)) is None)
    for first in range(0, len(volumes), SUBJECTS_MAX):
        due = CertificateRecord(
            scope=scope,
            volumes=tuple(volumes[first : first + SUBJECTS_MAX]),
            epoch_before=before,
            epoch_after=after,
            rotated_at=now,
        )
        key = certificate_key(after, next(parts))
        change.put(key, encode(due))
        change.put(outstanding_key(key), b"1")


class Certificates:
    """The certificates of one pool. What issues them does so one at a time."""

    def __init__(
        self,
        keeper: Keeper,
        log: Log,
        looking: Looking,
        *,
        envelopes: Files,
        scrubbing: Scrubbing,
    ) -> None:
        self._keeper = keeper
        self._log = log
        self._looking = looking
        self._envelopes = envelopes
        self._scrubbing = scrubbing
        self._lock = threading.Lock()
        self._refused: dict[bytes, str] = {}
        """What was said of each certificate that was refused: it is said once."""
        self._waits: dict[bytes, Ranges | None] = {}
        """Since when slots wait that held bytes of what each is about, once all is cleared."""
        self._dropped: dict[bytes, dt.datetime] = {}
        """When each that is due was first seen to be: the sink has dropped its epoch by then."""

    @property
    def trouble(self) -> str:
        """Why certificates wait; "" where none was refused."""
        return next(iter(self._refused.values()), "")

    # --- issuing ----------------------------------------------------------------------

    def issue(self) -> bool:
        """Issue every first stage that is due; return whether none is left.

        The sink has dropped the epochs before. One for which something is still there that
        was to be forgotten is refused, loudly, and keeps no other back.
        """
        with self._lock:
            now = self._keeper.now()
            due = [each for each in self._outstanding() if not each.record.forgotten]
            issue = partial(self._issue_forgotten, now=now)
            issued = [self._attempt(issue, each) for each in due]
        return all(issued)

    def go_on(self) -> bool:
        """Issue second stages as far as can be; return whether others are still to come."""
        with self._lock:
            with self._keeper.reading() as view:
                # These before the slots: what is cleared away in between waits there by then.
                uncleared = frozenset(each.volume for _, each in view.remains())
            dates = [each.since_s for each in self._scrubbing.backlog()]
            finish = partial(self._finished, uncleared=uncleared, dates=dates)
            issued = [each for each in self._outstanding() if each.record.issued_at is not None]
            finished = [self._attempt(finish, each) for each in issued]
        return not all(finished)

    def enter_missing(self, volumes: Sequence[VolumeId]) -> None:
        """Have certificates be due for volumes that a version without any has forgotten."""
        with self._keeper.changing(frees=True) as change:
            known = {
                volume
                for key, _ in change.scan(OUTSTANDING_PREFIX)
                for volume in _find(change, CERTIFICATE_PREFIX + key[1:]).record.volumes
            }
            for volume in volumes:
                end = ended(change.birth_record(volume))
                if volume not in known and not end.certificate:
                    enter_due(
                        change,
                        [volume],
                        before=Epoch(end.epoch_before),
                        after=Epoch(end.epoch_after),
                        now=self._keeper.now(),
                    )

    def _attempt(self, work: Callable[[Issued], bool], each: Issued) -> bool:
        try:
            done = work(each)
        except ScrubjayError as error:
            if self._refused.get(each.key) != error.message:
                self._refused[each.key] = error.message
                volumes = [str(volume) for volume in each.record.volumes[:_SHOWN_MAX]]
                _log.error(
                    "certificate.refused", volumes=volumes, error=error.message, hint=error.hint
                )
            return False
        self._refused.pop(each.key, None)
        return done

    def _outstanding(self) -> Iterator[Issued]:
        """Yield what has a stage to come, in order of rotations."""
        with self._keeper.reading() as view:
            for key, _ in view.scan(OUTSTANDING_PREFIX):
                yield _find(view, CERTIFICATE_PREFIX + key[1:])

    def _issue_forgotten(self, due: Issued, *, now: dt.datetime) -> bool:
        due = self._prepared(due, now)
        assert due.record.dropped_at is not None, "the sink has dropped the epoch"
        dropped_at = max(due.record.dropped_at, self._looking.last_of(due.record))
        with self._keeper.reading() as view:
            policy = view.policy()
        scope = due.record.scope
        assert scope != "medium", "those are of retirements.py"
        record, subjects = due.record, self._looking.subjects(due.record)
        found = self._looking.after(record, subjects, since=dropped_at)
        certificate = certify_forgotten(
            Facts(
                issued_at=max(self._keeper.now(), *(each.at for each in found.looked)),
                pool=self._keeper.pool_id,
                scope=scope,
                subjects=subjects,
                epoch_before=record.epoch_before,
                epoch_after=record.epoch_after,
                forgotten_at=dropped_at,
                sinks=found.sinks,
                media=found.media,
                held=found.held,
                looked=found.looked,
                scrub_within_s=policy.scrub_within_s,
                purge_within_s=policy.purge_within_s,
                dead_since=self._looking.dead_since(record),
                logged=self._looking.logged(record, since=dropped_at),
                assumed=self._looking.assumed(record),
            ),
            self._log.signer,
            attests=attests,
        )
        self._store(certificate)
        with self._keeper.changing(frees=True) as change:
            index = append(change, certificate.entry)
            predicate = parse_statement(certificate.payload).predicate
            assert isinstance(predicate, Forgotten), "that is what was built"
            issued = msgspec.structs.replace(
                record,
                forgotten=certificate.digest,
                forgotten_index=index,
                issued_at=predicate.issued_at,
                worth=predicate.grade.value,
            )
            change.put(due.key, encode(issued))
            change.put(named_key(certificate.digest), due.key)
            for volume in map(VolumeId, record.volumes):
                _note_certificate(change, volume, certificate.digest)
        self._dropped.pop(due.key, None)
        _log.info("certificate.issued", certificate=certificate.digest, worth=issued.worth)
        return True

    def _prepared(self, due: Issued, now: dt.datetime) -> Issued:
        """Note when the sink had dropped the epoch, and enter births that are not logged yet."""
        with self._keeper.reading() as view:
            births = [view.birth_record(VolumeId(each)) for each in due.record.volumes]
        unborn = [each for each in births if each.log_index is None]
        record = due.record
        if record.dropped_at is None:
            dropped_at = self._dropped.setdefault(due.key, now)
            record = msgspec.structs.replace(record, dropped_at=dropped_at)
        if unborn or due.key in self._refused:  # else it is issued at once, and that notes it
            with self._keeper.changing(frees=True) as change:
                for each in unborn:
                    enter_birth(change, each, now=now, entropy=self._keeper.entropy)
                change.put(due.key, encode(record))
        return Issued(due.key, record)

    def _finished(self, each: Issued, *, uncleared: Container[UUID], dates: Sequence[int]) -> bool:
        """Issue a second stage where it can be; return whether nothing is to come.

        Nothing is left of the volumes but their birth records, and each slot that ever held
        bytes of theirs was overwritten since (dates.py).
        """
        record = each.record
        assert record.issued_at is not None, "it has its first stage"
        if any(volume in uncleared for volume in record.volumes):
            return False
        if each.key not in self._waits:  # from here on it never changes
            self._waits[each.key] = self._dates_of(record)
        ranges = self._waits[each.key]
        if ranges is None:  # freed by an earlier version: any slot may be theirs
            waits = self._scrubbing.waits_since(record.issued_at) is not None
        else:
            waits = covers(ranges, dates)
        if waits:
            return False
        self._issue_scrubbed(each)
        del self._waits[each.key]
        return True

    def _dates_of(self, record: CertificateRecord) -> Ranges | None:
        """Return since when slots wait that held bytes of its volumes; None: nobody knows."""
        dates: Ranges = ()
        with self._keeper.reading() as view:
            for volume in record.volumes:
                since = ended(view.birth_record(VolumeId(volume))).slots_since
                if since is None:
                    return None
                dates = (*dates, *since)
        return dates

    def _issue_scrubbed(self, each: Issued) -> None:
        record, media = each.record, self._scrubbing.media()
        first = self._certificate(record.forgotten)
        with self._keeper.reading() as view:
            slots = sum(
                ended(view.birth_record(VolumeId(volume))).slots for volume in record.volumes
            )
        assert record.issued_at is not None, "it has its first stage"
        now = max(self._keeper.now(), record.issued_at)
        later = self._looking.later(first)
        certificate = certify_scrubbed(
            ScrubFacts(
                issued_at=now,
                media=tuple(map(_scrubbed, media)),
                held=later.held,
                looked=tuple(_looked(medium, now, slots) for medium in media),
                asserted=later.asserted,
            ),
            first,
            self._log.signer,
        )
        self._store(certificate)
        with self._keeper.changing(frees=True) as change:
            index = append(change, certificate.entry)
            issued = msgspec.structs.replace(
                record, scrubbed=certificate.digest, scrubbed_index=index
            )
            change.put(each.key, encode(issued))
            change.put(named_key(certificate.digest), each.key)
            change.delete(outstanding_key(each.key))
        _log.info("certificate.scrubbed", certificate=certificate.digest)

    def _store(self, certificate: Certificate) -> None:
        """Make an envelope durable, before anything names it."""
        self._envelopes.write(
            envelope_place(certificate.digest), encode_strictly(certificate.envelope)
        )

    # --- showing ----------------------------------------------------------------------

    def page(self, *, after: bytes, limit: int, about: About | None = None) -> list[Issued]:
        """Return up to `limit` certificates in order of rotations, from behind a key on.

        With `about` those that it says yes to.
        """
        found: list[Issued] = []
        while len(found) < limit:
            wanted = limit - len(found)
            stored = self._keeper.pool.scan(CERTIFICATE_PREFIX, after=after, limit=wanted)
            rows = (Issued(key, _decode(key, value)) for key, value in stored)
            issued = (each for each in rows if each.record.forgotten)
            found += (each for each in issued if about is None or about(each.record))
            if len(stored) < wanted:
                break
            after = stored[-1][0]
        return found

    def find(self, reference: str) -> Issued:
        """Return the certificate whose id, of either stage, begins like this; 8 digits or more.

        The id of a volume finds the certificate of its end. NotFound where there is none,
        Conflict where there are several, or where a volume has none yet.
        """
        with self._keeper.reading() as view:
            reference = digest_meant(view, reference)
            keys = {key for _, key in view.scan(named_key(reference))}
            if len(keys) > 1:
                raise Conflict(
                    f"certificate {reference}: begins {len(keys)} ids, expected one",
                    hint="give more of its digits",
                )
            for key in keys:
                return _find(view, key)
        raise NotFound(f"certificate {reference}: unknown", hint="see: scrubjay certificate list")

    def blindings(self, issued: Issued) -> list[tuple[VolumeId, str]]:
        """Return the volumes of a certificate, and the value under which each is blinded, hex."""
        with self._keeper.reading() as view:
            volumes = [VolumeId(each) for each in issued.record.volumes]
            return [(each, view.birth_record(each).blinding) for each in volumes]

    def bundle(self, issued: Issued) -> bytes:
        """Return the file that an auditor checks: the newest stage with all its proofs."""
        self._log.publish()
        record = issued.record
        envelope = self._envelope(record.forgotten)
        if not record.scrubbed:
            return make_bundle(self._log.published, envelope, record.forgotten_index)
        return make_bundle(
            self._log.published,
            self._envelope(record.scrubbed),
            record.scrubbed_index,
            first=(envelope, record.forgotten_index),
        )

    def _certificate(self, digest: str) -> Certificate:
        envelope = self._envelope(digest)
        return Certificate(open_envelope(envelope, self._log.key), envelope, b"")

    def _envelope(self, digest: str) -> Envelope:
        data = self._envelopes.read(envelope_place(digest))
        if data is None:
            raise Corrupt(
                f"certificate {digest}: its file is gone",
                hint="put the folder of certificates back; its leaf is in the log",
            )
        try:
            envelope = decode_strictly(Envelope, data, what=f"certificate {digest}")
            if digest_of(open_envelope(envelope, self._log.key)) == digest:
                return envelope
            what = "holds another certificate"
        except Invalid as error:
            what = error.message
        raise Corrupt(
            f"certificate {digest}: its file was changed ({what})",
            hint="put the file back as it was; its leaf is in the log",
        )


def envelope_place(digest: str) -> str:
    """Return where, in the folder of evidence, the envelope of this digest lies."""
    return f"certificates/{digest}.json"


def _find(view: View, key: bytes) -> Issued:
    value = view.get(key)
    if value is None:
        raise Corrupt(f"pool key {key.hex()}: missing, expected a certificate")
    return Issued(key, _decode(key, value))


def _decode(key: bytes, value: bytes) -> CertificateRecord:
    return decode(CertificateRecord, value, where=f"pool key {key.hex()}")


def _scrubbed(medium: ScrubbedMedium) -> MediumScrubbed:
    ground = medium.ground
    return MediumScrubbed(
        kind=ground.kind,
        id=str(medium.id),
        place=ground.place,
        technique=medium.technique,
        method=ground.grade.value,
        reason=ground.reason,
    )


def _looked(medium: ScrubbedMedium, at: dt.datetime, slots: int) -> Looked:
    """Tell of the slots: each is done, or it would wait still."""
    read = "past the system's cache" if medium.reads == "device" else "through the system's cache"
    method = (
        f"each slot was overwritten: by zeros, of which {SAMPLED_PAGES} pages a slot were read"
        f" back {read}, or to its end by the ciphertext of a later volume"
    )
    return Looked("medium", str(medium.id), method, at, slots, slots, 0)


def _note_certificate(change: Change, volume: VolumeId, digest: str) -> None:
    birth = change.birth_record(volume)
    if ended(birth).certificate:  # of its own end, before its tenant was closed
        return
    end = msgspec.structs.replace(ended(birth), certificate=digest)
    change.put(birth_key(volume), encode(msgspec.structs.replace(birth, destruction=end)))
