"""Whom somebody means who asks for the certificates of a volume or tenant that is no more.

The pool keeps the ids of destroyed volumes, and no names: those stand in the operations that
destroyed them, for 30 days. A tenant's record outlives it, name and all.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from scrubjay.base.errors import Conflict, NotFound
from scrubjay.base.ids import TenantNo, VolumeId
from scrubjay.control.keeper import Keeper
from scrubjay.control.names import as_id, shown
from scrubjay.control.operations import KEPT, Operations
from scrubjay.control.records import CertificateRecord
from scrubjay.control.view import View

__all__ = ["About", "Destroyed", "digest_meant"]

_DIGEST = re.compile("[0-9a-f]{8,64}")

About = Callable[[CertificateRecord], bool]
"""Whether a certificate is about what was asked for."""


class Destroyed:
    """Finds certificates by what they are about."""

    def __init__(self, keeper: Keeper, operations: Operations) -> None:
        self._keeper = keeper
        self._operations = operations

    def about(self, *, volume: str | None, tenant: str | None) -> About | None:
        """Return the test for certificates of a volume and a tenant; None where all are wanted.

        A volume is meant by its id, or by the name that it had when it was destroyed; a
        tenant by name or id, closed or not. NotFound where nobody is known by that.
        """
        volumes = None if volume is None else self.volumes(volume)
        tenants = None if tenant is None else self.tenants(tenant)
        if volumes is None and tenants is None:
            return None

        def is_about(record: CertificateRecord) -> bool:
            if volumes is not None and volumes.isdisjoint(record.volumes):
                return False
            return tenants is None or self._is_of(record, tenants)

        return is_about

    def volumes(self, reference: str) -> frozenset[VolumeId]:
        """Return which volumes are meant: one by its id, all of a name that are gone."""
        known = as_id(reference)
        if known is not None:
            with self._keeper.reading() as view:
                _end_of(view, VolumeId(known))
            return frozenset({VolumeId(known)})
        found = frozenset(map(VolumeId, self._operations.volumes_called(reference)))
        if not found:
            raise NotFound(
                f"volume {shown(reference)}: none of this name was destroyed in {KEPT.days} days",
                hint="the pool keeps ids of destroyed volumes, no names; give the id, or --tenant",
            )
        return found

    def tenants(self, reference: str) -> frozenset[TenantNo]:
        """Return which tenants are meant: one by its number, all that ever had a name."""
        with self._keeper.reading() as view:
            found = frozenset(
                TenantNo(each.id)
                for each in view.tenants()
                if reference in (each.name, str(each.id))
            )
        if not found:
            raise NotFound(f"tenant {shown(reference)}: unknown", hint="see: scrubjay tenant list")
        return found

    def _is_of(self, record: CertificateRecord, tenants: frozenset[TenantNo]) -> bool:
        with self._keeper.reading() as view:
            births = (view.birth_record(VolumeId(each)) for each in record.volumes)
            return any(birth.tenant in tenants for birth in births)


def digest_meant(view: View, reference: str) -> str:
    """Return the digest of a certificate, or its beginning, that a reference means.

    The id of a volume, which has hyphens, means the certificate of its end. NotFound for a
    volume that never was and for what is neither, Conflict for a volume that lives, or whose
    certificate is not issued yet.
    """
    volume = as_id(reference)
    if volume is not None and str(volume) == reference.lower():
        return _issued(view, VolumeId(volume))
    if not _DIGEST.fullmatch(reference):
        raise NotFound(
            f"certificate {reference[:80]!r}: expected 8 to 64 hexadecimal digits",
            hint="or a volume's id; by its name: scrubjay certificate list --volume NAME",
        )
    return reference


def _issued(view: View, volume: VolumeId) -> str:
    digest = _end_of(view, volume)
    if not digest:
        raise Conflict(
            f"volume {volume}: destroyed, its certificate is not issued yet",
            hint="ask again in some seconds; what keeps it waiting: scrubjay pool status",
        )
    return digest


def _end_of(view: View, volume: VolumeId) -> str:
    """Return the digest of a volume's certificate, "" before there is one."""
    try:
        birth = view.birth_record(volume)
    except NotFound as error:
        raise NotFound(
            f"volume {volume}: this pool never had it", hint="see: scrubjay certificate list"
        ) from error
    if birth.destruction is not None:
        return birth.destruction.certificate
    closing = view.tenant(TenantNo(birth.tenant)).state != "active"
    if closing or view.forgetting(volume) is not None:
        return ""
    raise Conflict(
        f"volume {volume}: not destroyed, so it has no certificate",
        hint="it gets one when it is: scrubjay volume destroy",
    )
