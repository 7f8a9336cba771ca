"""What a process that may hold keys asks of the kernel before it holds any (I2).

Its memory is not dumped and not traced by other processes of its user, its files are its
own, and the memory of keys is not swapped.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import resource
from pathlib import Path

from scrubjay.base.errors import Unavailable

__all__ = ["harden", "lock_memory", "name_process"]

_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_NO_NEW_PRIVS = 38
"""linux/prctl.h."""
_OOM_SCORE = -500
"""Whoever eats the memory should go before those who serve disks."""

_libc = ctypes.CDLL(None, use_errno=True)


def harden() -> None:
    """Prepare this process, and all that it will fork; Unavailable where it cannot be."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # only the privileged may lower it
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE))
    for option, value in ((_PR_SET_NO_NEW_PRIVS, 1), (_PR_SET_DUMPABLE, 0)):
        if _libc.prctl(option, value, 0, 0, 0):
            why = os.strerror(ctypes.get_errno())
            raise Unavailable(f"prctl {option}: {why}, expected success")


def lock_memory(memory: mmap.mmap) -> bool:
    """Keep a mapping out of swap for its life; False where the system does not allow it."""
    view = (ctypes.c_char * len(memory)).from_buffer(memory)
    return not _libc.mlock(view, ctypes.c_size_t(len(memory)))


def name_process(name: str) -> None:
    """Have `ps` show up to 15 bytes of a name."""
    _libc.prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)
