"""swtpm, a TPM 2.0 in software, as a real part that can lose its power."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

__all__ = ["MISSING", "PROGRAM", "Emulator"]

PROGRAM = "swtpm"
MISSING = (
    "no swtpm here, a TPM in software: install the Debian package swtpm, as `make test` offers"
)


class Emulator:
    """One TPM; what it keeps survives `restart`, as in a machine that lost its power."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="scrubjay-tpm-"))
        self.socket = self._folder / "socket"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Power it on."""
        self.socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [
                PROGRAM,
                "socket",
                "--tpm2",
                "--tpmstate",
                f"dir={self._folder}",
                "--server",
                f"type=unixio,path={self.socket}",
                "--flags",
                "not-need-init,startup-clear",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        while not self._listens():
            if self._process.poll() is not None:
                assert self._process.stderr is not None
                raise RuntimeError(self._process.stderr.read().decode())
            time.sleep(0.01)

    def _listens(self) -> bool:
        """Whether it can be connected to: its socket is there a moment before it listens."""
        listening = " 00010000 0001 01 "  # __SO_ACCEPTCON, a stream
        lines = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace").splitlines()
        return any(line.endswith(f" {self.socket}") and listening in line for line in lines)

    def restart(self) -> None:
        """Cut its power, and bring it back."""
        self._stop()
        self.start()

    def clear(self) -> None:
        """Reset it to its maker's state, as a new one."""
        self._stop()
        for path in self._folder.iterdir():
            path.unlink()
        self.start()

    def close(self) -> None:
        """Throw it away."""
        self._stop()
        shutil.rmtree(self._folder)

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
