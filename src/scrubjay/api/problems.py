"""Errors as problems (RFC 9457): the one place where they become HTTP.

A problem's `code` is its class's code and stays; `detail` names what was observed and
expected, `hint` what to do. What nobody meant to raise says nothing about itself.
"""

from __future__ import annotations

from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from scrubjay.base.errors import Conflict, Denied, Invalid, NotFound, ScrubjayError, Unavailable

__all__ = [
    "PROBLEMS",
    "NotAllowed",
    "Outdated",
    "Problem",
    "TooLarge",
    "answer",
    "install",
]

_MEDIA_TYPE = "application/problem+json"
_SHOWN_ERRORS_MAX = 5
_SHOWN_VALUE_MAX = 60
_log = structlog.get_logger(__name__)


class Outdated(Conflict):
    """The thing is not any more what If-Match says: read it again."""

    code = "outdated"
    http_status = 412


class NotAllowed(Invalid):
    """The resource knows no such method."""

    code = "not-allowed"
    http_status = 405


class TooLarge(Invalid):
    """The request is longer than any that could be meant."""

    code = "too-large"
    http_status = 413


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(examples=["urn:scrubjay:error:conflict"])
    title: str
    status: int
    code: str
    detail: str
    hint: str = ""


PROBLEMS: dict[int | str, dict[str, object]] = {
    "4XX": {"model": Problem, "description": "what is wrong with the request"},
    "5XX": {"model": Problem, "description": "what is wrong here"},
}
"""For OpenAPI: every route may answer with a problem."""


def answer(error: ScrubjayError) -> Response:
    """Return the response that says what `error` says."""
    problem = Problem(
        type=f"urn:scrubjay:error:{error.code}",
        title=HTTPStatus(error.http_status).phrase,
        status=error.http_status,
        code=error.code,
        detail=error.message,
        hint=error.hint,
    )
    return Response(
        problem.model_dump_json(), status_code=error.http_status, media_type=_MEDIA_TYPE
    )


def install(app: FastAPI) -> None:
    """Let every error of `app` be answered as a problem."""

    @app.exception_handler(ScrubjayError)
    def ours(_request: Request, error: ScrubjayError) -> Response:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> Response:
        found = [
            f"{'.'.join(str(part) for part in each['loc'])}: {_observed(each)}{each['msg']}"
            for each in error.errors()[:_SHOWN_ERRORS_MAX]
        ]
        return answer(Invalid(f"request {'; '.join(found)}"))

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        what = f"{request.method} {request.url.path}"
        kinds: dict[int, ScrubjayError] = {
            403: Denied(f"{what}: not allowed"),
            404: NotFound(f"{what}: no such resource"),
            405: NotAllowed(f"{what}: no such method"),
        }
        return answer(kinds.get(error.status_code) or Invalid(f"{what}: {error.detail}"))

    @app.exception_handler(Exception)
    def unforeseen(request: Request, error: Exception) -> Response:
        what = f"{request.method} {request.url.path}"
        _log.error("request.broke", request=what, exc_info=error)
        return answer(Unavailable(f"{what}: broke", hint="the daemon's log says more"))


def _observed(error: dict[str, object]) -> str:
    value = error.get("input")
    if not isinstance(value, str | int | float):
        return ""
    text = repr(value)
    return f"{text if len(text) <= _SHOWN_VALUE_MAX else text[:_SHOWN_VALUE_MAX] + '...'}, "
