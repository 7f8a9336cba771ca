"""The pool's records as types: read from its tree, or staged for its next commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec

from scrubjay.base.errors import Corrupt, NotFound
from scrubjay.base.ids import BranchNo, LineageNo, TenantNo, VolumeId
from scrubjay.control import records
from scrubjay.control.records import (
    BirthRecord,
    BranchRecord,
    CertificateRecord,
    ClosedRecord,
    ClosingRecord,
    EndingRecord,
    ForgettingRecord,
    LineageRecord,
    PolicyRecord,
    PoolRecord,
    RemainsRecord,
    ScrubRecord,
    SignerRecord,
    TenantRecord,
    VolumeRecord,
)

__all__ = ["Source", "View"]


class Source(Protocol):
    """The pool's tree, or a change of it with what it has staged."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key."""
        ...

    def scan(self, prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
        """Yield the keys that begin with `prefix` and their values, in order."""
        ...


class View:
    """What the pool says, record by record. A missing record raises NotFound."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def get(self, key: bytes) -> bytes | None:
        """Return a value that is not JSON: of the directory, or of the ledger."""
        return self._source.get(key)

    def scan(self, prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
        """Yield values that are not JSON."""
        return self._source.scan(prefix)

    def pool(self) -> PoolRecord:
        """Return the pool's own record."""
        value = self._source.get(records.POOL_KEY)
        if value is None:
            raise Corrupt("pool: no record of its own, expected one")
        return records.decode(PoolRecord, value, where="pool")

    def policy(self) -> PolicyRecord:
        """Return what the pool promises: the defaults, until somebody changed them."""
        value = self._source.get(records.POLICY_KEY)
        if value is None:
            return PolicyRecord()
        return records.decode(PolicyRecord, value, where="policy")

    def scrubbed(self) -> ScrubRecord:
        """Return what scrubbing has done so far."""
        value = self._source.get(records.SCRUB_KEY)
        if value is None:
            return ScrubRecord()
        return records.decode(ScrubRecord, value, where="scrubbing")

    def tenant(self, tenant: TenantNo) -> TenantRecord:
        """Return a tenant."""
        where = f"tenant {tenant}"
        value = self._value(records.tenant_key(tenant), where)
        return records.decode(TenantRecord, value, where=where)

    def tenants(self) -> Iterator[TenantRecord]:
        """Yield every tenant."""
        for key, value in self._source.scan(b"t"):
            yield records.decode(TenantRecord, value, where=f"pool key {key.hex()}")

    def volume(self, volume: VolumeId) -> VolumeRecord:
        """Return a volume; one of a tenant that is closing is `destroying`, whatever it says."""
        where = f"volume {volume}"
        value = self._value(records.volume_key(volume), where)
        return self._withheld(records.decode(VolumeRecord, value, where=where))

    def volumes(self) -> Iterator[tuple[VolumeId, VolumeRecord]]:
        """Yield every volume."""
        for key, value in self._source.scan(b"v"):
            volume = records.volume_of(key)
            record = records.decode(VolumeRecord, value, where=f"volume {volume}")
            yield volume, self._withheld(record)

    def lineage(self, lineage: LineageNo) -> LineageRecord:
        """Return a lineage."""
        where = f"lineage {lineage}"
        value = self._value(records.lineage_key(lineage), where)
        return records.decode(LineageRecord, value, where=where)

    def branch(self, lineage: LineageNo, branch: BranchNo) -> BranchRecord:
        """Return a branch."""
        where = f"lineage {lineage} branch {branch}"
        value = self._value(records.branch_key(lineage, branch), where)
        return records.decode(BranchRecord, value, where=where)

    def birth_record(self, volume: VolumeId) -> BirthRecord:
        """Return the birth record of a volume, which may be no more."""
        where = f"birth of volume {volume}"
        value = self._value(records.birth_key(volume), where)
        return records.decode(BirthRecord, value, where=where)

    def births(self) -> Iterator[BirthRecord]:
        """Yield the birth record of every volume that there ever was."""
        for key, value in self._source.scan(b"r"):
            where = f"birth of volume {records.volume_of(key)}"
            yield records.decode(BirthRecord, value, where=where)

    def closing(self, tenant: TenantNo) -> ClosingRecord | None:
        """Return the decision about a tenant's end, done or not; None where there is none."""
        value = self._source.get(records.closing_key(tenant))
        where = f"closing of tenant {tenant}"
        return None if value is None else records.decode(ClosingRecord, value, where=where)

    def closings(self) -> Iterator[ClosingRecord]:
        """Yield the closings of all tenants, those that are done included."""
        for tenant in self.tenants():
            if tenant.state != "active":
                found = self.closing(TenantNo(tenant.id))
                if found is None:
                    raise Corrupt(f"tenant {tenant.id}: {tenant.state}, and no record of its end")
                yield found

    def closed(self, tenant: TenantNo) -> Iterator[VolumeId]:
        """Yield every volume that a closed tenant ever had, in order of birth."""
        key = records.closing_key(tenant)
        for at, value in self._source.scan(key):
            if at != key:
                where = f"pool key {at.hex()}"
                listed = records.decode(ClosedRecord, value, where=where)
                yield from map(VolumeId, listed.volumes)

    def forgetting(self, volume: VolumeId) -> ForgettingRecord | None:
        """Return the decision about a volume's end; None where it is not decided, or done."""
        value = self._source.get(records.forgetting_key(volume))
        where = f"forgetting of volume {volume}"
        return None if value is None else records.decode(ForgettingRecord, value, where=where)

    def forgettings(self) -> list[ForgettingRecord]:
        """Return every forgetting that is decided and not done, oldest first."""
        found = [
            records.decode(ForgettingRecord, value, where=f"pool key {key.hex()}")
            for key, value in self._source.scan(b"f")
        ]
        return sorted(found, key=lambda each: each.decided_at)

    def remains(self) -> Iterator[tuple[LineageNo, RemainsRecord]]:
        """Yield what is left of each lineage that was forgotten and is not yet cleared away."""
        for key, value in self._source.scan(b"w"):
            where = f"pool key {key.hex()}"
            yield (
                LineageNo(int.from_bytes(key[1:])),
                records.decode(RemainsRecord, value, where=where),
            )

    def signer(self) -> SignerRecord | None:
        """Return the key that signs; None before the pool has one."""
        value = self._source.get(records.SIGNER_KEY)
        return None if value is None else records.decode(SignerRecord, value, where="signer")

    def ending(self, volume: VolumeId) -> EndingRecord | None:
        """Return how the exporter of a volume ended whose tenant is closing; None: it had none."""
        value = self._source.get(records.ending_key(volume))
        where = f"ending of volume {volume}"
        return None if value is None else records.decode(EndingRecord, value, where=where)

    def certificates(self, epoch: int) -> Iterator[tuple[bytes, CertificateRecord]]:
        """Yield the key and record of every certificate about the rotation to an epoch."""
        for key, value in self._source.scan(records.CERTIFICATE_PREFIX + epoch.to_bytes(8)):
            where = f"pool key {key.hex()}"
            yield key, records.decode(CertificateRecord, value, where=where)

    def _withheld(self, record: VolumeRecord) -> VolumeRecord:
        """Return the record of a volume as its tenant's end has it, which one record decides."""
        if self.tenant(TenantNo(record.tenant)).state == "active":
            return record
        return msgspec.structs.replace(record, state="destroying")

    def _value(self, key: bytes, where: str) -> bytes:
        value = self._source.get(key)
        if value is None:
            raise NotFound(f"{where}: unknown")
        return value
