"""Natural: which PostgreSQL type a column of a result is by itself."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from dbml import errors
from dbml.columns.kinds import JSON_NULL, Column, type_of_kind
from dbml.columns.results import settled
from dbml.columns.values import is_missing, listed, plain, shape

_CLASSES: list[tuple[type, str]] = [
    (bool, "bool"), (int, "int8"), (float, "float8"), (str, "text"), (Decimal, "numeric"), (bytes, "bytea"),
    (bytearray, "bytea"), (memoryview, "bytea"), (datetime, "timestamp"), (date, "date"), (time, "time"),
    (timedelta, "interval"), (uuid.UUID, "uuid"), (dict, "jsonb"), (type(JSON_NULL), "jsonb"),
    (np.datetime64, "timestamp"), (np.timedelta64, "interval"),
]  # fmt: skip
_ELEMENTS = frozenset({"bool", "numeric", "date", "timestamp", "timestamptz", "uuid", "bytea"})
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]*")
# pg_get_keywords(): what may not name a column without quotes.
_RESERVED = """
    all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation column
    concurrently constraint create cross current_catalog current_date current_role current_schema current_time
    current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze from
    full grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit localtime
    localtimestamp natural not notnull null offset on only or order outer overlaps placing primary references returning
    right select session_user similar some symmetric system_user table tablesample then to trailing true union unique user
    using variadic verbose when where window with
"""


def natural_columns(frame: pd.DataFrame) -> list[Column]:
    """Return the columns of a result with the types that they are by themselves."""
    return [natural_column(str(name), frame.iloc[:, position]) for position, name in enumerate(frame.columns)]


def natural_column(name: str, series: Any) -> Column:
    """Return one column likewise.

    Raises: UnsupportedType for values that PostgreSQL has no type for.
    """
    kind = _kind(name, settled(series))
    return Column(name, type_of_kind(kind), kind)


def column_list(columns: Sequence[Column]) -> str:
    """Return a column list as a call writes it: AS t(x bigint, "odd name" text)."""
    return "AS t(" + ", ".join(f"{_quoted(column.name)} {column.type}" for column in columns) + ")"


def _quoted(name: str) -> str:
    if _IDENTIFIER.fullmatch(name) and name not in _RESERVED.split():
        return name
    return '"' + name.replace('"', '""') + '"'


def _kind(name: str, series: Any) -> str:
    dtype = series.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        return "timestamptz"
    if isinstance(dtype, pd.StringDtype):
        return "text"
    match dtype.kind:
        case "b":
            return "bool"
        case "i" | "u":
            return "numeric" if dtype.kind == "u" and len(series) and series.max() > 2**63 - 1 else "int8"
        case "f":
            return "float4" if dtype.itemsize <= 4 else "float8"
        case "M":
            return "timestamp"
        case "m":
            return "interval"
        case "O":
            return _object_kind(name, series)
    raise _unknown(name, str(dtype))


def _object_kind(name: str, series: Any) -> str:
    kinds: set[str] = set()
    for value in series:
        if not is_missing(value):
            kinds.add(_value_kind(name, value))
    if not kinds:
        return "text"
    for wider in ({"int8", "float8"}, {"int8", "numeric"}, {"int8", "float8", "numeric"}):
        if kinds == wider:
            return "numeric" if "numeric" in wider else "float8"
    if len(kinds) == 1:
        return kinds.pop()
    if all(kind.startswith("array:") or kind in ("jsonb", "textarray") for kind in kinds):
        if "textarray" in kinds and not _texts_too(series):
            kinds.discard("textarray")  # an empty list is one of anything
        if kinds == {"array:int8", "array:float8"}:
            return "array:float8"
        return kinds.pop() if len(kinds) == 1 else "jsonb"
    raise _unknown(name, "a mixture of " + " and ".join(sorted(type_of_kind(kind) for kind in kinds)))


def _value_kind(name: str, value: Any) -> str:
    value = plain(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return "timestamptz"
    if isinstance(value, time) and value.tzinfo is not None:
        return "timetz"
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return "numeric"
    for cls, kind in _CLASSES:
        if isinstance(value, cls):
            return kind
    if isinstance(value, list | tuple | np.ndarray):
        return _array_kind(name, value)
    raise _unknown(name, type(value).__name__)


def _texts_too(series: Any) -> bool:
    """Tell whether a list of texts stands among the lists of a column."""
    return any(isinstance(leaf, str) for value in series if isinstance(value, list | tuple | np.ndarray) for leaf in _flat(value))


def _array_kind(name: str, value: Any) -> str:
    try:
        shape(listed(value))
    except ValueError:
        return "jsonb"  # lists of several lengths
    kinds = {_value_kind(name, item) for item in _flat(value) if item is not None and item is not pd.NA}
    if kinds <= {"int8", "float8"} and kinds:
        return "array:float8" if "float8" in kinds else "array:int8"
    if not kinds or kinds == {"text"}:
        return "textarray"
    if len(kinds) == 1 and (kind := kinds.pop()) in _ELEMENTS:
        return "array:" + kind
    return "jsonb"


def _flat(value: Any) -> list[Any]:
    value = listed(value)
    if isinstance(value, list):
        return [leaf for item in value for leaf in _flat(item)]
    return [value]


def _unknown(name: str, what: str) -> errors.UnsupportedType:
    return errors.UnsupportedType(
        f'column "{name}" holds {what}, which no PostgreSQL type carries',
        detail={"column": name, "type": what},
        hint="convert it in the script: str(value), pickle.dumps(value), or one column for each part",
    )
