"""One fio run against one NBD URI, and the figures that it reports.

fio's `nbd` engine talks to every server through libnbd, so no peer is driven by code
of ours. A run that meets a single I/O error is refused, never averaged in.
"""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from scrubjay.base.errors import Unavailable
from scrubjay.base.units import KIB

__all__ = ["Figures", "Job", "command", "parse", "run"]

# What a run may take beyond its own time: connecting, a last write-back, a busy machine.
GRACE_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What fio does, in its own words; ends after `seconds`, or once `total_bytes` are done."""

    rw: Literal["read", "write", "randread", "randwrite", "randrw"]
    block_bytes: int = 4 * KIB
    depth: int = 16
    offset_bytes: int = 0
    span_bytes: int
    skip_bytes: int = 0
    """Left out behind every block of a sequential job."""
    fsync_every: int = 0
    """A FLUSH after so many writes; 0 is never."""
    repeats: bool = False
    """Random blocks may be drawn twice, as real overwrites are; otherwise each once per pass."""
    seconds: float | None = None
    total_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one run did: completed reads and writes, FLUSHes not counted."""

    iops: float
    bytes_per_s: float
    requests: int
    p99_us: float


class _Direction(TypedDict):
    iops: float
    bw_bytes: float
    total_ios: int
    clat_ns: dict[str, object]


class _JobReport(TypedDict):
    error: int
    total_err: int
    read: _Direction
    write: _Direction


def run(job: Job, uris: Sequence[str], *, seed: int) -> Figures:
    """Drive all `uris` at once, one connection each; the figures are their sum.

    Equal seeds draw equal blocks, so that every peer of a turn gets the same work.
    Raises `Unavailable` when fio fails or any request did.
    """
    what = f"fio {job.rw} on {uris[0]}"
    limit_s = (job.seconds or 600) + GRACE_S
    try:
        done = subprocess.run(
            command(job, uris, seed=seed),
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise Unavailable(f"{what}: still running after {limit_s:.0f} s") from late
    if done.returncode:
        raise Unavailable(f"{what}: exit status {done.returncode}: {done.stderr.strip()[-2000:]}")
    return parse(done.stdout)


def command(job: Job, uris: Sequence[str], *, seed: int) -> list[str]:
    """Return the argv for `job` on every one of `uris`."""
    skip = f":{job.skip_bytes}" if job.skip_bytes else ""
    common = {
        "ioengine": "nbd",
        "thread": "1",
        "rw": f"{job.rw}{skip}",
        "bs": job.block_bytes,
        "iodepth": job.depth,
        "offset": job.offset_bytes,
        "size": job.span_bytes,
        "randseed": seed,
        "fsync": job.fsync_every,
        "group_reporting": "1",
    }
    if job.repeats:
        common["norandommap"] = "1"
    if job.seconds is not None:
        common |= {"time_based": "1", "runtime": f"{job.seconds * 1000:.0f}ms"}
    if job.total_bytes is not None:
        common["io_size"] = job.total_bytes
    argv = ["fio", "--output-format=json", *(f"--{key}={value}" for key, value in common.items())]
    for index, uri in enumerate(uris):
        argv += [f"--name=peer{index}", f"--uri={uri}"]
    return argv


def parse(stdout: str) -> Figures:
    """Read fio's JSON; it prints notes about connections before it.

    Raises `Unavailable` when a request failed or when there is no result.
    """
    start = stdout.find("{\n")
    if start < 0:
        raise Unavailable(f"fio: expected JSON, got {stdout[:200]!r}")
    reports: list[_JobReport] = json.loads(stdout[start:])["jobs"]
    if any(report["error"] or report.get("total_err", 0) for report in reports):
        raise Unavailable("fio: a request failed")
    sides = [
        side for report in reports for side in (report["read"], report["write"]) if side["iops"]
    ]
    if not sides:
        raise Unavailable("fio: no request completed")
    return Figures(
        iops=sum(side["iops"] for side in sides),
        bytes_per_s=sum(side["bw_bytes"] for side in sides),
        requests=sum(side["total_ios"] for side in sides),
        p99_us=max(_p99_us(side) for side in sides),
    )


def _p99_us(side: _Direction) -> float:
    percentiles = side["clat_ns"].get("percentile")
    if not isinstance(percentiles, dict):
        raise Unavailable("fio: no latency percentiles")
    return float(percentiles["99.000000"]) / 1000
