"""Overwriting all of a medium, and reading it back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

from scrubjay.app.retired import Times, wiped_of
from scrubjay.base.errors import Unavailable
from scrubjay.base.ports import Clock, Entropy, Extent
from scrubjay.base.units import PAGE_BYTES, SLOTS_OFFSET_BYTES
from scrubjay.control.records import at
from scrubjay.evidence.statement import Wiped
from scrubjay.media.direct import DirectFile
from scrubjay.media.erase import SAMPLED_PAGES, Technique, erase

__all__ = ["Progress", "counting", "wipe_medium"]

Progress = Callable[[str, int, int], None]
"""Told the step, bytes done in it, and bytes in all."""


def wipe_medium(
    path: Path,
    *,
    since: dt.datetime,
    clock: Clock,
    entropy: Entropy,
    sample: bool,
    technique: Technique,
    progress: Progress,
) -> Wiped:
    """Overwrite all of a medium, make that durable, and read it back; return what was found.

    With `sample` only some pages are read. Unavailable where the medium fails.
    """
    begun_at = max(since, at(clock.now_ns()))
    medium = DirectFile.open(path, hold=True)
    size_bytes = medium.size_bytes
    whole = size_bytes - size_bytes % PAGE_BYTES
    read = 2 * SAMPLED_PAGES * PAGE_BYTES if sample else whole
    count = counting("erase", whole + read, progress)
    erased_at, done = begun_at, 0

    def pay(size_bytes: int) -> None:
        nonlocal erased_at, done
        if done == whole:  # from here on it reads
            erased_at = max(begun_at, at(clock.now_ns()))
        done += size_bytes
        count(size_bytes)

    try:
        tail_clean = _erase_tail(medium, whole)
        erased = erase(
            medium,
            _extents(whole),
            entropy=entropy,
            technique=technique,
            sampled_pages=SAMPLED_PAGES if sample else None,
            pay=pay,
        )
    except OSError as error:
        raise Unavailable(
            f"medium {path}: {error.strerror or error}, it is not erased",
            hint="it opens nothing by itself; destroy it, or try again: scrubjay pool retire",
        ) from error
    finally:
        medium.close()
    times = Times(begun_at, erased_at, max(erased_at, at(clock.now_ns())))
    return wiped_of(erased, tail_bytes=size_bytes - whole, tail_clean=tail_clean, times=times)


def counting(what: str, total_bytes: int, progress: Progress) -> Callable[[int], None]:
    """Return what adds up the bytes of one step, and tells of them."""
    done = 0

    def step(size_bytes: int) -> None:
        nonlocal done
        done += size_bytes
        progress(what, min(done, total_bytes), total_bytes)

    return step


def _extents(size_bytes: int) -> list[Extent]:
    """Return all of a medium, superblocks last: by them a second try knows what is ours."""
    head = min(SLOTS_OFFSET_BYTES, size_bytes)
    rest = [(head, size_bytes - head)] if size_bytes > head else []
    return [*rest, (0, head)]


def _erase_tail(medium: DirectFile, start: int) -> bool:
    """Overwrite what is left behind the last whole page; return whether it reads as zeros."""
    size_bytes = medium.size_bytes - start
    if not size_bytes:
        return True
    medium.write(start, bytes(size_bytes))
    medium.sync()
    out = bytearray(b"\xff" * size_bytes)
    return medium.read_into(start, memoryview(out)) == size_bytes and not any(out)
