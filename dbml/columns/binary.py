"""Binary: arrays and numerics as PostgreSQL's send functions write them.

Source: PostgreSQL src/backend/utils/adt/arrayfuncs.c (array_send), numeric.c (numeric_send).
"""

from __future__ import annotations

import math
import struct
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from dbml.columns.literals import pg_date_text, pg_stamp_text, with_zone

_NUMERIC_HEAD = struct.Struct("!HhHH")
_SPECIAL = {0xC000: Decimal("NaN"), 0xD000: Decimal("Infinity"), 0xF000: Decimal("-Infinity")}
_EPOCH = datetime(2000, 1, 1)


def read_numeric(content: bytes) -> Decimal:
    """Read numeric_send(): exact, with its scale."""
    digits, weight, sign, scale = _NUMERIC_HEAD.unpack_from(content)
    if sign in _SPECIAL:
        return _SPECIAL[sign]
    value = 0
    for digit in struct.unpack_from(f"!{digits}H", content, _NUMERIC_HEAD.size):
        value = value * 10000 + digit
    exponent = 4 * (weight + 1 - digits)
    shift = exponent + scale
    value = value * 10**shift if shift >= 0 else value // 10**-shift
    return Decimal((1 if sign == 0x4000 else 0, Decimal(value).as_tuple().digits, -scale))


def _date(content: bytes) -> Any:
    (days,) = struct.unpack("!i", content)
    try:
        return date(2000, 1, 1) + timedelta(days=days)
    except OverflowError:
        return pg_date_text(days)  # infinity, BC and years beyond 9999, which Python has not: as PostgreSQL's text


def _timestamp(content: bytes) -> Any:
    (us,) = struct.unpack("!q", content)
    try:
        return _EPOCH + timedelta(microseconds=us)
    except OverflowError:
        return pg_stamp_text(us)


def _timestamptz(content: bytes) -> Any:
    (us,) = struct.unpack("!q", content)
    try:
        return _EPOCH.replace(tzinfo=UTC) + timedelta(microseconds=us)
    except OverflowError:
        return with_zone(pg_stamp_text(us))


_ELEMENTS: dict[str, Callable[[bytes], Any]] = {
    "bool": lambda b: b != b"\0",
    "int2": lambda b: int.from_bytes(b, signed=True),
    "int4": lambda b: int.from_bytes(b, signed=True),
    "int8": lambda b: int.from_bytes(b, signed=True),
    "float4": lambda b: struct.unpack("!f", b)[0],
    "float8": lambda b: struct.unpack("!d", b)[0],
    "numeric": read_numeric,
    "uuid": lambda b: uuid.UUID(bytes=b),
    "bytea": bytes,
    "date": _date,
    "timestamp": _timestamp,
    "timestamptz": _timestamptz,
}


# Elements of one width without NULL: each as its length, 4 bytes, and its value, read at once.
_RECORDS = {
    kind: np.dtype([("size", ">i4"), ("value", form)])
    for kind, form in {"bool": "?", "int2": ">i2", "int4": ">i4", "int8": ">i8", "float4": ">f4", "float8": ">f8"}.items()
}
_FEW = 6  # elements that a loop reads sooner than numpy does


def read_array(content: bytes, kind: str) -> list[Any]:
    """Read array_send() into nested lists, NULL as None; lower bounds are not kept."""
    dimensions, _, _ = struct.unpack_from("!iiI", content)
    if dimensions == 0:
        return []
    sizes = [struct.unpack_from("!i", content, 12 + 8 * d)[0] for d in range(dimensions)]
    at = 12 + 8 * dimensions
    flat = _read_wide(content, at, kind, math.prod(sizes)) or _read_each(content, at, kind)
    for size in reversed(sizes[1:]):
        flat = [flat[i : i + size] for i in range(0, len(flat), size)]
    return flat


def _read_wide(content: bytes, at: int, kind: str, count: int) -> list[Any] | None:
    record = _RECORDS.get(kind)
    if record is None or count < _FEW or len(content) - at != count * record.itemsize:
        return None
    elements = np.frombuffer(content, dtype=record, offset=at)
    if (elements["size"] != record.itemsize - 4).any():
        return None
    found: list[Any] = elements["value"].tolist()
    return found


def _read_each(content: bytes, at: int, kind: str) -> list[Any]:
    read = _ELEMENTS[kind]
    flat: list[Any] = []
    while at < len(content):
        (size,) = struct.unpack_from("!i", content, at)
        at += 4
        if size < 0:
            flat.append(None)
        else:
            flat.append(read(content[at : at + size]))
            at += size
    return flat
