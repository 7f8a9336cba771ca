"""Where the daemon says what it does: lines on stderr, JSON unless a person reads along.

Commands that work on a home by themselves say in words what they could not do.
"""

from __future__ import annotations

import logging
import sys

import structlog

__all__ = ["set_up_logs", "set_up_notes"]


def set_up_logs() -> None:
    """Have structlog and the libraries' loggers write to stderr.

    A traceback shows lines and no values: a value may be a key (I2).
    """
    terminal = sys.stderr.isatty()
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if terminal:
        plain = structlog.dev.plain_traceback
        processors.append(structlog.dev.ConsoleRenderer(exception_formatter=plain))
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")


def set_up_notes() -> None:
    """Have structlog tell a person, on stderr, what a command could not do."""
    structlog.configure(
        processors=[_note],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )


def _note(_logger: object, _method: str, event: structlog.typing.EventDict) -> str:
    """Return "warning: sink not rotated: ...": what happened, and to what or why."""
    what = str(event["event"]).replace(".", " ").replace("_", " ")
    about = next((str(event[name]) for name in ("error", "place") if name in event), "")
    return f"warning: {what}: {about}" if about else f"warning: {what}"
