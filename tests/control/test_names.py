"""Names and sizes: what people type."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.errors import Invalid
from scrubjay.base.units import GIB, MIB, TIB
from scrubjay.control.names import check_name, check_volume_size, parse_size


@pytest.mark.parametrize("name", ["a", "0", "db0", "a.b_c-d", "x" * 63])
def test_name_of_the_allowed_letters_is_taken(name: str) -> None:
    """What the documentation allows is allowed."""
    assert check_name("volume", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-a",
        ".a",
        "_a",
        "A",
        "a b",
        "a/b",
        "a\n",
        "ä",
        "x" * 64,
        "..",
        "6bcbee7d-163a-4bc9-b0a0-21c8ae635d47",
        "6bcbee7d163a4bc9b0a021c8ae635d47",
    ],
)
def test_name_that_is_no_name_or_looks_like_an_id_is_invalid(name: str) -> None:
    """Names are plain, and never taken for ids."""
    with pytest.raises(Invalid) as caught:
        check_name("volume", name)
    assert caught.value.hint


@given(st.text(max_size=300))
def test_name_of_any_text_is_taken_or_invalid(name: str) -> None:
    """Nothing but Invalid comes of a name, and its message is short and on one line."""
    message = ""
    try:
        check_name("tenant", name)
    except Invalid as error:
        message = error.message
    assert len(message) < 500
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("4096", 4096),
        ("1MiB", MIB),
        ("1m", MIB),
        ("10GiB", 10 * GIB),
        ("10 gib", 10 * GIB),
        ("1.5TiB", 3 * TIB // 2),
        ("0.5G", GIB // 2),
        (" 2T ", 2 * TIB),
        ("7B", 7),
    ],
)
def test_size_written_as_people_do_is_understood(text: str, size_bytes: int) -> None:
    """Binary units, with and without their iB."""
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GiB",
        "-1",
        "1e9",
        "10GB",
        "1,5G",
        "0x10",
        "1.5",
        "\N{ARABIC-INDIC DIGIT ONE}",
        "9" * 30,
        "1 2",
    ],
)
def test_size_that_is_none_is_invalid(text: str) -> None:
    """Decimal units and half bytes are refused rather than guessed at."""
    with pytest.raises(Invalid):
        parse_size(text)


@pytest.mark.parametrize("size_bytes", [MIB, MIB + 4096, 64 * TIB])
def test_volume_size_within_bounds_is_taken(size_bytes: int) -> None:
    """1 MiB to 64 TiB, in sectors."""
    assert check_volume_size(size_bytes) == size_bytes


@pytest.mark.parametrize("size_bytes", [0, -4096, MIB - 4096, MIB + 1, 64 * TIB + 4096])
def test_volume_size_out_of_bounds_or_between_sectors_is_invalid(size_bytes: int) -> None:
    """A silly size is refused."""
    with pytest.raises(Invalid):
        check_volume_size(size_bytes)
