"""Kinds: how a column of each PostgreSQL type travels between SQL and Python.

sql/10_channel/kind.sql gives the kind of a type; this is the other end of the same table.  Fixed kinds are their
type's binary form (pg_type.typsend), big-endian; the others are lengths and bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta, timezone
from typing import Final


@dataclass(frozen=True)
class Column:
    """A column as it travels: its name, its type as format_type() prints it, and its kind."""

    name: str
    type: str
    kind: str


# numpy's name of one value in binary form; timetz and interval are records.
FIXED: Final[dict[str, str | list[tuple[str, str]]]] = {
    "bool": "u1", "int2": ">i2", "int4": ">i4", "int8": ">i8", "oid": ">u4", "float4": ">f4", "float8": ">f8",
    "date": ">i4", "timestamp": ">i8", "timestamptz": ">i8", "time": ">i8",
    "timetz": [("us", ">i8"), ("west_s", ">i4")], "interval": [("us", ">i8"), ("days", ">i4"), ("months", ">i4")],
    "uuid": "V16",
}  # fmt: skip

INTEGER_RANGE: Final = {
    "int2": (-(2**15), 2**15 - 1), "int4": (-(2**31), 2**31 - 1), "int8": (-(2**63), 2**63 - 1), "oid": (0, 2**32 - 1),
}  # fmt: skip

NUMERIC_KINDS: Final = frozenset({"bool", "int2", "int4", "int8", "oid", "float4", "float8", "numeric"})

TYPE_OF_KIND: Final = {
    "bool": "boolean", "int2": "smallint", "int4": "integer", "int8": "bigint", "oid": "oid", "float4": "real",
    "float8": "double precision", "date": "date", "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone", "time": "time without time zone", "timetz": "time with time zone",
    "interval": "interval", "uuid": "uuid", "numeric": "numeric", "text": "text", "json": "json", "jsonb": "jsonb",
    "bytea": "bytea", "textarray": "text[]",
}  # fmt: skip

EPOCH_DAYS: Final = 10957  # from 1970-01-01 to PostgreSQL's 2000-01-01
EPOCH_S: Final = EPOCH_DAYS * 86400
DAY_US: Final = 86_400_000_000
TICKS: Final = {"s": (1_000_000, 1), "ms": (1000, 1), "us": (1, 1), "ns": (1, 1000)}  # to microseconds: times, divided by
INT64_MAX: Final = 2**63 - 1  # as datetime64 or timedelta64: infinity
INT64_LOWEST: Final = -INT64_MAX  # the smallest that is not NaT: -infinity
UTC_CLOCK: Final = timezone(timedelta(0), "UTC")  # of times that are a timestamptz, or the timestamp that a clock in UTC shows
JSON_AS_TEXT: Final = "json_as_text"  # in a frame's attrs: json columns take its texts as they are, not as JSON strings


def type_of_kind(kind: str) -> str:
    """Return the PostgreSQL type that a kind is the natural carrier of."""
    if kind.startswith("array:"):
        return TYPE_OF_KIND[kind.removeprefix("array:")] + "[]"
    return TYPE_OF_KIND[kind]


class _JsonNull:
    """The JSON value null inside a column of type json, where None is SQL's NULL."""

    _only: _JsonNull | None = None

    def __new__(cls) -> _JsonNull:
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __repr__(self) -> str:
        return "JSON_NULL"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> tuple[type[_JsonNull], tuple[()]]:
        return (_JsonNull, ())


JSON_NULL: Final = _JsonNull()
