"""Looking for bytes in the raw media, as a thief of them would."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence

from scrubjay.base.errors import Invalid, Unavailable
from scrubjay.base.ports import Medium
from scrubjay.base.units import MIB
from scrubjay.control.names import shown
from scrubjay.control.operations import Operations, Progress

__all__ = ["PATTERN_BYTES_MAX", "Scans", "search"]

PATTERN_BYTES_MAX = 4096
_CHUNK_BYTES = 4 * MIB
_OFFSETS_MAX = 16
"""Places that are named; the others are only counted."""


class Scans:
    """What the API does about scans. `media` opens handles of their own, to be closed."""

    def __init__(self, media: Callable[[], Sequence[Medium]], operations: Operations) -> None:
        self._media = media
        self._operations = operations

    def start(self, hex_text: str) -> uuid.UUID:
        """Begin to look for the bytes that `hex_text` spells; return the operation."""
        pattern = _pattern(hex_text)

        def work(progress: Progress) -> dict[str, object]:
            media = self._media()
            try:
                return search(media, pattern, progress)
            finally:
                for medium in media:
                    medium.close()

        return self._operations.run("pool.scan", f"{len(pattern)} bytes", work)


def search(media: Sequence[Medium], pattern: bytes, progress: Progress) -> dict[str, object]:
    """Count where `pattern` occurs, overlaps included; offsets are through all media."""
    progress.total, progress.unit = sum(each.size_bytes for each in media), "bytes"
    offsets: list[int] = []
    matches, before_bytes = 0, 0
    for medium in media:
        for offset_bytes in _occurrences(medium, pattern, progress):
            matches += 1
            if len(offsets) < _OFFSETS_MAX:
                offsets.append(before_bytes + offset_bytes)
        before_bytes += medium.size_bytes
    return {"bytes_scanned": progress.done, "matches": matches, "offsets": offsets}


def _occurrences(medium: Medium, pattern: bytes, progress: Progress) -> Iterable[int]:
    """Yield where the pattern begins, reading chunks that overlap by less than its length."""
    buffer = bytearray(len(pattern) - 1 + _CHUNK_BYTES)
    overlap = len(pattern) - 1
    held, at = 0, 0  # bytes at the front of the buffer, and where on the medium they end
    while at < medium.size_bytes:
        if progress.stopping.is_set():
            raise Unavailable("scan: the daemon ends", hint="ask again when it is back")
        want = min(_CHUNK_BYTES, medium.size_bytes - at)
        try:
            got = medium.read_into(at, memoryview(buffer)[held : held + want])
        except OSError as error:
            raise Unavailable(f"medium at byte {at}: {error.strerror}") from error
        if got == 0:
            raise Unavailable(f"medium at byte {at}: ends, expected {medium.size_bytes} bytes")
        end = held + got
        start = -1
        while (start := buffer.find(pattern, start + 1, end)) >= 0:
            yield at - held + start
        at += got
        progress.done += got
        held = min(overlap, end)
        buffer[:held] = buffer[end - held : end]


def _pattern(hex_text: str) -> bytes:
    try:
        pattern = bytes.fromhex(hex_text)
    except ValueError:
        pattern = b""
    if not 1 <= len(pattern) <= PATTERN_BYTES_MAX:
        raise Invalid(
            f"pattern {shown(hex_text)}: expected an even number of hex digits, "
            f"2 to {2 * PATTERN_BYTES_MAX}",
            hint="write bytes as in 6d61726b6572",
        )
    if not any(pattern):
        raise Invalid("pattern: nothing but zeros, which every pool holds")
    return pattern
