"""What the API is handed: the nouns of `control`, and nothing below them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from scrubjay.base.ports import Clock
from scrubjay.catalog.idempotency import Answers
from scrubjay.control.attachments import Attachments
from scrubjay.control.certificates import Certificates
from scrubjay.control.defaults import Defaults
from scrubjay.control.destroyed import Destroyed
from scrubjay.control.events import Events
from scrubjay.control.forgetting import Forgetting
from scrubjay.control.log import Log
from scrubjay.control.operations import Operations
from scrubjay.control.policy import Policies
from scrubjay.control.pool_status import Pools
from scrubjay.control.scan import Scans
from scrubjay.control.tenants import Tenants
from scrubjay.control.volumes import Volumes

__all__ = ["Services", "ServicesHere", "services_of"]


@dataclass(frozen=True, slots=True)
class Services:
    """The daemon, as the API sees it."""

    tenants: Tenants
    volumes: Volumes
    attachments: Attachments
    forgetting: Forgetting
    certificates: Certificates
    destroyed: Destroyed
    log: Log
    pools: Pools
    policies: Policies
    scans: Scans
    operations: Operations
    answers: Answers
    defaults: Defaults
    events: Events
    clock: Clock
    under_way: set[str] = field(default_factory=set)
    """Idempotency keys whose first request has not been answered yet."""
    under_way_lock: threading.Lock = field(default_factory=threading.Lock)


def services_of(request: Request) -> Services:
    """Return the services that this application was made with."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


ServicesHere = Annotated[Services, Depends(services_of)]
