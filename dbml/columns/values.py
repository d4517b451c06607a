"""Values: one Python object at a time, into the text of a wanted kind, exactly or not at all.

Each converter takes a value that is not missing and returns its text; ValueError means that the kind cannot hold it.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from dbml.columns.kinds import INTEGER_RANGE, JSON_NULL
from dbml.columns.literals import float_text, interval_text, nested

Converter = Callable[[Any], str]
_FAR = ("infinity", "-infinity")


def is_missing(value: Any) -> bool:
    """Tell whether an object stands for NULL: None, pandas' NA and NaT, and a float's NaN."""
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    return (isinstance(value, float) and value != value) or (
        isinstance(value, np.datetime64 | np.timedelta64) and bool(np.isnat(value))
    )


def plain(value: Any) -> Any:
    """Return a numpy scalar as Python's own type."""
    return value.item() if isinstance(value, np.generic) and not isinstance(value, np.datetime64 | np.timedelta64) else value


def _bool(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    raise ValueError


def _integer(kind: str) -> Converter:
    low, high = INTEGER_RANGE[kind]

    def convert(value: Any) -> str:
        if not isinstance(value, int | float | Decimal) or not math.isfinite(value) or value != int(value):
            raise ValueError
        number = int(value)
        if not low <= number <= high:
            raise ValueError
        return str(number)

    return convert


def _float(value: Any) -> str:
    if (isinstance(value, int) and int(float(value)) != value) or not isinstance(value, int | float | Decimal):
        raise ValueError
    return float_text(float(value))


def _numeric(value: Any) -> str:
    if isinstance(value, Decimal):
        return {"NaN": "NaN", "sNaN": "NaN", "Infinity": "Infinity", "-Infinity": "-Infinity"}.get(str(value), format(value, "f"))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    return str(value) if isinstance(value, int) else float_text(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError
        return value
    if isinstance(value, bool):
        return _bool(value)
    if isinstance(value, int | Decimal | uuid.UUID):
        return str(value)
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _interval(value)
    raise ValueError


def _bytea(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "\\x" + bytes(value).hex()
    raise ValueError


def _date(value: Any) -> str:
    if isinstance(value, str):
        return (
            value
            if value in _FAR or value.endswith(" BC") or len(value.split("-")[0]) > 4
            else date.fromisoformat(value).isoformat()
        )
    if isinstance(value, datetime):
        if value.time() != time() or value.tzinfo is not None:
            raise ValueError
        value = value.date()
    if not isinstance(value, date):
        raise ValueError
    return value.isoformat()


def _stamp(aware: bool) -> Converter:
    def convert(value: Any) -> str:
        if isinstance(value, str):
            if value in _FAR or value.endswith(" BC") or len(value.split("-")[0]) > 4:
                return value
            value = datetime.fromisoformat(value)
        if isinstance(value, np.datetime64):
            value = pd.Timestamp(value)
        if isinstance(value, pd.Timestamp) and value.nanosecond:
            raise ValueError
        if not isinstance(value, datetime):
            if not isinstance(value, date) or aware:
                raise ValueError
            value = datetime(value.year, value.month, value.day)
        if (value.tzinfo is not None) != aware:
            raise ValueError
        return str(value.isoformat(sep=" ", timespec="microseconds"))

    return convert


def _time(aware: bool) -> Converter:
    def convert(value: Any) -> str:
        if isinstance(value, str):
            value = time.fromisoformat(value)
        if not isinstance(value, time) or (value.tzinfo is not None) != aware:
            raise ValueError
        return value.isoformat()

    return convert


def _interval(value: Any) -> str:
    if isinstance(value, str):
        return value  # PostgreSQL reads '1 mon', which Python has no type for
    if isinstance(value, np.timedelta64):
        value = pd.Timedelta(value)
    if isinstance(value, pd.Timedelta) and value.nanoseconds:
        raise ValueError
    if not isinstance(value, timedelta):
        raise ValueError
    return interval_text((value.days * 86400 + value.seconds) * 1_000_000 + value.microseconds)


def _uuid(value: Any) -> str:
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, str):
        return str(uuid.UUID(value))
    raise ValueError


class _Exact(float):
    """A float that prints as the decimal it was made from."""

    def __new__(cls, value: Decimal) -> _Exact:
        made = super().__new__(cls, 1.5)
        made.text = format(value, "f")
        return made

    text: str

    def __repr__(self) -> str:
        return self.text


def _json_ready(value: Any) -> Any:
    value = plain(value)
    if value is JSON_NULL or value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, dict):
        return {str(key): _json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_ready(item) for item in value]
    if isinstance(value, np.ndarray):
        return [_json_ready(item) for item in value.tolist()]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError
        return _Exact(value)
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, date | time | uuid.UUID):
        return str(value) if isinstance(value, uuid.UUID) else value.isoformat()
    raise ValueError


class _Encoder(json.encoder.JSONEncoder):
    """json's encoder, with floats printed by their own repr."""

    def iterencode(self, o: Any, _one_shot: bool = False) -> Any:
        return json.encoder._make_iterencode(  # type: ignore[attr-defined]
            {}, self.default, json.encoder.encode_basestring, None, float_text_json, ":", ",", False, False, True
        )(o, 0)


def float_text_json(value: float) -> str:
    """Return a finite float as JSON."""
    return repr(value)


def json_text(value: Any) -> str:
    """Return an object as JSON; ValueError for what JSON cannot carry."""
    ready = _json_ready(value)
    return "".join(_Encoder().iterencode(ready))


_SIMPLE: dict[str, Converter] = {
    "bool": _bool, "int2": _integer("int2"), "int4": _integer("int4"), "int8": _integer("int8"), "oid": _integer("oid"),
    "float4": _float, "float8": _float, "numeric": _numeric, "text": _text, "bytea": _bytea, "date": _date,
    "timestamp": _stamp(False), "timestamptz": _stamp(True), "time": _time(False), "timetz": _time(True),
    "interval": _interval, "uuid": _uuid, "json": json_text, "jsonb": json_text,
}  # fmt: skip


def _array(element: Converter, floats: bool) -> Converter:
    def cell(value: Any) -> str:
        return element(plain(value))

    def lists(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if isinstance(value, list | tuple):
            return [lists(item) for item in value]
        if floats and isinstance(value, float):
            return value
        return None if is_missing(value) else value

    def convert(value: Any) -> str:
        if not isinstance(value, list | tuple | np.ndarray):
            raise ValueError
        return nested(lists(value), cell)

    return convert


def converter(kind: str) -> Converter:
    """Return the function that makes the text of one value of a kind."""
    if kind == "textarray":
        return _array(_text, False)
    if kind.startswith("array:"):
        element = kind.removeprefix("array:")
        return _array(_SIMPLE[element], element in ("float4", "float8"))
    return _SIMPLE[kind]
