"""How the JSON values of the pool's tree are written and read (docs/format/records.md).

Decoding is strict: a value that is not exactly what this version writes is Corrupt, since
to drop an unknown field in silence would lose it at the next commit.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from scrubjay.base.errors import Corrupt

__all__ = ["U24", "U64", "Moment", "Record", "at", "decode", "encode"]

U24 = Annotated[int, Meta(ge=1, lt=1 << 24)]
U64 = Annotated[int, Meta(ge=0)]
Moment = Annotated[dt.datetime, Meta(tz=True)]


class Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What every record has in common: no field unknown, none changed in place."""


_RecordT = TypeVar("_RecordT", bound=Record)


def encode(record: Record) -> bytes:
    """Return the JSON value: UTF-8, keys sorted, no blanks."""
    return msgspec.json.encode(record, order="sorted")


def decode(kind: type[_RecordT], data: bytes, *, where: str) -> _RecordT:
    """Return the record in `data`; Corrupt, naming `where`, unless it is exactly one."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Corrupt(f"{where}: {error}, expected a {kind.__name__}") from error


def at(now_ns: int) -> dt.datetime:
    """Return a moment as records hold it: UTC, whole microseconds."""
    return dt.datetime.fromtimestamp(now_ns // 1_000_000_000, dt.UTC).replace(
        microsecond=now_ns // 1000 % 1_000_000
    )
