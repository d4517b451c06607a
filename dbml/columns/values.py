"""Values: one Python object at a time, into the text of a wanted kind, exactly or not at all.

Each converter takes a value that is not missing and returns its text; ValueError means that the kind cannot hold it.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from dbml.columns.json_values import json_text
from dbml.columns.kinds import INTEGER_RANGE, UTC_CLOCK
from dbml.columns.literals import decimal_text, float_text, integer_text, interval_text, nested

Converter = Callable[[Any], str]
_FAR = ("infinity", "-infinity")
# Texts that PostgreSQL reads and Python does not: years beyond 9999, and before Christ.  Arrays give such dates as texts.
_FAR_DATE = re.compile(r"(?=\d{5}|.* BC)\d{4,7}-\d\d-\d\d(?: BC)?")
_FAR_STAMP = re.compile(r"(?=\d{5}|.* BC)\d{4,6}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?(\+00)?(?: BC)?")
_MOST_DIMENSIONS = 6
_FINER = re.compile(r"[.,]\d{7}")  # what Python would cut off


def is_missing(value: Any) -> bool:
    """Tell whether an object stands for NULL: None, pandas' NA and NaT, and a float's NaN."""
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    return (isinstance(value, float | np.floating) and bool(value != value)) or (
        isinstance(value, np.datetime64 | np.timedelta64) and bool(np.isnat(value))
    )


def plain(value: Any) -> Any:
    """Return a numpy scalar as Python's own type."""
    return value.item() if isinstance(value, np.generic) and not isinstance(value, np.datetime64 | np.timedelta64) else value


def listed(value: Any) -> Any:
    """Return an array or tuple as a list, one level of it at least; times of numpy stay numpy's."""
    if isinstance(value, np.ndarray) and value.ndim:
        return list(value) if value.dtype.kind in "mM" else value.tolist()
    return list(value) if isinstance(value, tuple) else value


def shape(value: Any) -> tuple[int, ...]:
    """Return the lengths of nested lists, outermost first; ValueError unless they make a rectangle, as an array must."""
    if not isinstance(value, list):
        return ()
    inner = {shape(listed(item)) for item in value}
    if len(inner) > 1 or inner == {(0,)}:
        raise ValueError
    return (len(value), *(inner.pop() if inner else ()))


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
    if not isinstance(value, int | float | Decimal):
        raise ValueError
    number = float(value)
    if isinstance(value, int) and int(number) != value:
        raise ValueError
    if isinstance(value, Decimal) and value.is_finite() and value not in (Decimal(repr(number)), Decimal(number)):
        raise ValueError
    return float_text(number)


def _real(value: Any) -> str:
    """Return the text of a float of four bytes: the value is one, or prints as one, as 0.1 does."""
    text = _float(value)
    number = float(value)
    with np.errstate(over="ignore", under="ignore"):
        near = np.float32(number)
    if not math.isnan(number) and number not in (float(near), float(str(near))):
        raise ValueError
    return text


def _numeric(value: Any) -> str:
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    return integer_text(value) if isinstance(value, int) else float_text(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        if "\0" in value or (not value.isascii() and not value.encode()):  # encode refuses half a surrogate pair
            raise ValueError
        return value
    if isinstance(value, bool):
        return _bool(value)
    if isinstance(value, int | Decimal):
        return _numeric(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, np.datetime64):
        return _stamp(False)(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta | np.timedelta64):
        return _interval(value)
    raise ValueError


def _bytea(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "\\x" + bytes(value).hex()
    raise ValueError


def _date(value: Any) -> str:
    if isinstance(value, str):
        return value if value in _FAR or _FAR_DATE.fullmatch(value) else date.fromisoformat(value).isoformat()
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if isinstance(value, datetime):
        if value.time() != time() or value.tzinfo is not None or (isinstance(value, pd.Timestamp) and value.nanosecond):
            raise ValueError
        value = value.date()
    if not isinstance(value, date):
        raise ValueError
    return value.isoformat()


def _stamp(aware: bool) -> Converter:
    def convert(value: Any) -> str:
        if isinstance(value, str):
            far = _FAR_STAMP.fullmatch(value)
            if value in _FAR or (far and (far[1] is not None) == aware):
                return value
            if _FINER.search(value):
                raise ValueError
            value = datetime.fromisoformat(value)
        if isinstance(value, np.datetime64):
            value = pd.Timestamp(value)
        if isinstance(value, pd.Timestamp) and value.nanosecond:
            raise ValueError
        if not isinstance(value, datetime):
            if not isinstance(value, date) or aware:
                raise ValueError
            value = datetime(value.year, value.month, value.day)
        if value.tzinfo is UTC_CLOCK and not aware:
            value = value.replace(tzinfo=None)
        if (value.utcoffset() is not None) != aware:
            raise ValueError
        return str(value.isoformat(sep=" ", timespec="microseconds"))

    return convert


def _time(aware: bool) -> Converter:
    def convert(value: Any) -> str:
        if isinstance(value, str):
            if _FINER.search(value):
                raise ValueError
            value = time.fromisoformat(value)
        if not isinstance(value, time) or (value.utcoffset() is not None) != aware:
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


_SIMPLE: dict[str, Converter] = {
    "bool": _bool, "int2": _integer("int2"), "int4": _integer("int4"), "int8": _integer("int8"), "oid": _integer("oid"),
    "float4": _real, "float8": _float, "numeric": _numeric, "text": _text, "bytea": _bytea, "date": _date,
    "timestamp": _stamp(False), "timestamptz": _stamp(True), "time": _time(False), "timetz": _time(True),
    "interval": _interval, "uuid": _uuid, "json": partial(json_text, binary=False),
    "jsonb": json_text,
}  # fmt: skip


def _array(element: Converter, floats: bool) -> Converter:
    """Return the converter of lists of one kind; NaN among floats is NaN, among others NULL."""

    def lists(value: Any) -> Any:
        value = listed(value)
        if isinstance(value, list):
            return [lists(item) for item in value]
        if floats and isinstance(value, float | np.floating):
            return value
        return None if is_missing(value) else value

    def convert(value: Any) -> str:
        value = listed(value)
        if not isinstance(value, list):
            raise ValueError
        classes = set(map(type, value))
        if classes == {int} or (floats and classes == {float}):  # long lists of numbers need no look at each
            return "{" + ",".join(list(map(element, value))) + "}"
        value = lists(value)
        if len(shape(value)) > _MOST_DIMENSIONS:
            raise ValueError
        return nested(value, lambda item: element(plain(item)))

    return convert


def converter(kind: str, keeps: Callable[[str], bool] | None = None) -> Converter:
    """Return the function that makes the text of one value of a kind.

    keeps: the test of dbml.columns.modifiers that the value's text, or each element's, must pass.
    """
    if kind == "textarray":
        return _array(_checked(_text, keeps), False)
    if kind.startswith("array:"):
        element = kind.removeprefix("array:")
        return _array(_checked(_SIMPLE[element], keeps), element in ("float4", "float8"))
    return _checked(_SIMPLE[kind], keeps)


def _checked(convert: Converter, keeps: Callable[[str], bool] | None) -> Converter:
    if keeps is None:
        return convert

    def checked(value: Any) -> str:
        text = convert(value)
        if not keeps(text):
            raise ValueError
        return text

    return checked
