"""Births in the log: every volume stands in it from the commit on that makes it.

Evidence speaks of volumes and tenants under blinded ids. The blinding values are in the
pool, for the owner to hand to whom he likes.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from itertools import islice

import msgspec

from scrubjay.base.ids import TenantNo, VolumeId
from scrubjay.base.ports import Entropy
from scrubjay.control.keeper import Change, Keeper
from scrubjay.control.log import append
from scrubjay.control.records import BirthRecord, birth_key, encode, tenant_key
from scrubjay.control.view import View
from scrubjay.evidence.entries import (
    BLINDING_BYTES,
    BirthEntry,
    blind_tenant,
    blind_volume,
    pack_entry,
)

__all__ = ["digest_of_birth", "enter_birth", "enter_births", "subject_of", "tenant_of"]

_BATCH = 256


def enter_birth(
    change: Change, birth: BirthRecord, *, now: dt.datetime, entropy: Entropy
) -> BirthRecord:
    """Stage a birth and its entry in the log; return the record."""
    tenant = change.tenant(TenantNo(birth.tenant))
    if not tenant.blinding:
        tenant = msgspec.structs.replace(tenant, blinding=entropy.token(BLINDING_BYTES).hex())
        change.put(tenant_key(TenantNo(tenant.id)), encode(tenant))
    blinding = birth.blinding or entropy.token(BLINDING_BYTES).hex()
    blinded = msgspec.structs.replace(birth, blinding=blinding)
    entry = BirthEntry(
        at=max(now, birth.created_at),
        subject=subject_of(blinded),
        tenant=tenant_of(change, blinded),
        pool=birth.pool,
        record=digest_of_birth(blinded),
        born_at=birth.created_at,
        epoch=birth.epoch,
        cipher=birth.cipher,
        encrypted_from_sector=birth.encrypted_from_sector,
    )
    entered = msgspec.structs.replace(blinded, log_index=append(change, pack_entry(entry)))
    change.put(birth_key(VolumeId(birth.volume)), encode(entered))
    return entered


def enter_births(keeper: Keeper) -> int:
    """Enter the births of volumes from before there was a log; return how many."""
    with keeper.reading() as view:
        missing = iter(
            [
                VolumeId(birth.volume)
                for birth in view.births()
                if birth.log_index is None and _lives(birth)
            ]
        )
    entered = 0
    while batch := list(islice(missing, _BATCH)):
        with keeper.changing(frees=True) as change:
            for volume in batch:
                birth = change.birth_record(volume)
                enter_birth(change, birth, now=keeper.now(), entropy=keeper.entropy)
        entered += len(batch)
    return entered


def digest_of_birth(birth: BirthRecord) -> str:
    """Return the digest of a birth record without its end, and without its place in the log."""
    bare = msgspec.structs.replace(birth, destruction=None, log_index=None)
    return hashlib.sha256(encode(bare)).hexdigest()


def subject_of(birth: BirthRecord) -> str:
    """Return the id under which evidence speaks of a volume."""
    return blind_volume(bytes.fromhex(birth.blinding), VolumeId(birth.volume))


def tenant_of(view: View, birth: BirthRecord) -> str:
    """Return the id under which evidence speaks of a volume's tenant."""
    tenant = TenantNo(birth.tenant)
    return blind_tenant(bytes.fromhex(view.tenant(tenant).blinding), birth.pool, tenant)


def _lives(birth: BirthRecord) -> bool:
    return birth.destruction is None
