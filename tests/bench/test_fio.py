"""Promises about the figures that are taken from fio."""

import json
from pathlib import Path

import pytest

from bench import fio, peers
from bench.fio import Job
from scrubjay.base.errors import Unavailable
from scrubjay.base.units import KIB, MIB


def side(iops: float = 0.0, *, p99_ns: int = 0) -> dict[str, object]:
    """Return one direction of fio's report, as fio 3.33 writes it."""
    return {
        "iops": iops,
        "bw_bytes": iops * 4096,
        "total_ios": int(iops) * 2,
        "clat_ns": {"percentile": {"99.000000": p99_ns}} if iops else {},
    }


def report(*jobs: dict[str, object]) -> str:
    """Return fio's output, with the notes that its nbd engine prints before it."""
    return "fio: connected to NBD server\n" + json.dumps({"jobs": jobs}, indent=2)


def test_parse_mixed_jobs_adds_rates_and_keeps_worst_latency() -> None:
    """Reads and writes of all jobs count together; p99 is the worst side's, never a mean."""
    first = {"error": 0, "read": side(100.0, p99_ns=5000), "write": side(50.0, p99_ns=9000)}
    second = {"error": 0, "read": side(10.0, p99_ns=1000), "write": side()}
    figures = fio.parse(report(first, second))
    assert figures == fio.Figures(iops=160.0, bytes_per_s=160.0 * 4096, requests=320, p99_us=9.0)


@pytest.mark.parametrize("count", ["error", "total_err"])
def test_parse_job_with_an_error_is_refused(count: str) -> None:
    """A run in which one request failed is no measurement, however fast the others were."""
    job = {"error": 0, "read": side(100.0, p99_ns=5000), "write": side()} | {count: 5}
    with pytest.raises(Unavailable, match="a request failed"):
        fio.parse(report(job))


@pytest.mark.parametrize("stdout", ["", "fio: connect: Connection refused\n"])
def test_parse_without_json_is_refused(stdout: str) -> None:
    """What fio complains about is passed on, not taken for a result."""
    with pytest.raises(Unavailable, match="expected JSON"):
        fio.parse(stdout)


def test_parse_when_nothing_completed_is_refused() -> None:
    """No requests are no figure: a zero would pass for a slow server."""
    with pytest.raises(Unavailable, match="no request completed"):
        fio.parse(report({"error": 0, "read": side(), "write": side()}))


def test_command_of_many_uris_drives_each_with_the_common_options() -> None:
    """All connections do the same job, each on its own server."""
    job = Job(rw="write", span_bytes=MIB, skip_bytes=8 * KIB, total_bytes=64 * KIB)
    argv = fio.command(job, ["nbd+unix:///?socket=/a", "nbd+unix:///?socket=/b"], seed=7)
    assert {"--rw=write:8192", "--io_size=65536", "--randseed=7"} <= set(argv)
    first_job = argv.index("--name=peer0")
    assert argv[first_job:] == [
        "--name=peer0",
        "--uri=nbd+unix:///?socket=/a",
        "--name=peer1",
        "--uri=nbd+unix:///?socket=/b",
    ]


@pytest.mark.slow
@pytest.mark.real("fio", "nbdkit", "qemu-img")
def test_run_on_a_real_server_counts_what_was_asked(tmp_path: Path) -> None:
    """The installed fio has the nbd engine, and its JSON is what `parse` expects."""
    peer = peers.nbdkit(tmp_path, size_bytes=MIB)
    job = Job(rw="write", span_bytes=MIB, total_bytes=MIB)
    try:
        figures = fio.run(job, [peer.start()], seed=1)
        peer.drop_caches()
    finally:
        peer.stop()
    assert figures.requests == MIB // job.block_bytes
    assert figures.iops > 0
    assert any(peer.disk.read_bytes())
