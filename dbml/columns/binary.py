"""Binary: arrays and numerics as PostgreSQL's send functions write them.

Source: PostgreSQL src/backend/utils/adt/arrayfuncs.c (array_send), numeric.c (numeric_send).
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from dbml.columns.literals import pg_date_text, pg_stamp_text

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
    text = tuple(int(character) for character in str(value))
    return Decimal((1 if sign == 0x4000 else 0, text, -scale))


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
        text = pg_stamp_text(us)
        if text.endswith("infinity"):
            return text
        return text.removesuffix(" BC") + "+00" + (" BC" if text.endswith(" BC") else "")


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


def read_array(content: bytes, kind: str) -> list[Any]:
    """Read array_send() into nested lists, NULL as None; lower bounds are not kept."""
    dimensions, _, _ = struct.unpack_from("!iiI", content)
    if dimensions == 0:
        return []
    sizes = [struct.unpack_from("!i", content, 12 + 8 * d)[0] for d in range(dimensions)]
    at = 12 + 8 * dimensions
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
    for size in reversed(sizes[1:]):
        flat = [flat[i : i + size] for i in range(0, len(flat), size)]
    return flat
