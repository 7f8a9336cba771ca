"""Signed notes, verifier keys and checkpoints, as strict as C2SP has them."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.errors import Corrupt, Invalid
from scrubjay.evidence.checkpoint import (
    Checkpoint,
    open_checkpoint,
    parse_checkpoint,
    sign_checkpoint,
)
from scrubjay.evidence.merkle import EMPTY_ROOT, Frontier
from scrubjay.evidence.note import (
    COSIGNATURE,
    Note,
    Signature,
    Signer,
    VerifierKey,
    decode_base64,
    encode_base64,
    parse_key,
    parse_note,
    signed_by,
)
from tests.evidence.world import ORIGIN, cosigned, signer

PUBLISHED_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PUBLISHED_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpR"
    "Zb6KE6RyyBwJnAM=\n"
)
NOTE = str(signer().sign_note("one\n\ntwo\n"))


def test_note_of_the_documentation_of_go_verifies() -> None:
    """The example of golang.org/x/mod/sumdb/note: key, note, and the text that was signed."""
    key = parse_key(PUBLISHED_KEY)
    note = parse_note(PUBLISHED_NOTE.encode())
    assert str(key) == PUBLISHED_KEY
    assert str(note) == PUBLISHED_NOTE
    assert signed_by(note, [key]) == (key,)
    with pytest.raises(Invalid, match="does not verify"):
        signed_by(Note(note.text.replace("cryptography", "Cryptography"), note.signatures), [key])


def test_note_that_was_signed_is_read_back_as_it_was() -> None:
    """Empty lines belong to the text; the last one parts it from the signatures."""
    note = parse_note(NOTE.encode())
    assert note.text == "one\n\ntwo\n"
    assert str(note) == NOTE
    assert signed_by(note, [signer().key]) == (signer().key,)


@pytest.mark.parametrize(
    "bent",
    [
        "",
        "\n",
        "text\n",
        "text\n\n",
        NOTE[:-1],
        NOTE.replace("— ", "- "),
        NOTE.replace("— ", "—"),
        NOTE.replace("two\n", "two\r\n"),
        NOTE.replace("two", "t\two"),
        NOTE.replace("two", "t\0wo"),
        NOTE.replace(ORIGIN, "a+b"),
        NOTE.replace(ORIGIN, ""),
        NOTE.replace(ORIGIN, "a\u2003b"),
        NOTE.replace("=\n", "\n"),
        NOTE.replace("=\n", "=\n\n"),
        NOTE + "\n",
        NOTE + "no signature\n",
        NOTE + "— key AAAAAA==\n",
        NOTE + "— key ====\n",
        NOTE + "— key\n",
    ],
)
def test_note_that_is_none_is_refused(bent: str) -> None:
    """No text, no signature, control characters, names and base64 that cannot be."""
    with pytest.raises(Invalid):
        signed_by(parse_note(bent.encode()), [signer().key])


def test_note_that_is_not_utf8_or_without_end_is_refused() -> None:
    """Bytes that are no text, a megabyte, and a hundred and one signatures."""
    line = NOTE[NOTE.index("—") :]
    for data in (b"\xff" + NOTE.encode(), b"a" * (1 << 20) + NOTE.encode(), (NOTE + line * 100)):
        with pytest.raises(Invalid):
            parse_note(data if isinstance(data, bytes) else data.encode())
    assert len(parse_note((NOTE + line * 15).encode()).signatures) == 16


def test_note_with_signatures_of_strangers_is_carried_through() -> None:
    """Unknown keys are ignored, also under a known name; their lines stay."""
    note = parse_note(NOTE.encode())
    stranger = signer(2).sign_note(note.text).signatures[0]
    both = note.with_signatures([stranger, stranger, note.signatures[0]])
    again = parse_note(str(both).encode())
    assert again.signatures == (note.signatures[0], stranger)
    assert signed_by(again, [signer().key]) == (signer().key,)
    assert signed_by(again, [signer().key, signer(2).key]) == (signer().key, signer(2).key)
    with pytest.raises(Invalid, match=f"note: signed by {ORIGIN}.* not by the key of {ORIGIN}"):
        signed_by(again, [signer(3).key])


def test_note_with_one_bad_signature_of_a_known_key_is_refused() -> None:
    """A good signature beside it does not help."""
    note = parse_note(NOTE.encode())
    bad = Signature(ORIGIN, signer().key.key_id, bytes(64))
    with pytest.raises(Invalid, match="does not verify"):
        signed_by(note.with_signatures([bad]), [signer().key])


def test_cosignature_of_a_witness_verifies_with_its_time() -> None:
    """A timestamped cosignature of kind 4; another time is another message."""
    text = sign_checkpoint(Frontier(), signer()).text
    line, key = cosigned(text, seed=9, name="witness.example/w", time=1_700_000_000)
    note = sign_checkpoint(Frontier(), signer()).with_signatures([line])
    assert parse_key(str(key)) == key
    assert signed_by(note, [key]) == (key,)
    for value in (bytes(8) + line.value[8:], line.value[8:], b"\xff" + line.value[1:]):
        bent = Note(text, (Signature(line.name, line.key_id, value),))
        with pytest.raises(Invalid, match="does not verify"):
            signed_by(bent, [key])


@pytest.mark.parametrize(
    "bent",
    [
        "",
        "name",
        "name+c74f20a3",
        PUBLISHED_KEY.replace("c74f20a3", "c74f20a4"),
        PUBLISHED_KEY.replace("c74f20a3", "C74F20A3"),
        PUBLISHED_KEY.replace("c74f20a3", ""),
        PUBLISHED_KEY.replace("PeterNeumann", "PeterNeuman"),
        PUBLISHED_KEY.replace("PeterNeumann", "Peter Neumann"),
        PUBLISHED_KEY[:-1],
        PUBLISHED_KEY[:-4],
        PUBLISHED_KEY.replace("+ARpc", "+AhPc"),
        PUBLISHED_KEY + "+x",
        "\ud800+c74f20a3+" + PUBLISHED_KEY.rpartition("+")[2][:-1] + "\ud800",
    ],
)
def test_key_that_is_none_is_refused(bent: str) -> None:
    """Name, id and material have to belong together, in one spelling."""
    with pytest.raises(Invalid, match="verifier key"):
        parse_key(bent)


def test_key_of_another_kind_is_another_key() -> None:
    """The kind is part of the id, so a witness's key is no log's."""
    key = signer().key
    assert VerifierKey(key.name, key.public_key, COSIGNATURE).key_id != key.key_id
    with pytest.raises(Invalid, match="of kind 1 or 4"):
        VerifierKey(key.name, key.public_key, 2)


def test_signer_with_another_private_key_is_corrupt() -> None:
    """What a signer gives back is verified before anybody sees it."""
    with pytest.raises(Corrupt, match="does not verify"):
        Signer(signer(1).key, signer(2).sign).signature(b"message")


@pytest.mark.parametrize("text", ["", "no newline", "tab\t\n"])
def test_signer_with_what_can_be_no_note_refuses(text: str) -> None:
    """A note's text is whole lines."""
    with pytest.raises(Invalid, match="note"):
        signer().sign_note(text)


@given(st.binary(max_size=50))
def test_base64_is_read_in_one_spelling_only(data: bytes) -> None:
    """Blanks, missing padding, and stray bits behind the end are refused."""
    text = encode_base64(data)
    assert decode_base64(text) == data
    for bent in (text + "\n", " " + text, text.rstrip("=") + "~", "é"):
        with pytest.raises(Invalid, match="base64"):
            decode_base64(bent)
    if len(data) % 3 == 1:
        stray = text[:-3] + chr(ord(text[-3]) + 1) + "=="
        if base64.b64decode(stray) == data:
            with pytest.raises(Invalid, match="one spelling"):
                decode_base64(stray)


@pytest.mark.parametrize(
    "strange", ["\x1b[2J", "\x9b2J", "\x07", "\u202e", "\u2066", "\u200b", "\x7f"]
)
def test_key_with_a_name_that_a_terminal_obeys_is_refused(strange: str) -> None:
    """Escape sequences and directions: neither a key nor a signature line bears such a name."""
    public = signer().key.public_key
    with pytest.raises(Invalid, match="none that controls or hides") as caught:
        VerifierKey(f"log{strange}.example", public)
    assert caught.value.message.isprintable()
    with pytest.raises(Invalid) as caught:
        parse_key(str(signer().key).replace("+", f"{strange}+", 1))
    assert caught.value.message.isprintable()
    with pytest.raises(Invalid):
        parse_note(NOTE.replace(ORIGIN, f"log{strange}").encode())


def test_key_of_endless_text_is_refused_without_being_echoed() -> None:
    """A file of megabytes that somebody called a key does not fill the screen."""
    for text in ("x" * 5000, "x" * 5000 + "+00000000+AQ==", "x" * 4000 + "+00000000+AQ=="):
        with pytest.raises(Invalid) as caught:
            parse_key(text)
        assert len(caught.value.message) < 300


def test_checkpoint_that_was_signed_is_opened() -> None:
    """Origin, size and root come back; extension lines too."""
    note = sign_checkpoint(Frontier().append(b"x"), signer(), extensions=["more"])
    checkpoint, opened = open_checkpoint(str(note).encode(), signer().key)
    assert checkpoint == Checkpoint(ORIGIN, 1, Frontier().append(b"x").root(), ("more",))
    assert opened == note
    with pytest.raises(Invalid, match="three lines or more"):
        sign_checkpoint(Frontier(), signer(), extensions=[""])


ROOT = encode_base64(bytes(32))


@pytest.mark.parametrize(
    "text",
    [
        f"log\n1\n{ROOT}",
        "log\n1\n",
        f"log\n\n{ROOT}\n",
        f"\n1\n{ROOT}\n",
        f"log\n01\n{ROOT}\n",
        f"log\n-1\n{ROOT}\n",
        f"log\n+1\n{ROOT}\n",
        f"log\n1.0\n{ROOT}\n",
        f"log\n1 \n{ROOT}\n",
        f"log\n\N{ARABIC-INDIC DIGIT ONE}\n{ROOT}\n",
        f"log\n9999999999999999999\n{ROOT}\n",
        f"log\n{'9' * 5000}\n{ROOT}\n",
        f"log\n1\n{ROOT[:-4]}\n",
        f"log\n1\n{ROOT} \n",
        f"log\n1\n{encode_base64(bytes(31))}\n",
        f"log\n0\n{ROOT}\n",
        f"log\n1\n{ROOT}\n\n",
    ],
)
def test_checkpoint_that_is_none_is_refused(text: str) -> None:
    """Three lines, a decimal size, a root of 32 bytes."""
    with pytest.raises(Invalid):
        parse_checkpoint(text)


def test_checkpoint_of_an_empty_log_has_the_empty_root() -> None:
    """Size 0 is written as 0, and only the hash of nothing goes with it."""
    assert parse_checkpoint(f"log\n0\n{encode_base64(EMPTY_ROOT)}\n").size == 0


def test_checkpoint_of_another_origin_is_refused() -> None:
    """A log's key signs for the log of its name only."""
    key = signer().key
    note = signer().sign_note(f"other.example/log\n1\n{ROOT}\n")
    with pytest.raises(Invalid, match="origin"):
        open_checkpoint(str(note).encode(), key)
