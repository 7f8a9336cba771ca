"""One connection to the daemon over its unix socket: requests out, replies or errors in.

A problem becomes the error class of its code, so that whoever calls catches the same
errors as inside the daemon.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self, TypeVar

import httpx
import msgspec

from scrubjay.base import errors
from scrubjay.base.errors import Corrupt, ScrubjayError, Unavailable
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
    """Requests to one daemon."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket)),
            base_url="http://scrubjay/v1/",
            timeout=_TIMEOUT_S,
            trust_env=False,  # a proxy has no business here
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, reply: type[_T], **query: str | int | None) -> _T:
        """Read one resource."""
        return self._decoded(self._send("GET", path, query=query), reply)

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
        except httpx.ConnectError as error:
            raise Unavailable(
                f"daemon at {self._socket}: does not answer",
                hint="start it with: scrubjay serve",
            ) from error
        except httpx.HTTPError as error:
            raise Unavailable(
                f"daemon at {self._socket}: {type(error).__name__} in {method} {path}",
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
                f"answer of {self._socket}: {error}",
                hint="daemon and command line are of different versions",
            ) from error


def error_of(problem: Problem) -> ScrubjayError:
    """Return a problem as the error that it was made from; unknown codes as its parent."""
    kind = _CLASSES.get(problem.code)
    if kind is None:
        by_status = (each for each in _CLASSES.values() if each.http_status == problem.status)
        kind = next(by_status, Unavailable)
    return kind(problem.detail, hint=problem.hint)


def _problem(response: httpx.Response) -> ScrubjayError:
    try:
        return error_of(msgspec.json.decode(response.content, type=Problem))
    except msgspec.MsgspecError:
        return Unavailable(
            f"daemon: answered {response.status_code} without a problem",
            hint="look at what it logged",
        )
