"""What a request may ask, and the bytes of each reply."""

from itertools import pairwise
from struct import pack, unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.errors import Corrupt, Denied, Invalid, NoSpace, ScrubjayError, Unavailable
from scrubjay.nbd import wire
from scrubjay.nbd.exports import SERVED
from scrubjay.nbd.transmission import (
    EXTENTS_SENT_MAX,
    Rules,
    block_status,
    clip_text,
    data_chunk,
    done_chunk,
    error_reply,
    hole_chunk,
    read_header,
    simple_reply,
)
from scrubjay.nbd.wire import Cookie

SIZE = 1 << 30
MAX = wire.PAYLOAD_BYTES_MAX
COOKIE = Cookie(0x0102030405060708)
FULL = Rules.negotiated(SERVED, structured=True, allocation=True)
SIMPLE = Rules.negotiated(SERVED, structured=False, allocation=False)
READ_ONLY = Rules.negotiated(SERVED | wire.FLAG_READ_ONLY, structured=True, allocation=True)
BARE = Rules.negotiated(wire.FLAG_HAS_FLAGS, structured=False, allocation=False)

READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST = 1, 2, 4, 8, 16


@pytest.mark.parametrize(
    ("rules", "flags", "command", "offset", "length", "expected"),
    [
        # well within
        (FULL, 0, READ, 0, 1, 0),
        (FULL, DF, READ, 0, 4096, 0),
        (FULL, FUA, READ, 0, 4096, 0),
        (FULL, FUA, WRITE, SIZE - MAX, MAX, 0),
        (FULL, 0, FLUSH, 0, 0, 0),
        (FULL, FUA, FLUSH, 0, 0, 0),
        (FULL, FUA, TRIM, 0, SIZE, 0),
        (FULL, 0, CACHE, 0, SIZE, 0),
        (FULL, FUA | NO_HOLE | FAST, ZEROES, 0, SIZE, 0),
        (FULL, REQ_ONE | FUA, STATUS, 0, SIZE, 0),
        (READ_ONLY, 0, READ, 0, 4096, 0),
        (READ_ONLY, 0, FLUSH, 0, 0, 0),
        # past the end: EINVAL, ENOSPC for what writes data
        (FULL, 0, READ, SIZE, 1, wire.EINVAL),
        (FULL, 0, READ, SIZE - 1, 2, wire.EINVAL),
        (FULL, 0, READ, (1 << 64) - 1, 4096, wire.EINVAL),
        (FULL, 0, WRITE, SIZE - 1, 2, wire.ENOSPC),
        (FULL, 0, WRITE, (1 << 64) - 1, 1, wire.ENOSPC),
        (FULL, 0, ZEROES, SIZE, 1, wire.ENOSPC),
        (FULL, 0, TRIM, SIZE, 1, wire.EINVAL),
        (FULL, 0, CACHE, SIZE, 1, wire.EINVAL),
        (FULL, 0, STATUS, SIZE, 1, wire.EINVAL),
        # nothing asked for, or something where nothing belongs
        *((FULL, 0, command, 0, 0, wire.EINVAL) for command in (0, 1, 4, 5, 6, 7)),
        (FULL, 0, FLUSH, 0, 1, wire.EINVAL),
        (FULL, 0, FLUSH, 1, 0, wire.EINVAL),
        # too much payload
        (FULL, 0, READ, 0, MAX + 1, wire.EOVERFLOW),
        (SIMPLE, 0, READ, 0, MAX + 1, wire.EINVAL),
        (FULL, 0, WRITE, 0, MAX + 1, wire.EINVAL),
        # flags that are unknown, or not this command's, or not negotiated
        *((FULL, 1 << bit, READ, 0, 1, wire.EINVAL) for bit in (1, 3, 4, 5, 15)),
        *((FULL, 1 << bit, WRITE, 0, 1, wire.EINVAL) for bit in (1, 2, 3, 4, 5, 15)),
        *((FULL, 1 << bit, ZEROES, 0, 1, wire.EINVAL) for bit in (2, 3, 5, 15)),
        *((FULL, 1 << bit, STATUS, 0, 1, wire.EINVAL) for bit in (1, 2, 4, 5, 15)),
        *((FULL, 1 << bit, CACHE, 0, 1, wire.EINVAL) for bit in (1, 2, 3, 4, 5, 15)),
        *((FULL, 1 << bit, TRIM, 0, 1, wire.EINVAL) for bit in (1, 2, 3, 4, 5, 15)),
        *((FULL, 1 << bit, FLUSH, 0, 0, wire.EINVAL) for bit in (1, 2, 3, 4, 5, 15)),
        (SIMPLE, DF, READ, 0, 1, wire.EINVAL),
        (BARE, FUA, WRITE, 0, 1, wire.EINVAL),
        # commands that are unknown, not offered, or not negotiated
        *((FULL, 0, command, 0, 1, wire.EINVAL) for command in (8, 9, 0x8000, 0xFFFF)),
        *((BARE, 0, command, 0, 1, wire.EINVAL) for command in (TRIM, CACHE, ZEROES, STATUS)),
        (BARE, 0, FLUSH, 0, 0, wire.EINVAL),
        (BARE, 0, READ, 0, 1, 0),
        (BARE, 0, WRITE, 0, 1, 0),
        (SIMPLE, 0, STATUS, 0, 1, wire.EINVAL),
        # what has no reply is nothing to execute
        (FULL, 0, DISC, 0, 0, wire.EINVAL),
        # nothing changes a read-only export
        *((READ_ONLY, 0, command, 0, 1, wire.EPERM) for command in (WRITE, TRIM, ZEROES)),
    ],
)
def test_check_of_request_gives_the_errno(
    *, rules: Rules, flags: int, command: int, offset: int, length: int, expected: int
) -> None:
    """Each rule of the specification has its errno, and a good request passes."""
    assert rules.check(flags, command, offset, length, SIZE) == expected


def test_check_of_grown_export_follows_its_size() -> None:
    """A volume that grew serves its new end on connections that are open."""
    assert FULL.check(0, READ, SIZE, 4096, SIZE) == wire.EINVAL
    assert FULL.check(0, READ, SIZE, 4096, SIZE + 4096) == 0


@given(
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF) | st.integers(0, 9),
    st.integers(0, (1 << 64) - 1) | st.integers(0, 2 * SIZE),
    st.integers(0, (1 << 32) - 1),
    st.sampled_from([FULL, SIMPLE, READ_ONLY, BARE]),
)
def test_check_of_any_request_passes_only_what_fits(
    flags: int, command: int, offset: int, length: int, rules: Rules
) -> None:
    """I1: whatever passes lies inside the export and changes no read-only one."""
    error = rules.check(flags, command, offset, length, SIZE)
    assert error in (0, wire.EPERM, wire.EINVAL, wire.ENOSPC, wire.EOVERFLOW)
    if not error:
        assert command <= STATUS
        assert offset + length <= SIZE
        assert length > 0 or command == FLUSH
        assert command != DISC
        assert length <= MAX or command in (TRIM, CACHE, ZEROES, STATUS)
        assert rules is not READ_ONLY or command not in (WRITE, TRIM, ZEROES)


def test_rules_without_structured_replies_never_allow_block_status() -> None:
    """Block status exists only on top of structured replies, whatever was asked for."""
    rules = Rules.negotiated(SERVED | wire.FLAG_SEND_DF, structured=False, allocation=True)
    assert not rules.allocation
    assert not rules.flags & wire.FLAG_SEND_DF
    assert rules.check(0, STATUS, 0, 1, SIZE) == wire.EINVAL


def test_replies_of_each_kind_have_their_bytes() -> None:
    """Every reply is, to the byte, the layout of the specification."""
    cookie = bytes(range(1, 9))
    assert simple_reply(COOKIE) == bytes.fromhex("67446698 00000000") + cookie
    assert simple_reply(COOKIE, wire.ENOSPC) == bytes.fromhex("67446698 0000001c") + cookie
    chunk = bytes.fromhex("668e33ef")
    assert data_chunk(COOKIE, offset=4096, length=512, last=False) == (
        chunk + pack(">HH", 0, 1) + cookie + pack(">IQ", 520, 4096)
    )
    assert read_header(COOKIE, offset=4096, length=512, structured=True) == (
        chunk + pack(">HH", 1, 1) + cookie + pack(">IQ", 520, 4096)
    )
    assert read_header(COOKIE, offset=4096, length=512, structured=False) == simple_reply(COOKIE)
    assert hole_chunk(COOKIE, offset=4096, length=512, last=True) == (
        chunk + pack(">HH", 1, 2) + cookie + pack(">IQI", 12, 4096, 512)
    )
    assert done_chunk(COOKIE) == chunk + pack(">HH", 1, 0) + cookie + pack(">I", 0)
    assert error_reply(COOKIE, wire.EIO, message="mäh", structured=True) == (
        chunk + pack(">HH", 1, 0x8001) + cookie + pack(">IIH", 10, 5, 4) + "mäh".encode()
    )
    assert error_reply(COOKIE, wire.EIO, message="mäh", structured=False) == (
        simple_reply(COOKIE, wire.EIO)
    )


@pytest.mark.parametrize(
    ("message", "length"), [("", 0), ("x" * 5000, 4096), ("ä" * 2049, 4096), ("€" * 2000, 4095)]
)
def test_error_message_of_any_length_is_a_string(message: str, length: int) -> None:
    """A message is cut to 4096 bytes between characters, and its length says so."""
    reply = error_reply(COOKIE, wire.EIO, message=message, structured=True)
    payload, _, text_length = unpack(">IIH", reply[16:26])
    assert len(reply) == 20 + payload
    assert text_length == len(reply) - 26 == length
    assert message.startswith(reply[26:].decode())


@given(st.text())
def test_clipped_text_of_any_kind_is_a_string(message: str) -> None:
    """What is sent as a string is short UTF-8 without NUL."""
    text = clip_text(message)
    assert len(text) <= wire.STRING_BYTES_MAX
    assert "\0" not in text.decode()


def extents_of(reply: bytes) -> list[tuple[int, int]]:
    """The descriptors of a block status reply, after its head was checked."""
    magic, flags, kind, cookie, length, context = unpack(">IHHQII", reply[:24])
    assert (magic, flags, kind, cookie) == (0x668E33EF, 1, 5, COOKIE)
    assert context == wire.ALLOCATION_ID
    assert length == len(reply) - 20
    return [unpack(">II", reply[at : at + 8]) for at in range(24, len(reply), 8)]


@given(
    st.lists(st.tuples(st.integers(1, 1 << 34), st.sampled_from([0, 3])), min_size=1),
    st.integers(1, (1 << 32) - 1),
    st.booleans(),
)
def test_block_status_of_any_extents_stays_within_the_request(
    extents: list[tuple[int, int]], length: int, one: bool
) -> None:
    """Descriptors are merged, none is empty, and their sum never exceeds the request."""
    reply = block_status(COOKIE, extents, length=length, flags=REQ_ONE if one else 0)
    found = extents_of(reply)
    assert 1 <= len(found) <= (1 if one else len(extents))
    assert all(size > 0 for size, _ in found)
    assert all(a[1] != b[1] for a, b in pairwise(found))
    total = sum(size for size, _ in found)
    expected = min(length, sum(size for size, _ in extents))
    assert total == expected or (one and total < expected)


def test_block_status_of_a_checkerboard_is_cut() -> None:
    """A reply holds a bounded number of descriptors; the client asks again behind it."""
    board = ((4096, turn % 2) for turn in range(EXTENTS_SENT_MAX + 5))
    found = extents_of(block_status(COOKIE, board, length=(1 << 32) - 1, flags=0))
    assert len(found) == EXTENTS_SENT_MAX
    assert next(board)[0] == 4096, "read further than needed"


@pytest.mark.parametrize("kind", [Invalid, Denied, Unavailable, NoSpace, Corrupt, ScrubjayError])
def test_errno_of_every_error_is_one_of_the_protocol(kind: type[ScrubjayError]) -> None:
    """Errors map to errno values that the specification lists for any command."""
    assert kind.nbd_errno in (wire.EPERM, wire.EIO, wire.EINVAL, wire.ENOSPC)
