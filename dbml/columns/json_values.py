"""JSON values: texts of json and jsonb into Python objects and back, with every number exact."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from dbml.columns.kinds import JSON_NULL
from dbml.columns.literals import decimal_text, integer_text

_LONG = 4000  # digits: int() refuses more than 4300


def _float(text: str) -> float | Decimal:
    """Read a decimal number as float where that holds it exactly as it prints, else as Decimal."""
    number = float(text)
    if repr(number) == text:
        return number
    exact = Decimal(text)
    return number if math.isfinite(number) and Decimal(repr(number)) == exact else exact


def _int(text: str) -> int:
    return int(text) if len(text) < _LONG else int(Decimal(text))


_PLAIN, _ESCAPED = json.JSONEncoder(ensure_ascii=False).encode, json.JSONEncoder().encode
_DECODER = json.JSONDecoder(parse_float=_float, parse_int=_int)


def read_json(content: bytes) -> Any:
    """Read a JSON text; its null, standing alone, is JSON_NULL."""
    value = _DECODER.decode(content.decode())
    return JSON_NULL if value is None else value


class JsonText(str):
    """A text that is JSON already."""

    __slots__ = ()


def json_text(value: Any, *, binary: bool = True) -> str:
    """Return an object as JSON, every number exact.

    binary: for jsonb, which holds neither U+0000 nor half a surrogate pair; json keeps both as escapes.
    Raises: ValueError for what JSON cannot carry: NaN, infinities, other classes, keys that are no texts or meet.
    """
    if isinstance(value, JsonText):
        json.loads(value, parse_constant=_no_number)
        return str(value)
    if isinstance(value, str):
        return _string(value, binary)
    if isinstance(value, np.generic) and not isinstance(value, np.datetime64 | np.timedelta64):
        value = value.item()
    if value is None or value is JSON_NULL or value is pd.NA or value is pd.NaT:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return integer_text(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError
        return float.__repr__(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError
        return decimal_text(value)
    if isinstance(value, Mapping):
        keys = [_key(key) for key in value]
        if len(set(keys)) < len(keys):
            raise ValueError
        pairs = zip(keys, value.values(), strict=True)
        return "{" + ",".join([f"{_string(key, binary)}:{json_text(item, binary=binary)}" for key, item in pairs]) + "}"
    if isinstance(value, np.ndarray) and value.dtype.kind not in "mM" and value.ndim:
        value = value.tolist()
    if isinstance(value, list | tuple):
        return "[" + ",".join([json_text(item, binary=binary) for item in value]) + "]"
    if isinstance(value, date | time):
        return _string(value.isoformat(), binary)
    if isinstance(value, uuid.UUID):
        return _string(str(value), binary)
    if isinstance(value, str):
        return _string(value, binary)
    raise ValueError


def _no_number(text: str) -> None:
    raise ValueError(text)  # NaN and the infinities, which Python reads


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, np.generic):
        key = key.item()
    if isinstance(key, int) and not isinstance(key, bool):
        return str(key)
    if isinstance(key, date | uuid.UUID):
        return str(key)
    if isinstance(key, str):
        return key
    raise ValueError


def _string(text: str, binary: bool) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # half a surrogate pair
            if binary:
                raise
            return _ESCAPED(text)
    if binary and "\0" in text:
        raise ValueError
    return _PLAIN(text)
