"""A TPM's signed word: what is proven, and every forgery that we could think of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.errors import Corrupt, Invalid, ScrubjayError
from scrubjay.base.ids import Epoch
from scrubjay.sinks.attestation import (
    Certified,
    Evidence,
    attestation_name,
    verify_attestation,
)
from scrubjay.sinks.tpm.public import NV_ATTRIBUTES, NV_WRITTEN, NvPublic
from scrubjay.sinks.tpm.slot import dropping, empty, head_of_held, held
from tests.sinks.disks import key_of
from tests.sinks.signing import (
    CHALLENGE,
    EMPTIED,
    FIRMWARE,
    HELD,
    INDICES,
    KEY,
    OTHER_KEY,
    OWNERS,
    evidence,
    index,
    public_of,
)

PINNED = attestation_name(evidence())


def test_attestation_that_is_sound_proves_both_epochs() -> None:
    """The facts are those that were signed."""
    proven = verify_attestation(evidence(), attestation_name=PINNED, challenge=CHALLENGE)
    assert (proven.epoch, proven.dropped, proven.firmware) == (2, 1, FIRMWARE)
    assert (proven.clock_ms, proven.resets) == (1000, 3)


FORGERIES: dict[str, Callable[[], Evidence]] = {
    "another key signed what is held": lambda: evidence(kept=replace(HELD, key=OTHER_KEY)),
    "another key signed what is empty": lambda: evidence(emptied=replace(EMPTIED, key=OTHER_KEY)),
    "another key, named openly": lambda: evidence(
        replace(HELD, key=OTHER_KEY),
        replace(EMPTIED, key=OTHER_KEY),
        attestation_public=public_of(OTHER_KEY),
    ),
    "no statement of a TPM": lambda: evidence(kept=replace(HELD, magic=0x12345678)),
    "a quote, not an index": lambda: evidence(kept=replace(HELD, kind=0x8018)),
    "a signer elsewhere": lambda: evidence(kept=replace(HELD, signer=b"\0\x0b" + bytes(32))),
    "for something else": lambda: evidence(kept=replace(HELD, challenge=b"certificate 6")),
    "replayed for what is empty": lambda: evidence(emptied=replace(EMPTIED, challenge=b"")),
    "another epoch held": lambda: evidence(
        kept=replace(HELD, contents=head_of_held(OWNERS, Epoch(3)))
    ),
    "another epoch named": lambda: evidence(epoch=3),
    "another sink": lambda: evidence(sink_id=UUID(int=1)),
    "another pool": lambda: evidence(pool_id=UUID(int=1)),
    "the old key still there": lambda: evidence(
        emptied=replace(EMPTIED, contents=held(OWNERS, Epoch(1), key_of(1)))
    ),
    "the old key half there": lambda: evidence(
        emptied=replace(EMPTIED, contents=empty(OWNERS, Epoch(1))[:-1] + b"x")
    ),
    "only overwritten once": lambda: evidence(
        emptied=replace(EMPTIED, contents=dropping(OWNERS, Epoch(1)))
    ),
    "only the empty part stated": lambda: evidence(
        emptied=replace(EMPTIED, contents=empty(OWNERS, Epoch(1))[:80])
    ),
    "stated from the middle": lambda: evidence(emptied=replace(EMPTIED, offset=8)),
    "the same index twice": lambda: evidence(
        emptied=replace(EMPTIED, index=HELD.index, clock_ms=1001)
    ),
    "a newer epoch dropped": lambda: evidence(
        emptied=replace(EMPTIED, contents=empty(OWNERS, Epoch(2)))
    ),
    "an index that the owner reads": lambda: evidence(
        kept=replace(HELD, index=index(INDICES[0], NV_ATTRIBUTES | NV_WRITTEN | 1 << 17))
    ),
    "an index of another size": lambda: evidence(
        emptied=replace(EMPTIED, index=NvPublic(5, NV_ATTRIBUTES | NV_WRITTEN, b"", 4096))
    ),
    "an index with a policy": lambda: evidence(
        emptied=replace(EMPTIED, index=NvPublic(5, NV_ATTRIBUTES | NV_WRITTEN, bytes(32), 112))
    ),
    "before the index was emptied": lambda: evidence(emptied=replace(EMPTIED, clock_ms=999)),
    "after another reset": lambda: evidence(emptied=replace(EMPTIED, resets=4)),
    "another firmware named": lambda: evidence(firmware=FIRMWARE + 1),
    "another firmware signed": lambda: evidence(kept=replace(HELD, firmware=1)),
    "indices that somebody else made": lambda: evidence(
        replace(HELD, index=index(0x01800000)), replace(EMPTIED, index=index(0x01800001))
    ),
    "an empty index that somebody else made": lambda: evidence(
        emptied=replace(EMPTIED, index=index(INDICES[1] + 2))
    ),
    "an index exchanged": lambda: evidence(
        held=msgspec.structs.replace(HELD.certified(), nv_public=EMPTIED.index.encode())
    ),
    "a signature of another scheme": lambda: evidence(
        held=msgspec.structs.replace(
            HELD.certified(), signature=b"\0\x14" + HELD.certified().signature[2:]
        )
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda name: name.replace(" ", "-"))
def test_attestation_that_is_forged_is_refused(forgery: str) -> None:
    """Each of these would claim more than a TPM said (I8)."""
    with pytest.raises((Corrupt, Invalid)):
        verify_attestation(FORGERIES[forgery](), attestation_name=PINNED, challenge=CHALLENGE)


def test_attestation_by_a_key_that_signs_anything_is_refused() -> None:
    """A key that is not restricted would sign a statement that somebody made up."""
    loose = bytearray(public_of(KEY))
    loose[5] &= 0xFE  # the attribute `restricted`
    made = evidence(attestation_public=bytes(loose))
    with pytest.raises(Corrupt, match="restricted"):
        verify_attestation(made, attestation_name=attestation_name(made), challenge=CHALLENGE)


@given(st.data())
def test_attestation_with_any_byte_changed_is_refused(data: st.DataObject) -> None:
    """No byte of what was signed, of the signature or of the key is idle."""
    made = evidence()
    part = data.draw(st.sampled_from(["held", "emptied", "attestation_public"]))
    whole = getattr(made, part)
    field = data.draw(st.sampled_from(["nv_public", "attest", "signature"]))
    old: bytes = getattr(whole, field) if isinstance(whole, Certified) else whole
    at = data.draw(st.integers(0, len(old) - 1))
    new = old[:at] + bytes((old[at] ^ data.draw(st.integers(1, 255)),)) + old[at + 1 :]
    changed = (
        msgspec.structs.replace(whole, **{field: new}) if isinstance(whole, Certified) else new
    )
    with pytest.raises((Corrupt, Invalid)):
        verify_attestation(
            msgspec.structs.replace(made, **{part: changed}),
            attestation_name=PINNED,
            challenge=CHALLENGE,
        )


@given(st.binary(max_size=300), st.sampled_from(["nv_public", "attest", "signature"]))
def test_attestation_of_arbitrary_bytes_is_refused(noise: bytes, field: str) -> None:
    """Whatever lies in a file, the verifier says no and does not stumble."""
    made = evidence(held=msgspec.structs.replace(HELD.certified(), **{field: noise}))
    with pytest.raises(ScrubjayError):
        verify_attestation(made, attestation_name=PINNED, challenge=CHALLENGE)
    with pytest.raises(ScrubjayError):
        attestation_name(evidence(attestation_public=noise))
