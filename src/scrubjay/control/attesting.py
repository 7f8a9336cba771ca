"""Between sinks that sign and certificates that carry it: evidence knows no TPM, sinks no log.

`attests` is what a verifier is given to read a TPM's word with: pure, without TPM or daemon.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import msgspec
import structlog

from scrubjay.base.errors import Corrupt, Invalid, ScrubjayError
from scrubjay.base.ids import Epoch
from scrubjay.evidence.attesting import Shown
from scrubjay.evidence.statement import Attestation, NvCertified, SinkDropped
from scrubjay.evidence.strict import decode, encode
from scrubjay.sinks.attestation import Certified, Evidence, verify_attestation
from scrubjay.sinks.attesting import Attesting, signers_of
from scrubjay.sinks.sink import Part, Sink

__all__ = ["attestation_of", "attested", "attests"]

_log = structlog.get_logger(__name__)


def attests(
    attestation: Attestation, *, pool: UUID, sink: UUID, key: str, challenge: bytes
) -> Shown:
    """Return what a TPM's word shows (`evidence.attesting.Attests`); Invalid if it is forged."""
    evidence = Evidence(
        sink_id=sink,
        pool_id=pool,
        epoch=attestation.epoch,
        held=_certified(attestation.held),
        emptied=_certified(attestation.emptied),
        attestation_public=attestation.public,
        firmware=int(attestation.firmware, 16),
        endorsement_public=b"",  # this and what follows no signature covers: it is not carried
        manufacturer="",
        vendor="",
        indices=[],
    )
    try:
        proven = verify_attestation(
            evidence, attestation_name=bytes.fromhex(key), challenge=challenge
        )
    except Corrupt as error:
        raise Invalid(error.message) from error
    return Shown(
        epoch=proven.epoch,
        dropped=proven.dropped,
        firmware=proven.firmware,
        clock_ms=proven.clock_ms,
        resets=proven.resets,
    )


def attestation_of(evidence: Evidence) -> Attestation:
    """Return what a certificate carries of it; Invalid where a part of it is too large."""
    carried = Attestation(
        epoch=evidence.epoch,
        firmware=f"{evidence.firmware:016x}",
        public=evidence.attestation_public,
        held=_carried(evidence.held),
        emptied=_carried(evidence.emptied),
    )
    return decode(Attestation, encode(carried), what="attestation")


def attested(
    dropped: SinkDropped, part: Part, sink: Sink, challenge: Callable[[], bytes], *, pool: UUID
) -> SinkDropped:
    """Return a sink's entry with what that part of `sink` signed; unchanged if it signs nothing.

    A TPM that cannot sign now, or whose word does not verify, keeps no certificate back: the
    entry names its key alone, and the certificate says that nothing was signed.
    """
    name = signers_of(sink).get(part.sink_id)
    if name is None or not isinstance(sink, Attesting):
        return dropped
    key, made_for = name.hex(), challenge()
    named = msgspec.structs.replace(dropped, key=key)
    try:
        evidence = sink.attest(part.sink_id, max(part.epochs, default=Epoch(0)), made_for)
        attestation = attestation_of(evidence)
        attests(attestation, pool=pool, sink=part.sink_id, key=key, challenge=made_for)
    except ScrubjayError as error:
        _log.warning(
            "sink.unattested", sink=str(part.sink_id), error=error.message, hint=error.hint
        )
        return named
    return msgspec.structs.replace(named, attestation=attestation)


def _certified(carried: NvCertified) -> Certified:
    return Certified(carried.nv_public, carried.attest, carried.signature)


def _carried(certified: Certified) -> NvCertified:
    return NvCertified(
        nv_public=certified.nv_public, attest=certified.attest, signature=certified.signature
    )
