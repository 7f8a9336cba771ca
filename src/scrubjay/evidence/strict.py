"""JSON that an enemy may have written, read into strict records or refused.

Python's parser finds what msgspec lets pass (a name twice, endless numbers), msgspec what
Python lets pass (an unknown field, a wrong type, half a surrogate). Both have to agree.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterable
from typing import Annotated, Final, NoReturn, TypeVar

import msgspec
from msgspec import Meta, Struct

from scrubjay.base.errors import Invalid

__all__ = [
    "BYTES_MAX",
    "Count",
    "Digest",
    "LongText",
    "Moment",
    "Record",
    "Text",
    "decode",
    "encode",
    "plain",
]

BYTES_MAX: Final = 4 << 20
_DEPTH_MAX = 16
_DIGITS_MAX = 19
_NUMBER_MAX = (1 << 63) - 1
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
"""A string, closed or not (so that one pass is enough), or a bracket."""
_UNSEEN = r"\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
"""Control characters, and those that change the direction of text or cannot be seen."""

Text = Annotated[str, Meta(min_length=1, max_length=1000, pattern=rf"\A[^{_UNSEEN}]*\Z")]
"""Words for people, of one line."""
LongText = Annotated[str, Meta(min_length=1, max_length=20_000, pattern=rf"\A[^{_UNSEEN}]*\Z")]
Digest = Annotated[str, Meta(min_length=64, max_length=64, pattern=r"\A[0-9a-f]*\Z")]
"""SHA-256, or a Merkle root, in hex."""
Count = Annotated[int, Meta(ge=0, le=_NUMBER_MAX)]
Moment = Annotated[dt.datetime, Meta(tz=True)]


class Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every record of the evidence has in common: all fields there, none unknown."""


_RecordT = TypeVar("_RecordT")


def encode(record: Record) -> bytes:
    """Return the JSON of a record: UTF-8, keys sorted, no blanks."""
    return msgspec.json.encode(record, order="sorted")


def decode(kind: type[_RecordT], data: bytes, *, what: str, size_max: int = BYTES_MAX) -> _RecordT:
    """Return the record in `data`; Invalid, naming `what`, for anything but exactly one."""
    if len(data) > size_max:
        raise Invalid(f"{what}: {len(data)} bytes, expected at most {size_max}")
    if _is_deep(data):
        raise Invalid(f"{what}: nested deeper than {_DEPTH_MAX}")
    try:
        json.loads(
            data.decode(),
            object_pairs_hook=_no_name_twice,
            parse_int=_short,
            parse_float=_no_fraction,
            parse_constant=_no_fraction,
        )
        return msgspec.json.decode(data, type=kind)
    except UnicodeDecodeError as error:
        raise Invalid(f"{what}: not UTF-8") from error
    except (ValueError, msgspec.MsgspecError) as error:
        raise Invalid(f"{what}: {plain(str(error))[:300]}") from error


def plain(words: str) -> str:
    """Return words without what could harm a terminal: "?" for each such character."""
    return re.sub(f"[{_UNSEEN}]", "?", words)


def _is_deep(data: bytes) -> bool:
    depth = 0
    for token in _TOKEN.finditer(data):
        first = data[token.start()]
        if first in b"[{":
            depth += 1
            if depth > _DEPTH_MAX:
                return True
        elif first in b"]}":
            depth -= 1
    return False


def _no_name_twice(pairs: Iterable[tuple[str, object]]) -> None:
    names: set[str] = set()
    for name, _ in pairs:
        if name in names:
            raise ValueError(f"the name {name[:40]!r} twice in one object")
        names.add(name)


def _short(digits: str) -> int:
    if (count := len(digits.lstrip("-"))) > _DIGITS_MAX:
        raise ValueError(f"a number of {count} digits, expected at most {_DIGITS_MAX}")
    return int(digits)


def _no_fraction(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]!r}, expected whole numbers only")
