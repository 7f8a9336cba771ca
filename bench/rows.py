"""The rows measured side by side, and what each is to reach.

Every peer's volume is twice the working set: the first half is written once from end
to end before the first row, the second half never. Rows that want data lying in order
come before the random overwrites, so the order of `ROWS` is part of the measurement: what
was written in order is sealed in units of 16 KiB, and to read 4 KiB of one opens it all.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from bench.fio import Job
from scrubjay.base.units import GIB, KIB

__all__ = ["FILL", "NBDKIT", "QEMU", "ROWS", "SCRUBJAY", "WORKING_SET_BYTES", "Row", "Unit"]

SCRUBJAY, QEMU, NBDKIT = "scrubjay", "qemu+LUKS", "nbdkit"
"""The peers' names."""
WORKING_SET_BYTES = GIB
"""Small enough that the page cache of an 8 GiB machine holds it for three peers."""


class Unit(StrEnum):
    """Which figure of a run a row compares."""

    IOPS = "IOPS"
    MIB_PER_S = "MiB/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A job that every peer does, and the ratios that Scrubjay is to reach against them."""

    name: str
    job: Job
    unit: Unit = Unit.IOPS
    cold: bool = False
    """Drop the peer's page cache before each turn."""
    targets: dict[str, float] = field(default_factory=dict)
    """By the name of the peer to compare with."""


_READ = Job(rw="randread", span_bytes=WORKING_SET_BYTES)
_WRITE = replace(_READ, rw="randwrite")
# Depth 8 is 2 MiB in flight, what a guest's readahead or write-back keeps outstanding.
_READ_ALONG = Job(rw="read", block_bytes=256 * KIB, depth=8, span_bytes=WORKING_SET_BYTES)
_WRITE_ALONG = replace(_READ_ALONG, rw="write")

FILL = replace(_WRITE_ALONG, total_bytes=WORKING_SET_BYTES)
"""Writes the working set once, in order, before anything is measured."""

ROWS = (
    Row(
        name="256k sequential write",
        job=_WRITE_ALONG,
        unit=Unit.MIB_PER_S,
        targets={QEMU: 3.0, NBDKIT: 0.7},
    ),
    Row(
        name="256k sequential read",
        job=_READ_ALONG,
        unit=Unit.MIB_PER_S,
        targets={QEMU: 3.0, NBDKIT: 0.7},
    ),
    Row(
        name="4k random read, depth 16, written in order",
        job=_READ,
        targets={QEMU: 4.0, NBDKIT: 1.0},
    ),
    Row(
        name="4k random read, depth 1",
        job=replace(_READ, depth=1),
        targets={QEMU: 1.5, NBDKIT: 0.8},
    ),
    Row(name="4k random read, depth 16, cold", job=_READ, cold=True, targets={NBDKIT: 0.8}),
    Row(
        name="4k random read, depth 16, never written",
        job=replace(_READ, offset_bytes=WORKING_SET_BYTES),
    ),
    Row(name="4k random write, depth 16", job=_WRITE, targets={QEMU: 4.0, NBDKIT: 1.0}),
    Row(
        name="4k random write, depth 1",
        job=replace(_WRITE, depth=1),
        targets={QEMU: 1.5, NBDKIT: 0.8},
    ),
    Row(
        # fio asks again until the first FLUSH is answered: some 0.7 of them for each write.
        name="4k random write, depth 16, FLUSH every 4",
        job=replace(_WRITE, fsync_every=4),
        targets={QEMU: 2.5, NBDKIT: 1.5},
    ),
    Row(
        name="4k random read, depth 16",
        job=_READ,
        targets={QEMU: 4.0, NBDKIT: 1.0},
    ),
    Row(
        name="256k sequential read, overwritten at random",
        job=_READ_ALONG,
        unit=Unit.MIB_PER_S,
    ),
)
