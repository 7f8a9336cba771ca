"""What a pool's medium is, and what overwriting it is worth: for reports and certificates.

Overwriting is the technique of Clear where the old bytes lie in the place that is written.
Whether they do is not up to the pool but to what lies beneath (sinks/ground.py): a file
system that copies on write, a journal that keeps data, flash, a device mapped onto others.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import UUID

from scrubjay.media.file import explained
from scrubjay.sinks.ground import assess, assess_device
from scrubjay.sinks.sink import Grade, Worth

__all__ = ["Ground", "ScrubbedMedium", "ground_of"]


@dataclass(frozen=True, slots=True)
class Ground:
    """A medium as evidence names it (docs/format/evidence.md, `media`)."""

    kind: Literal["file", "block device", "memory"]
    place: str
    """Its path."""
    worth: Worth
    """What overwriting there amounts to: Clear at best."""

    @property
    def grade(self) -> Grade:
        """Clear, or CONDITIONAL."""
        return self.worth.grade

    @property
    def reason(self) -> str:
        """Why that is so, in words."""
        return f"{self.worth.place}: {self.worth.reason}"


@dataclass(frozen=True, slots=True)
class ScrubbedMedium:
    """What a certificate says of a medium whose slots are overwritten and sampled."""

    id: UUID
    """As the superblocks name it."""
    ground: Ground
    technique: Literal["overwrite"]
    reads: Literal["device", "cache"]
    """Where pages were read back from; "cache" where it may have been so once."""


def ground_of(path: Path, *, root: Path = Path("/")) -> Ground:
    """Say what overwriting a pool's file or device is worth; `root` holds /proc and /sys.

    Raises what the system says of the path, as opening the pool does.
    """
    with explained(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISBLK(status.st_mode):
                number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
                return Ground("block device", str(path), assess_device(number, root))
            return Ground("file", str(path), assess(descriptor, root))
        finally:
            os.close(descriptor)
