"""Bundles made from the folder `evidence` of a home, or a copy of it, with no daemon and no pool.

The envelopes lie in `certificates`, the published log in `log`; which entry is a certificate's
is looked for in the log. What comes out is verified like any bundle: nothing here is believed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NoReturn

from scrubjay.base.errors import Conflict, Corrupt, Invalid, NotFound, Unavailable
from scrubjay.evidence.bundle import make_bundle
from scrubjay.evidence.dsse import Envelope, digest_of, open_envelope
from scrubjay.evidence.entries import ForgettingEntry, RetiredEntry, ScrubbedEntry, parse_entry
from scrubjay.evidence.log import Log
from scrubjay.evidence.note import Signer, VerifierKey
from scrubjay.evidence.strict import decode
from scrubjay.evidence.tiles import Files, TileReader

__all__ = ["bundle_from"]

_DIGEST = re.compile("[0-9a-f]{8,64}")
_Logged = ForgettingEntry | ScrubbedEntry | RetiredEntry


def bundle_from(evidence: Files, log: Files, reference: str, key: VerifierKey) -> bytes:
    """Return the bundle of the certificate whose id, of either stage, begins like this.

    It is of the newest stage that is there. NotFound where there is no such envelope, or no
    entry of it in the log, Conflict where several begin so, Corrupt where a file was changed.
    """
    digest = _digest_like(evidence, reference)
    published = Log(log, Signer(key, _refuse))
    known = published.checkpoint()
    if known is None:
        raise NotFound("log: no checkpoint there", hint="expected the folder evidence of a home")
    entries = TileReader(log, known[0].size).entries(0, known[0].size)
    found = _stages(entries, digest)
    envelopes = [(_envelope(evidence, each, key), index) for each, index in found]
    if len(envelopes) == 1:
        return make_bundle(published, *envelopes[0])
    return make_bundle(published, *envelopes[1], first=envelopes[0])


def _digest_like(evidence: Files, reference: str) -> str:
    names = evidence.names("certificates") if _DIGEST.fullmatch(reference) else []
    found = [each for each in names if each.startswith(reference) and each.endswith(".json")]
    if not found:
        raise NotFound(
            f"certificate {reference[:80]!r}: no such file in the folder's certificates",
            hint="give 8 digits or more of an id, and the folder evidence of a home",
        )
    if len(found) > 1:
        raise Conflict(
            f"certificate {reference}: begins {len(found)} ids, expected one",
            hint="give more of its digits",
        )
    return found[0].removesuffix(".json")


def _stages(entries: Sequence[bytes], digest: str) -> list[tuple[str, int]]:
    """Return the digest and entry of the stages of a certificate, the first one first."""
    entry, index = _logged(entries, digest)
    if isinstance(entry, ScrubbedEntry):
        digest = entry.forgotten
        entry, index = _logged(entries, digest)
        if not isinstance(entry, ForgettingEntry):
            raise Corrupt(f"certificate {digest}: its entry is {index}, expected a forgetting's")
    later = [
        (each.statement, at)
        for each, at in _naming(entries, digest)
        if isinstance(each, ScrubbedEntry) and each.forgotten == digest
    ]
    return [(digest, index), *later[:1]]


def _logged(entries: Sequence[bytes], digest: str) -> tuple[_Logged, int]:
    for each, at in _naming(entries, digest):
        if each.statement == digest:
            return each, at
    raise NotFound(
        f"certificate {digest}: not in the log of {len(entries)} entries",
        hint="copy the published log anew",
    )


def _naming(entries: Sequence[bytes], digest: str) -> Iterator[tuple[_Logged, int]]:
    """Yield the entries about certificates in which a digest stands."""
    for at, each in enumerate(entries):
        if digest.encode() in each and isinstance(entry := parse_entry(each), _Logged):
            yield entry, at


def _envelope(evidence: Files, digest: str, key: VerifierKey) -> Envelope:
    what = f"certificate {digest}"
    data = evidence.read(f"certificates/{digest}.json")
    if data is None:
        raise NotFound(f"{what}: its file is not there", hint="its leaf is in the log: put it back")
    try:
        envelope = decode(Envelope, data, what=what)
        same = digest_of(open_envelope(envelope, key)) == digest
    except Invalid as error:
        raise Corrupt(f"{what}: its file was changed, or signed by another key") from error
    if not same:
        raise Corrupt(f"{what}: its file holds another certificate")
    return envelope


def _refuse(_message: bytes) -> NoReturn:
    raise Unavailable("log: nothing is signed here, expected to read alone")
