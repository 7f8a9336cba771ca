"""One connection to the daemon over its unix socket: requests out, replies or errors in.

A problem becomes the error class of its code, so that whoever calls catches the same
errors as inside the daemon.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self, TypeVar

import httpx
import msgspec

from scrubjay.base import errors
from scrubjay.base.errors import Corrupt, Denied, ScrubjayError, Unavailable
from scrubjay.client.replies import Page, Problem

__all__ = ["Connection", "error_of"]

_TIMEOUT_S = 60
"""Longer than the daemon waits for anything before it answers."""
_T = TypeVar("_T")
_CLASSES: Mapping[str, type[ScrubjayError]] = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ScrubjayError)
}


class Connection:
    """Requests to one daemon, over its socket or, in tests, a transport in its place."""

    def __init__(self, path: Path, *, transport: httpx.BaseTransport | None = None) -> None:
        self._path = path
        self._direct = transport is None
        self._http = httpx.Client(
            transport=transport or httpx.HTTPTransport(uds=str(path)),
            base_url="http://scrubjay/v1/",
            timeout=_TIMEOUT_S,
            trust_env=False,  # a proxy has no business here
        )

    def __enter__(self) -> Self:
        """Connect; Unavailable where no daemon answers, Denied where it is another user's."""
        if self._direct:
            _reach(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, reply: type[_T], **query: str | int | None) -> _T:
        """Read one resource."""
        return self._decoded(self._send("GET", path, query=query), reply)

    def read(self, path: str) -> bytes:
        """Read a file."""
        return self._send("GET", path).content

    def all(self, path: str, item: type[_T], **query: str | int | None) -> Iterator[_T]:
        """Read a whole collection, page by page."""
        cursor: str | None = None
        while True:
            page = self.get(path, Page[item], cursor=cursor, **query)  # type: ignore[valid-type] # msgspec takes a type made when running
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def send(
        self,
        method: str,
        path: str,
        reply: type[_T],
        *,
        body: Mapping[str, object] | None = None,
        key: str | None = None,
        if_match: str | None = None,
    ) -> _T:
        """Change something; `key` makes a POST safe to send again."""
        headers = {"Idempotency-Key": key, "If-Match": if_match}
        return self._decoded(self._send(method, path, body=body, headers=headers), reply)

    def delete(self, path: str) -> None:
        """Take something away that answers with nothing."""
        self._send("DELETE", path)

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | None] | None = None,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> httpx.Response:
        given = {name: value for name, value in (headers or {}).items() if value is not None}
        if body is not None:
            given["Content-Type"] = "application/json"
        try:
            response = self._http.request(
                method,
                path,
                params={name: value for name, value in (query or {}).items() if value is not None},
                content=None if body is None else msgspec.json.encode(body),
                headers=given,
            )
        except httpx.HTTPError as error:
            raise Unavailable(
                f"daemon at {self._path}: {type(error).__name__} in {method} {path}",
                hint="look whether it still runs, and what it logged",
            ) from error
        if response.is_error:
            raise _problem(response)
        return response

    def _decoded(self, response: httpx.Response, reply: type[_T]) -> _T:
        try:
            return msgspec.json.decode(response.content, type=reply)
        except msgspec.MsgspecError as error:
            raise Corrupt(
                f"answer of {self._path}: {error}",
                hint="daemon and command line are of different versions",
            ) from error


def error_of(problem: Problem) -> ScrubjayError:
    """Return a problem as the error that it was made from; unknown codes as its parent."""
    kind = _CLASSES.get(problem.code)
    if kind is None:
        by_status = (each for each in _CLASSES.values() if each.http_status == problem.status)
        kind = next(by_status, Unavailable)
    return kind(problem.detail, hint=problem.hint)


def _reach(path: Path) -> None:
    """See that somebody listens; httpcore 1.0 would leave a socket open where nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except PermissionError as error:
            raise Denied(
                f"daemon at {path}: not yours",
                hint="run as the user that runs `scrubjay serve`, or name your own SCRUBJAY_HOME",
            ) from error
        except OSError as error:
            raise Unavailable(
                f"daemon at {path}: does not answer", hint="start it with: scrubjay serve"
            ) from error


def _problem(response: httpx.Response) -> ScrubjayError:
    try:
        return error_of(msgspec.json.decode(response.content, type=Problem))
    except msgspec.MsgspecError:
        return Unavailable(
            f"daemon: answered {response.status_code} without a problem",
            hint="look at what it logged",
        )
