"""Superblocks: hostile bytes are refused, the newest that opens is chosen."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.errors import Corrupt, Denied, Invalid
from scrubjay.base.ids import Epoch
from scrubjay.keys.table import Kind, Node
from scrubjay.media.geometry import Geometry
from scrubjay.media.pages import NO_POINTER, Pointer
from scrubjay.media.superblock import (
    MediumEntry,
    Secrets,
    Superblock,
    choose,
    copy_offset_bytes,
    pack,
    parse,
    survey,
    unseal,
)
from tests.media.rig import Seeded, Sink

KEY = Sink().keys[1]
SECRETS = Secrets(b"metadata" * 4, Node(Kind.TABLE, bytearray(b"root" * 8)))
MEDIA = (
    MediumEntry(uuid.UUID(int=1), 0, 100, 1, 0),
    MediumEntry(uuid.UUID(int=2), 100, 28, 2, 7),
)
BLOCK = Superblock(
    pool_id=uuid.UUID(int=9),
    medium_id=uuid.UUID(int=2),
    sink_id=uuid.UUID(int=8),
    generation=41,
    epoch=Epoch(1),
    geometry=Geometry(128, 4, (0, 100)),
    media=MEDIA,
    height=3,
    root=Pointer(bytes(range(24))),
    committed_ns=1_700_000_000_000_000_000,
)


def _packed(block: Superblock = BLOCK, key: bytes = KEY) -> bytes:
    return pack(block, SECRETS, epoch_key=key, entropy=Seeded())


def _forged(raw: bytes, at: int, value: bytes) -> bytes:
    """Change bytes and put the checksum right, as an attacker can."""
    body = raw[:at] + value + raw[at + len(value) : 4064]
    return body + hashlib.sha256(body).digest()


def test_superblock_packed_then_parsed_is_the_same() -> None:
    """What is written is what is read, and no secret stands in clear (I2)."""
    raw = _packed()
    assert len(raw) == 4096
    assert parse(raw, "here") == BLOCK
    assert unseal(raw, KEY, "here") == SECRETS
    assert b"metadata" not in raw
    assert b"root" not in raw
    assert "rootroot" not in repr(SECRETS) + repr(SECRETS.root_node)


def test_superblock_with_any_bit_flipped_is_corrupt(seed: int) -> None:
    """A flipped bit in any of the 4096 bytes is found before anything is believed."""
    raw = _packed()
    random = Random(seed)
    for at in range(4096):
        bad = raw[:at] + bytes([raw[at] ^ 1 << random.randrange(8)]) + raw[at + 1 :]
        with pytest.raises(Corrupt):
            parse(bad, "here")


def test_superblock_torn_anywhere_is_corrupt() -> None:
    """A write torn at any sector, over the copy before it, is never taken for a superblock."""
    old, new = _packed(replace(BLOCK, generation=39)), _packed()
    for cut in range(512, 4096, 512):
        for torn in (new[:cut] + old[cut:], old[:cut] + new[cut:]):
            if torn in (old, new):
                continue  # the zeros in the middle differ in nothing
            with pytest.raises(Corrupt, match="checksum"):
                parse(torn, "here")


def test_superblock_forged_in_any_clear_byte_does_not_open(seed: int) -> None:
    """The seal makes every field authentic: a right checksum alone gets nobody anywhere."""
    raw = _packed()
    random = Random(seed)
    for at in range(4064):
        bad = _forged(raw, at, bytes([raw[at] ^ 1 << random.randrange(8)]))
        with pytest.raises((Corrupt, Invalid, Denied)):
            choose([("here", bad)], Sink().key)


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (10, b"\0\0", "media 0"),
        (10, b"\x21\0", "media 33"),
        (10, b"\x01\0", "padding"),
        (80, b"\0\0\0\0", "slot size 0"),
        (84, b"\0\0\0\0", "slots 0"),
        (84, b"\x81\0\0\0", "slots of the media"),
        (88, b"\0\0\0\0", "slots per area 0"),
        (88, b"\x03\0\0\0", "slots per area 3"),
        (92, b"\xff\0\0\0", "height 255"),
        (92, b"\0\0\0\0", "root"),
        (96, bytes(24), "root"),
        (128 + 16, b"\x01", "media table"),
        (128 + 20, bytes(4), "medium's slots 0"),
        (128 + 24, b"\x09", "medium's state 9"),
        (128 + 25, b"\x01", "medium's padding"),
        (32, bytes(16), "medium "),
        (2000, b"\x01", "padding"),
    ],
)
def test_superblock_that_contradicts_itself_names_the_field(
    at: int, value: bytes, words: str
) -> None:
    """Every length and count is checked before it is used."""
    with pytest.raises(Corrupt, match=f"here: {words}"):
        parse(_forged(_packed(), at, value), "here")


@pytest.mark.parametrize(("at", "value"), [(8, b"\x02\0"), (12, b"\x01\0\0\0")])
def test_superblock_of_a_newer_version_is_refused_with_a_hint(at: int, value: bytes) -> None:
    """A newer format is the reader's problem, not damage."""
    with pytest.raises(Invalid) as caught:
        choose([("here", _forged(_packed(), at, value)), ("there", bytes(4096))], Sink().key)
    assert "newer Scrubjay" in caught.value.hint


@given(st.binary(min_size=4064, max_size=4064), st.booleans())
def test_superblock_of_random_bytes_is_corrupt_or_newer(body: bytes, named: bool) -> None:
    """No bytes at all make the reader fail in another way."""
    body = b"SCRUBJAY" + body[8:] if named else body
    with pytest.raises((Corrupt, Invalid)):
        choose([("here", body + hashlib.sha256(body).digest())], Sink().key)


def test_choice_between_copies_takes_the_newest_that_opens() -> None:
    """The newest wins; a torn, forged or foreign one leaves the older one standing."""
    old = ("old", _packed(replace(BLOCK, generation=40)))
    new = ("new", _packed())
    torn = ("torn", new[1][:512] + old[1][512:])
    forged = ("forged", _forged(new[1], 48, b"\xff"))
    unheld = ("unheld", _packed(replace(BLOCK, epoch=Epoch(2)), b"2" * 32))
    for copies, generation in (
        ([old, new], 41),
        ([new, old], 41),
        ([old, torn], 40),
        ([forged, old], 40),
        ([unheld, old], 40),
        ([("zeros", bytes(4096)), old], 40),
    ):
        assert choose(copies, Sink().key)[0].generation == generation
    assert survey([forged, old]).generation == 255


def test_choice_without_the_epoch_key_is_denied() -> None:
    """I6: a pool from before a rotation, or a foreign sink, is refused and says which."""
    copies = [("a", _packed(replace(BLOCK, epoch=Epoch(3)), b"3" * 32)), ("b", bytes(4096))]
    with pytest.raises(Denied, match="epoch 3, which the sink does not hold"):
        choose(copies, Sink().key)


def test_choice_with_all_copies_damaged_keeps_the_bytes() -> None:
    """Where nothing opens it stops and says of each copy why."""
    raw = _packed()
    copies = [("first", raw[:100] + bytes(3996)), ("second", bytes(4096))]
    with pytest.raises(Corrupt, match=r"first: checksum.*second: begins with 0000") as caught:
        choose(copies, Sink().key)
    assert "keep it" in caught.value.hint
    with pytest.raises(Corrupt, match="does not open"):
        choose([("here", raw)], lambda epoch: b"x" * 32)


def test_superblock_copies_alternate_between_two_places() -> None:
    """Generation g never overwrites generation g - 1."""
    assert [copy_offset_bytes(each) for each in range(4)] == [0, 65536, 0, 65536]


def test_empty_tree_has_no_root_pointer() -> None:
    """Height 0 and a zero pointer go together."""
    assert parse(_packed(replace(BLOCK, height=0, root=NO_POINTER)), "here").height == 0
