"""SEAL, OPEN and derivation."""

import hashlib

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from scrubjay.base.errors import Corrupt
from scrubjay.keys import aead

KEY = bytes(range(32))
NONCE = bytes(range(12))


def _hmac(key: bytes, text: bytes) -> bytes:
    """HMAC-SHA-256 as RFC 2104 writes it."""
    padded = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded) + text).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in padded) + inner).digest()


def test_child_of_a_seed_follows_the_format() -> None:
    """A child is HMAC(seed, "scrubjay child 1" then its index), alone or in bulk."""
    expected = [_hmac(KEY, b"scrubjay child 1" + bytes([index])) for index in range(256)]
    assert [aead.child(KEY, index) for index in range(256)] == expected
    assert aead.children(KEY, range(256)) == expected
    assert len(set(expected)) == 256


def test_commitment_of_a_segment_key_follows_the_format() -> None:
    """A commitment is an HMAC under a label of its own, and no child."""
    assert aead.commitment(KEY) == _hmac(KEY, b"scrubjay commitment 1")
    assert aead.commitment(KEY) not in aead.children(KEY, range(256))


def test_seal_known_answer_matches_the_standard() -> None:
    """SEAL is AES-256-GCM: test case 14 of McGrew and Viega, its first block of zeros."""
    sealed = aead.seal(bytes(32), bytes(12), text=bytes(16), ad=None)
    assert sealed.hex() == "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"


def test_seal_then_unseal_returns_the_text() -> None:
    """What was sealed opens, in memory that can be overwritten, and in place too."""
    sealed = aead.seal(KEY, NONCE, text=b"text", ad=b"ad")
    assert aead.unseal(KEY, NONCE, sealed=sealed, ad=b"ad", what="it") == bytearray(b"text")
    cipher, out, text = AESGCM(KEY), bytearray(20), bytearray(4)
    aead.seal_into(cipher, NONCE, text=b"text", ad=b"ad", out=out)
    assert out == sealed
    aead.open_into(cipher, NONCE, sealed=out, ad=b"ad", out=text, what="it")
    assert text == b"text"


@pytest.mark.parametrize("changed", ["key", "nonce", "ad", "bit", "short", "empty"])
def test_unseal_with_anything_changed_is_corrupt(changed: str) -> None:
    """Nothing but the very same key, nonce, data and bytes opens; the message has no secret."""
    sealed = aead.seal(KEY, NONCE, text=b"text", ad=b"ad")
    key, nonce, ad = KEY, NONCE, b"ad"
    match changed:
        case "key":
            key = bytes(32)
        case "nonce":
            nonce = bytes(12)
        case "ad":
            ad = b"da"
        case "bit":
            sealed = bytes([sealed[0] ^ 1]) + sealed[1:]
        case "short":
            sealed = sealed[:-1]
        case _:
            sealed = b""
    with pytest.raises(Corrupt, match=r"^it: ") as caught:
        aead.unseal(key, nonce, sealed=sealed, ad=ad, what="it")
    assert KEY.hex() not in str(caught.value)
