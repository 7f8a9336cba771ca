"""What the figures were taken on, and what a process costs there: read from /proc."""

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.backends.openssl import backend

__all__ = ["Machine", "cpu_s", "describe", "pss_bytes", "stopped", "written_bytes"]

TOOLS = {
    "fio": ["fio", "--version"],
    "nbdkit": ["nbdkit", "--version"],
    "qemu": ["qemu-nbd", "--version"],
}


@dataclass(frozen=True, slots=True)
class Machine:
    """Hardware, kernel and versions, as the result states them."""

    cpu: str
    cores: int
    memory_bytes: int
    load: float
    """Processes that wanted a core in the minute before; what they took, the figures lack."""
    kernel: str
    filesystem: str
    versions: dict[str, str]


def describe(folder: Path) -> Machine:
    """Describe this machine, and the file system that holds `folder`."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return Machine(
        load=os.getloadavg()[0],
        cpu=cpu[1] if cpu else platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=platform.release(),
        filesystem=_filesystem(folder),
        versions=_versions(),
    )


def cpu_s(pids: Iterable[int]) -> float:
    """Return the processor time that `pids` have used so far, user and system."""
    ticks = 0
    for pid in pids:
        # The name in parentheses may hold spaces: count fields behind it (proc_pid_stat(5)).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def stopped(pids: Iterable[int]) -> Iterator[None]:
    """Have processes stand still for a while."""
    pids = list(pids)
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def pss_bytes(pid: int) -> int:
    """Return the proportional set size of `pid`: pages shared by n count 1/n each."""
    return _proc_number(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") * 1024


def written_bytes(pids: Iterable[int]) -> int:
    """Return what `pids` passed to write calls on files; bytes sent on sockets do not count."""
    return sum(_proc_number(Path(f"/proc/{pid}/io"), "wchar:") for pid in pids)


def _proc_number(path: Path, label: str) -> int:
    for line in path.read_text().splitlines():
        name, *rest = line.split()
        if name == label:
            return int(rest[0])
    raise LookupError(f"{path}: no {label}")


def _filesystem(folder: Path) -> str:
    """Return type and options of the longest mount point above `folder`."""
    real = folder.resolve()
    best, found = Path("/"), "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, options, *_ = line.split()
        here = Path(point)
        if real.is_relative_to(here) and here.is_relative_to(best):
            best, found = here, f"{kind} ({options})"
    return found


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "openssl": backend.openssl_version_text()}
    for package in ("cryptography", "scrubjay"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    for name, argv in TOOLS.items():
        if shutil.which(argv[0]):
            printed = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
            found[name] = printed.splitlines()[0]
    return found
