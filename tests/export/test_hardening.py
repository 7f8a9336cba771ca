"""What a process that may hold keys asks of the kernel (I2)."""

from __future__ import annotations

import ctypes
import os
import resource

from scrubjay.export.hardening import harden

_PR_GET_DUMPABLE = 3


def test_process_hardened_is_not_dumped_and_keeps_its_files_to_itself() -> None:
    """I2: no core, no tracing by others of its user, files of its own; forks inherit all."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        harden()
        if os.fork():
            os.wait()
            os._exit(0)
        dumpable = ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)
        core = resource.getrlimit(resource.RLIMIT_CORE)
        os.write(writer, f"{dumpable} {core} {os.umask(0o777):o}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as said:
        assert said.read() == "0 (0, 0) 77"
