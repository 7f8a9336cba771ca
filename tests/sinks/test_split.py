"""The anti-forensic splitter."""

import hashlib

import pytest

from scrubjay.sinks import split as af
from tests.keys.world import SeededEntropy

KEY = bytes(range(32))


def _af_merge(stripes: bytes) -> bytes:
    """AFmerge of the LUKS1 on-disk format, byte by byte, for a 32-byte key and SHA-256."""
    buffer = bytearray(32)
    for number in range(3999):
        for at in range(32):
            buffer[at] ^= stripes[32 * number + at]
        buffer = bytearray(hashlib.sha256(b"\0\0\0\0" + buffer).digest())
    return bytes(last ^ byte for last, byte in zip(stripes[-32:], buffer, strict=True))


def test_split_key_merges_as_luks_does() -> None:
    """What we split, LUKS's merging joins; ours too."""
    stripes = af.split(KEY, SeededEntropy(1))
    assert len(stripes) == af.SPLIT_BYTES == 128_000
    assert af.merge(stripes) == _af_merge(stripes) == KEY


@pytest.mark.parametrize("position", [0, 63_999, 127_967, 127_968, 127_999])
def test_split_key_with_one_bit_lost_is_lost(position: int) -> None:
    """One bit, anywhere, and the key is another."""
    stripes = bytearray(af.split(KEY, SeededEntropy(1)))
    stripes[position] ^= 1
    assert af.merge(bytes(stripes)) != KEY


def test_split_key_with_one_sector_lost_shares_no_more_than_chance() -> None:
    """A lost sector leaves no part of the key: about half its bits differ."""
    stripes = bytearray(af.split(KEY, SeededEntropy(1)))
    stripes[4096:4608] = bytes(512)
    wrong = int.from_bytes(af.merge(bytes(stripes))) ^ int.from_bytes(KEY)
    assert 80 < wrong.bit_count() < 176


def test_split_twice_shares_no_stripe() -> None:
    """A key stored again looks different, so old remains of it do not help."""
    entropy = SeededEntropy(1)
    first, second = af.split(KEY, entropy), af.split(KEY, entropy)
    cut = [{each[at : at + 32] for at in range(0, len(each), 32)} for each in (first, second)]
    assert not cut[0] & cut[1]
