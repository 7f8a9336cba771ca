"""The API as an ASGI application: routes, limits, problems, OpenAPI."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scrubjay import __version__
from scrubjay.api import (
    attachments,
    certificates,
    defaults,
    events,
    metrics,
    operations,
    pools,
    problems,
    tenants,
    volumes,
)
from scrubjay.api.problems import TooLarge
from scrubjay.api.services import Services

__all__ = ["BODY_BYTES_MAX", "make_application"]

BODY_BYTES_MAX = 64 * 1024
"""No request of this API means more."""


def make_application(services: Services) -> FastAPI:
    """Return the API over these services."""
    app = FastAPI(
        title="Scrubjay",
        version=__version__,
        summary="A storage cloud that forgets, remembers and keeps secrets.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
    )
    app.state.services = services
    parts = (
        tenants,
        volumes,
        attachments,
        pools,
        certificates,
        operations,
        defaults,
        events,
        metrics,
    )
    for part in parts:
        app.include_router(part.router)
    problems.install(app)
    app.add_middleware(BodyLimit)
    return app


class BodyLimit:
    """Refuses a request whose body is longer than any that could be meant."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take the body, which is short, as a whole; pass it on with the request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client has gone
            body += message.get("body", b"")
            if len(body) > BODY_BYTES_MAX:
                refusal = problems.answer(TooLarge(f"request: longer than {BODY_BYTES_MAX} bytes"))
                await refusal(scope, receive, send)
                return
            more = message.get("more_body", False)
        taken: Message | None = {"type": "http.request", "body": bytes(body), "more_body": False}

        async def receive_taken() -> Message:
            nonlocal taken
            message, taken = taken, None
            return await receive() if message is None else message

        await self._app(scope, receive_taken, send)


def _operation_id(route: APIRoute) -> str:
    return route.name
