"""Spans of time as people write them: "12h", "90m", "7d"."""

from __future__ import annotations

import re

from scrubjay.base.errors import Invalid

__all__ = ["duration_text", "parse_duration"]

_UNITS_S = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"([0-9]{1,9}) ?([dhms])", re.IGNORECASE | re.ASCII)
_SHOWN_MAX = 80


def parse_duration(text: str) -> int:
    """Return the seconds that `text` means: "12h", "90m", "7d", "45s"; Invalid otherwise."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise Invalid(
            f"time {text[:_SHOWN_MAX]!r}: not a span of time",
            hint="write it as in 12h, 90m, 7d or 45s",
        )
    return int(match[1]) * _UNITS_S[match[2].lower()]


def duration_text(seconds: int) -> str:
    """Return a span of time as people write it, exactly: "36h", "7d", "90m", "61s".

    The largest unit that divides it; days only from two on, as 24h is how one says a day.
    """
    for unit, size_s in _UNITS_S.items():
        if seconds and seconds % size_s == 0 and (unit != "d" or seconds >= 2 * size_s):
            return f"{seconds // size_s}{unit}"
    return f"{seconds}s"
