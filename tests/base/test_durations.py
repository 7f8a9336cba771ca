"""Spans of time as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.durations import duration_text, parse_duration
from scrubjay.base.errors import Invalid


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12h", 43_200), ("90m", 5400), ("7d", 604_800), ("45s", 45), (" 1 H ", 3600), ("0s", 0)],
)
def test_duration_as_people_write_it_is_seconds(text: str, seconds: int) -> None:
    """Days, hours, minutes, seconds; one number and one letter."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "12", "h", "1.5h", "-1h", "1w", "1h30m", "1hh", "9" * 10 + "s", "\u0661h", "1h\n1h"],
)
def test_duration_of_another_shape_is_invalid(text: str) -> None:
    """Nobody's guess is taken."""
    with pytest.raises(Invalid, match="not a span of time"):
        parse_duration(text)


@given(st.integers(0, 10**9 - 1))
def test_duration_text_means_what_it_was_made_from(seconds: int) -> None:
    """Nothing is rounded."""
    assert parse_duration(duration_text(seconds)) == seconds


def test_day_is_shown_as_hours_and_more_as_days() -> None:
    """As people say it."""
    assert [duration_text(hours * 3600) for hours in (12, 24, 36, 48)] == [
        "12h",
        "24h",
        "36h",
        "2d",
    ]
