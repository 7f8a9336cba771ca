"""Since when slots wait that held a volume's bytes: what its second certificate waits for.

A slot keeps the date that it got when it was freed, or an older one where it had been leased
with bytes of a former use in it, until it is overwritten. So who knows the dates of all that a
volume ever freed need not wait for any other slot. They are kept as a few ranges: where there
would be more, the nearest become one, which lets him wait for a slot too many and for none too few.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["RANGES_MAX", "Ranges", "covers", "with_dates"]

RANGES_MAX = 8

Ranges = tuple[tuple[int, int], ...]
"""First and last second (since 1970) of each, ascending, and none touching another."""


def with_dates(ranges: Ranges, dates: Iterable[int]) -> Ranges:
    """Return at most `RANGES_MAX` ranges that cover what these do, and dates besides."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted((*ranges, *((each, each) for each in set(dates)))):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(last, joined[-1][1])
        else:
            joined.append((first, last))
    while len(joined) > RANGES_MAX:
        gaps = [joined[at + 1][0] - joined[at][1] for at in range(len(joined) - 1)]
        at = gaps.index(min(gaps))
        joined[at : at + 2] = [(joined[at][0], joined[at + 1][1])]
    return tuple(joined)


def covers(ranges: Ranges, dates: Iterable[int]) -> bool:
    """Tell whether one of these dates lies in one of the ranges."""
    return any(first <= each <= last for each in dates for first, last in ranges)
