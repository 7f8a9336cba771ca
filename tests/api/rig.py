"""The API on a real unix socket, over a control plane on simulated disks."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from scrubjay.api.application import make_application
from scrubjay.api.server import Server, listen
from scrubjay.api.services import Services
from scrubjay.catalog.idempotency import Answers
from scrubjay.control.defaults import Defaults
from scrubjay.control.destroyed import Destroyed
from scrubjay.control.events import Events
from scrubjay.control.scan import Scans
from scrubjay.evidence.promises import LEDGER
from tests.control.rig import World


def services_over(world: World) -> Services:
    """Return a world as the API sees it."""
    events = Events(world.keeper)
    defaults = Defaults(world.keeper, events, LEDGER, version="0.1.0")
    defaults.announce()
    return Services(
        tenants=world.tenants,
        volumes=world.volumes,
        attachments=world.attachments,
        forgetting=world.forgetting,
        certificates=world.certificates,
        destroyed=Destroyed(world.keeper, world.operations),
        log=world.log,
        pools=world.pools,
        policies=world.policies,
        scans=Scans(lambda: [world.disks.copied().pool], world.operations),
        operations=world.operations,
        answers=Answers(world.database),
        defaults=defaults,
        events=events,
        clock=world.clock,
    )


@contextmanager
def serving(world: World, socket: Path) -> Iterator[None]:
    """Serve a world, its queue of destructions included."""
    server = Server(make_application(services_over(world)), listen(socket))
    server.start()
    world.forgetting.start()
    try:
        yield
    finally:
        server.stop()
        world.forgetting.stop()
        world.operations.stop(30)


@contextmanager
def made_home() -> Iterator[tuple[World, Path]]:
    """Yield a world and the home in whose run folder it is served; the path is short."""
    with tempfile.TemporaryDirectory(prefix="sj-") as name:
        home = Path(name)
        (home / "run").mkdir()
        world = World.make(home, slots=16)
        with serving(world, home / "run" / "api.sock"):
            yield world, home
        world.close()


def client_of(home: Path) -> httpx.Client:
    """Return a client that knows nothing of this project."""
    transport = httpx.HTTPTransport(uds=str(home / "run" / "api.sock"))
    return httpx.Client(transport=transport, base_url="http://scrubjay/v1", timeout=30)


def finished(client: httpx.Client, operation: str) -> dict[str, object]:
    """Ask for an operation until it has ended."""
    while True:
        answer = client.get(f"/operations/{operation}").json()
        assert isinstance(answer, dict)
        if answer["state"] != "running":
            return answer
        time.sleep(0.01)
