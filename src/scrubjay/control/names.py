"""What may be called how, and how sizes are written: checked once, here.

A name must not look like an id, because both are accepted wherever a thing is named.
"""

from __future__ import annotations

import re
import uuid
from decimal import Decimal

from scrubjay.base.errors import Invalid
from scrubjay.base.units import (
    GIB,
    KIB,
    MIB,
    SECTOR_BYTES,
    TIB,
    VOLUME_BYTES_MAX,
    VOLUME_BYTES_MIN,
)

__all__ = ["as_id", "check_name", "check_volume_size", "parse_size", "shown"]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,6})?) ?([a-z]{0,3})", re.IGNORECASE)
_UNITS = {
    "": 1, "b": 1,
    "k": KIB, "kib": KIB, "m": MIB, "mib": MIB, "g": GIB, "gib": GIB, "t": TIB, "tib": TIB,
}  # fmt: skip
_DECIMAL = ("kb", "mb", "gb", "tb")
"""Of 1000 to some, of 1024 to others: nobody's guess is taken."""
_SHOWN_MAX = 80


def check_name(kind: str, name: str) -> str:
    """Return `name` if a `kind` may bear it; Invalid otherwise."""
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{kind} {shown(name)}: not a name",
            hint="1 to 63 of a-z, 0-9, '.', '_' and '-', the first a letter or a digit",
        )
    if as_id(name) is not None or (kind == "tenant" and name.isdecimal()):
        raise Invalid(f"{kind} {shown(name)}: looks like an id", hint="choose another name")
    return name


def as_id(text: str) -> uuid.UUID | None:
    """Return the id that `text` spells out, or None where it is a name."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def parse_size(text: str) -> int:
    """Return the bytes that `text` means: "10GiB", "1.5T", "4096"; K, M, G, T are binary."""
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[2].lower()) if match else None
    if match and match[2].lower() in _DECIMAL:
        raise Invalid(
            f"size {shown(text)}: not a size",
            hint=f"{match[2]} is not taken: write {match[2][0].upper()}iB",
        )
    if match is None or unit is None:
        raise Invalid(
            f"size {shown(text)}: not a size",
            hint="write it as in 4096, 512MiB, 10GiB or 1.5TiB",
        )
    size = Decimal(match[1]) * unit
    if size != int(size):
        raise Invalid(f"size {shown(text)}: {size} bytes, expected a whole number")
    return int(size)


def check_volume_size(size_bytes: int) -> int:
    """Return `size_bytes` if a volume may have it; Invalid otherwise."""
    if not VOLUME_BYTES_MIN <= size_bytes <= VOLUME_BYTES_MAX:
        raise Invalid(
            f"size {size_bytes}: expected {VOLUME_BYTES_MIN} (1MiB) or more, "
            f"at most {VOLUME_BYTES_MAX} (64TiB)"
        )
    if size_bytes % SECTOR_BYTES:
        near = -(-size_bytes // SECTOR_BYTES) * SECTOR_BYTES
        raise Invalid(f"size {size_bytes}: not a multiple of {SECTOR_BYTES}", hint=f"try {near}")
    return size_bytes


def shown(text: str) -> str:
    """What was asked for, short and printable, for a message."""
    return repr(text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "...")
