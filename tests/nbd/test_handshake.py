"""The server's handshake, as transcripts: what a client sends, what it gets."""

import re
from pathlib import Path
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.nbd import wire
from scrubjay.nbd.exports import SERVED
from scrubjay.nbd.handshake import (
    GREETING,
    OPTION_BYTES_MAX,
    OPTIONS_MAX,
    SKIP_BYTES_MAX,
    TRANSITIONS,
    Closed,
    Handshake,
    State,
    Transmission,
)
from tests.nbd.memory import SIZE_BYTES, OneExport, cut, greet, option, replies_to

ALLOCATION = b"base:allocation"
STRUCTURED = option(wire.OPT_STRUCTURED_REPLY)
FLAGS_SHOWN = SERVED  # without structured replies; DF comes on top with them


def handshake(*sent: bytes, exports: OneExport | None = None) -> tuple[Handshake, bytes]:
    """A handshake that has received these bytes, and its answer to the last of them."""
    machine = Handshake(exports or OneExport())
    reply = b""
    for each in (greet(), *sent):
        reply = machine.receive(each)
    return machine, reply


def chosen(name: bytes = b"db0", *infos: int) -> bytes:
    """The data of GO and INFO."""
    return pack(">I", len(name)) + name + pack(f">H{len(infos)}H", len(infos), *infos)


def contexts(name: bytes, *queries: bytes) -> bytes:
    """The data of LIST_META_CONTEXT and SET_META_CONTEXT."""
    asked = b"".join(pack(">I", len(query)) + query for query in queries)
    return pack(">I", len(name)) + name + pack(">I", len(queries)) + asked


def errors(number: int, *sent: bytes, exports: OneExport | None = None) -> int:
    """The one error reply to the last option; negotiation has to go on after it."""
    machine, reply = handshake(*sent, exports=exports)
    ((kind, message),) = replies_to(number, reply)
    assert message.decode()
    assert machine.outcome is None
    assert replies_to(wire.OPT_LIST, machine.receive(option(wire.OPT_LIST)))[-1] == (1, b"")
    return kind


def test_greeting_of_server_is_fixed_newstyle() -> None:
    """The first bytes are the specification's, with fixed newstyle and no zeroes offered."""
    assert GREETING == b"NBDMAGIC" + b"IHAVEOPT" + b"\x00\x03"


@pytest.mark.parametrize("flags", [4, 1 << 31, 0xFFFFFFFF])
def test_client_flags_unknown_close(flags: int) -> None:
    """A client flag that was not offered ends the connection, as the specification demands."""
    machine = Handshake(OneExport())
    assert machine.receive(greet(flags)) == b""
    assert isinstance(machine.outcome, Closed)
    assert machine.outcome.fault


@pytest.mark.parametrize(("flags", "zeroes"), [(0, 124), (1, 124), (2, 0), (3, 0)])
def test_export_name_known_enters_transmission(flags: int, zeroes: int) -> None:
    """EXPORT_NAME answers with size and flags, and 124 zeroes unless those were declined."""
    machine = Handshake(OneExport())
    machine.receive(greet(flags))
    reply = machine.receive(option(wire.OPT_EXPORT_NAME, b"db0"))
    assert reply == pack(">QH", SIZE_BYTES, FLAGS_SHOWN) + bytes(zeroes)
    assert isinstance(machine.outcome, Transmission)
    assert not machine.outcome.rules.structured


@pytest.mark.parametrize("name", [b"db1", b"db0\0", b"\xff", b"x" * 4097, b"x" * (64 << 10) + b"x"])
def test_export_name_refused_closes(name: bytes) -> None:
    """EXPORT_NAME has no error reply, so an unknown or silly name ends the connection."""
    machine, reply = handshake(option(wire.OPT_EXPORT_NAME, name))
    assert reply == b""
    assert isinstance(machine.outcome, Closed)
    assert machine.outcome.fault


@pytest.mark.parametrize("name", [b"", b"db0"])
def test_go_known_export_enters_transmission(name: bytes) -> None:
    """GO answers with the export's size and flags, then ACK, and the next byte is a request's."""
    data = chosen(name)
    machine, reply = handshake(option(wire.OPT_GO, data) + b"request")
    assert replies_to(wire.OPT_GO, reply) == [
        (wire.REP_INFO, pack(">HQH", wire.INFO_EXPORT, SIZE_BYTES, FLAGS_SHOWN)),
        (wire.REP_ACK, b""),
    ]
    assert isinstance(machine.outcome, Transmission)
    assert machine.outcome.rest == b"request"
    assert machine.outcome.export.name == "db0"


def test_go_with_structured_replies_offers_df() -> None:
    """DF is advertised exactly where structured replies were negotiated."""
    _, plain = handshake(option(wire.OPT_GO, chosen()))
    _, structured = handshake(STRUCTURED, option(wire.OPT_GO, chosen()))
    flags = [
        int.from_bytes(replies_to(wire.OPT_GO, reply)[0][1][-2:]) for reply in (plain, structured)
    ]
    assert flags == [FLAGS_SHOWN, FLAGS_SHOWN | wire.FLAG_SEND_DF]


def test_go_read_only_export_says_so() -> None:
    """The read-only flag reaches the client and the rules."""
    exports = OneExport(flags=SERVED | wire.FLAG_READ_ONLY)
    machine, reply = handshake(option(wire.OPT_GO, chosen()), exports=exports)
    assert reply[20 + 11] & wire.FLAG_READ_ONLY
    assert isinstance(machine.outcome, Transmission)
    assert machine.outcome.rules.refused[wire.CMD_WRITE] == wire.EPERM


def test_info_with_requests_answers_each_once() -> None:
    """INFO gives what was asked for, each once, ignores what it does not know, and goes on."""
    machine, reply = handshake(option(wire.OPT_INFO, chosen(b"", 3, 2, 1, 99, 0, 3)))
    assert replies_to(wire.OPT_INFO, reply) == [
        (wire.REP_INFO, pack(">HQH", wire.INFO_EXPORT, SIZE_BYTES, FLAGS_SHOWN)),
        (wire.REP_INFO, b"\0\1db0"),
        (wire.REP_INFO, b"\0\2the first of them"),
        (wire.REP_INFO, pack(">HIII", wire.INFO_BLOCK_SIZE, 1, 4096, 32 << 20)),
        (wire.REP_ACK, b""),
    ]
    assert machine.outcome is None


@pytest.mark.parametrize("number", [wire.OPT_INFO, wire.OPT_GO])
def test_info_unknown_export_is_an_error(number: int) -> None:
    """An export that is not there is ERR_UNKNOWN, and another may be asked for."""
    assert errors(number, option(number, chosen(b"db1"))) == wire.REP_ERR_UNKNOWN


@pytest.mark.parametrize("number", [wire.OPT_INFO, wire.OPT_GO])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0",
        pack(">I", 4) + b"db0",
        pack(">I", 0xFFFFFFFF) + b"db0\0\0",
        pack(">I", 3) + b"db0",
        pack(">I", 3) + b"db0\0",
        pack(">I", 3) + b"db0\0\1",
        chosen() + b"\0",
        chosen(b"db0\0"),
        chosen(b"\xc3\x28"),
        chosen(b"x" * 4097),
    ],
)
def test_info_malformed_data_is_invalid(number: int, data: bytes) -> None:
    """Data that does not fit its layout, or a name that is no string, is ERR_INVALID."""
    assert errors(number, option(number, data)) == wire.REP_ERR_INVALID


def test_list_of_exports_names_and_describes() -> None:
    """LIST sends one SERVER reply per export, with its description, then ACK."""
    _, reply = handshake(option(wire.OPT_LIST))
    assert replies_to(wire.OPT_LIST, reply) == [
        (wire.REP_SERVER, pack(">I", 3) + b"db0" + b"the first of them"),
        (wire.REP_ACK, b""),
    ]


@pytest.mark.parametrize("number", [wire.OPT_LIST, wire.OPT_STRUCTURED_REPLY])
def test_option_with_needless_data_is_invalid(number: int) -> None:
    """Options without data refuse data with ERR_INVALID."""
    assert errors(number, option(number, b"x")) == wire.REP_ERR_INVALID


@pytest.mark.parametrize("data", [b"", b"why"])
def test_abort_with_any_data_is_acknowledged(data: bytes) -> None:
    """ABORT gets its ACK whatever it carries, and the connection ends without a fault."""
    machine, reply = handshake(option(wire.OPT_ABORT, data))
    assert replies_to(wire.OPT_ABORT, reply) == [(wire.REP_ACK, b"")]
    assert isinstance(machine.outcome, Closed)
    assert not machine.outcome.fault


@pytest.mark.parametrize("number", [0, 4, wire.OPT_STARTTLS, 11, 12, 0xFFFFFFFF])
@pytest.mark.parametrize("length", [0, 1, OPTION_BYTES_MAX, OPTION_BYTES_MAX + 1, SKIP_BYTES_MAX])
def test_option_unknown_of_any_length_is_unsupported(number: int, length: int) -> None:
    """An option that is not spoken here, STARTTLS too, is ERR_UNSUP and skipped whole."""
    assert errors(number, option(number, bytes(length))) == wire.REP_ERR_UNSUP


@pytest.mark.parametrize("length", [OPTION_BYTES_MAX + 1, SKIP_BYTES_MAX])
def test_option_oversized_is_too_big(length: int) -> None:
    """An option that is too long is dropped without being held, and answered ERR_TOO_BIG."""
    assert errors(wire.OPT_GO, option(wire.OPT_GO, bytes(length))) == wire.REP_ERR_TOO_BIG


@pytest.mark.parametrize("number", [wire.OPT_GO, wire.OPT_ABORT, 99])
def test_option_hopelessly_long_closes(number: int) -> None:
    """A length past every bound ends the connection at the header."""
    header = wire.OPTION.pack(wire.OPTION_MAGIC, number, SKIP_BYTES_MAX + 1)
    machine, reply = handshake(header)
    assert reply == b""
    assert isinstance(machine.outcome, Closed)


def test_option_with_wrong_magic_closes_after_earlier_answers() -> None:
    """Bytes that are no option end the connection; answers already due are still sent."""
    machine, reply = handshake(STRUCTURED + bytes(16))
    assert replies_to(wire.OPT_STRUCTURED_REPLY, reply) == [(wire.REP_ACK, b"")]
    assert isinstance(machine.outcome, Closed)
    assert machine.outcome.fault


def test_options_without_end_close() -> None:
    """A client that never chooses is cut off after so many options."""
    machine, _ = handshake(STRUCTURED * OPTIONS_MAX)
    assert machine.outcome is None
    machine.receive(STRUCTURED)
    assert isinstance(machine.outcome, Closed)


@pytest.mark.parametrize("number", [wire.OPT_LIST_META_CONTEXT, wire.OPT_SET_META_CONTEXT])
def test_contexts_without_structured_replies_are_invalid(number: int) -> None:
    """Metadata contexts need structured replies first."""
    sent = option(number, contexts(b"db0", ALLOCATION))
    assert errors(number, sent) == wire.REP_ERR_INVALID


@pytest.mark.parametrize("number", [wire.OPT_LIST_META_CONTEXT, wire.OPT_SET_META_CONTEXT])
def test_contexts_of_unknown_export_are_an_error(number: int) -> None:
    """Contexts of an export that is not there are ERR_UNKNOWN."""
    sent = option(number, contexts(b"db1", ALLOCATION))
    assert errors(number, STRUCTURED, sent) == wire.REP_ERR_UNKNOWN


@pytest.mark.parametrize("number", [wire.OPT_LIST_META_CONTEXT, wire.OPT_SET_META_CONTEXT])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        pack(">I", 3) + b"db0",
        contexts(b"db0", ALLOCATION)[:-1],
        contexts(b"db0", ALLOCATION) + b"x",
        contexts(b"db0", b"x" * 4097),
        pack(">I", 3) + b"db0" + pack(">I", 0xFFFFFFFF),
        pack(">I", 3) + b"db0" + pack(">II", 1, 0xFFFFFFFF),
    ],
)
def test_contexts_malformed_data_is_invalid(number: int, data: bytes) -> None:
    """Queries that reach beyond the option are ERR_INVALID, however many are announced."""
    assert errors(number, STRUCTURED, option(number, data)) == wire.REP_ERR_INVALID


@pytest.mark.parametrize(
    ("queries", "listed", "selected"),
    [
        ((), True, False),
        ((b"base:",), True, False),
        ((ALLOCATION,), True, True),
        ((ALLOCATION, ALLOCATION, b"base:"), True, True),
        ((b"base:nonsense",), False, False),
        ((b"qemu:", b"no-colon", b"\xff:x", b""), False, False),
        ((b"qemu:dirty-bitmap:x", ALLOCATION), True, True),
    ],
)
def test_contexts_by_query_list_and_select(
    queries: tuple[bytes, ...], listed: bool, selected: bool
) -> None:
    """LIST knows wildcards and reserves the id, SET wants the name; the rest is ignored."""
    data = contexts(b"db0", *queries)
    _, reply = handshake(STRUCTURED, option(wire.OPT_LIST_META_CONTEXT, data))
    found = [(wire.REP_META_CONTEXT, pack(">I", 0) + ALLOCATION)] if listed else []
    assert replies_to(wire.OPT_LIST_META_CONTEXT, reply) == [*found, (wire.REP_ACK, b"")]

    machine, reply = handshake(STRUCTURED, option(wire.OPT_SET_META_CONTEXT, data))
    found = [(wire.REP_META_CONTEXT, pack(">I", 1) + ALLOCATION)] if selected else []
    assert replies_to(wire.OPT_SET_META_CONTEXT, reply) == [*found, (wire.REP_ACK, b"")]
    machine.receive(option(wire.OPT_GO, chosen()))
    assert isinstance(machine.outcome, Transmission)
    assert machine.outcome.rules.allocation is selected


@pytest.mark.parametrize(
    "later",
    [
        option(wire.OPT_SET_META_CONTEXT, contexts(b"db0")),
        option(wire.OPT_SET_META_CONTEXT, contexts(b"db1", ALLOCATION)),
        option(wire.OPT_SET_META_CONTEXT, b"malformed"),
        option(wire.OPT_SET_META_CONTEXT, bytes(OPTION_BYTES_MAX + 1)),
        option(wire.OPT_SET_META_CONTEXT, contexts(b"", ALLOCATION)),
    ],
)
def test_contexts_set_again_replace_earlier_ones(later: bytes) -> None:
    """A later SET_META_CONTEXT forgets the earlier, even when it fails or names another export."""
    first = option(wire.OPT_SET_META_CONTEXT, contexts(b"db0", ALLOCATION))
    machine, _ = handshake(STRUCTURED, first, later, option(wire.OPT_GO, chosen(b"db0")))
    assert isinstance(machine.outcome, Transmission)
    assert not machine.outcome.rules.allocation


def test_inbox_of_hostile_client_stays_bounded() -> None:
    """However much is sent, no more than one option is held, and a skipped one not at all."""
    machine, _ = handshake()
    for stream in (
        wire.OPTION.pack(wire.OPTION_MAGIC, wire.OPT_GO, SKIP_BYTES_MAX) + bytes(SKIP_BYTES_MAX),
        wire.OPTION.pack(wire.OPTION_MAGIC, wire.OPT_GO, OPTION_BYTES_MAX)
        + bytes(OPTION_BYTES_MAX),
    ):
        for piece in cut(stream, [1000]):
            machine.receive(piece)
            assert len(machine._inbox) <= OPTION_BYTES_MAX  # noqa: SLF001 - memory has no port
    assert machine.outcome is None


SESSIONS = st.lists(
    st.sampled_from(
        [
            STRUCTURED,
            option(wire.OPT_LIST),
            option(wire.OPT_LIST, b"x"),
            option(wire.OPT_STARTTLS),
            option(wire.OPT_INFO, chosen(b"", 3)),
            option(wire.OPT_INFO, chosen(b"db1")),
            option(wire.OPT_SET_META_CONTEXT, contexts(b"db0", ALLOCATION)),
            option(wire.OPT_LIST_META_CONTEXT, contexts(b"db0")),
            option(wire.OPT_LIST, bytes(OPTION_BYTES_MAX + 5)),
            option(wire.OPT_GO, chosen(b"db0", 0, 3)),
            option(wire.OPT_EXPORT_NAME, b"db0"),
            option(wire.OPT_ABORT),
            bytes(16),
        ]
    ),
    max_size=8,
)


@given(SESSIONS, st.lists(st.integers(1, 4000), min_size=1))
def test_handshake_in_any_split_answers_alike(session: list[bytes], sizes: list[int]) -> None:
    """How the network cuts a client's bytes changes neither answers nor outcome."""
    stream = greet() + b"".join(session)
    whole = Handshake(OneExport())
    expected = whole.receive(stream)
    split = Handshake(OneExport())
    answers, taken = b"", 0
    for piece in cut(stream, sizes):
        if split.outcome is not None:
            break
        answers += split.receive(piece)
        taken += len(piece)
    assert answers == expected
    match whole.outcome, split.outcome:
        case Transmission(export, rules, rest), Transmission() as other:
            assert (other.export, other.rules) == (export, rules)
            assert other.rest + stream[taken:] == rest
        case outcome, other:
            assert other == outcome


def test_transitions_of_handshake_match_the_documentation() -> None:
    """docs/nbd.md shows the state table of the code, and every state can be reached."""
    page = (Path(__file__).parents[2] / "docs" / "nbd.md").read_text()
    rows = re.findall(r"^\| `([A-Z]+)` \| `([A-Z]+)` \|.*\| `([A-Z]+)` \|$", page, re.MULTILINE)
    assert rows == [(s.name, e.name, t.name) for (s, e), t in TRANSITIONS.items()]
    assert {State.FLAGS, *TRANSITIONS.values()} == set(State)
