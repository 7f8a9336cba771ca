"""Callers at once are served together: each gets his own answer, and nobody waits in vain."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from scrubjay.base.errors import Conflict, ScrubjayError, Unavailable
from scrubjay.control.crowd import Crowd


def test_crowd_gives_each_caller_his_own_answer_in_few_turns() -> None:
    """Those who come while one is served are served at once."""
    turns: list[int] = []
    gate = threading.Event()

    def serve(asks: Sequence[int]) -> list[int | ScrubjayError]:
        gate.wait(30)
        turns.append(len(asks))
        return [Conflict(f"no {each}") if each % 7 == 0 else -each for each in asks]

    crowd = Crowd(serve)

    def asked(number: int) -> int | str:
        try:
            return crowd.ask(number)
        except Conflict as error:
            return error.message

    with ThreadPoolExecutor(32) as threads:
        found = [threads.submit(asked, number) for number in range(1, 33)]
        while len(crowd._waiting) < 31:  # noqa: SLF001 - until all the others wait
            threading.Event().wait(0.001)
        gate.set()
        answers = [each.result(30) for each in found]
    assert turns == [1, 31]
    assert answers == [-n if n % 7 else f"no {n}" for n in range(1, 33)]


def test_crowd_served_over_and_over_loses_nobody() -> None:
    """Whoever comes between two turns leads one of his own."""
    served: list[int] = []

    def serve(asks: Sequence[int]) -> list[int | ScrubjayError]:
        served.extend(asks)
        return list(asks)

    crowd = Crowd(serve)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(crowd.ask, range(2000))) == list(range(2000))
    assert sorted(served) == list(range(2000))
    assert crowd.ask(5) == 5


def test_crowd_whose_turn_fails_tells_all_of_them_and_goes_on() -> None:
    """A turn that raises, or forgets somebody, is nobody's success."""
    answers: list[list[int]] = [[], [1, 2]]

    def serve(asks: Sequence[int]) -> list[int | ScrubjayError]:
        if asks[0] == 0:
            raise Unavailable("pool: stopped")
        return list(answers.pop(0)) if answers else list(asks)

    crowd = Crowd(serve)
    with pytest.raises(Unavailable):
        crowd.ask(0)
    for _ in range(2):
        with pytest.raises(ValueError, match="zip"):
            crowd.ask(1)
    assert crowd.ask(1) == 1
