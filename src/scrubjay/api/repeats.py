"""POSTs that may be sent again: the Idempotency-Key header.

The first answer that did something is kept for a day, and a repeat with the same key and
the same request gets it again. A repeat after a crash in between finds what the first one
made by the digest that the pool keeps with it (`digest_of`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import re
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from scrubjay.api.services import services_of
from scrubjay.base.errors import Conflict, Invalid
from scrubjay.catalog.idempotency import Answer
from scrubjay.control.records import at

__all__ = ["KEPT", "Repeatable", "digest_of"]

KEPT = dt.timedelta(days=1)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_KEPT_HEADERS = ("content-type", "location", "etag")
_SUCCESS = range(200, 300)


class Repeatable(APIRoute):
    """A route whose POSTs take an Idempotency-Key."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler that FastAPI made."""
        handle = super().get_route_handler()

        async def handle_once(request: Request) -> Response:
            key = request.headers.get("idempotency-key")
            if request.method != "POST" or key is None:
                return await handle(request)
            return await _once(request, key, handle)

        return handle_once


def digest_of(request: Request) -> str:
    """Return the digest of a request that has an Idempotency-Key, "" for one without."""
    digest = getattr(request.state, "digest", "")
    return digest if isinstance(digest, str) else ""


async def _once(
    request: Request, key: str, handle: Callable[[Request], Coroutine[Any, Any, Response]]
) -> Response:
    if not _KEY.fullmatch(key):
        raise Invalid("idempotency-key: expected 1 to 255 printable characters without blanks")
    services = services_of(request)
    asked = f"{request.method} {request.url.path}\n".encode() + await request.body()
    fingerprint = hashlib.sha256(asked).digest()
    with _under_way(services.under_way, services.under_way_lock, key):
        known = await run_in_threadpool(services.answers.find, key)
        if known is not None:
            if known.fingerprint != fingerprint:
                raise Invalid(
                    "idempotency-key: used before for another request",
                    hint="take a new key for every new request",
                )
            headers = {**known.headers, "idempotency-replayed": "true"}
            return Response(known.body, status_code=known.status, headers=headers)
        request.state.digest = hashlib.sha256(key.encode() + b"\n" + fingerprint).hexdigest()
        response = await handle(request)
        if response.status_code in _SUCCESS:
            kept = {
                name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers
            }
            answer = Answer(fingerprint, response.status_code, kept, bytes(response.body))
            now = at(services.clock.now_ns())
            await run_in_threadpool(services.answers.keep, key, answer, created_at=now)
        return response


@contextlib.contextmanager
def _under_way(keys: set[str], lock: threading.Lock, key: str) -> Iterator[None]:
    """Hold a key; Conflict while another request holds it."""
    with lock:
        if key in keys:
            raise Conflict("idempotency-key: its first request is still under way")
        keys.add(key)
    try:
        yield
    finally:
        with lock:
            keys.discard(key)
