"""An erasure in miniature: a pool's facts, a log in memory, keys out of a seed."""

import datetime as dt
import hashlib
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scrubjay.base.ids import TenantNo, VolumeId
from scrubjay.control.attesting import attests
from scrubjay.evidence.bundle import make_bundle
from scrubjay.evidence.certificate import (
    Certificate,
    certify_forgotten,
    certify_retired,
    certify_scrubbed,
    entry_of,
)
from scrubjay.evidence.checkpoint import Checkpoint
from scrubjay.evidence.dsse import digest_of, seal_envelope
from scrubjay.evidence.entries import BirthEntry, blind_tenant, blind_volume, pack_entry
from scrubjay.evidence.facts import Facts, Held, Kept, Looked, Medium, RetireFacts, ScrubFacts
from scrubjay.evidence.log import Log
from scrubjay.evidence.merkle import Frontier
from scrubjay.evidence.note import COSIGNATURE, ED25519, Signature, Signer, VerifierKey
from scrubjay.evidence.statement import (
    Birth,
    DiskBeneath,
    End,
    Ledger,
    MediumRetired,
    MediumScrubbed,
    Move,
    SinkDropped,
    Statement,
    Subject,
    Wiped,
)
from scrubjay.evidence.strict import encode

ORIGIN = "scrubjay.example/pool0"
START = dt.datetime(2026, 3, 1, 8, tzinfo=dt.UTC)
POOL = uuid.UUID(int=0x5C)
SINK = uuid.UUID(int=0x51)
BLINDING = bytes(range(16))


def moment(minutes: float) -> dt.datetime:
    """Return a moment of the story."""
    return START + dt.timedelta(minutes=minutes)


def signer(seed: int = 1, name: str = ORIGIN) -> Signer:
    """Return a log's key, the same for the same seed."""
    private = Ed25519PrivateKey.from_private_bytes(bytes((seed,)) * 32)
    return Signer(VerifierKey(name, _public(private), ED25519), private.sign)


def cosigned(text: str, *, seed: int, name: str, time: int) -> tuple[Signature, VerifierKey]:
    """Return a witness's signature over a checkpoint, and its key."""
    private = Ed25519PrivateKey.from_private_bytes(bytes((seed,)) * 32)
    key = VerifierKey(name, _public(private), COSIGNATURE)
    message = f"cosignature/v1\ntime {time}\n{text}".encode()
    return Signature(name, key.key_id, time.to_bytes(8) + private.sign(message)), key


def _public(private: Ed25519PrivateKey) -> bytes:
    return private.public_key().public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw
    )


class MemoryFiles:
    """`Files` in a dict; `order` tells what was written, in which order."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.order: list[str] = []

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes."""
        return self.files.get(path)

    def write(self, path: str, data: bytes) -> None:
        """Put a file there."""
        self.files[path] = data
        self.order.append(path)

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder."""
        return [path.rpartition("/")[2] for path in self.files if path.rpartition("/")[0] == folder]

    def partials(self) -> list[str]:
        """Return the folders of partial tiles."""
        folders = {path.rpartition("/")[0] for path in self.files}
        return sorted(each for each in folders if each.endswith(".p"))

    def remove(self, folder: str, names: Sequence[str]) -> None:
        """Remove files."""
        for each in names:
            self.files.pop(f"{folder}/{each}", None)
            self.order.append(f"-{folder}/{each}")


class World:
    """A pool with a log: entries, their frontier, and what is published of them."""

    def __init__(self, *, seed: int = 1) -> None:
        self.signer = signer(seed)
        self.files = MemoryFiles()
        self.log = Log(self.files, self.signer)
        self.entries: list[bytes] = []
        self.frontier = Frontier()

    @property
    def key(self) -> str:
        """The text that an auditor has."""
        return str(self.signer.key)

    def enter(self, *entries: bytes) -> int:
        """Put entries into log and pool, publish, and return the index of the first."""
        first = len(self.entries)
        for each in entries:
            self.entries.append(each)
            self.frontier = self.frontier.append(each)
        self.log.publish(first, entries, self.frontier)
        return first

    def newest(self) -> Checkpoint:
        """Return the newest checkpoint."""
        known = self.log.checkpoint()
        assert known is not None
        return known[0]

    def bear(
        self, numbers: Iterable[int], *, tenant: int = 7, late_min: float = 1
    ) -> list[Subject]:
        """Have volumes born, and tell how they ended."""
        return [self._born(number, tenant, late_min) for number in numbers]

    def _born(self, number: int, tenant: int, late_min: float) -> Subject:
        entry = BirthEntry(
            at=moment(number + late_min),
            subject=blind_volume(BLINDING, volume(number)),
            tenant=blind_tenant(BLINDING, POOL, TenantNo(tenant)),
            pool=POOL,
            record=hashlib.sha256(b"birth %d" % number).hexdigest(),
            born_at=moment(number),
            epoch=2,
            cipher="AES-256-GCM",
            encrypted_from_sector=0,
        )
        index = self.enter(pack_entry(entry))
        attached = number % 2 == 0
        return Subject(
            id=entry.subject,
            tenant=entry.tenant,
            birth=Birth(
                record=entry.record,
                born_at=entry.born_at,
                epoch=entry.epoch,
                cipher=entry.cipher,
                encrypted_from_sector=0,
                log_index=index,
            ),
            ledger=Ledger(root=hashlib.sha256(b"ledger %d" % number).hexdigest(), count=64),
            end=End(
                decided_at=moment(1000),
                withheld_at=moment(1000.01),
                exporter="acknowledged" if attached else "not attached",
                exporter_at=moment(1000.02) if attached else None,
            ),
        )

    def forget(self, facts: Facts) -> tuple[Certificate, int]:
        """Certify a forgetting, and enter it into the log."""
        made = certify_forgotten(facts, self.signer, attests=attests)
        return made, self.enter(made.entry)

    def scrub(self, facts: ScrubFacts, first: Certificate) -> tuple[Certificate, int]:
        """Certify a scrubbing, and enter it into the log."""
        made = certify_scrubbed(facts, first, self.signer)
        return made, self.enter(made.entry)

    def retire(self, facts: RetireFacts) -> tuple[Certificate, int]:
        """Certify that a medium was erased, and enter it into the log."""
        made = certify_retired(facts, self.signer)
        return made, self.enter(made.entry)

    def sign(self, statement: Statement) -> tuple[Certificate, int]:
        """Sign and enter any statement, as a lying holder of the key could."""
        payload = encode(statement)
        entry = pack_entry(entry_of(statement, digest_of(payload)))
        made = Certificate(payload, seal_envelope(payload, self.signer), entry)
        return made, self.enter(made.entry)

    def bundle(
        self,
        certified: tuple[Certificate, int],
        first: tuple[Certificate, int] | None = None,
    ) -> bytes:
        """Return the bundle of a certificate under the newest checkpoint."""
        made, index = certified
        beside = None if first is None else (first[0].envelope, first[1])
        return make_bundle(self.log, made.envelope, index, first=beside)


def volume(number: int) -> VolumeId:
    """Return the id of a volume."""
    return VolumeId(uuid.UUID(int=number))


def looked(kind: str, of: str, *, at: float = 1001, total: int = 1, **counts: int) -> Looked:
    """Return a look that found all gone, unless counts say otherwise."""
    return Looked(
        kind=kind,  # type: ignore[arg-type]  # the tests pass each kind by its name
        id=of,
        method=f"read back every {kind}",
        at=moment(at),
        total=total,
        examined=counts.get("examined", total),
        mismatches=counts.get("mismatches", 0),
    )


def sink(worth: str = "Clear", kind: str = "file", number: int = 0) -> SinkDropped:
    """Return a sink that dropped the epoch."""
    return SinkDropped(
        kind=kind,  # type: ignore[arg-type]  # likewise
        id=uuid.UUID(int=SINK.int + number),
        place="ext4 on sda, a rotating disk",
        worth=worth,  # type: ignore[arg-type]  # likewise
        reason="overwriting happens in place",
    )


def facts(subjects: Iterable[Subject], *sinks: SinkDropped) -> Facts:
    """Return the facts of a forgetting in which all went well."""
    sinks = sinks or (sink(),)
    return Facts(
        issued_at=moment(1002),
        pool=POOL,
        scope="volumes",
        subjects=tuple(subjects),
        epoch_before=5,
        epoch_after=6,
        forgotten_at=moment(1000.5),
        sinks=tuple(sinks),
        media=(Medium("file", "medium-0", "/var/lib/scrubjay/pool"),),
        held=(
            Held("nodes", "pool", "the pool's tree", "keys"),
            Held("cache", "host", "page cache of the host", "ciphertext"),
            Held("catalog", "catalog.db", "the home", "traces"),
            Held("exporter", "all", "the host's memory", "keys"),
            Held("log", ORIGIN, "the published log", "traces", Kept(None, "it only grows")),
        ),
        looked=(
            *(looked("sink", str(each.id), at=1000.4) for each in sinks),
            looked("superblocks", "medium-0", total=2),
            looked("nodes", "pool", total=40),
            looked("cache", "host"),
            looked("catalog", "catalog.db", total=3),
            looked("exporter", "all", total=1),
        ),
        scrub_within_s=86_400,
        purge_within_s=86_400,
        logged=("volume.forgotten, epoch 6",),
        asserted=("The operator keeps no image of this disk.",),
    )


def without(known: Facts, kind: str) -> Facts:
    """Return the facts without any look at copies of a kind."""
    return replace(known, looked=tuple(each for each in known.looked if each.kind != kind))


def scrub_facts(*, mismatches: int = 0) -> ScrubFacts:
    """Return the facts of a scrubbing."""
    return ScrubFacts(
        issued_at=moment(1300),
        media=(
            MediumScrubbed(
                kind="file",
                id="medium-0",
                place="/var/lib/scrubjay/pool",
                technique="overwrite",
                method="Clear",
                reason="written in place, and read past the cache",
            ),
        ),
        held=(Held("log", ORIGIN, "the published log", "traces", Kept(None, "it only grows")),),
        looked=(
            looked("medium", "medium-0", at=1290, total=64, examined=8, mismatches=mismatches),
        ),
    )


DISK = DiskBeneath(
    node="/dev/sdb",
    kind="disk",
    model="ST4000NM000A",
    serial="WS21ABCD",
    wwn="0x5000c500c0ffee00",
    rotates=True,
    size_bytes=(1 << 22) + 512,
)
FLASH = msgspec.structs.replace(DISK, node="/dev/nvme0n1", model="SSD 990", rotates=False)
WIPED = Wiped(
    technique="overwrite",
    pattern="overwrite-zeros",
    begun_at=moment(1010),
    erased_at=moment(1020),
    read_back_at=moment(1030),
    bytes_erased=(1 << 22) + 512,
    pages=1025,
    pages_read=1025,
    reads="device",
    mismatches=0,
    unreadable=0,
    failed=(),
)


def retire_facts(
    *, wiped: Wiped = WIPED, disk: DiskBeneath = DISK, worth: str = "Clear"
) -> RetireFacts:
    """Return the facts of a medium that was moved from, and erased."""
    medium = uuid.UUID(int=0x3ED)
    return RetireFacts(
        issued_at=moment(1040),
        pool=POOL,
        medium=MediumRetired(
            kind="block device",
            id=medium,
            place="/dev/disk/by-id/ata-ST4000NM000A_WS21ABCD",
            size_bytes=(1 << 22) + 512,
            disks=(disk,),
            worth=worth,  # type: ignore[arg-type]  # the tests pass each by its name
            reason=(
                "sdb, a rotating disk: overwriting happens in place"
                if worth == "Clear"
                else "nvme0n1, flash: it writes elsewhere instead of overwriting"
            ),
        ),
        move=Move(
            noted_at=moment(1000),
            left_at=moment(1005),
            moved_to="/dev/disk/by-id/ata-ST4000NM000A_WS21EFGH",
            epoch_before=5,
            epoch_after=6,
        ),
        wiped=wiped,
        looked=(
            looked("superblocks", str(medium), at=1009, total=2),
            looked("sink", str(SINK), at=1040),
        ),
        logged=("The pool was opened elsewhere under epoch 6.",),
        asserted=("The disk goes back to its maker.",),
        assumed=("Model and serial number are what the disk said of itself.",),
    )
