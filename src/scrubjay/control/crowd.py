"""Callers who come while one is being served are served together by the next turn.

What costs a commit each costs one commit for all who wait: a thousand who ask at once wait for
some dozens of commits, and one who asks alone waits for his own, as before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from scrubjay.base.errors import ScrubjayError

__all__ = ["Crowd"]

_AskT = TypeVar("_AskT")
_AnswerT = TypeVar("_AnswerT")


@dataclass(slots=True)
class _Turn(Generic[_AskT, _AnswerT]):
    """One caller's question, and what came of it."""

    ask: _AskT
    answer: _AnswerT | BaseException | None = None
    """None: not yet; who is woken without one is to serve all who wait, himself included."""
    woken: threading.Event = field(default_factory=threading.Event)


class Crowd(Generic[_AskT, _AnswerT]):
    """Calls `serve` with whatever is asked at once; safe for threads."""

    def __init__(
        self, serve: Callable[[Sequence[_AskT]], Sequence[_AnswerT | ScrubjayError]]
    ) -> None:
        """`serve` answers each in its order, with an error where one is refused.

        What it raises is raised to everybody whom it was to serve.
        """
        self._serve = serve
        self._lock = threading.Lock()
        self._waiting: list[_Turn[_AskT, _AnswerT]] = []
        self._serving = False

    def ask(self, ask: _AskT) -> _AnswerT:
        """Return the answer, or raise it."""
        turn: _Turn[_AskT, _AnswerT] = _Turn(ask)
        with self._lock:
            self._waiting.append(turn)
            leads, self._serving = not self._serving, True
        if not leads:
            turn.woken.wait()
        if turn.answer is None:
            with self._lock:
                turns, self._waiting = self._waiting, []
            self._answer(turns)
        if isinstance(turn.answer, BaseException):
            raise turn.answer
        assert turn.answer is not None
        return turn.answer

    def _answer(self, turns: list[_Turn[_AskT, _AnswerT]]) -> None:
        """Serve all of these, leave none of them without an answer, and hand over."""
        try:
            answers = self._serve([each.ask for each in turns])
            for each, answer in zip(turns, answers, strict=True):
                each.answer = answer
        except BaseException as error:  # noqa: BLE001 - each caller raises it in his own thread
            for each in turns:
                each.answer = error
        with self._lock:
            self._serving = bool(self._waiting)
            following = self._waiting[:1]
        for each in (*following, *turns):
            each.woken.set()
