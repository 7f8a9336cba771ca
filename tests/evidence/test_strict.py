"""JSON of strangers, entries of the log, and DSSE's encoding."""

import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.errors import Invalid
from scrubjay.base.ids import TenantNo
from scrubjay.evidence.dsse import open_envelope, pae, seal_envelope
from scrubjay.evidence.entries import (
    SUBJECTS_MAX,
    DeadlineMissed,
    DefaultChanged,
    Entry,
    ForgettingEntry,
    ScrubbedEntry,
    blind_tenant,
    blind_volume,
    pack_entry,
    parse_entry,
)
from scrubjay.evidence.strict import Record, Text, decode, encode
from tests.evidence.world import BLINDING, POOL, moment, signer, volume

DIGEST = "0" * 64


class Sample(Record, frozen=True):
    """A record to decode."""

    text: Text
    number: int


@given(st.integers(-(1 << 62), 1 << 62))
def test_record_that_was_encoded_is_decoded(number: int) -> None:
    """What is written is read."""
    sample = Sample(text="a", number=number)
    assert decode(Sample, encode(sample), what="sample") == sample


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b'{"text":"a","number":1,"number":1}', "twice"),
        (b'{"text":"a","number":1,"n\\u0075mber":2}', "twice"),
        (b'{"text":"a","number":1.0}', "whole numbers"),
        (b'{"text":"a","number":1e2}', "whole numbers"),
        (b'{"text":"a","number":NaN}', "whole numbers"),
        (b'{"text":"a","number":11111111111111111111}', "digits"),
        (b'{"text":"a","number":"1"}', "number"),
        (b'{"text":"a","number":true}', "number"),
        (b'{"text":"a"}', "number"),
        (b'{"text":"a","number":1,"more":1}', "more"),
        (b'{"text":"a","number":1} x', "sample"),
        (b'{"text":"","number":1}', "text"),
        (b'{"text":"a\\u0000","number":1}', "text"),
        (b'{"text":"a\\n","number":1}', "text"),
        (b'{"text":"\\u202egnol","number":1}', "text"),
        (b'{"text":"\\u200b","number":1}', "text"),
        (b'{"text":"\\ud800","number":1}', "sample"),
        (b'{"text":"\xff","number":1}', "UTF-8"),
        (b'{"text":"' + b"a" * 1001 + b'","number":1}', "text"),
        (b'{"text":' + b"[" * 16 + b"]" * 16 + b',"number":1}', "deeper"),
        (b" " * (4 << 20) + b"1", "bytes"),
    ],
)
def test_record_of_a_stranger_is_refused_with_its_reason(data: bytes, complaint: str) -> None:
    """What one of the two parsers would let pass, the other finds."""
    with pytest.raises(Invalid, match=complaint):
        decode(Sample, data, what="sample")


def test_refusal_of_a_record_carries_no_control_characters() -> None:
    """An error goes to a terminal."""
    with pytest.raises(Invalid) as caught:
        decode(Sample, json.dumps({"\x1b[2J": 1, "text": "a"}).encode(), what="sample")
    assert caught.value.message.isprintable()


def test_brackets_in_strings_are_no_nesting() -> None:
    """Depth counts objects and lists, not what texts say."""
    assert decode(Sample, b'{"text":"[[[[[[[[[[[[[[[[[[\\"","number":1}', what="sample").number == 1


ENTRIES: list[Entry] = [
    ForgettingEntry(at=moment(1), statement=DIGEST, subjects=(DIGEST,) * SUBJECTS_MAX),
    ScrubbedEntry(at=moment(1), statement=DIGEST, forgotten=DIGEST, subjects=(DIGEST,)),
    DefaultChanged(at=moment(1), setting="scrub_within", before="24 h", after="12 h"),
    DeadlineMissed(
        at=moment(1),
        subject=DIGEST,
        deadline="purge_within",
        due_at=moment(0),
        reason="the pool was stopped",
    ),
]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda each: type(each).__name__)
def test_entry_of_each_kind_is_read_back(entry: Entry) -> None:
    """Sorted, without blanks, and small enough for a bundle of entries."""
    data = pack_entry(entry)
    assert parse_entry(data) == entry
    assert data == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode()
    assert len(data) < 1 << 16


def test_entry_out_of_its_bounds_is_not_packed() -> None:
    """What could not be read is not written."""
    with pytest.raises(Invalid, match="entry of the log"):
        pack_entry(ForgettingEntry(at=moment(1), statement="no digest", subjects=(DIGEST,)))
    with pytest.raises(Invalid, match="entry of the log"):
        pack_entry(
            ForgettingEntry(at=moment(1).replace(tzinfo=None), statement=DIGEST, subjects=(DIGEST,))
        )


def test_blinded_ids_differ_by_blinding_identity_and_kind() -> None:
    """Neither is told by the other, and each takes 16 random bytes."""
    tenant = blind_tenant(BLINDING, POOL, TenantNo(1))
    others = {
        blind_volume(BLINDING, volume(1)),
        blind_volume(BLINDING, volume(2)),
        blind_volume(bytes(16), volume(1)),
        blind_tenant(BLINDING, POOL, TenantNo(2)),
        blind_tenant(BLINDING, UUID(int=0), TenantNo(1)),
        tenant,
    }
    assert len(others) == 6
    for blinding in (b"", bytes(15), bytes(17)):
        with pytest.raises(Invalid, match="blinding value"):
            blind_volume(blinding, volume(1))


def test_encoding_before_signing_is_that_of_dsse() -> None:
    """The example of the specification, and lengths in bytes."""
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pae("http://example.com/HelloWorld", b"hello world") == expected
    assert pae("ä", b"") == b"DSSEv1 2 \xc3\xa4 0 "


def test_envelope_is_opened_by_its_key_alone() -> None:
    """Not by another, and not with what a note was signed with."""
    envelope = seal_envelope(b"{}", signer())
    assert open_envelope(envelope, signer().key) == b"{}"
    with pytest.raises(Invalid, match="not a signature of"):
        open_envelope(envelope, signer(2).key)
