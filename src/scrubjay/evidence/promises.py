"""The ledger of the defaults that security rests on (docs/defaults.md is made from it).

Who changes a default adds an entry at the end of `LEDGER`, with the version that ships it,
and a line to tests/evidence/defaults.chain. Nothing that stands here is edited: a test
compares the newest values with the code, and the history with its digests.
"""

from __future__ import annotations

import datetime as dt

from scrubjay.evidence.defaults import Entry, Ledger, Setting

__all__ = ["LEDGER"]

_V0_1, _D0_1 = "0.1.0", dt.date(2026, 11, 21)

_SETTINGS = (
    Setting(
        "encryption.cipher",
        "what seals every sector of every volume",
        "scrubjay.control.records:BirthRecord",
    ),
    Setting(
        "encryption.key_bytes", "length of every key in the tree", "scrubjay.keys.aead:KEY_BYTES"
    ),
    Setting(
        "encryption.from_sector",
        "the first sector of a new volume that is encrypted",
        "scrubjay.control.volumes:Volumes",
    ),
    Setting(
        "destroy.forgets",
        "what destroying a volume does to its key, whatever the client sends",
        "scrubjay.control.forgetting:Forgetting",
    ),
    Setting(
        "destroy.pause",
        "time between two rotations of the sink, within which destroys share the next one",
        "scrubjay.control.forgetting:_INTERVAL_NS",
    ),
    Setting(
        "erase.technique",
        "how freed slots are erased where nobody says otherwise",
        "scrubjay.media.erase:erase",
    ),
    Setting(
        "erase.sampled_pages",
        "pages of each erased range that are read back",
        "scrubjay.media.erase:SAMPLED_PAGES",
    ),
    Setting(
        "scrub.within",
        "time within which freed slots are overwritten, where the owner set no other",
        "scrubjay.control.records:PolicyRecord",
    ),
    Setting(
        "scrub.rates",
        "bytes a second of scrubbing: while the device is idle, and while others use it",
        "scrubjay.control.records:PolicyRecord",
    ),
    Setting(
        "purge.within",
        "time within which overwritten sectors are forgotten, where the owner set no other",
        "scrubjay.control.records:PolicyRecord",
    ),
    Setting(
        "purge.share",
        "bytes that purging may move in a volume; what is due beyond that is late, and told",
        "scrubjay.engine.purging:SHARE",
    ),
    Setting(
        "volume.keys",
        "where a new volume's keys are, unless it is asked to be ephemeral",
        "scrubjay.control.volumes:Volumes",
    ),
    Setting(
        "certificates.issued",
        "whether every destroyed volume gets a certificate in the log, whatever the client sends",
        "scrubjay.control.certificates:Certificates",
    ),
    Setting(
        "sink.shown",
        "whether init and pool status say what forgetting is worth where the sink lies",
        "scrubjay.control.pool_status:SinkStatus",
    ),
    Setting(
        "sink.tpm2.budget",
        "rotations that a TPM of unknown endurance is asked for: at any time, and then",
        "scrubjay.sinks.tpm.ground:rotation_budget",
    ),
    Setting(
        "api.socket",
        "how the API is reached, and the mode of its socket",
        "scrubjay.api.server:listen",
    ),
    Setting("api.peers", "whose processes the API answers", "scrubjay.api.server:Server"),
    Setting(
        "api.answers_kept",
        "how long a POST with an Idempotency-Key can be sent again",
        "scrubjay.api.repeats:KEPT",
        held=True,
    ),
    Setting(
        "api.operations_kept",
        "how long an operation that has ended can be looked up",
        "scrubjay.control.operations:KEPT",
        held=True,
    ),
    Setting(
        "volume.socket",
        "mode of a volume's NBD socket, unless a group is named",
        "scrubjay.export.clients:listen",
    ),
    Setting("home.folder", "mode of the home's folder", "scrubjay.app.home:Home"),
    Setting("home.pool", "mode of the pool's file", "scrubjay.media.file:PoolFile"),
    Setting("home.sink", "mode of the sink's file", "scrubjay.sinks.locked:MODE"),
    Setting("home.catalog", "mode of the catalog", "scrubjay.catalog.database:Database"),
    Setting(
        "process.core_dumps",
        "whether a daemon or an exporter that dies leaves its memory in a file",
        "scrubjay.export.hardening:harden",
    ),
    Setting(
        "process.traced",
        "whether other processes of the same user may read its memory",
        "scrubjay.export.hardening:harden",
    ),
    Setting(
        "process.privileges",
        "whether it can gain privileges that it does not have",
        "scrubjay.export.hardening:harden",
    ),
    Setting(
        "process.umask",
        "what it takes from the mode of new files",
        "scrubjay.export.hardening:harden",
    ),
    Setting(
        "memory.keys",
        "how an exporter keeps segment keys, where the system allows it",
        "scrubjay.export.arena:Arena",
    ),
    Setting(
        "defaults.notice",
        "how long a default stays in force after its weakening is announced, where it can",
        "scrubjay.control.defaults:NOTICE",
    ),
)


def _first(setting: str, value: str, why: str) -> Entry:
    return Entry(setting=setting, value=value, version=_V0_1, day=_D0_1, why=why)


_ENTRIES = (
    _first("encryption.cipher", "AES-256-GCM", "nothing that is changed opens; processors do it"),
    _first("encryption.key_bytes", "32", "of no use to guess, also for a quantum computer"),
    _first("encryption.from_sector", "0", "a sector that was ever plain cannot be forgotten"),
    _first("destroy.forgets", "always", "a provider once made it an option, and told nobody"),
    _first("destroy.pause", "250 ms", "forgotten within seconds, and a crowd shares one rotation"),
    _first(
        "erase.technique", "overwrite-zeros", "after holes and zeroing the bytes were still there"
    ),
    _first("erase.sampled_pages", "64", "of a tenth not erased, all miss it once in 700 times"),
    _first("sink.shown", "yes", "what is not known to forget is not called forgetting"),
    _first("sink.tpm2.budget", "500, 2.1 a day", "a quarter of 100,000 writes, in ten years"),
    _first("api.socket", "unix, 0600", "there are no logins yet: who can connect can do anything"),
    _first("api.peers", "its own user, root", "a mode can be changed by mistake"),
    _first("api.answers_kept", "1 day", "a client that retries for so long makes nothing twice"),
    _first("api.operations_kept", "30 days", "who destroyed what can be read for so long"),
    _first("volume.socket", "0600", "who connects reads the plaintext"),
    _first("home.folder", "0700", "pool and sink together are the data"),
    _first("home.pool", "0600", "ciphertext, but whoever writes to it ends it"),
    _first("home.sink", "0600", "the root of all keys"),
    _first("home.catalog", "0600", "names, sizes and times"),
    _first("process.core_dumps", "off", "they would hold keys"),
    _first("process.traced", "no", "they would read keys"),
    _first("process.privileges", "none", "nothing it starts needs any"),
    _first("process.umask", "077", "what a mode forgets stays its owner's"),
    _first(
        "memory.keys", "locked, not dumped, not inherited", "no key reaches a disk by way of swap"
    ),
    _first("defaults.notice", "7 days", "time to read an announcement, and to leave"),
    _first("scrub.within", "24 h", "what nothing opens is gone physically within a day"),
    _first("scrub.rates", "256 MiB, 8 MiB", "neighbours go first; a deadline raises it"),
    _first("volume.keys", "tree", "a volume is there after a restart, unless it was not meant to"),
    _first("certificates.issued", "always", "who promises it without proof promises nothing"),
    _first("purge.within", "24 h", "who overwrites a byte wants it gone, and not only hidden"),
    _first(
        "purge.share",
        "1/32 of live bytes a day (4 GiB at least), 10 % of writes",
        "one write a second must not become a thousand",
    ),
)

LEDGER = Ledger(_SETTINGS, _ENTRIES)
